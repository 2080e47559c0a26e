"""Reading the active chain's blocks in order, ahead of the reader, within a bound of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Self

import trio

from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex
from daemon.drivers.bitcoin_rpc import BitcoinRpc
from daemon.drivers.bitcoin_wire import WireError, block_ref, match_block
from daemon.drivers.jsonrpc import AnswerTooLargeError, Call, Lane

AHEAD_BYTES = 4 * 1024 * 1024
"""Raw blocks asked for in one batch, as far as their size can be foreseen."""
_MOST_BLOCKS = 64
_HASHES_AT_ONCE = 500


class BlockReader:
    """An asynchronous iterator of (block, transactions that concern us).

    One batch is held and searched while the node prepares the next. A batch has as many blocks as
    fit into AHEAD_BYTES at the size of the last ones: many small, one big. Ends where the chain
    ends, and where a block does not follow the one before: the caller looks for the fork.
    """

    def __init__(
        self,
        rpc: BitcoinRpc,
        heights: range,
        index: WatchIndex,
        asset: str,
        *,
        mined: Callable[[bytes], None],
    ) -> None:
        """`mined` is told the id of each transaction that is found in a block."""
        self._rpc = rpc
        self._mined = mined
        self._heights = heights
        self._index = index
        self._asset = asset
        self._lane: Lane | None = None
        self._hashes: deque[tuple[int, bytes]] = deque()
        self._asked: list[tuple[int, bytes]] = []
        self._ready: deque[tuple[int, bytes]] = deque()
        self._blocks_at_once = 1
        self._last: bytes | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[BlockRef, tuple[ChainTx, ...]]:
        """The next block. Raises TransientError or PersistentError; then the reader is spent."""
        finished = True
        try:
            if not self._ready:
                await self._fill()
            if not self._ready:
                raise StopAsyncIteration
            height, raw = self._ready.popleft()
            block = block_ref(raw, height)
            if self._last is not None and block.parent != self._last:
                raise StopAsyncIteration
            self._last = block.hash
            try:
                found = block, match_block(raw, self._index, self._asset)
            except WireError as error:
                self._rpc.garbage(f"block {height} that cannot be read ({error})", raw[:40].hex())
            for tx in found[1]:
                self._mined(tx.txid)
            finished = False
            return found
        finally:
            if finished:
                self.close()

    def close(self) -> None:
        """Drop what was asked for but not read. May be called again."""
        self._heights = range(0)
        self._hashes.clear()
        self._ready.clear()
        self._asked = []
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    def __del__(self) -> None:
        # An iterator that is left in the middle has no other moment to give its connection back.
        if self._lane is not None and trio.lowlevel.in_trio_run():
            self._lane.close()

    async def _fill(self) -> None:
        """Receive a batch of blocks, and ask for the one after it."""
        if not self._asked:
            await self._ask()
        if not self._asked:
            return
        assert self._lane is not None, "a batch was asked for on a lane"
        asked, self._asked = self._asked, []
        try:
            answers = await self._lane.receive()
        except AnswerTooLargeError:
            if len(asked) == 1:
                raise
            self._blocks_at_once = len(asked) // 2
            self._hashes.extendleft(reversed(asked))
            await self._fill()
            return
        for (height, block_hash), answer in zip(asked, answers, strict=True):
            self._ready.append((height, self._rpc.block(answer, block_hash, height)))
        largest = max(len(raw) for _, raw in self._ready)
        fitting = max(1, AHEAD_BYTES // largest)
        self._blocks_at_once = min(fitting, 2 * self._blocks_at_once, _MOST_BLOCKS)
        await self._ask()

    async def _ask(self) -> None:
        if not self._hashes and self._heights:
            wanted, self._heights = self._heights[:_HASHES_AT_ONCE], self._heights[_HASHES_AT_ONCE:]
            hashes = await self._rpc.block_hashes(wanted)
            self._hashes.extend(zip(wanted, hashes, strict=False))
            if len(hashes) < len(wanted):
                self._heights = range(0)
        count = min(len(self._hashes), self._blocks_at_once)
        self._asked = asked = [self._hashes.popleft() for _ in range(count)]
        if asked:
            self._lane = self._lane or self._rpc.client.lane()
            calls: list[Call] = [
                ("getblock", (block_hash.hex(), 0)) for _, block_hash in self._asked
            ]
            await self._lane.send(calls)
