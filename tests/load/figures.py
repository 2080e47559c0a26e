"""Figures of a run: percentiles, and whether memory grows. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WARM_UP = 0.1
"""The part of a run that is not judged: caches fill, nothing that is kept for a time goes yet."""
LIMIT = 0.05
"""Growth below this is none."""
JUDGED_S = 1_200.0
"""Shorter runs say nothing: the daemon's caches are filling."""


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all are not above (nearest rank)."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def summary(values: Iterable[float]) -> dict[str, float]:
    """`count`, and of at least one value `p50`, `p90`, `p99` and `max`, in the values' unit."""
    ascending = sorted(values)
    if not ascending:
        return {"count": 0}
    found = {f"p{percent}": percentile(ascending, percent) for percent in (50, 90, 99)}
    return {"count": len(ascending), **found, "max": ascending[-1]}


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and value at 0 of the straight line with the least squares; at least one point."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0, mean_y
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return slope, mean_y - slope * mean_x


@dataclass(frozen=True)
class Growth:
    """How much something grew over a run, once it was warm."""

    share: float
    """What the fitted line gains from the end of the warm-up to the end, of where it begins."""
    per_hour: float
    """The fitted line's slope."""
    late_to_early: float
    """The mean of the last tenth of the run to that of the tenth after the warm-up."""
    end_s: float
    """How long the run was."""

    @property
    def verdict(self) -> str:
        if self.end_s < JUDGED_S:
            return "too short to judge"
        return "flat" if self.share < LIMIT else "GROWING"


def growth(points: Sequence[tuple[float, float]], *, end_s: float) -> Growth:
    """Of (seconds since the start, value), ascending; needs a point that is not of the warm-up."""
    begin_s = WARM_UP * end_s
    warm = [(at_s, value) for at_s, value in points if begin_s <= at_s <= end_s]
    slope, at_zero = line(warm)
    start = at_zero + slope * begin_s
    early = mean([value for at_s, value in warm if at_s <= 2 * begin_s] or [warm[0][1]])
    late = mean([value for at_s, value in warm if at_s >= end_s - begin_s] or [warm[-1][1]])
    return Growth(
        share=slope * (end_s - begin_s) / start,
        per_hour=slope * 3600,
        late_to_early=late / early,
        end_s=end_s,
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def binned(
    points: Iterable[tuple[float, float]], *, width_s: float
) -> list[tuple[float, list[float]]]:
    """(middle, values) of each stretch of so many seconds that has any, ascending."""
    bins: dict[int, list[float]] = {}
    for at_s, value in points:
        bins.setdefault(int(at_s // width_s), []).append(value)
    return [((number + 0.5) * width_s, bins[number]) for number in sorted(bins)]
