from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.load.plot import nice_ticks, page

SVG = "{http://www.w3.org/2000/svg}"


def drawn(panels, **options):
    text = page(
        panels,
        **{"title": "a run", "subtitle": "more", "end_s": 3600.0, "warm_s": 360.0, **options},
    )
    return text, ET.fromstring(text)


def texts(root):
    return [one.text for one in root.iter(f"{SVG}text")]


def test_a_page_has_axes_units_legends_and_every_curve_inside_its_panel():
    curve = [(float(at_s), 100.0 + at_s % 7) for at_s in range(0, 3601, 20)]
    text, root = drawn(
        {"memory, MiB": {"resident": curve, "private": curve}, "events per second": {"log": curve}}
    )
    lines = list(root.iter(f"{SVG}polyline"))
    assert len(lines) == 3
    assert {"memory, MiB", "events per second", "resident", "private", "log", "more", "60 min"} <= {
        *texts(root)
    }
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for one in lines:
        for point in one.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    assert len(text.encode()) < 40_000
    assert "prefers-color-scheme: dark" in text


def test_names_are_escaped():
    _, root = drawn({'<&">': {"a < b": [(0.0, 1.0)]}}, title='"<&>"')
    assert root.attrib["aria-label"] == '"<&>"'
    assert {'<&">', "a < b", '"<&>"'} <= {*texts(root)}


def test_nothing_measured_is_an_empty_panel():
    _, root = drawn({"latency": {"none": []}, "zero": {"none": [(0.0, 0.0)]}}, end_s=0.0)
    assert len(list(root.iter(f"{SVG}polyline"))) == 1


def test_short_runs_have_seconds():
    _, root = drawn({"x": {"y": [(0.0, 1.0)]}}, end_s=20.0)
    assert "20 s" in texts(root)
    assert not any("min" in one for one in texts(root))


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (0, [0, 1]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (7, [0, 2, 4, 6, 8]),
        (60, [0, 20, 40, 60]),
        (263, [0, 100, 200, 300]),
    ],
)
def test_ticks_are_round(highest, ticks):
    assert nice_ticks(highest) == pytest.approx(ticks)
