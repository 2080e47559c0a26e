"""The figures of duties for Prometheus, where several processes share them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from actors.duties import DutyStatistics, Standing


class RoleScrape:
    """A Prometheus collector over what this process knows of everybody's duties."""

    def __init__(
        self,
        holders: Callable[[], Mapping[str, Standing | None]],
        statistics: Callable[[], DutyStatistics],
    ) -> None:
        self._holders = holders
        self._statistics = statistics

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: what there is depends on the chains."""
        return ()

    def collect(self) -> Iterator[Metric]:
        held = GaugeMetricFamily(
            "tallyd_duty_held", "ALARM at 0: whether some process holds the duty", labels=["duty"]
        )
        for duty, standing in self._holders().items():
            held.add_metric([duty], float(standing is not None))
        yield held
        statistics = self._statistics()
        yield GaugeMetricFamily(
            "tallyd_posts_asked",
            "Posts to other processes that wait for an answer",
            statistics.asked,
        )
        yield GaugeMetricFamily(
            "tallyd_posts_answering", "Posts that this process is at work on", statistics.answering
        )
