"""News of one subscription on their way to one reader: in order, and never more than a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Self

import trio

from daemon.drivers.rpc_client import Lost

BUFFER_LIMIT = 10_000


class Subscription:
    """An asynchronous iterator for one reader; `put` never blocks.

    When the reader falls `limit` items behind, all that wait are replaced by one Lost, which counts
    them. After `fail` the reader gets what waits, and then the error, again and again.
    """

    def __init__(self, limit: int = BUFFER_LIMIT) -> None:
        self._limit = limit
        self._waiting: deque[Any] = deque()
        self._dropped = 0
        self._failure: Callable[[], Exception] | None = None
        self._news = trio.Event()
        self.delivered = 0
        self.lost = 0

    def put(self, item: Any) -> None:
        if self._failure is not None:
            return
        if len(self._waiting) >= self._limit:
            self._dropped += len(self._waiting)
            self.lost += len(self._waiting)
            self._waiting.clear()
        self._waiting.append(item)
        self._news.set()

    def fail(self, make: Callable[[], Exception]) -> None:
        """Nothing more will come; `make` gives the error. The first failure counts."""
        if self._failure is None:
            self._failure = make
            self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any | Lost:
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._failure is not None:
                raise self._failure()
            self._news = trio.Event()
            await self._news.wait()
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return Lost(dropped)
        self.delivered += 1
        return self._waiting.popleft()
