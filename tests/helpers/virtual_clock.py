"""Wall-clock time that goes along with Trio's (mocked) clock, and jumps when told to."""

from __future__ import annotations

import trio

from tests.helpers.invoices import CREATED_MS


class VirtualClock:
    """`actors.ports.WallClock`: CREATED_MS when made, then as fast as `trio.current_time`."""

    def __init__(self, start_ms: int = CREATED_MS) -> None:
        self._start_ms = start_ms
        self._zero_s = trio.current_time()

    def now_ms(self) -> int:
        return self._start_ms + round((trio.current_time() - self._zero_s) * 1000)

    def jump(self, seconds: float) -> None:
        self._start_ms += round(seconds * 1000)
