"""Reading the active chain's blocks in order, scanned ahead of the reader, within a bound.

While the reader is told of one batch, the next is scanned and the one after it fetched and parsed.
A batch has as many blocks as fit into BATCH_BYTES and BATCH_TXS at the size of the last ones, and
fewer for a node that takes long.

A node is believed nothing that can be checked: a block's id and its transactions' ids are computed
from the bytes, and the height is in the block.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Self

import trio

from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex
from actors.ports import TransientError
from daemon.drivers.blocks_ahead import BlocksAhead, Spawn
from daemon.drivers.jsonrpc_words import AnswerTooLargeError
from daemon.drivers.monero_rpc import MoneroRpc, RawBlock
from daemon.drivers.monero_search import Search, Sought
from daemon.drivers.monero_wire import WireError, parse_block, parse_tx

BATCH_BYTES = 4 * 1024 * 1024
"""Raw blocks in one batch, as far as their size can be foreseen."""
BATCH_TXS = 1000
"""Transactions in one batch: with many more, garbage collection holds up everybody for too long."""
MOST_BLOCKS = 250
_SLOW_S = 2.0
_PARSED_AT_ONCE = 20
"""Transactions parsed before others have their turn: some 2 ms."""


class Pace:
    """How many blocks are asked for at once; learned, and kept between readers."""

    def __init__(self) -> None:
        self.blocks = 1

    def learn(self, *, blocks: int, txs: int, size_bytes: int, took_s: float) -> None:
        """A batch of so many blocks was answered."""
        fitting = min(BATCH_BYTES * blocks // max(1, size_bytes), BATCH_TXS * blocks // max(1, txs))
        fitting = max(1, fitting)
        if took_s > _SLOW_S:
            fitting = min(fitting, max(1, blocks // 2))
        self.blocks = min(fitting, 2 * max(self.blocks, blocks), MOST_BLOCKS)

    def shrink(self, blocks: int) -> None:
        """So many were too many."""
        self.blocks = max(1, min(self.blocks, blocks) // 2)


class _Block:
    """A block that was read, and the view keys that have been tried on it."""

    __slots__ = ("ref", "scanned", "txs")

    def __init__(self, ref: BlockRef, txs: list[Sought]) -> None:
        self.ref = ref
        self.txs = txs
        self.scanned: frozenset[bytes] = frozenset()


_Batch = list[_Block]


class BlockReader:
    """An asynchronous iterator of (block, transactions that concern us).

    `spawn` starts a task that reads ahead; None reads one batch after the other. Ends where the
    chain ends, and where a block does not follow the one before: the caller looks for the fork.
    """

    def __init__(
        self,
        rpc: MoneroRpc,
        heights: range,
        index: WatchIndex,
        *,
        search: Search,
        pace: Pace,
        spawn: Spawn | None,
    ) -> None:
        self._fetcher = _Fetcher(rpc, heights, pace)
        self._index = index
        self._search = search
        self._blocks = BlocksAhead(self._fetcher.fetch, partial(_try_new_keys, search), spawn=spawn)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[BlockRef, tuple[ChainTx, ...]]:
        """The next block. Raises TransientError or PersistentError; then the reader is spent."""
        finished = True
        try:
            block = await self._blocks.next()
            if block is None:
                raise StopAsyncIteration
            found = block.ref, await self._match(block)
            finished = False
            return found
        finally:
            if finished:
                self.close()

    def close(self) -> None:
        """Drop what was read ahead. May be called again."""
        self._fetcher.close()
        self._blocks.close()

    async def _match(self, block: _Block) -> tuple[ChainTx, ...]:
        # Others have their turn between two blocks, whatever the reader does with them.
        await trio.lowlevel.checkpoint()
        # Addresses of view keys that came after the scan must not be overlooked.
        await _try_new_keys(self._search, [block])
        found = []
        for sought in block.txs:
            match = self._search.match(sought, self._index)
            if match is not None:
                found.append(match)
                # Proving amounts takes its time, and a block may hold hundreds of payments.
                await trio.lowlevel.checkpoint()
        return tuple(found)


async def _try_new_keys(search: Search, batch: _Batch) -> None:
    """Try the view keys that there are now on blocks that have all been scanned with the same."""
    if not batch:
        return
    while new_keys := search.view_keys() - batch[0].scanned:
        await search.scan([sought for block in batch for sought in block.txs], new_keys)
        for block in batch:
            block.scanned |= new_keys


class _Fetcher:
    """Fetches and parses batches, one at a time."""

    def __init__(self, rpc: MoneroRpc, heights: range, pace: Pace) -> None:
        self._rpc = rpc
        self._heights = heights
        self._pace = pace

    def close(self) -> None:
        self._heights = range(0)

    async def fetch(self) -> _Batch:
        """The next blocks, not scanned; empty at the end of what was asked for or of the chain."""
        heights = self._heights
        if not heights:
            return []
        raws = await self._ask(heights.start, len(heights))
        batch: _Batch = []
        for height, raw in zip(heights, raws, strict=False):
            block = await self._parse(raw, height)
            if batch and block.ref.parent != batch[-1].ref.hash:
                raise self._rpc.distrust(f"gave block {height} without the one before it")
            batch.append(block)
        # Whoever closed us meanwhile wants no more.
        if self._heights is heights:
            self._heights = heights[len(batch) :] if batch else range(0)
        return batch

    async def _ask(self, first: int, wanted: int) -> Sequence[RawBlock]:
        while True:
            count = min(self._pace.blocks, wanted)
            began = trio.current_time()
            try:
                raws = await self._rpc.blocks(first, max_blocks=count)
            except AnswerTooLargeError:
                if count == 1:
                    raise
                self._pace.shrink(count)
                continue
            except TransientError:
                # It may have taken too long; whoever tries again should ask for less.
                self._pace.shrink(count)
                raise
            if raws:
                self._pace.learn(
                    blocks=len(raws),
                    txs=sum(1 + len(raw.txs) for raw in raws),
                    size_bytes=sum(_size(raw) for raw in raws),
                    took_s=trio.current_time() - began,
                )
            return raws[:count]

    async def _parse(self, raw: RawBlock, height: int) -> _Block:
        """The block of that height, or else TransientError."""
        await trio.lowlevel.checkpoint()
        try:
            block = parse_block(raw.blob)
            if block.height != height:
                raise self._rpc.distrust(f"gave block {block.height} when asked for {height}")
            txs = [block.miner_tx]
            for n, tx in enumerate(raw.txs, start=1):
                if n % _PARSED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
                txs.append(parse_tx(tx.blob, prunable_hash=tx.prunable_hash))
        except WireError as error:
            raise self._rpc.distrust(f"gave block {height} garbled: {error}") from None
        if tuple(tx.txid for tx in txs[1:]) != block.txids:
            raise self._rpc.distrust(f"gave block {height} with other transactions than it has")
        ref = BlockRef(height, block.hash, block.parent, block.timestamp)
        return _Block(ref, [Sought(tx) for tx in txs])


def _size(raw: RawBlock) -> int:
    return len(raw.blob) + sum(len(tx.blob) for tx in raw.txs)
