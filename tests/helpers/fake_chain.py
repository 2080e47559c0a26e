"""A tiny honest chain with one node: `actors.ports.ChainSource`, and the verbs that move its world.

The world (blocks, mempool) is the truth, and every answer is read from it at that moment. What the
node pushes is up to the test: `muted` swallows all news, `swallow` some kinds of them, `echo` says
them twice, `fail_with` makes every answer an error, `before_answer` looks in before each.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import trio

from actors.core.chain_events import ChainTx, OutPoint, Output, RefusedOutput
from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex
from actors.ports import (
    Heartbeat,
    MempoolSnapshot,
    MempoolStale,
    NodeStatus,
    Signal,
    TipMoved,
    TransientError,
    TxArrived,
    TxLeft,
    WallClock,
)

NEWS = 10_000
"""News that a test may let wait; more is a mistake of the test."""


@dataclass(frozen=True)
class FakeTx:
    """A transaction: the coins it spends, and what it pays to whom."""

    txid: bytes
    spends: tuple[bytes, ...]
    outputs: tuple[Output, ...]
    first_seen_s: int | None = None
    refused: tuple[RefusedOutput, ...] = ()
    replaceable: bool = False


class FakeChain:
    """One simulated chain. World verbs are synchronous; the node's answers are checkpoints."""

    def __init__(
        self,
        chain: str = "btc",
        *,
        clock: WallClock,
        asset: str = "BTC",
        network: str = "regtest",
        height: int = 100,
        heartbeat_s: float = 1.0,
    ) -> None:
        self._chain = chain
        self._clock = clock
        self._asset = asset
        self._made = 0
        self._news: trio.MemorySendChannel[Signal] | None = None
        self._index: WatchIndex | None = None
        self.blocks: list[tuple[BlockRef, tuple[FakeTx, ...]]] = []
        self.mempool: dict[bytes, FakeTx] = {}
        self.contested: set[bytes] = set()
        """Those in the mempool for whose coins the node saw a rival."""
        self.network = network
        self.heartbeat_s = heartbeat_s
        self.syncing = False
        self.pruned_below: int | None = None
        self.muted = False
        self.final: int | None = None
        """The height that the node calls final; None: it knows no such thing."""
        self.disabled: dict[str, str] = {}
        self.swallow: set[type[Signal]] = set()
        self.echo = False
        self.before_answer: Callable[[str], None] | None = None
        """Called with the question's name when the node is about to answer: races are made here."""
        self.delays_s: dict[str, float] = {}
        """How long the node takes to answer each question, by name; nothing by default."""
        self.fail_with: Exception | None = None
        self.connections = 0
        for _ in range(height + 1):
            self._add_block(())

    # --- the world --------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        return self.blocks[-1][0].height

    def pay(
        self,
        destination: bytes,
        *amounts_base: int,
        replaces: FakeTx | None = None,
        asset: str | None = None,
        **output: Any,
    ) -> FakeTx:
        """Broadcast one transaction with an output per amount; `replaces` spends the same coins.

        `output` are further fields of each output: a one-time key, a lock.
        """
        tx = self.make(destination, *amounts_base, replaces=replaces, asset=asset, **output)
        self.broadcast(tx)
        return tx

    def pay_many(self, *payments: tuple[bytes, int]) -> FakeTx:
        """Broadcast one transaction that pays several destinations: a batch payout."""
        txid, coin = self._id("tx"), self._id("coin")
        outputs = tuple(
            Output(OutPoint(txid, number), destination, amount_base, self._asset)
            for number, (destination, amount_base) in enumerate(payments)
        )
        tx = FakeTx(txid, (coin,), outputs, self._now_s())
        self.broadcast(tx)
        return tx

    def make(
        self,
        destination: bytes,
        *amounts_base: int,
        replaces: FakeTx | None = None,
        asset: str | None = None,
        replaceable: bool = False,
        **output: Any,
    ) -> FakeTx:
        """A transaction that nobody has heard of yet; `output` as in `pay`."""
        txid = self._id("tx")
        spends = replaces.spends if replaces else (self._id("coin"),)
        outputs = tuple(
            Output(OutPoint(txid, number), destination, amount_base, asset or self._asset, **output)
            for number, amount_base in enumerate(amounts_base)
        )
        return FakeTx(txid, spends, outputs, self._now_s(), replaceable=replaceable)

    def lie(self, destination: bytes) -> FakeTx:
        """Broadcast a transaction that seems to pay, and proves no amount."""
        txid = self._id("tx")
        refused = RefusedOutput(OutPoint(txid, 0), destination, self._asset, "it proves nothing")
        tx = FakeTx(txid, (self._id("coin"),), (), self._now_s(), (refused,))
        self.broadcast(tx)
        return tx

    def contest(self, tx: FakeTx) -> None:
        """The node sees a rival of an unconfirmed transaction, and keeps what it has."""
        assert tx.txid in self.mempool, "only what is in the mempool has a rival"
        self.contested.add(tx.txid)
        # As drivers do: the watcher then reads the mempool, which says more.
        self.push(TxLeft(tx.txid))

    def broadcast(self, tx: FakeTx) -> None:
        """Put a transaction into the mempool, in place of those that spend the same coins."""
        self._drop_conflicts(tx)
        self.mempool[tx.txid] = tx
        if self._index is not None and (ours := _ours(tx, self._index)) is not None:
            self.push(TxArrived(ours, trio.current_time()))

    def steal(self, tx: FakeTx) -> FakeTx:
        """A transaction that spends the same coins to somebody else; not broadcast."""
        return FakeTx(self._id("tx"), tx.spends, (), self._now_s())

    def evict(self, tx: FakeTx) -> None:
        """The node forgets an unconfirmed transaction."""
        del self.mempool[tx.txid]
        self.contested.discard(tx.txid)
        self.push(TxLeft(tx.txid))

    def mine(self, *txs: FakeTx, count: int = 1) -> BlockRef:
        """Mine `count` blocks; the first has `txs`, or the whole mempool when none are named."""
        self._add_block(txs or tuple(self.mempool.values()))
        for _ in range(count - 1):
            self._add_block(())
        return self.blocks[-1][0]

    def mine_empty(self, count: int = 1) -> BlockRef:
        """Mine blocks without a transaction, whatever waits."""
        for _ in range(count):
            self._add_block(())
        return self.blocks[-1][0]

    def reorg(self, depth: int, *, take: Sequence[FakeTx] = (), count: int | None = None) -> None:
        """Replace the newest `depth` blocks by `count` others (one more than depth by default).

        The first has the transactions in `take`; what else was in the old blocks is unconfirmed
        again, unless something taken spends the same coins.
        """
        freed = [tx for _, txs in self.blocks[-depth:] for tx in txs]
        del self.blocks[-depth:]
        self._settle_mempool(freed)
        self._add_block(tuple(take))
        for _ in range((depth + 1 if count is None else count) - 1):
            self._add_block(())

    def switch_to(self, blocks: Sequence[tuple[BlockRef, tuple[FakeTx, ...]]]) -> None:
        """Make another branch the active chain: `blocks` as they once were, from height 0 on.

        What only the old branch had is unconfirmed again, unless the new one spends its coins.
        """
        kept = {block.hash for block, _ in blocks}
        freed = [tx for block, txs in self.blocks if block.hash not in kept for tx in txs]
        self.blocks = list(blocks)
        self._settle_mempool(freed)
        self.push(TipMoved())

    def remine(self, depth: int) -> None:
        """Replace the newest `depth` blocks by others with the very same transactions."""
        old = self.blocks[-depth:]
        del self.blocks[-depth:]
        for _, txs in old:
            self._add_block(txs)

    def push(self, signal: Signal) -> None:
        """Have the node say something, if it is connected and not muted."""
        if self._news is not None and not self.muted and type(signal) not in self.swallow:
            self._news.send_nowait(signal)
            if self.echo:
                self._news.send_nowait(signal)

    def beat(self) -> None:
        """Say now that all is told, without waiting for the next regular heartbeat."""
        self.push(Heartbeat(trio.current_time()))

    def lose_push(self, reason: str = "gap in the sequence numbers") -> None:
        self.push(MempoolStale(reason))

    def disconnect(self) -> None:
        """Break the node's connection; the watcher will have to come again."""
        if self._news is not None:
            self._news.close()
            self._news = None

    # --- ChainSource ------------------------------------------------------------------------------

    @property
    def chain(self) -> str:
        return self._chain

    async def status(self) -> NodeStatus:
        await self._answer("status")
        tip = self.blocks[-1][0]
        return NodeStatus(
            software="/FakeNode:1.0/",
            network=self.network,
            genesis=self.blocks[0][0].hash,
            tip=tip,
            headers_height=tip.height,
            syncing=self.syncing,
            pruned_below=self.pruned_below,
            push="channel",
        )

    async def final_height(self) -> int | None:
        return self.final

    def disabled_assets(self) -> Mapping[str, str]:
        return self.disabled

    async def tip(self) -> BlockRef:
        await self._answer("tip")
        return self.blocks[-1][0]

    async def block_at(self, height: int) -> BlockRef | None:
        await self._answer("block_at")
        return self.blocks[height][0] if 0 <= height < len(self.blocks) else None

    async def window(self, tip: BlockRef, count: int) -> tuple[BlockRef, ...]:
        await self._answer("window")
        if tip.height >= len(self.blocks) or self.blocks[tip.height][0] != tip:
            raise TransientError(f"block {tip.hash.hex()} is not on the active chain any more")
        first = max(0, tip.height + 1 - count)
        return tuple(block for block, _ in self.blocks[first : tip.height + 1])

    async def read_blocks(
        self, heights: range, index: WatchIndex
    ) -> AsyncIterator[tuple[BlockRef, tuple[ChainTx, ...]]]:
        for height in heights:
            await self._answer("read_blocks")
            if height >= len(self.blocks):
                return
            block, txs = self.blocks[height]
            yield block, _all_ours(txs, index)

    async def read_mempool(self, index: WatchIndex) -> MempoolSnapshot:
        await self._answer("read_mempool")
        undisputed = (tx for tx in self.mempool.values() if tx.txid not in self.contested)
        return MempoolSnapshot(
            frozenset(self.mempool), _all_ours(undisputed, index), frozenset(self.contested)
        )

    @asynccontextmanager
    async def signals(self, index: WatchIndex) -> AsyncIterator[AsyncIterator[Signal]]:
        await self._answer("signals")
        send, receive = trio.open_memory_channel[Signal](NEWS)
        self._news, self._index = send, index
        self.connections += 1
        try:
            with receive:
                yield _Signals(self, receive)
        finally:
            send.close()
            if self._news is send:
                self._news = self._index = None

    async def aclose(self) -> None:
        self.disconnect()
        await trio.lowlevel.checkpoint()

    # --- inside -----------------------------------------------------------------------------------

    async def _answer(self, question: str) -> None:
        await trio.sleep(self.delays_s.get(question, 0))
        if self.before_answer is not None:
            self.before_answer(question)
        if self.fail_with is not None:
            raise self.fail_with

    def _add_block(self, txs: tuple[FakeTx, ...]) -> None:
        height = len(self.blocks)
        parent = self.blocks[-1][0].hash if self.blocks else bytes(32)
        self.blocks.append((BlockRef(height, self._id("block"), parent, self._now_s()), txs))
        # As drivers do: first the block, then what it excluded.
        self.push(TipMoved())
        for tx in txs:
            self.mempool.pop(tx.txid, None)
            self.contested.discard(tx.txid)
            self._drop_conflicts(tx)

    def _settle_mempool(self, freed: Iterable[FakeTx]) -> None:
        """After a change of branch: what is free again waits, what the branch has does not."""
        mined = {tx.txid for _, txs in self.blocks for tx in txs}
        spent = {coin for _, txs in self.blocks for tx in txs for coin in tx.spends}
        waiting = {tx.txid: tx for tx in freed} | self.mempool
        self.mempool = {
            txid: tx
            for txid, tx in waiting.items()
            if txid not in mined and not spent.intersection(tx.spends)
        }
        self.contested.intersection_update(self.mempool)

    def _drop_conflicts(self, tx: FakeTx) -> None:
        for other in [one for one in self.mempool.values() if set(one.spends) & set(tx.spends)]:
            if other.txid != tx.txid:
                del self.mempool[other.txid]
                self.contested.discard(other.txid)
                self.push(TxLeft(other.txid))

    def _id(self, what: str) -> bytes:
        self._made += 1
        return sha256(f"{self._chain} {what} {self._made}".encode()).digest()

    def _now_s(self) -> int:
        return self._clock.now_ms() // 1000


class _Signals:
    """The node's news in order, with a heartbeat when there are none."""

    def __init__(self, chain: FakeChain, receive: trio.MemoryReceiveChannel[Signal]) -> None:
        self._chain = chain
        self._receive = receive

    def __aiter__(self) -> _Signals:
        return self

    async def __anext__(self) -> Signal:
        while True:
            with trio.move_on_after(self._chain.heartbeat_s or math.inf):
                try:
                    return await self._receive.receive()
                except trio.EndOfChannel:
                    raise TransientError("the fake node's connection broke") from None
            if self._chain.fail_with is not None:
                raise self._chain.fail_with
            if not self._chain.muted:
                return Heartbeat(trio.current_time())


def _ours(tx: FakeTx, index: WatchIndex) -> ChainTx | None:
    """What a driver would say of the transaction; None when it does not concern us."""
    outputs = tuple(out for out in tx.outputs if out.destination in index.destinations)
    refused = tuple(out for out in tx.refused if out.destination in index.destinations)
    if not outputs and not refused and not index.conflicting(tx.txid, tx.spends):
        return None
    return ChainTx(tx.txid, outputs, tx.spends, tx.first_seen_s, refused, tx.replaceable)


def _all_ours(txs: Iterable[FakeTx], index: WatchIndex) -> tuple[ChainTx, ...]:
    return tuple(ours for tx in txs if (ours := _ours(tx, index)) is not None)
