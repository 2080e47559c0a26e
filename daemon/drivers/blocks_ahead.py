"""Blocks that are fetched in batches ahead of their reader, each following the one before.

While the reader is told of one batch, the next is prepared and the one after it fetched. Nothing
is fetched further ahead than that: a batch is handed over only when somebody takes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

import trio

from actors.core.chain_view import BlockRef
from actors.ports import PersistentError, TransientError

Spawn = Callable[[Callable[[], Any]], None]
"""Starts a task; it ends by itself when the reader has gone."""
Failure = TransientError | PersistentError


class Placed(Protocol):
    @property
    def ref(self) -> BlockRef: ...


Block = TypeVar("Block", bound=Placed)
Fetch = Callable[[], Awaitable[list[Block]]]
Prepare = Callable[[list[Block]], Awaitable[None]]


class BlocksAhead(Generic[Block]):
    """Gives block after block, until the chain ends or a block does not follow the last one."""

    def __init__(
        self, fetch: Fetch[Block], prepare: Prepare[Block] | None = None, *, spawn: Spawn | None
    ) -> None:
        """`fetch` gives the next batch, an empty one at the end; `prepare` makes it ready.

        Neither may hold on to this object, whose end must end the tasks. Without `spawn` there are
        no tasks, and one batch is read after the other.
        """
        self._fetch = fetch
        self._prepare = prepare
        self._spawn = spawn
        self._ahead: trio.MemoryReceiveChannel[list[Block] | Failure] | None = None
        self._ready: deque[Block] = deque()
        self._last: bytes | None = None

    async def next(self) -> Block | None:
        """The next block; None at the end. Raises TransientError or PersistentError."""
        if not self._ready:
            self._ready.extend(await self._batch())
        if not self._ready:
            return None
        block = self._ready.popleft()
        if self._last is not None and block.ref.parent != self._last:
            return None
        self._last = block.ref.hash
        return block

    def close(self) -> None:
        """Drop what was read ahead. May be called again."""
        self._ready.clear()
        if self._ahead is not None:
            # Whoever reads ahead notices when he wants to hand over.
            self._ahead.close()

    def __del__(self) -> None:
        # A reader that is left in the middle has no other moment to end what reads ahead.
        if self._ahead is not None and trio.lowlevel.in_trio_run():
            self._ahead.close()

    async def _batch(self) -> list[Block]:
        """The next batch, prepared; empty at the end."""
        if self._spawn is None:
            batch = await self._fetch()
            if self._prepare is not None:
                await self._prepare(batch)
            return batch
        if self._ahead is None:
            self._ahead = _read_ahead(self._fetch, self._prepare, self._spawn)
        try:
            batch_or_failure = await self._ahead.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return []
        if isinstance(batch_or_failure, list):
            return batch_or_failure
        raise batch_or_failure


def _read_ahead(
    fetch: Fetch[Block], prepare: Prepare[Block] | None, spawn: Spawn
) -> trio.MemoryReceiveChannel[list[Block] | Failure]:
    """Start to fetch, and to prepare if there is anything to do."""
    fetched_in, fetched_out = trio.open_memory_channel[list[Block] | Failure](0)

    async def keep_fetching() -> None:
        async with fetched_in:
            with suppress(trio.BrokenResourceError):
                try:
                    while batch := await fetch():
                        await fetched_in.send(batch)
                except (TransientError, PersistentError) as error:
                    await fetched_in.send(error)

    spawn(keep_fetching)
    if prepare is None:
        return fetched_out
    ready_in, ready_out = trio.open_memory_channel[list[Block] | Failure](0)

    async def keep_preparing() -> None:
        async with fetched_out, ready_in:
            with suppress(trio.BrokenResourceError):
                async for batch in fetched_out:
                    if isinstance(batch, list):
                        await prepare(batch)
                    await ready_in.send(batch)

    spawn(keep_preparing)
    return ready_out
