"""An EVM node's news: pushed over its websocket where it has one, asked for where it has not.

Once a beat the node is asked for its tip, and for those transactions that we wait for: nothing is
ever pushed about a transaction that is dropped or replaced. So a silent push channel costs latency,
never a payment. A node that pushes no heads for ten block times is left; if its tip stands still
all the same, it is left once and borne from then on (a private chain makes no blocks for nothing).

Pending transactions come whole, or as hashes that are then fetched, or not at all; without push the
pending block is looked at instead, where the node shows one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from enum import Enum
from types import TracebackType
from typing import Any

import trio

from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex
from actors.ports import (
    Heartbeat,
    Log,
    MempoolStale,
    TipMoved,
    TransientError,
    TxArrived,
    TxLeft,
)
from daemon.drivers.endpoints import EndpointPool
from daemon.drivers.evm_mempool import PendingPool
from daemon.drivers.evm_rpc import EvmRpc
from daemon.drivers.jsonrpc_words import RpcError
from daemon.drivers.rpc_client import CannotSubscribeError, Lost
from daemon.drivers.signal_buffer import SignalBuffer, SignalStatistics

BEAT_S = 1.0
SILENT_BLOCKS = 10
SILENT_MIN_S = 15.0
TRACKED_PER_BEAT = 200
FETCH_EVERY_S = 0.1
FETCH_AT_ONCE = 200
HASHES_LIMIT = 10_000
_SHORTEST_BEAT_S = 0.25


class Pending(Enum):
    """How pending transactions come."""

    WHOLE = "newPendingTransactions (full)"
    HASHES = "newPendingTransactions (hashes)"
    POLLED = "pending block"
    NONE = "no mempool"


async def open_pending(
    rpc: EvmRpc, stack: AsyncExitStack
) -> tuple[Pending, AsyncIterator[Any] | None]:
    """Subscribe to pending transactions, the best way that the node has."""
    for way, params in ((Pending.WHOLE, (True,)), (Pending.HASHES, ())):
        with suppress(RpcError):
            news = await stack.enter_async_context(
                rpc.client.subscribe("newPendingTransactions", *params)
            )
            return way, news
    return Pending.POLLED, None


class Quiet:
    """The tip at which a standing chain was left already; kept between subscriptions."""

    tip: bytes | None = None


class EvmFeed(AbstractAsyncContextManager[SignalBuffer]):
    """One subscription to a node's news; entering it means: subscribed, or polling.

    Iterate over what entering returns, until it raises TransientError or PersistentError.
    """

    def __init__(
        self,
        rpc: EvmRpc,
        pool: PendingPool,
        index: WatchIndex,
        *,
        block_time_s: float,
        poll_interval_s: float,
        quiet: Quiet,
        log: Log,
    ) -> None:
        self._rpc = rpc
        self._pool = pool
        self._index = index
        self._poll_interval_s = poll_interval_s
        self._silence_s = max(SILENT_MIN_S, SILENT_BLOCKS * block_time_s)
        self._block_time_s = block_time_s
        self._is_pushed = False
        self._beat_s = min(BEAT_S, poll_interval_s)
        self._quiet = quiet
        self._log = log
        self._buffer = SignalBuffer()
        self._subscriptions = AsyncExitStack()
        self._manager = trio.open_nursery()
        self.nursery: trio.Nursery | None = None
        self.pending = Pending.NONE
        self._tip: bytes | None = None
        """The newest tip pushed or asked for."""
        self._head: bytes | None = None
        """The newest tip pushed."""
        self._head_at = 0.0
        self._missing_since: float | None = None
        """Since when the node has had a tip that it did not push."""
        self._hashes: deque[tuple[bytes, float]] = deque()
        self._is_flooded = False
        self._has_hashes = trio.Event()
        self._tracked_from = 0
        self._absent: set[bytes] = set()
        self._polled: set[bytes] = set()

    async def __aenter__(self) -> SignalBuffer:
        entered = False
        try:
            heads, pending = await self._subscribe()
            self.nursery = nursery = await self._manager.__aenter__()
            entered = True
        finally:
            if not entered:
                await self._subscriptions.aclose()
        try:
            entered = False
            await self._start(nursery, heads, pending)
            entered = True
        finally:
            if not entered:
                await self.__aexit__(None, None, None)
        return self._buffer

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        nursery, self.nursery = self.nursery, None
        assert nursery is not None, "entered before"
        nursery.cancel_scope.cancel()
        try:
            # The body's own exception is kept out: a nursery would wrap it into a group.
            await self._manager.__aexit__(None, None, None)
        finally:
            await self._subscriptions.aclose()

    async def _subscribe(self) -> tuple[AsyncIterator[Any] | None, AsyncIterator[Any] | None]:
        tip = await self._rpc.tip()
        self._tip = self._head = tip.hash
        heads = pending = None
        # Which of several endpoints answers is known now, but it may change at any await.
        with suppress(CannotSubscribeError):
            if self._rpc.client.can_subscribe:
                heads, pending = await self._subscribe_to_both()
        self._is_pushed = heads is not None
        self._pool.is_pushed = pending is not None
        if heads is None:
            self.pending = Pending.POLLED
            self._beat_s = min(self._beat_s, max(self._block_time_s, _SHORTEST_BEAT_S))
        return heads, pending

    async def _subscribe_to_both(self) -> tuple[AsyncIterator[Any], AsyncIterator[Any] | None]:
        client = self._rpc.client
        heads = await self._subscriptions.enter_async_context(client.subscribe("newHeads"))
        self.pending, pending = await open_pending(self._rpc, self._subscriptions)
        return heads, pending

    async def _start(
        self,
        nursery: trio.Nursery,
        heads: AsyncIterator[Any] | None,
        pending: AsyncIterator[Any] | None,
    ) -> None:
        tip = await self._rpc.tip()
        self._head = tip.hash
        self._see_tip(tip.hash)
        self._head_at = trio.current_time()
        if isinstance(self._rpc.client, EndpointPool):
            nursery.start_soon(self._buffer.guard, self._rpc.client.watch)
        if heads is not None:
            nursery.start_soon(self._buffer.guard, lambda: self._run_heads(heads))
        if pending is not None:
            nursery.start_soon(self._buffer.guard, lambda: self._run_pending(pending))
            nursery.start_soon(self._buffer.guard, self._run_fetch)
        nursery.start_soon(self._buffer.guard, self._run_beat)

    def statistics(self) -> SignalStatistics:
        return self._buffer.statistics()

    # --- being told ---

    async def _run_heads(self, heads: AsyncIterator[Any]) -> None:
        async for head in heads:
            self._head_at = trio.current_time()
            self._missing_since = None
            if isinstance(head, Lost):
                self._head = None
                self._buffer.put(TipMoved())
            else:
                self._head = self._rpc.ref(head).hash
                self._see_tip(self._head)
        raise TransientError(f"{self._rpc.where} ended the news of new blocks")

    async def _run_pending(self, pending: AsyncIterator[Any]) -> None:
        async for news in pending:
            if isinstance(news, Lost):
                self._lose(f"{news.count} pending transactions were not read")
            elif isinstance(news, str):
                self.pending = Pending.HASHES
                self._hear_hash(news)
            else:
                self._arrive(self._pool.match([news], self._index), trio.current_time())
        raise TransientError(f"{self._rpc.where} ended the news of pending transactions")

    def _hear_hash(self, text: str) -> None:
        # Nobody can pay an address before it is made: with none, nothing is worth a call.
        if not self._index.destinations:
            return
        if len(self._hashes) < HASHES_LIMIT:
            self._is_flooded = False
            self._hashes.append((self._rpc.as_hash(text), trio.current_time()))
            self._has_hashes.set()
        elif not self._is_flooded:
            self._is_flooded = True
            self._lose(f"more than {HASHES_LIMIT} pending transactions waited to be fetched")

    async def _run_fetch(self) -> None:
        """Fetch the bodies of what was announced by hash."""
        while True:
            await self._has_hashes.wait()
            began = trio.current_time()
            count = min(len(self._hashes), FETCH_AT_ONCE)
            wanted = [self._hashes[number] for number in range(count)]
            if wanted:
                found = await self._pool.fetch([txid for txid, _ in wanted], self._index)
                self._arrive(found, wanted[0][1])
            # Only now: as long as they wait, a heartbeat claims no more than what came before.
            for _ in range(count):
                self._hashes.popleft()
            if not self._hashes:
                self._has_hashes = trio.Event()
            elif len(self._hashes) < FETCH_AT_ONCE:
                await trio.sleep_until(began + FETCH_EVERY_S)

    def _lose(self, reason: str) -> None:
        self._pool.must_list = True
        self._buffer.put(MempoolStale(reason))

    def _arrive(self, found: list[Any], at: float) -> None:
        for tx in found:
            self._absent.discard(tx.txid)
            self._buffer.put(TxArrived(tx, at))

    def _see_tip(self, tip: bytes) -> None:
        if tip != self._tip:
            self._tip = tip
            self._buffer.put(TipMoved())

    # --- asking ---

    async def _run_beat(self) -> None:
        asked_before = trio.current_time()
        poll_at = asked_before
        while True:
            began = trio.current_time()
            tip = await self._rpc.tip()
            self._see_tip(tip.hash)
            self._check_silence(tip, began)
            if self.pending is Pending.POLLED and began >= poll_at:
                poll_at = began + self._poll_interval_s - self._beat_s / 2
                await self._poll(began)
            await self._look_for_the_gone()
            self._buffer.put(Heartbeat(self._as_of(asked_before if self._is_pushed else began)))
            asked_before = began
            # Spend at most half the time on asking.
            now = trio.current_time()
            await trio.sleep_until(max(began + self._beat_s, 2 * now - began))

    def _as_of(self, asked_at: float) -> float:
        """What was pushed a beat ago has arrived, but may wait for its body."""
        return min(asked_at, self._hashes[0][1]) if self._hashes else asked_at

    async def _poll(self, began: float) -> None:
        found = await self._pool.listed_in_pending_block(self._index)
        if self._pool.pending_block is False:
            self.pending = Pending.NONE
            self._log.warning(
                "node shows no mempool: payments are seen when they are in a block",
                chain=self._rpc.chain,
                setting=self._rpc.client.setting,
            )
        self._arrive([tx for tx in found if tx.txid not in self._polled], began)
        self._polled = {tx.txid for tx in found}

    async def _look_for_the_gone(self) -> None:
        tracked = self._pool.tracked(self._index)
        self._absent.intersection_update(tracked)
        if self._tracked_from >= len(tracked):
            self._tracked_from = 0
        some = tracked[self._tracked_from : self._tracked_from + TRACKED_PER_BEAT]
        self._tracked_from += TRACKED_PER_BEAT
        if not some:
            return
        gone = set(await self._pool.left(some))
        for txid in some:
            if txid not in gone:
                self._absent.discard(txid)
            elif txid not in self._absent:
                # Told once: the watcher has the patience, we need not repeat it each second.
                self._absent.add(txid)
                self._buffer.put(TxLeft(txid))

    def _check_silence(self, tip: BlockRef, now: float) -> None:
        if not self._is_pushed:
            return
        if tip.hash != self._head:
            # The push may be on its way.
            if self._missing_since is None:
                self._missing_since = now
            if now - self._missing_since < self._silence_s:
                return
        else:
            self._missing_since = None
            if now - self._head_at < self._silence_s or self._quiet.tip == tip.hash:
                return
            self._quiet.tip = tip.hash
        raise TransientError(
            f"{self._rpc.where} has pushed no new block for {round(now - self._head_at)} s, while"
            f" its tip is block {tip.height}. Connecting anew. If it stays so, look whether the"
            " node is connected to others, or name another one"
        )
