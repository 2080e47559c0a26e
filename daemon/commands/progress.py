"""A progress bar on the terminal of whoever waits; nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

WIDTH = 30
_EVERY_S = 0.1


class Progress:
    """Call it with what is done, how far, and of how much (0: not known); ends with its block.

    Draws on standard error, and only if that is a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._what = ""
        self._began_s = self._drawn_s = 0.0

    def __call__(self, what: str, done: int, of: int) -> None:
        if not self._shown:
            return
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._began_s = what, now_s
        elif now_s - self._drawn_s < _EVERY_S and done < of:
            return
        self._drawn_s = now_s
        self._stream.write(f"\r\x1b[K{line(what, done, of, took_s=now_s - self._began_s)}")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._what:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def line(what: str, done: int, of: int, *, took_s: float) -> str:
    """One line of at most 80 characters."""
    if of <= 0:
        return f"{what} …"
    share = min(1.0, done / of)
    filled = int(share * WIDTH)
    rate = f" {done / took_s:,.0f}/s" if took_s > 1 else ""
    return f"{what:<10.10} {'█' * filled}{'░' * (WIDTH - filled)} {share:4.0%}{rate}"
