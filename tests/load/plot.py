"""Curves over time as an SVG page, written by hand; for light and dark surroundings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]

WIDTH, PANEL, LEFT, RIGHT, TOP = 860, 190, 64, 30, 62
_GAP = 46
_STYLE = """
svg { background: #fff; font: 12px system-ui, sans-serif }
text { fill: #333 } .title { font-size: 15px; font-weight: 600 } .name { font-weight: 600 }
.grid { stroke: #ddd } .axis { stroke: #888; fill: none } .warm { fill: #888; opacity: .12 }
polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.s0 { stroke: #0b62c4 } .s1 { stroke: #b3540b } .s2 { stroke: #1b7d3d }
.k0 { fill: #0b62c4 } .k1 { fill: #b3540b } .k2 { fill: #1b7d3d }
@media (prefers-color-scheme: dark) {
svg { background: #16191d } text { fill: #ddd } .grid { stroke: #333 } .axis { stroke: #999 }
.s0 { stroke: #6db3ff } .s1 { stroke: #ffab66 } .s2 { stroke: #6fd08c }
.k0 { fill: #6db3ff } .k1 { fill: #ffab66 } .k2 { fill: #6fd08c } }
"""
COLOURS = 3


def page(
    panels: Mapping[str, Mapping[str, Points]],
    *,
    title: str,
    subtitle: str,
    end_s: float,
    warm_s: float,
) -> str:
    """An SVG document; each panel has a name with its unit, and up to COLOURS curves by name.

    Curves are (seconds since the start, value) and begin at 0 on their axis. What lies before
    `warm_s` is shaded.
    """
    height = TOP + len(panels) * (PANEL + _GAP)
    label = escape(title, {'"': "&quot;"})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"',
        f'width="{WIDTH}" height="{height}" aria-label="{label}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>',
        f'<text x="{LEFT}" y="44">{escape(subtitle)}</text>',
    ]
    for number, (name, curves) in enumerate(panels.items()):
        top = TOP + number * (PANEL + _GAP) + 18
        parts += _panel(name, curves, top=top, end_s=max(end_s, 1e-9), warm_s=warm_s)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _panel(
    name: str, curves: Mapping[str, Points], *, top: float, end_s: float, warm_s: float
) -> list[str]:
    assert len(curves) <= COLOURS
    highest = max((value for points in curves.values() for _, value in points), default=0.0)
    ticks = nice_ticks(highest)
    right, bottom = WIDTH - RIGHT, top + PANEL

    def x(at_s: float) -> float:
        return LEFT + (right - LEFT) * at_s / end_s

    def y(value: float) -> float:
        return bottom - PANEL * value / ticks[-1]

    parts = [f'<text class="name" x="{LEFT}" y="{top - 8:.0f}">{escape(name)}</text>']
    warm = x(min(warm_s, end_s)) - LEFT
    parts.append(
        f'<rect class="warm" x="{LEFT}" y="{top:.0f}" width="{warm:.1f}" height="{PANEL}"/>'
    )
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{right}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    unit_s, unit = (60.0, "min") if end_s >= 180 else (1.0, "s")
    for tick in nice_ticks(end_s / unit_s):
        if (at := x(tick * unit_s)) <= right + 0.5:
            parts.append(f'<path class="axis" d="M{at:.1f} {bottom:.0f}v4"/>')
            label = f"{tick:g} {unit}"
            parts.append(
                f'<text x="{at:.1f}" y="{bottom + 17:.0f}" text-anchor="middle">{label}</text>'
            )
    parts.append(f'<path class="axis" d="M{LEFT} {top:.0f}V{bottom:.0f}H{right}"/>')
    at = float(right)
    for number, (label, points) in reversed(list(enumerate(curves.items()))):
        if points:
            drawn = " ".join(f"{x(at_s):.1f},{y(value):.1f}" for at_s, value in points)
            parts.append(f'<polyline class="s{number}" points="{drawn}"/>')
        at -= 7.0 * len(label) + 22
        parts.append(
            f'<rect class="k{number}" x="{at:.0f}" y="{top - 16:.0f}" width="10" height="10"/>'
        )
        parts.append(f'<text x="{at + 14:.0f}" y="{top - 7:.0f}">{escape(label)}</text>')
    return parts


def nice_ticks(highest: float, *, about: int = 5) -> list[float]:
    """0 and further round numbers, the last not below `highest`; at least two."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= rough * 0.999)
    count = math.ceil(highest / step - 1e-9)
    return [round(step * number, 10) for number in range(max(1, count) + 1)]
