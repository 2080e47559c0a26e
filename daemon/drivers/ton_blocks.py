"""Reading masterchain blocks in order, ahead of the reader, within a bound.

While the reader is told of one batch, the next is fetched: its headers with one question, then each
block's transactions, several blocks at a time. How many follows how many transactions they have.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import trio

from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex
from actors.ports import PersistentError, TransientError
from daemon.drivers.blocks_ahead import BlocksAhead, Failure, Spawn
from daemon.drivers.ton_api import IncompleteError
from daemon.drivers.ton_match import Matcher
from daemon.drivers.ton_mempool import Mempool
from daemon.drivers.ton_rpc import TonRpc
from daemon.drivers.ton_wire import Header, TonTx

MOST_BLOCKS = 100
"""In one batch."""
TXS_AT_ONCE = 5000
"""In one batch, as far as can be foreseen."""
ASKED_AT_ONCE = 3
"""Blocks of a batch whose transactions are asked for at the same time."""
ATTEMPTS = 8
RETRY_S = 0.5
"""A replica that lags behind another has caught up by then, or else the server is broken."""
_MATCHED_AT_ONCE = 500


class _Block(NamedTuple):
    ref: BlockRef
    txs: tuple[TonTx, ...]


_Batch = list[_Block]


class Pace:
    """How many blocks are asked for at once; learned, and kept between readers."""

    def __init__(self) -> None:
        self.blocks = 1

    def learn(self, batch: _Batch) -> None:
        """A batch was read."""
        txs = sum(len(block.txs) for block in batch)
        fitting = max(1, TXS_AT_ONCE * len(batch) // max(1, txs))
        self.blocks = min(fitting, 2 * max(self.blocks, len(batch)), MOST_BLOCKS)

    def shrink(self) -> None:
        """So many were too many."""
        self.blocks = max(1, self.blocks // 2)


class BlockReader:
    """An asynchronous iterator of (block, transactions that concern us).

    `spawn` starts a task that reads ahead; None reads one batch after the other. Ends where the
    chain ends, and where a block does not follow the one before.
    """

    def __init__(
        self,
        rpc: TonRpc,
        seqnos: range,
        index: WatchIndex,
        *,
        matcher: Matcher,
        mempool: Mempool,
        pace: Pace,
        spawn: Spawn | None,
    ) -> None:
        self._fetcher = _Fetcher(rpc, seqnos, pace)
        self._index = index
        self._matcher = matcher
        self._mempool = mempool
        self._blocks = BlocksAhead(self._fetcher.fetch, spawn=spawn)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[BlockRef, tuple[ChainTx, ...]]:
        """The next block. Raises TransientError or PersistentError; then the reader is spent."""
        finished = True
        try:
            block = await self._blocks.next()
            if block is None:
                raise StopAsyncIteration
            found = block.ref, await self._match(block.txs)
            finished = False
            return found
        finally:
            if finished:
                self.close()

    def close(self) -> None:
        """Drop what was read ahead. May be called again."""
        self._fetcher.close()
        self._blocks.close()

    async def _match(self, txs: tuple[TonTx, ...]) -> tuple[ChainTx, ...]:
        # Addresses that were given out after the block was fetched must not be overlooked.
        await self._matcher.follow(self._index)
        found = []
        for number, tx in enumerate(txs):
            if number % _MATCHED_AT_ONCE == _MATCHED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            match = await self._matcher.match(tx, self._index)
            if match is not None:
                found.append(match)
                self._mempool.in_block(match.txid)
        return tuple(found)


class _Fetcher:
    """Fetches batches, one at a time."""

    def __init__(self, rpc: TonRpc, seqnos: range, pace: Pace) -> None:
        self._rpc = rpc
        self._seqnos = seqnos
        self._pace = pace

    def close(self) -> None:
        self._seqnos = range(0)

    async def fetch(self) -> _Batch:
        """The next blocks; empty at the end of what was asked for or of the chain."""
        seqnos = self._seqnos
        if not seqnos:
            return []
        some = seqnos[: self._pace.blocks]
        headers = await self._rpc.headers(range(some.start - 1, some.stop))
        by_seqno = {header.seqno: header for header in headers}
        refs = await self._rpc.blocks(some)
        batch = await self._with_transactions([by_seqno[ref.height] for ref in refs], refs)
        # Whoever closed us meanwhile wants no more.
        if self._seqnos is seqnos:
            self._seqnos = seqnos[len(batch) :] if batch else range(0)
        if batch:
            self._pace.learn(batch)
        return batch

    async def _with_transactions(self, headers: list[Header], refs: list[BlockRef]) -> _Batch:
        """As many of the blocks as could be read; raises what kept the first from it."""
        found: dict[int, tuple[TonTx, ...]] = {}
        failures: dict[int, Failure] = {}
        limiter = trio.CapacityLimiter(ASKED_AT_ONCE)

        async def ask(header: Header) -> None:
            async with limiter:
                if failures:
                    return
                try:
                    found[header.seqno] = await self._payments(header)
                except (TransientError, PersistentError) as error:
                    failures[header.seqno] = error

        async with trio.open_nursery() as nursery:
            for header in headers:
                nursery.start_soon(ask, header)
        batch = []
        for ref in refs:
            if ref.height not in found:
                break
            batch.append(_Block(ref, found[ref.height]))
        if failures:
            self._pace.shrink()
            if not batch:
                raise failures[min(failures)]
        return batch

    async def _payments(self, header: Header) -> tuple[TonTx, ...]:
        attempt = 1
        while True:
            try:
                return await self._rpc.payments(header)
            except IncompleteError as error:
                if attempt == ATTEMPTS:
                    raise self._rpc.distrust(
                        f"names masterchain block {header.seqno}, but does not give what is in it"
                        f" ({error}, asked {ATTEMPTS} times): its indexer lags behind or is broken"
                    ) from None
            attempt += 1
            await trio.sleep(RETRY_S)
