"""How fast one endpoint may be asked: obeys what it says, and learns what it does not say.

Rules
  1. Nobody is held back until the endpoint refuses a request for there being too many.
  2. After a refusal nothing is sent for as long as it told, or else for 1, 2, 4, ... 60 s.
  3. Then a rate holds: half of what was sent before (never below MIN_RATE), growing steadily
     while nothing is refused: additive increase, multiplicative decrease.
  4. Refusals of what was sent before the last refusal say nothing new.
  5. FORGET_S after the last refusal the rate is dropped.
A caller who would wait longer than its patience is refused at once: another endpoint may serve it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import trio

from actors.ports import Log, TransientError

WAITING_LIMIT = 1000
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LONGEST_TOLD_S = 24 * 3600.0
MIN_RATE = 0.5
GROWTH_PER_S = 0.02
"""Of the rate after the last refusal, per second."""
EPISODE_S = 60.0
FORGET_S = 600.0
_BURST_S = 0.5
_AVERAGE_S = 10.0


class RateLimitedError(TransientError):
    """The endpoint wants fewer requests; waiting would outlast the caller's patience."""


@dataclass(frozen=True, slots=True)
class PacerStatistics:
    waiting: int
    refusals: int
    paused_for_s: float
    """How long nothing will be sent, from now."""
    rate_per_s: float | None
    """Calls per second at most; None: as many as come."""
    paced_s: float
    """Seconds that callers were held back, all together."""


class Pacer:
    """One endpoint's pace. `where` names it for people."""

    def __init__(self, where: str, *, log: Log) -> None:
        self._where = where
        self._log = log
        self._turns = trio.StrictFIFOLock()
        self._waiting = 0
        self._rate: float | None = None
        self._growth_per_s = 0.0
        self._grown_at = 0.0
        self._next_at = -math.inf
        self._paused_until = -math.inf
        self._pauses = 0
        self._refused_at = -math.inf
        self._episode: tuple[float, int] | None = None
        self._average = _Average()
        self._refusals = 0
        self._paced_s = 0.0

    async def turn(self, cost: int = 1, *, patience_s: float) -> float:
        """Wait until `cost` calls may be sent; returns a ticket for `accepted` or `refused`.

        Raises RateLimitedError when that would take longer than `patience_s`, and TransientError
        when too many wait already. Turns are given in the order of asking.
        """
        now = trio.current_time()
        self._forget(now)
        if self._rate is not None or self._paused_until > now or self._waiting:
            await self._wait(cost, patience_s=patience_s)
            now = trio.current_time()
        self._average.add(cost, now)
        return now

    def accepted(self, ticket: float) -> None:
        """The endpoint took what was sent with this ticket."""
        now = trio.current_time()
        if self._rate is not None and ticket > self._refused_at:
            self._pauses = 0
            self._rate += self._growth_per_s * (now - max(self._grown_at, self._refused_at))
            self._grown_at = now
        if self._episode is not None and now - self._refused_at > EPISODE_S:
            began, refusals = self._episode
            self._episode = None
            self._log.info(
                "endpoint takes all our requests again",
                endpoint=self._where,
                refusals=refusals,
                seconds=round(self._refused_at - began),
            )

    def refused(self, ticket: float, *, told_s: float | None, why: str) -> None:
        """The endpoint wants fewer requests, and none for `told_s` seconds if it said so."""
        now = trio.current_time()
        self._refusals += 1
        if told_s is not None:
            told_s = min(told_s, LONGEST_TOLD_S)
            self._paused_until = max(self._paused_until, now + told_s)
        if self._episode is None:
            self._episode = (now, 0)
            self._log.warning(
                "endpoint limits our requests; slowing down", endpoint=self._where, reason=why
            )
        self._episode = (self._episode[0], self._episode[1] + 1)
        if ticket <= self._refused_at:
            return
        if told_s is None:
            pause_s = min(FIRST_PAUSE_S * 2**self._pauses, LONGEST_PAUSE_S)
            self._paused_until = max(self._paused_until, now + pause_s)
            self._pauses = min(self._pauses + 1, 16)
        sent = self._average.per_s(now)
        reached = sent if self._rate is None else min(sent, self._rate)
        self._rate = max(reached / 2, MIN_RATE)
        self._growth_per_s = self._rate * GROWTH_PER_S
        self._refused_at = self._grown_at = now

    def pause_s(self) -> float:
        """How long nothing will be sent, from now."""
        return max(0.0, self._paused_until - trio.current_time())

    def statistics(self) -> PacerStatistics:
        return PacerStatistics(
            waiting=self._waiting,
            refusals=self._refusals,
            paused_for_s=self.pause_s(),
            rate_per_s=self._rate,
            paced_s=self._paced_s,
        )

    async def _wait(self, cost: int, *, patience_s: float) -> None:
        if self._waiting >= WAITING_LIMIT:
            raise TransientError(
                f"{self._where} limits our requests, and {self._waiting} wait for their turn. Use"
                " an endpoint with a higher limit"
            )
        began = trio.current_time()
        self._waiting += 1
        try:
            with trio.move_on_after(max(0.0, patience_s)) as waited:
                async with self._turns:
                    await self._until_due(began + patience_s)
                    self._spend(cost)
            if waited.cancelled_caught:
                self._refuse(patience_s)
        finally:
            self._waiting -= 1
            self._paced_s += trio.current_time() - began

    async def _until_due(self, deadline: float) -> None:
        while True:
            due = max(self._paused_until, self._next_at if self._rate is not None else -math.inf)
            if due <= trio.current_time():
                return
            if due > deadline:
                self._refuse(deadline - trio.current_time())
            await trio.sleep_until(due)

    def _spend(self, cost: int) -> None:
        if self._rate is not None:
            earliest = trio.current_time() - _BURST_S
            self._next_at = max(self._next_at, earliest) + cost / self._rate

    def _refuse(self, patience_s: float) -> None:
        rate = "" if self._rate is None else f" and takes about {self._rate:.3g} calls per second"
        raise RateLimitedError(
            f"{self._where} limits our requests: it pauses for {self.pause_s():.0f} s{rate}, longer"
            f" than the {max(0.0, patience_s):.0f} s we wait. Use an endpoint with a higher limit,"
            " or a node of your own"
        )

    def _forget(self, now: float) -> None:
        if self._rate is not None and now - self._refused_at > FORGET_S:
            self._rate = None
            self._pauses = 0


class _Average:
    """Calls per second lately: an exponentially decaying sum, correct from the first second."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._began: float | None = None
        self._as_of = 0.0

    def add(self, cost: int, now: float) -> None:
        if self._began is None:
            self._began = self._as_of = now
        self._decay(now)
        self._sum += cost

    def per_s(self, now: float) -> float:
        assert self._began is not None, "a refusal follows a turn"
        self._decay(now)
        age_s = max(now - self._began, 1.0)
        return self._sum / (_AVERAGE_S * -math.expm1(-age_s / _AVERAGE_S))

    def _decay(self, now: float) -> None:
        self._sum *= math.exp((self._as_of - now) / _AVERAGE_S)
        self._as_of = now


def retry_after_s(text: str, *, now_s: Callable[[], float] = time.time) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3); None when it is none."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    # Without a zone it is read as local time: a header in order always says GMT.
    return max(0.0, when.timestamp() - now_s())
