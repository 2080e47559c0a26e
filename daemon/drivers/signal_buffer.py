"""News on their way from a driver to its chain watcher: in order, and never more than a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

import trio

from actors.ports import Heartbeat, MempoolStale, PersistentError, Signal, TipMoved, TransientError

BUFFER_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class SignalStatistics:
    waiting: int
    most_waiting: int
    delivered: int
    overflows: int


class SignalBuffer:
    """An asynchronous iterator of signals for one reader; `put` never blocks.

    Neighbours that say the same are joined. When the reader falls `limit` signals behind, all that
    wait are replaced by "look at the tip, read the mempool again", which says as much. After
    `fail` the reader gets what waits, and then the error.
    """

    def __init__(self, limit: int = BUFFER_LIMIT) -> None:
        self._limit = limit
        self._waiting: deque[Signal] = deque()
        self._failure: TransientError | PersistentError | None = None
        self._news = trio.Event()
        self._most_waiting = 0
        self._delivered = 0
        self._overflows = 0

    def put(self, signal: Signal) -> None:
        if self._failure is not None:
            return
        if self._waiting:
            # The newer of two neighbours says all that the older one did.
            for repeatable in (TipMoved, Heartbeat):
                if isinstance(signal, repeatable) and isinstance(self._waiting[-1], repeatable):
                    self._waiting[-1] = signal
                    return
        if len(self._waiting) >= self._limit:
            self._overflows += 1
            self._waiting.clear()
            self._waiting.append(TipMoved())
            self._waiting.append(MempoolStale(f"more than {self._limit} news waited to be read"))
        self._waiting.append(signal)
        self._most_waiting = max(self._most_waiting, len(self._waiting))
        self._news.set()

    def fail(self, error: TransientError | PersistentError) -> None:
        """The node or the connection failed; the first failure counts."""
        if self._failure is None:
            self._failure = error
            self._news.set()

    async def guard(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run a driver's task; its failure, if it is the world's, ends the iteration alone."""
        try:
            await run()
        except (TransientError, PersistentError) as error:
            self.fail(error)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Signal:
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            self._news = trio.Event()
            await self._news.wait()
        self._delivered += 1
        return self._waiting.popleft()

    def statistics(self) -> SignalStatistics:
        return SignalStatistics(
            waiting=len(self._waiting),
            most_waiting=self._most_waiting,
            delivered=self._delivered,
            overflows=self._overflows,
        )
