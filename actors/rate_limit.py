"""How often each caller may ask: token buckets in one bounded table."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable

import trio

MAX_BUCKETS = 10_000
"""Beyond that the caller that has been silent the longest starts with a full bucket again."""


class RateLimiter:
    """A bucket of `burst` tokens for each caller, filled at `rate_per_s`; a call takes one."""

    def __init__(
        self,
        *,
        rate_per_s: float,
        burst: int,
        max_buckets: int = MAX_BUCKETS,
        now_s: Callable[[], float] = trio.current_time,
    ) -> None:
        assert rate_per_s > 0
        assert burst >= 1
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._max_buckets = max_buckets
        self._now_s = now_s
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, who: Hashable) -> int | None:
        """Take a token: None if there was one, otherwise the whole seconds until there is."""
        now_s = self._now_s()
        tokens, filled_s = self._buckets.pop(who, (float(self._burst), now_s))
        tokens = min(self._burst, tokens + (now_s - filled_s) * self._rate_per_s)
        wait_s = None
        if tokens >= 1:
            tokens -= 1
        else:
            wait_s = max(1, math.ceil((1 - tokens) / self._rate_per_s))
        self._buckets[who] = (tokens, now_s)
        if len(self._buckets) > self._max_buckets:
            self._buckets.popitem(last=False)
        return wait_s

    @property
    def known(self) -> int:
        """Callers in the table."""
        return len(self._buckets)
