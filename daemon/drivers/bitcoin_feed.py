"""A Bitcoin-family node's news: pushed over ZMQ where it offers that, asked for where it does not.

With `rawtx` and `sequence` connected the mempool is not polled; with less, it is listed every
`poll_interval_s`. Without a topic that tells of blocks, the node's `waitfornewblock` does.

Once a second the node is asked for its tip and for the size of its mempool. What changed without
having been announced is looked up at once; if announcements stay away, the subscription is made
anew. So a lost or silent push channel costs latency, never a payment.

A listing of the mempool belongs to a tip, and TipMoved is put before the TxLeft of what the tip's
blocks took out of the mempool: a watcher that reads blocks first knows them as confirmed by then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import trio

from actors.core.watch_index import WatchIndex
from actors.ports import Heartbeat, Log, PersistentError, TransientError
from daemon.drivers.bitcoin_mempool import MempoolReader
from daemon.drivers.bitcoin_news import LEFT_HOLD_S, News
from daemon.drivers.bitcoin_rpc import BitcoinRpc
from daemon.drivers.bitcoin_zmq import Subscription
from daemon.drivers.jsonrpc import RpcError
from daemon.drivers.signal_buffer import SignalBuffer, SignalStatistics
from daemon.drivers.zmq_subscription import BadAddressError, BadMessageError

BEAT_S = 1.0
CONNECT_S = 3.0
LONG_POLL_S = 20.0
LONG_POLL_PAUSE_S = 0.1
_SETTLE_S = BEAT_S
TIP_TOPICS = frozenset(("sequence", "hashblock"))
MEMPOOL_TOPICS = frozenset(("sequence", "rawtx"))


class BitcoinFeed(AbstractAsyncContextManager[SignalBuffer]):
    """One subscription to a node's news; entering it means: subscribed, or polling.

    `endpoints`: ZMQ topic → address, empty for no push. Iterate over what entering returns, until
    it raises TransientError or PersistentError.
    """

    def __init__(
        self,
        rpc: BitcoinRpc,
        mempool: MempoolReader,
        index: WatchIndex,
        *,
        endpoints: Mapping[str, str],
        poll_interval_s: float,
        log: Log,
    ) -> None:
        self._rpc = rpc
        self._mempool = mempool
        self._index = index
        self._endpoints = endpoints
        self._poll_interval_s = poll_interval_s
        self._log = log
        self._topics = frozenset(endpoints)
        self._buffer = SignalBuffer()
        self._news = News(self._buffer, mempool, index, self._topics)
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None
        self._subscription: Subscription | None = None
        self._push_scope = trio.CancelScope()
        self._subscribed = trio.Event()
        self._is_push_up = False
        self._is_in_trouble = False
        self._list_at = 0.0
        self._as_of = 0.0
        self._pool_size: tuple[int, int] | None = None

    async def __aenter__(self) -> SignalBuffer:
        self._nursery = await self._manager.__aenter__()
        entered = False
        try:
            await self._start(self._nursery)
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
        assert self._nursery is not None, "entered before"
        self._nursery.cancel_scope.cancel()
        # The body's own exception is kept out: a nursery would wrap it into a group.
        await self._manager.__aexit__(None, None, None)

    async def _start(self, nursery: trio.Nursery) -> None:
        self._as_of = trio.current_time()
        if self._topics:
            nursery.start_soon(self._buffer.guard, self._run_push)
            with trio.move_on_after(CONNECT_S) as waited:
                await self._subscribed.wait()
            if waited.cancelled_caught:
                self._report_trouble("cannot be reached")
        self._news.tip = await self._rpc.tip_hash()
        self._list_at = trio.current_time() + _SETTLE_S
        nursery.start_soon(self._buffer.guard, self._run_beat)
        if not self._topics & TIP_TOPICS:
            nursery.start_soon(self._buffer.guard, self._run_long_poll)

    def statistics(self) -> SignalStatistics:
        return self._buffer.statistics()

    # --- asking ---

    async def _run_beat(self) -> None:
        pause_s = min(BEAT_S, self._poll_interval_s)
        asked_before = self._as_of
        while True:
            began = trio.current_time()
            # A listing that falls due before half of the next pause is over is made now.
            if began + pause_s / 2 >= self._list_at:
                await self._list()
            else:
                await self._check()
                if self._is_mempool_pushed:
                    # What the node knew a beat ago has been announced by now; a node under load
                    # may take a while, so no more is claimed.
                    self._as_of = max(self._as_of, asked_before)
            asked_before = began
            self._news.let_leave(before=trio.current_time())
            self._buffer.put(Heartbeat(self._as_of))
            # Listing a full mempool is work for both sides: spend at most half the time on it.
            now = trio.current_time()
            await trio.sleep_until(max(began + pause_s, 2 * now - began))

    async def _check(self) -> None:
        """Compare what was pushed with what the node says when asked."""
        tip, pool_size = await self._rpc.pulse()
        self._see_tip(tip)
        pool_missing = self._pool_size is not None and pool_size != self._pool_size
        self._pool_size = pool_size
        now = trio.current_time()
        if not self._is_push_up:
            return
        if self._is_mempool_pushed and self._news.pool_silence.look(changed=pool_missing, now=now):
            await self._list()
        if self._news.is_silent(now):
            self._lose_push("is silent about what the node has")
            self._push_scope.cancel()

    def _see_tip(self, tip: bytes) -> None:
        """What the node calls its tip, and whether it had announced it."""
        # What was pushed before the node answered has mostly arrived: read it before judging.
        self._hear_all()
        missing = self._news.tip is not None and tip != self._news.tip
        if self._is_push_up and self._topics & TIP_TOPICS:
            self._news.tip_silence.look(changed=missing, now=trio.current_time())
        self._news.see_tip(tip)

    async def _list(self) -> None:
        """List the mempool: fetch what is new, tell what is gone."""
        # Only what was there before the list was made can be missing from it.
        waiting = {*self._index.unconfirmed, *self._mempool.concerning_txids()}
        began = trio.current_time()
        was_pushed = self._is_mempool_pushed
        listing = await self._mempool.listing()
        now = trio.current_time()
        self._list_at = math.inf if was_pushed else began + self._poll_interval_s
        self._pool_size = listing.pool_size
        self._see_tip(listing.tip)
        for tx in await self._mempool.fetch(self._mempool.unknown(listing.ordered), self._index):
            self._news.arrive(tx, now)
        self._as_of = began
        if not listing.is_of_tip:
            self._list_at = began
            return
        for txid in waiting - listing.txids:
            self._news.leave(txid)

    async def _run_long_poll(self) -> None:
        lane = self._rpc.client.lane()
        try:
            while True:
                await lane.send([("waitfornewblock", (int(LONG_POLL_S * 1000),))], batch=False)
                timeout_s = LONG_POLL_S + self._rpc.client.timeout_s
                answer = self._rpc.result((await lane.receive(timeout_s=timeout_s))[0])
                before = self._news.tip
                self._news.see_tip(self._rpc.as_hash(self._rpc.as_object(answer).get("hash")))
                if self._news.tip == before:
                    # What stands between may answer at once: it is not asked without a pause.
                    await trio.sleep(LONG_POLL_PAUSE_S)
        except (RpcError, PersistentError) as error:
            # Not fatal: the beat asks for the tip as well, up to a second later.
            self._log.info("node has no waitfornewblock, asking every second", error=str(error))
        finally:
            lane.close()

    # --- being told ---

    @property
    def _is_mempool_pushed(self) -> bool:
        return self._is_push_up and self._topics >= MEMPOOL_TOPICS

    async def _run_push(self) -> None:
        try:
            await self._subscribe_for_ever()
        except BadAddressError as error:
            self._report_trouble(f"cannot be reached at {error}")
            self._subscribed.set()

    async def _subscribe_for_ever(self) -> None:
        while True:
            with Subscription(self._endpoints) as subscription:
                self._subscription = subscription
                try:
                    with trio.CancelScope() as self._push_scope:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._buffer.guard, self._run_messages)
                            nursery.start_soon(self._run_monitor, subscription)
                finally:
                    self._subscription = None

    async def _run_monitor(self, subscription: Subscription) -> None:
        while True:
            for address in subscription.drain_monitor():
                self._lose_push(f"lost its connection to {address}")
            if subscription.is_live and not self._is_push_up:
                self._is_push_up = True
                self._subscribed.set()
                # The node may publish for a moment before it has read our subscription.
                self._list_at = min(self._list_at, trio.current_time() + _SETTLE_S)
            await subscription.wait_monitor()

    async def _run_messages(self) -> None:
        while (subscription := self._subscription) is not None:
            more = self._hear_all()
            held_since = self._news.let_leave(before=trio.current_time() - LEFT_HOLD_S)
            if more:
                await trio.lowlevel.checkpoint()
                continue
            deadline = math.inf if held_since is None else held_since + LEFT_HOLD_S
            with trio.move_on_at(deadline):
                await subscription.wait()

    def _hear_all(self) -> bool:
        """Read what has arrived; returns whether there may be more. Raises TransientError."""
        if self._subscription is None:
            return False
        now = trio.current_time()
        try:
            messages, more = self._subscription.drain()
            for published in messages:
                if published.lost:
                    self._miss(published.topic, published.lost)
                self._news.hear(published, now)
        except BadMessageError as error:
            raise TransientError(
                f"{self._rpc.client.setting}.zmq ({self._addresses}) sent garbage: {error}. Are"
                " these the node's ZMQ ports?"
            ) from None
        if messages and self._is_in_trouble and self._is_push_up:
            self._is_in_trouble = False
            self._log.info("push channel works again", setting=self._rpc.client.setting)
        return more

    def _miss(self, topic: str, lost: int) -> None:
        self._log.warning(
            "push channel lost messages, reading the mempool again",
            setting=self._rpc.client.setting,
            topic=topic,
            lost=lost,
        )
        self._news.lose(f"{lost} {topic} messages were lost")

    def _lose_push(self, what: str) -> None:
        if self._is_push_up:
            self._is_push_up = False
            self._news.tip_silence.forget()
            self._news.pool_silence.forget()
            self._news.lose(f"the push channel {what}")
            self._list_at = trio.current_time()
            self._report_trouble(what)

    def _report_trouble(self, what: str) -> None:
        if not self._is_in_trouble:
            self._is_in_trouble = True
            self._log.warning(
                f"push channel {what}; polling until it works",
                setting=f"{self._rpc.client.setting}.zmq",
                addresses=self._addresses,
            )

    @property
    def _addresses(self) -> str:
        return ", ".join(sorted(set(self._endpoints.values())))
