"""A Monero node's news: asked for every second, or at once when its ZMQ channel says something.

What the channel says is never believed, only taken as a reason to ask: its messages repeat, blocks
that are taken off the chain are not announced at all, and a lost connection is silent. So whatever
the channel does costs latency, never a payment.

One look goes: list the pool, fetch what is new, ask for the tip. A block that took a transaction
out of the list was there before the list was made, so TipMoved is put before the TxLeft of what the
block holds: a watcher that reads blocks first knows it as confirmed by then.

A transaction of ours of which the node saw a rival is told as left, again and again, until nobody
waits for it: the watcher reads the pool then, and finds it contested there.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType

import orjson
import trio

from actors.core.watch_index import WatchIndex
from actors.ports import Heartbeat, Log, TipMoved, TxArrived, TxLeft
from daemon.drivers.monero_mempool import MempoolReader
from daemon.drivers.monero_rpc import MoneroRpc
from daemon.drivers.signal_buffer import SignalBuffer, SignalStatistics
from daemon.drivers.zmq_subscription import BadAddressError, FrameSubscription

BEAT_S = 1.0
CONNECT_S = 5.0
BLOCK_TOPIC = "json-minimal-chain_main"
POOL_TOPIC = "json-full-txpool_add"
FETCHED_AT_ONCE = 300
"""So many new transactions are looked at until the tip has its turn again."""
HEARD_LIMIT = 10_000
_TXID_HEX_DIGITS = 64


class MoneroFeed(AbstractAsyncContextManager[SignalBuffer]):
    """One subscription to a node's news; entering it means: the tip is known, and it is asked.

    `zmq` is the address that the node publishes at; None to ask only. `nursery` is where tasks may
    run that must not outlive the subscription. Iterate over what entering returns, until it raises
    TransientError or PersistentError.
    """

    def __init__(
        self,
        rpc: MoneroRpc,
        mempool: MempoolReader,
        index: WatchIndex,
        *,
        zmq: str | None,
        poll_interval_s: float,
        log: Log,
    ) -> None:
        self._rpc = rpc
        self._mempool = mempool
        self._index = index
        self._zmq = zmq
        self._pause_s = min(BEAT_S, poll_interval_s)
        self._log = log
        self._buffer = SignalBuffer()
        self._manager = trio.open_nursery()
        self.nursery: trio.Nursery | None = None
        self._wake = trio.Event()
        self._heard: dict[bytes, float] = {}
        """Txid → when the channel said that it is in the pool; since the last look began."""
        self._tip: bytes | None = None
        self._as_of = 0.0
        self._is_push_up = False
        self._is_in_trouble = False

    async def __aenter__(self) -> SignalBuffer:
        self._as_of = trio.current_time()
        self._tip = (await self._rpc.info()).tip_hash
        self.nursery = nursery = await self._manager.__aenter__()
        nursery.start_soon(self._buffer.guard, self._run_looks)
        nursery.start_soon(self._buffer.guard, self._rpc.watch)
        if self._zmq is not None:
            nursery.start_soon(self._run_push, self._zmq)
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
        # The body's own exception is kept out: a nursery would wrap it into a group.
        await self._manager.__aexit__(None, None, None)

    def statistics(self) -> SignalStatistics:
        return self._buffer.statistics()

    @property
    def is_pushed(self) -> bool:
        """Whether the channel is connected now."""
        return self._is_push_up

    # --- asking ---

    async def _run_looks(self) -> None:
        while True:
            began = trio.current_time()
            # What is said from here on may come after the list: it asks for another look.
            self._wake = trio.Event()
            await self._look(began)
            # A long pool is work for both sides: spend at most half the time on it.
            now = trio.current_time()
            await trio.sleep(now - began)
            with trio.move_on_at(max(began + self._pause_s, now)):
                await self._wake.wait()

    async def _look(self, began: float) -> None:
        heard, self._heard = self._heard, {}
        # Only what was there before the list was made can be missing from it.
        waiting = {*self._index.unconfirmed, *self._mempool.concerning_txids()}
        listed = await self._mempool.listing()
        await self._tell_new(listed, heard)
        self._as_of = began
        in_pool = set(listed)
        for txid in waiting - in_pool:
            self._mempool.forget(txid)
            self._buffer.put(TxLeft(txid))
        await self._mempool.recheck(sorted(waiting & in_pool))
        for txid in self._mempool.contested & self._index.unconfirmed.keys():
            self._buffer.put(TxLeft(txid))
        self._buffer.put(Heartbeat(self._as_of))

    async def _tell_new(self, listed: list[bytes], heard: dict[bytes, float]) -> None:
        """Fetch and tell what is new in the pool, and then the tip."""
        # Not when it was asked for: the watcher would take what came meanwhile for old.
        listed_at = trio.current_time()
        unknown = self._mempool.unknown(listed, self._index)
        while True:
            some, unknown = unknown[:FETCHED_AT_ONCE], unknown[FETCHED_AT_ONCE:]
            for tx in await self._mempool.fetch(some, self._index):
                self._buffer.put(TxArrived(tx, heard.get(tx.txid, listed_at)))
            self._see_tip((await self._rpc.info()).tip_hash)
            if not unknown:
                return
            self._buffer.put(Heartbeat(self._as_of))

    def _see_tip(self, tip: bytes) -> None:
        if tip != self._tip:
            self._tip = tip
            self._buffer.put(TipMoved())

    # --- being told ---

    async def _run_push(self, address: str) -> None:
        try:
            with FrameSubscription(
                topics=(BLOCK_TOPIC, POOL_TOPIC), addresses=(address,)
            ) as subscription:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._run_messages, subscription)
                    nursery.start_soon(self._run_monitor, subscription)
                    await trio.sleep(CONNECT_S)
                    if not self._is_push_up:
                        self._report_trouble("cannot be reached")
        except BadAddressError as error:
            self._report_trouble(f"cannot be reached at {error}")

    async def _run_monitor(self, subscription: FrameSubscription) -> None:
        while True:
            for _ in subscription.drain_monitor():
                self._is_push_up = False
                self._report_trouble("was lost")
            if subscription.is_live and not self._is_push_up:
                self._is_push_up = True
                if self._is_in_trouble:
                    self._is_in_trouble = False
                    self._log.info("push channel works again", setting=self._setting)
                # What came before is announced to nobody.
                self._wake.set()
            await subscription.wait_monitor()

    async def _run_messages(self, subscription: FrameSubscription) -> None:
        while True:
            messages, more = subscription.drain_frames()
            now = trio.current_time()
            for frames in messages:
                self._hear(frames, now)
            if more:
                await trio.lowlevel.checkpoint()
            else:
                await subscription.wait()

    def _hear(self, frames: list[bytes], at: float) -> None:
        """One message: its topic, a colon, and JSON."""
        self._wake.set()
        topic, _, body = frames[0].partition(b":")
        if topic == POOL_TOPIC.encode() and len(self._heard) < HEARD_LIMIT:
            for txid in _txids(body):
                self._heard.setdefault(txid, at)

    def _report_trouble(self, what: str) -> None:
        if not self._is_in_trouble:
            self._is_in_trouble = True
            self._log.warning(
                f"push channel {what}; asking every {self._pause_s:g} s until it works. Is it what"
                " the node was given as --zmq-pub?",
                setting=self._setting,
                address=self._zmq,
            )

    @property
    def _setting(self) -> str:
        return f"{self._rpc.setting}.zmq.pub"


def _txids(body: bytes) -> list[bytes]:
    """The ids in a message about the pool; none if it is not what it should be.

    They only date what the node is asked for anyway.
    """
    try:
        entries = orjson.loads(body)
        ids = [entry["id"] for entry in entries if len(entry["id"]) == _TXID_HEX_DIGITS]
        return [bytes.fromhex(txid) for txid in ids]
    except (ValueError, TypeError, KeyError):
        return []
