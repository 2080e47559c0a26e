"""Reading the active chain's blocks in order, ahead of the reader, within a bound.

A batch asks for several blocks, each with its receipts (and traces): one round trip. The number of
blocks in it follows what the node bears: it doubles while answers are small and quick, and is
halved when the node refuses or takes long. Where contracts' payments need no traces, and for nodes
that do not know eth_getBlockReceipts, a range's logs are asked for in place of all receipts; then
only the transactions that concern us have their receipts read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any, Self

import trio

from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex
from actors.ports import PersistentError, TransientError
from daemon.drivers.blocks_ahead import Spawn
from daemon.drivers.evm_internal import InternalPayments
from daemon.drivers.evm_rpc import EvmRpc, header_call
from daemon.drivers.evm_wire import (
    TRANSFER_TOPIC,
    Assets,
    EvmBlock,
    Internals,
    Json,
    OtherBlockError,
    WireError,
    assemble,
    block_ref,
    block_with_logs,
    block_with_receipts,
    concerned,
    match_block,
)
from daemon.drivers.jsonrpc import METHOD_NOT_FOUND
from daemon.drivers.jsonrpc_words import AnswerTooLargeError, Call, RpcError

MOST_BLOCKS = 64
BATCHES_AHEAD = 2
ITEMS_AT_ONCE = 10_000
"""Transactions and logs in one batch, as far as can be foreseen: some 30 MB as objects."""
_QUICK_S = 1.0
_SLOW_S = 4.0
_GOOD_BATCHES = 50
"""After so many more is tried again than was once refused."""


class Pace:
    """How many blocks a node gives at once; learned, and kept between readers."""

    def __init__(self) -> None:
        self.blocks = 1
        self.has_block_receipts = True
        self._ceiling = MOST_BLOCKS
        self._good = 0

    def learn(self, *, blocks: int, items: int, took_s: float) -> None:
        """A batch of so many blocks was answered."""
        if took_s > _SLOW_S or items > ITEMS_AT_ONCE:
            self.shrink(blocks)
            return
        self._good += 1
        if self._good % _GOOD_BATCHES == 0:
            self._ceiling = min(2 * self._ceiling, MOST_BLOCKS)
        if blocks >= self.blocks and took_s < _QUICK_S and 2 * items <= ITEMS_AT_ONCE:
            self.blocks = min(2 * self.blocks, self._ceiling)

    def shrink(self, blocks: int) -> None:
        """So many were too many."""
        self.blocks = self._ceiling = max(1, min(self.blocks, blocks // 2))
        self._good = 0


class _Batch:
    """Blocks that were asked for."""

    def __init__(self, heights: range) -> None:
        self.heights = heights
        self.blocks: list[EvmBlock] = []
        """Fewer than heights where the chain ends or moves."""
        self.error: TransientError | PersistentError | None = None
        self.done = trio.Event()


class BlockReader:
    """An asynchronous iterator of (block, transactions that concern us).

    `spawn` starts a task that asks ahead; None reads one batch after the other. Ends where the
    chain ends, and where a block does not follow the one before: the caller looks for the fork.
    """

    def __init__(
        self,
        rpc: EvmRpc,
        heights: range,
        index: WatchIndex,
        assets: Assets,
        *,
        internal: InternalPayments,
        pace: Pace,
        spawn: Spawn | None,
    ) -> None:
        self._rpc = rpc
        self._heights = heights
        self._tip_height = heights.stop - 1
        self._index = index
        self._assets = assets
        self._internal = internal
        self._pace = pace
        self._spawn = spawn
        self._asked: deque[_Batch] = deque()
        self._ready: deque[EvmBlock] = deque()
        self._receipts: dict[str, Json | None] = {}
        """Of transactions in `_ready` blocks that may concern us, where blocks come with logs."""
        self._last: bytes | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[BlockRef, tuple[ChainTx, ...]]:
        """The next block. Raises TransientError or PersistentError; then the reader is spent."""
        if not self._ready:
            await self._fill()
        if not self._ready:
            raise StopAsyncIteration
        block = self._ready.popleft()
        if self._last is not None and block.ref.parent != self._last:
            self.close()
            raise StopAsyncIteration
        self._last = block.ref.hash
        try:
            return block.ref, await self._match(block)
        except OtherBlockError:
            self.close()
            raise StopAsyncIteration from None
        except WireError as error:
            self.close()
            self._rpc.garbage(f"block {block.ref.height}: {error}", "0x" + block.ref.hash.hex())

    def close(self) -> None:
        """Drop what was asked for but not read. May be called again."""
        self._heights = range(0)
        self._asked.clear()
        self._ready.clear()

    # --- searching --------------------------------------------------------------------------------

    async def _match(self, block: EvmBlock) -> tuple[ChainTx, ...]:
        if block.receipts is not None:
            found = match_block(block, self._index, self._assets)
        else:
            found = await self._match_by_logs(block)
        depth = self._tip_height - block.ref.height
        rise = await self._internal.rises(block, found, depth=depth)
        return found if rise is None else (*found, rise)

    async def _match_by_logs(self, block: EvmBlock) -> tuple[ChainTx, ...]:
        txs = concerned(block, self._index, self._assets)
        if any(tx["hash"] not in self._receipts for tx in txs):
            # The blocks that wait are looked at too: their receipts cost no request of their own.
            self._receipts.clear()
            waiting = [concerned(one, self._index, self._assets) for one in self._ready]
            await self._fetch_receipts_of([*txs, *chain.from_iterable(waiting)])
        found: list[ChainTx] = []
        for tx in txs:
            receipt = self._receipts.pop(tx["hash"])
            if receipt is None or receipt.get("blockHash") != tx.get("blockHash"):
                raise OtherBlockError(f"no receipt of {tx['hash']} in block {block.ref.height}")
            match = assemble(tx, receipt, block, self._index, self._assets)
            if match is not None:
                found.append(match)
        return tuple(found)

    async def _fetch_receipts_of(self, txs: Sequence[Json]) -> None:
        calls: list[Call] = [("eth_getTransactionReceipt", (tx["hash"],)) for tx in txs]
        for tx, answer in zip(txs, await self._rpc.many(calls), strict=True):
            receipt = self._rpc.result(answer)
            self._receipts[tx["hash"]] = receipt and self._rpc.as_object(receipt)

    # --- asking -----------------------------------------------------------------------------------

    async def _fill(self) -> None:
        """Take the next batch, and ask for those after it."""
        await self._internal.ready()
        while not self._ready:
            self._ask()
            if not self._asked:
                return
            batch = self._asked[0]
            if self._spawn is None:
                await self._run(batch)
            await batch.done.wait()
            self._asked.popleft()
            if batch.error is not None:
                self._split(batch, batch.error)
                continue
            self._ready.extend(batch.blocks)
            if len(batch.blocks) < len(batch.heights):
                self._heights = range(0)
                self._asked.clear()
                return
            self._ask()

    def _ask(self) -> None:
        limit = BATCHES_AHEAD if self._spawn is not None else 1
        while self._heights and len(self._asked) < limit:
            count = self._pace.blocks
            self._start(_Batch(self._heights[:count]))
            self._heights = self._heights[count:]

    def _start(self, batch: _Batch, *, first: bool = False) -> None:
        if first:
            self._asked.appendleft(batch)
        else:
            self._asked.append(batch)
        if self._spawn is not None:
            self._spawn(lambda: self._run(batch))

    def _split(self, batch: _Batch, error: TransientError | PersistentError) -> None:
        """Ask for less at a time if that may help; otherwise raise the error."""
        self._pace.shrink(len(batch.heights))
        half = len(batch.heights) // 2
        if not isinstance(error, RpcError | AnswerTooLargeError) or not half:
            self.close()
            raise error
        self._start(_Batch(batch.heights[half:]), first=True)
        self._start(_Batch(batch.heights[:half]), first=True)

    async def _run(self, batch: _Batch) -> None:
        began = trio.current_time()
        try:
            batch.blocks = await self._fetch(batch.heights)
        except (TransientError, PersistentError) as error:
            batch.error = error
        else:
            items = sum(len(block.txs) + len(block.logs) for block in batch.blocks)
            took_s = trio.current_time() - began
            self._pace.learn(blocks=len(batch.heights), items=items, took_s=took_s)
        finally:
            batch.done.set()

    async def _fetch(self, heights: range) -> list[EvmBlock]:
        way = await self._internal.ready()
        if self._pace.has_block_receipts and (way.traces or len(heights) == 1):
            blocks = await self._fetch_receipts(heights)
            if blocks is not None:
                return blocks
            self._pace.has_block_receipts = False
        return await self._fetch_logs(heights)

    async def _fetch_receipts(self, heights: range) -> list[EvmBlock] | None:
        """Blocks with all their receipts; None if the node does not know how to give them."""
        calls: list[Call] = []
        for height in heights:
            calls += [_block_call(height), ("eth_getBlockReceipts", (hex(height),))]
            calls += self._internal.calls(height)
        answers = await self._batch(calls, heights)
        if any(_is_unknown(answer) for answer in answers[1 :: len(calls) // len(heights)]):
            return None
        size = len(calls) // len(heights)
        blocks: list[EvmBlock] = []
        for number, height in enumerate(heights):
            await trio.lowlevel.checkpoint()
            answer, receipts, *traces = answers[number * size : (number + 1) * size]
            block = self._block(answer, height)
            if block is None:
                break
            try:
                internals = self._internals(block, traces, height)
                blocks.append(block_with_receipts(block, self._rpc.result(receipts), internals))
            except OtherBlockError:
                break
            except WireError as error:
                self._rpc.garbage(str(error), block.get("hash"))
        return blocks

    async def _fetch_logs(self, heights: range) -> list[EvmBlock]:
        """Blocks with those of their logs that may be payments."""
        # The last block is asked for again: if it is the same, all before it and the logs belong
        # to one chain.
        calls = [_block_call(height) for height in heights]
        for height in heights:
            calls += self._internal.calls(height)
        traces_each = len(calls) // len(heights) - 1
        calls += [*self._logs_calls(heights), header_call(hex(heights[-1]))]
        answers = await self._batch(calls, heights)
        found = answers[len(heights) * (1 + traces_each) : -1]
        logs = self._by_block(self._rpc.result(found[0])) if found else {}
        last = self._rpc.header_in(answers[-1], heights[-1])
        blocks: list[EvmBlock] = []
        for number, height in enumerate(heights):
            await trio.lowlevel.checkpoint()
            block = self._block(answers[number], height)
            if block is None:
                # Where the range of the logs ended is not known: ask for what is there.
                return await self._fetch_logs(heights[:number]) if number else []
            at = len(heights) + number * traces_each
            try:
                internals = self._internals(block, answers[at : at + traces_each], height)
                blocks.append(block_with_logs(block, logs.get(height, []), internals))
            except OtherBlockError:
                return []
            except WireError as error:
                self._rpc.garbage(str(error), block.get("hash"))
        return blocks if last == blocks[-1].ref else []

    async def _batch(self, calls: list[Call], heights: range) -> list[Any]:
        # What a node refuses of several blocks is asked for again of fewer (see _split).
        is_single = len(heights) == 1
        return await (self._rpc.many(calls) if is_single else self._rpc.client.batch(calls))

    def _logs_calls(self, heights: range) -> list[Call]:
        if not self._assets.tokens:
            return []  # no address would mean: any address
        wanted = {
            "fromBlock": hex(heights[0]),
            "toBlock": hex(heights[-1]),
            "address": list(self._assets.tokens),
            "topics": [TRANSFER_TOPIC],
        }
        return [("eth_getLogs", (wanted,))]

    def _by_block(self, found: object) -> dict[int, list[Json]]:
        if not isinstance(found, list) or not all(isinstance(log, dict) for log in found):
            self._rpc.garbage("eth_getLogs without a list of logs", found)
        logs: dict[int, list[Json]] = {}
        for log in found:
            logs.setdefault(self._rpc.as_quantity(log.get("blockNumber")), []).append(log)
        return logs

    def _block(self, answer: object, height: int) -> Json | None:
        self._rpc.refuse_pruned(answer, height)
        block = self._rpc.result(answer)
        if block is None:
            return None
        try:
            if block_ref(block).height != height:
                self._rpc.garbage(f"another block than {height}", block)
        except WireError as error:
            self._rpc.garbage(str(error), block)
        return self._rpc.as_object(block)

    def _internals(self, block: Json, traces: Sequence[object], height: int) -> Internals:
        txs = block.get("transactions")
        if not isinstance(txs, list) or not all(isinstance(tx, dict) for tx in txs):
            raise WireError(f"block {height} without whole transactions")
        hashes = [str(tx.get("hash")) for tx in txs]
        depth = self._tip_height - height
        return self._internal.read(
            traces, block_hash=str(block.get("hash")), hashes=hashes, height=height, depth=depth
        )


def _block_call(height: int) -> Call:
    return ("eth_getBlockByNumber", (hex(height), True))


def _is_unknown(answer: object) -> bool:
    return isinstance(answer, RpcError) and answer.code == METHOD_NOT_FOUND
