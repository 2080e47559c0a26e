"""The wall clock that the actors are given."""

from __future__ import annotations

import time


class SystemClock:
    """Unix time from the operating system."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
