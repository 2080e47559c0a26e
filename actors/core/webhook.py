"""When a webhook is tried again, and what becomes of an endpoint that fails: the rules, pure.

An event that an endpoint does not take is tried again at growing distances for three days; then it
is dead: listed, and sent again only when somebody asks. An endpoint that has answered nothing but
failures for days is paused, and so is one that says 410 Gone (RFC 9110, 15.5.11). Both rules count
attempts beside the time, so that a jump of the clock alone ends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

HOUR_S = 3600
RETRY_S = (5, 30, 120, 600, 1800, HOUR_S, 2 * HOUR_S, 4 * HOUR_S, 8 * HOUR_S)
"""Seconds before the second attempt, the third, …; the last one again and again."""
JITTER = 0.2
"""A delay is lengthened by up to this part, by chance: many that failed together part again."""
GIVE_UP_MS = 72 * HOUR_S * 1000
"""After the first attempt; the last one is made at this very distance."""
MOST_ATTEMPTS = 24
"""The bound where the clock runs backwards; three days have room for fewer."""
FEWEST_ATTEMPTS = 4
"""The bound where the clock leaps forward."""
LONGEST_ASKED_S = 8 * HOUR_S
"""A longer Retry-After counts as this."""
PROBE_S = (5, 10, 30, 60, 120, 300, 600)
"""Seconds between the single attempts at an endpoint that takes nothing from anybody."""
PAUSE_ATTEMPTS = 10
"""Failures in a row without which no endpoint is paused, however long it took."""


def next_attempt_ms(
    *, attempts: int, first_at_ms: int, now_ms: int, chance: float, asked_s: float | None = None
) -> int | None:
    """When to try again after `attempts` failures, the last one now; None: never, it is dead.

    `chance` is a random number of [0, 1). `asked_s` is the receiver's Retry-After: the delay is no
    shorter than that, within bounds.
    """
    assert attempts >= 1, "there was an attempt"
    last_ms = first_at_ms + GIVE_UP_MS
    if attempts >= MOST_ATTEMPTS or (attempts >= FEWEST_ATTEMPTS and now_ms >= last_ms):
        return None
    delay_s = RETRY_S[min(attempts, len(RETRY_S)) - 1] * (1 + JITTER * chance)
    delay_s = max(delay_s, min(asked_s or 0.0, LONGEST_ASKED_S))
    at_ms = now_ms + round(delay_s * 1000)
    return min(at_ms, last_ms) if now_ms < last_ms else at_ms


def next_probe_ms(*, failures: int, now_ms: int, chance: float) -> int:
    """When to try an endpoint again that has failed `failures` times in a row, at anything."""
    delay_s = PROBE_S[min(max(failures, 1), len(PROBE_S)) - 1] * (1 + JITTER * chance)
    return now_ms + round(delay_s * 1000)


class Verdict(Enum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    """Any 2xx."""
    FAILED = "failed"
    GONE = "gone"
    """410: the receiver says that nothing shall come any more."""


class Pause(Enum):
    """Why an endpoint is paused."""

    ASKED = "asked"
    GONE = "gone"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint is; `paused` and `paused_at_ms` belong together."""

    paused: Pause | None = None
    paused_at_ms: int | None = None
    failing_since_ms: int | None = None
    """The first of the present row of failures; None after a success."""
    failures: int = 0
    """Their number."""

    @property
    def word(self) -> str:
        """`active`, `failing` or `paused`."""
        if self.paused is not None:
            return "paused"
        return "failing" if self.failures else "active"


def judged(health: Health, verdict: Verdict, *, now_ms: int, pause_after_ms: int) -> Health:
    """The health after an attempt; it is paused in it at most once."""
    assert health.paused is None, "a paused endpoint is not tried"
    if verdict is Verdict.DELIVERED:
        return Health()
    failures = health.failures + 1
    since_ms = health.failing_since_ms
    if since_ms is None or since_ms > now_ms:  # the clock was moved back: count from now
        since_ms = now_ms
    failing = replace(health, failing_since_ms=since_ms, failures=failures)
    if verdict is Verdict.GONE:
        return replace(failing, paused=Pause.GONE, paused_at_ms=now_ms)
    if failures >= PAUSE_ATTEMPTS and now_ms - since_ms >= pause_after_ms:
        return replace(failing, paused=Pause.FAILING, paused_at_ms=now_ms)
    return failing


def verdict_of(status: int | None) -> Verdict:
    """By the answer's status; None: there was no answer."""
    if status is not None and 200 <= status <= 299:
        return Verdict.DELIVERED
    return Verdict.GONE if status == 410 else Verdict.FAILED
