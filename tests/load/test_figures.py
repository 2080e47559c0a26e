from __future__ import annotations

import random

import pytest

from tests.load.figures import binned, growth, line, percentile, summary

HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (99.1, 100), (100, 100)]
)
def test_a_percentile_is_the_smallest_value_that_so_many_are_not_above(percent, value):
    assert percentile(range(1, 101), percent) == value


def test_a_summary_needs_no_order():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert summary(values) == {"count": 5, "p50": 3.0, "p90": 5.0, "p99": 5.0, "max": 5.0}
    assert summary([]) == {"count": 0}


def test_a_line_is_found():
    slope, at_zero = line([(x, 3.0 * x + 7.0) for x in range(10)])
    assert (slope, at_zero) == (pytest.approx(3.0), pytest.approx(7.0))
    assert line([(4.0, 5.0)]) == (0.0, 5.0)


def test_noise_is_no_growth_and_the_warm_up_does_not_count():
    chance = random.Random(1)
    points = [
        (float(at_s), 200.0 + chance.uniform(-9, 9) - max(0, 360 - at_s) / 4)
        for at_s in range(0, 3600, 10)
    ]
    found = growth(points, end_s=HOUR_S)
    assert found.verdict == "flat"
    assert abs(found.share) < 0.02
    assert found.late_to_early == pytest.approx(1, abs=0.02)


def test_growth_is_found_in_noise():
    chance = random.Random(2)
    points = [
        (float(at_s), 200.0 + chance.uniform(-9, 9) + at_s / 200) for at_s in range(0, 3600, 10)
    ]
    found = growth(points, end_s=HOUR_S)
    assert found.verdict == "GROWING"
    assert found.per_hour == pytest.approx(18, rel=0.1)
    assert found.share == pytest.approx(0.9 * 18 / 201.8, rel=0.1)
    assert found.late_to_early > 1.05


def test_a_short_run_is_not_judged():
    assert growth([(5.0, 50.0), (9.0, 60.0)], end_s=10.0).verdict == "too short to judge"


def test_bins_leave_out_what_is_empty():
    points = [(0.5, 1.0), (9.9, 2.0), (30.0, 3.0)]
    assert binned(points, width_s=10) == [(5.0, [1.0, 2.0]), (35.0, [3.0])]
