"""The rules of retries and pauses."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.webhook import (
    FEWEST_ATTEMPTS,
    GIVE_UP_MS,
    MOST_ATTEMPTS,
    PAUSE_ATTEMPTS,
    RETRY_S,
    Health,
    Pause,
    Verdict,
    judged,
    next_attempt_ms,
    next_probe_ms,
    verdict_of,
)

DAY_MS = 86_400_000


def schedule(chance: float, *, asked_s: float | None = None) -> list[int]:
    """The instants of all attempts of an event that always fails, in ms after the first."""
    found, now_ms = [0], 0
    while True:
        again = next_attempt_ms(
            attempts=len(found), first_at_ms=0, now_ms=now_ms, chance=chance, asked_s=asked_s
        )
        if again is None:
            return found
        now_ms = again
        found.append(now_ms)


def test_the_distances_grow_from_seconds_to_hours():
    instants = schedule(0.0)
    distances = [(b - a) / 1000 for a, b in pairwise(instants)]
    assert distances[: len(RETRY_S)] == list(RETRY_S)
    assert distances[len(RETRY_S) : -1] == [RETRY_S[-1]] * (len(distances) - len(RETRY_S) - 1)


@given(st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e9))
def test_an_event_is_tried_for_three_days_and_no_longer(chance, asked_s):
    instants = schedule(chance, asked_s=asked_s)
    assert instants[-1] == GIVE_UP_MS
    assert FEWEST_ATTEMPTS <= len(instants) < MOST_ATTEMPTS


@given(st.integers(1, 12), st.floats(0, 1, exclude_max=True))
def test_jitter_lengthens_by_a_fifth_at_most(attempts, chance):
    at_ms = next_attempt_ms(attempts=attempts, first_at_ms=0, now_ms=1000, chance=chance)
    base_ms = RETRY_S[min(attempts, len(RETRY_S)) - 1] * 1000
    assert base_ms <= at_ms - 1000 <= base_ms * 1.2 + 1


@pytest.mark.parametrize(("asked_s", "delay_s"), [(1.0, 5), (60.0, 60), (1e9, 8 * 3600), (None, 5)])
def test_retry_after_is_obeyed_within_bounds(asked_s, delay_s):
    again = next_attempt_ms(attempts=1, first_at_ms=0, now_ms=0, chance=0.0, asked_s=asked_s)
    assert again == delay_s * 1000


def test_a_clock_that_leaps_forward_does_not_end_it():
    late_ms = 10 * GIVE_UP_MS
    again = next_attempt_ms(attempts=1, first_at_ms=0, now_ms=late_ms, chance=0.0)
    assert again == late_ms + 5000
    assert next_attempt_ms(attempts=4, first_at_ms=0, now_ms=late_ms, chance=0.0) is None


def test_a_clock_that_runs_backwards_does_not_make_it_endless():
    given_up = next_attempt_ms(attempts=MOST_ATTEMPTS, first_at_ms=0, now_ms=-DAY_MS, chance=0.0)
    assert given_up is None


def test_an_endpoint_that_takes_nothing_is_probed_ever_more_slowly():
    delays = [next_probe_ms(failures=n, now_ms=0, chance=0.0) // 1000 for n in range(10)]
    assert delays == [5, 5, 10, 30, 60, 120, 300, 600, 600, 600]
    assert next_probe_ms(failures=1, now_ms=7, chance=0.5) == 7 + 5500


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.DELIVERED),
        (204, Verdict.DELIVERED),
        (299, Verdict.DELIVERED),
        (199, Verdict.FAILED),
        (301, Verdict.FAILED),
        (400, Verdict.FAILED),
        (410, Verdict.GONE),
        (500, Verdict.FAILED),
        (None, Verdict.FAILED),
    ],
)
def test_any_2xx_is_success(status, verdict):
    assert verdict_of(status) is verdict


def failing(count: int, *, every_ms: int, start_ms: int = 0) -> Health:
    health = Health()
    for n in range(count):
        health = judged(
            health,
            Verdict.FAILED,
            now_ms=start_ms + n * every_ms,
            pause_after_ms=5 * DAY_MS,
        )
    return health


def test_a_success_makes_well():
    health = failing(3, every_ms=1000)
    assert (health.word, health.failures, health.failing_since_ms) == ("failing", 3, 0)
    well = judged(health, Verdict.DELIVERED, now_ms=9000, pause_after_ms=1)
    assert well == Health()
    assert well.word == "active"


def test_days_of_failures_pause():
    health = failing(PAUSE_ATTEMPTS, every_ms=DAY_MS)
    assert (health.paused, health.paused_at_ms) == (Pause.FAILING, 9 * DAY_MS)
    assert health.word == "paused"


def test_neither_many_failures_nor_a_long_time_alone_pause():
    assert failing(1000, every_ms=1).word == "failing"
    assert failing(PAUSE_ATTEMPTS - 1, every_ms=DAY_MS).word == "failing"


def test_gone_pauses_at_once():
    health = judged(Health(), Verdict.GONE, now_ms=5, pause_after_ms=DAY_MS)
    assert (health.paused, health.paused_at_ms) == (Pause.GONE, 5)


def test_a_clock_moved_back_begins_the_row_anew():
    health = failing(2, every_ms=0, start_ms=DAY_MS)
    again = judged(health, Verdict.FAILED, now_ms=10, pause_after_ms=DAY_MS)
    assert (again.failing_since_ms, again.failures) == (10, 3)
