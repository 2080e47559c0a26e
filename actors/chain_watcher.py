"""Reads one chain in order and says what happened in three verbs (see `core.chain_events`).

Theory of operation
-------------------
The view is what every invoice has been told of. A round always goes: blocks first, up to the
node's tip, each acknowledged before the view moves; then the mempool. So a transaction is never
taken for evicted because its block was not read yet, and a replacement is told together with what
it replaces.

The mempool is read whole after every (re)connection, reorg, lost push and for every transaction of
ours that left it; the answer counts only if the tip did not move meanwhile. A transaction that is
merely absent, with nothing seen that excludes it, is told as evicted after `eviction_grace_s`: a
node that was restarted needs time to get its mempool back. One that the node calls contested is
told as such at once: it has a rival, and counts again when a block has it.

A node whose tip is an *ancestor* of our view (restarted, still catching up) is behind, not
reorganised: it is waited for. Only if it insists for `lag_patience_s` is it taken at its word.
Both kinds of patience count only while the node answers: they begin anew with each connection.

The cursor goes forward after the invoices have been told, and back before: whichever of two
branches is active after a crash, the blocks that somebody was told of are told again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from actors.core.chain_events import (
    BlockConnected,
    BlocksDisconnected,
    ChainEvent,
    ChainTx,
    MempoolChanged,
    Removal,
    RemovedTx,
)
from actors.core.chain_view import BlockRef, ChainView
from actors.core.watch_index import WatchIndex
from actors.mailbox import Mailbox, MailboxStatistics
from actors.ports import (
    ChainSource,
    Heartbeat,
    Log,
    MempoolStale,
    PersistentError,
    Signal,
    TipMoved,
    TransientError,
    TxArrived,
    TxLeft,
    WallClock,
)

SIGNALS = 1024
"""News that may wait while a block or a commit is under way; then the driver has to wait."""
SAVE_EVERY_S = 1.0
"""During catch-up over blocks that concern nobody, the cursor is saved this often."""
PROGRESS_EVERY_S = 10.0
RIVALS = 1000
"""Transactions remembered for having displaced a payment without being one."""
CONTRADICTIONS = 20
"""How often in a row a node may name a tip and then not give the blocks that lead to it."""


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """How a chain is followed; depths in blocks, times in seconds."""

    reorg_limit: int = 100
    """The deepest reorg that is followed; deeper ones stop the chain with an error."""
    settled_watch_depth: int = 100
    """Confirmations up to which payments of closed invoices are watched for a reversal."""
    finality: str | None = None
    """`safe` or `finalized`: what invoices that name no number of confirmations wait for."""
    lag_patience_s: float = 30.0
    eviction_grace_s: float = 30.0


@dataclass(slots=True)
class WatchProgress:
    """What the watcher knows of its own standing; read by health, metrics and explanations."""

    current: bool = False
    """Whether everything the node knew at `as_of_ms` has been told."""
    as_of_ms: int | None = None
    behind: str | None = None
    """Why the chain is not current, for people; None when it is or when there is nothing to say."""
    node_height: int | None = None
    blocks_read: int = 0
    reorgs: int = 0
    mempool_reads: int = 0


class Audience(Protocol):
    """Whom a watcher tells; `view` is what has been told, but for a reorg: what is left of it."""

    async def tell(self, event: ChainEvent, view: ChainView) -> None:
        """Returns when every invoice concerned has acknowledged."""
        ...

    async def read_up_to(self, as_of_ms: int, view: ChainView) -> None:
        """All that the node knew at that instant has been told."""
        ...

    async def final_up_to(self, height: int, view: ChainView) -> None:
        """The node calls the blocks up to `height` final."""
        ...

    async def save(self, view: ChainView) -> None:
        """Make the cursor durable."""
        ...

    def pushed(self, latency_s: float) -> None:
        """A pushed transaction took this long to become a durable, published event."""
        ...


class ChainWatcher:
    """Follows one node until its connection fails; keeps its view between attempts."""

    def __init__(
        self,
        source: ChainSource,
        index: WatchIndex,
        view: ChainView,
        audience: Audience,
        *,
        clock: WallClock,
        log: Log,
        policy: WatchPolicy,
    ) -> None:
        self.view = view
        self.progress = WatchProgress()
        self._source = source
        self._index = index
        self._audience = audience
        self._clock = clock
        self._log = log
        self._policy = policy
        self._mailbox: Mailbox[Signal] = Mailbox(SIGNALS)
        self._mempool_stale = True
        self._missing_since: dict[bytes, float] = {}
        self._rivals: dict[bytes, None] = {}
        """Pushed since the last snapshot; when one leaves, what it displaced may be there still."""
        self._short_since: float | None = None
        self._snapshot_at = 0.0
        self._final_height: int | None = None
        self._caught_up = False
        self._saved = view
        self._saved_at = 0.0

    def statistics(self) -> MailboxStatistics:
        return self._mailbox.statistics()

    async def run(self) -> None:
        """Follow the node; raises what the driver raises when it fails. May be run again."""
        self._mailbox = Mailbox(SIGNALS)
        self._mempool_stale = True
        self._missing_since.clear()
        self._short_since = None
        # Subscribe, then snapshot: news that come while the snapshot is read wait in the mailbox.
        async with self._source.signals(self._index) as signals, trio.open_nursery() as nursery:

            async def pump() -> None:
                async for signal in signals:
                    await self._mailbox.put(signal)
                raise TransientError(f"the news from the {self._source.chain} node ended")

            try:
                nursery.start_soon(pump)
                await self._round([])
                while True:
                    await self._round(await self._mailbox.take_all())
            finally:
                self.progress.current = False

    async def _round(self, signals: list[Signal]) -> None:
        arrived = [signal for signal in signals if isinstance(signal, TxArrived)]
        heartbeat = next((s for s in reversed(signals) if isinstance(s, Heartbeat)), None)
        for signal in signals:
            if isinstance(signal, MempoolStale):
                self._log.warning(
                    "reading the mempool again", chain=self._source.chain, reason=signal.reason
                )
                self._mempool_stale = True
        moved = any(isinstance(signal, TipMoved) for signal in signals)
        # A heartbeat asks for the tip too: an instant is read only with the blocks before it.
        before = self.view
        if (moved or heartbeat or self._mempool_stale) and not await self._advance():
            self._mempool_stale = True
            return
        if self._index.contested and self.view is not before:
            # No node tells when a dispute is over, and blocks that came and went may have ended it.
            self._mempool_stale = True
        await self._news(arrived)
        # Looked at after the news: what came and left in one round would be missed otherwise.
        left = {signal.txid for signal in signals if isinstance(signal, TxLeft)}
        index, rivals = self._index, self._rivals
        if any(
            txid in index.unconfirmed or txid in index.contested or txid in rivals for txid in left
        ):
            self._mempool_stale = True
        while self._mempool_stale or self._eviction_is_due():
            await self._read_mempool()
            if self._mempool_stale and not await self._advance():
                return
        if heartbeat is not None:
            await self._finality()
            await self._current(heartbeat.received_at)

    async def _news(self, arrived: list[TxArrived]) -> None:
        # What came before the last snapshot is in it, or has been replaced or mined since.
        arrived = [signal for signal in arrived if signal.received_at >= self._snapshot_at]
        if not arrived:
            return
        for signal in arrived:
            self._missing_since.pop(signal.tx.txid, None)
        added = tuple(signal.tx for signal in arrived)
        self._remember_rivals(added)
        await self._audience.tell(MempoolChanged(added, (), self._clock.now_ms()), self.view)
        now = trio.current_time()
        for signal in arrived:
            self._audience.pushed(now - signal.received_at)

    def _remember_rivals(self, txs: Sequence[ChainTx]) -> None:
        """News may come out of order: a rival that was displaced itself, after what displaced it.

        It is no payment and nobody waits for it, so that it left would mean nothing.
        """
        paid_from = {key for tx in txs if tx.outputs for key in tx.spends}
        for tx in txs:
            if not tx.outputs and any(
                key in paid_from or key in self._index.conflicts for key in tx.spends
            ):
                self._rivals[tx.txid] = None
                if len(self._rivals) > RIVALS:
                    del self._rivals[next(iter(self._rivals))]

    async def _finality(self) -> None:
        height = await self._source.final_height()
        # Final for the node is not final for us before its block has been told.
        if height is not None and height <= self.view.tip.height and height != self._final_height:
            await self._audience.final_up_to(height, self.view)
            self._final_height = height

    async def _current(self, received_at: float) -> None:
        age_ms = round((trio.current_time() - received_at) * 1000)
        as_of_ms = self._clock.now_ms() - age_ms
        self.progress.current = True
        self.progress.behind = None
        self.progress.as_of_ms = as_of_ms
        await self._audience.read_up_to(as_of_ms, self.view)

    # --- blocks -----------------------------------------------------------------------------------

    async def _advance(self) -> bool:
        """Read up to the node's tip; False if the node is behind and has to be waited for."""
        contradictions = 0
        while True:
            tip = await self._source.tip()
            self.progress.node_height = tip.height
            if tip.hash == self.view.tip.hash:
                self._short_since = None
                await self._drop_what_was_left()
                if self._saved is not self.view:
                    await self._save_view()
                return True
            fork_point = await self._fork_point()
            if fork_point != self.view.tip:
                if tip.hash == fork_point.hash and not self._insists(tip):
                    return False
                await self._disconnect(fork_point)
            self._short_since = None
            before = self.view
            await self._connect_up_to(tip)
            contradictions = contradictions + 1 if self.view is before else 0
            if contradictions >= CONTRADICTIONS:
                raise TransientError(
                    f"the {self._source.chain} node names block {tip.hash.hex()} at {tip.height} as"
                    f" its tip, but does not give the blocks from {self.view.tip.height + 1} to it."
                    f" If coin.{self._source.chain}.daemon.url leads to several nodes, name one"
                )

    async def _drop_what_was_left(self) -> None:
        """Say once after a start that there is no block above the tip.

        A crash in a reorg, after the cursor was saved and before it was told, leaves payments in
        blocks that are no more. `HeightTaken` finds them when their height comes again, but a
        branch may be lower than the one before it.
        """
        if not self._caught_up:
            event = BlocksDisconnected(self.view.tip, 0, self._clock.now_ms())
            await self._audience.tell(event, self.view)
            self._caught_up = True

    async def _fork_point(self) -> BlockRef:
        """The newest block of our view on the node's active chain."""
        for block in self.view.newest_first():
            theirs = await self._source.block_at(block.height)
            if theirs is not None and theirs.hash == block.hash:
                return block
        raise PersistentError(
            f"the {self._source.chain} node's chain does not contain any of the last"
            f" {len(self.view.blocks)} blocks read (heights {self.view.floor.height} to"
            f" {self.view.tip.height}): a reorg deeper than coin.{self._source.chain}.reorg_limit"
            f" ({self._policy.reorg_limit}), a node that starts over, or another chain. Nothing was"
            " changed. Check the node and its network"
        )

    def _insists(self, tip: BlockRef) -> bool:
        now = trio.current_time()
        if self._short_since is None:
            self._short_since = now
        waited_s = now - self._short_since
        self.progress.current = False
        self.progress.behind = (
            f"the node is at block {tip.height}, below block {self.view.tip.height} that it had"
            " reached before: it was restarted or rolled back; waiting for it"
        )
        self._log.warning(
            "the node's chain got shorter, waiting for it",
            chain=self._source.chain,
            node_height=tip.height,
            height=self.view.tip.height,
            waited_s=round(waited_s),
        )
        return waited_s >= self._policy.lag_patience_s

    async def _disconnect(self, fork_point: BlockRef) -> None:
        depth = self.view.tip.height - fork_point.height
        self.progress.reorgs += 1
        self._log.warning(
            "reorg",
            chain=self._source.chain,
            depth=depth,
            fork_height=fork_point.height,
            fork_hash=fork_point.hash.hex(),
        )
        shortened = self.view.disconnect_to(fork_point)
        await self._audience.save(shortened)
        self.view = self._saved = shortened
        self._mempool_stale = True
        event = BlocksDisconnected(fork_point, depth, self._clock.now_ms())
        await self._audience.tell(event, self.view)

    async def _connect_up_to(self, tip: BlockRef) -> None:
        """Connect the blocks after the view's tip; stops early where a reorg breaks the row."""
        heights = range(self.view.tip.height + 1, tip.height + 1)
        blocks = self._source.read_blocks(heights, self._index)
        try:
            await self._connect(blocks, tip)
        finally:
            # A generator left in the middle would be finished by the garbage collector, some day.
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()

    async def _connect(
        self, blocks: AsyncIterator[tuple[BlockRef, tuple[ChainTx, ...]]], tip: BlockRef
    ) -> None:
        first = self.view.tip.height + 1
        started = reported = trio.current_time()
        async for block, txs in blocks:
            if block.parent != self.view.tip.hash:
                return
            event = BlockConnected(block, txs, self._clock.now_ms())
            await self._audience.tell(event, self.view)
            # One block more than the deepest reorg: the one it forks from.
            self.view = self.view.connect(block, keep=self._policy.reorg_limit + 1)
            self.progress.blocks_read += 1
            for tx in txs:
                self._missing_since.pop(tx.txid, None)
            now = trio.current_time()
            if txs or block.height >= tip.height or now - self._saved_at >= SAVE_EVERY_S:
                await self._save_view()
            if now - reported >= PROGRESS_EVERY_S:
                reported = now
                self.progress.current = False
                self.progress.behind = f"catching up: block {block.height} of {tip.height}"
                self._log.info(
                    "catching up",
                    chain=self._source.chain,
                    height=block.height,
                    node_height=tip.height,
                    blocks_per_s=round((block.height - first + 1) / (now - started)),
                )

    async def _save_view(self) -> None:
        await self._audience.save(self.view)
        self._saved = self.view
        self._saved_at = trio.current_time()

    # --- mempool ----------------------------------------------------------------------------------

    def _eviction_is_due(self) -> bool:
        oldest = min(self._missing_since.values(), default=None)
        return oldest is not None and trio.current_time() - oldest >= self._policy.eviction_grace_s

    async def _read_mempool(self) -> None:
        """Tell the difference between the node's mempool and what our invoices wait for."""
        began = trio.current_time()
        snapshot = await self._source.read_mempool(self._index)
        if (await self._source.tip()).hash != self.view.tip.hash:
            # A block came in between: what is absent may be in it. Read that first.
            self._mempool_stale = True
            return
        self._mempool_stale = False
        self._snapshot_at = began
        self._rivals.clear()
        self.progress.mempool_reads += 1
        contested = tuple(
            RemovedTx(txid, Removal.CONTESTED)
            for txid in self._index.unconfirmed
            if txid in snapshot.contested
        )
        if snapshot.txs or contested:
            await self._audience.tell(
                MempoolChanged(snapshot.txs, contested, self._clock.now_ms()), self.view
            )
        now = trio.current_time()
        absent = [
            txid
            for txid in (*self._index.unconfirmed, *self._index.contested)
            if txid not in snapshot.txids
        ]
        self._missing_since = {txid: self._missing_since.get(txid, now) for txid in absent}
        evicted = tuple(
            RemovedTx(txid, Removal.EVICTED)
            for txid, since in self._missing_since.items()
            if now - since >= self._policy.eviction_grace_s
        )
        if evicted:
            await self._audience.tell(MempoolChanged((), evicted, self._clock.now_ms()), self.view)
            for removed in evicted:
                self._missing_since.pop(removed.txid, None)
