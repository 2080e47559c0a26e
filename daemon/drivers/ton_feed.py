"""A TON server's news: its tip, asked for about once a block, or at once when its stream speaks.

Nothing is asked in vain: blocks come in an even rhythm, so the tip is asked for as often as blocks
came lately, though not more often than every `poll_interval_s` (a shorter one than a second is
taken at its word). A question about the tip and one about the transactions make two per block.

A tip that stays behind another one seen before, or whose time is long past, is answered but tells
nothing of now: no heartbeat is put then, so that no invoice expires while an indexer stands still.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import trio

from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex
from actors.ports import Heartbeat, Log, TipMoved
from daemon.drivers.signal_buffer import SignalBuffer, SignalStatistics
from daemon.drivers.ton_mempool import Mempool
from daemon.drivers.ton_rpc import TonRpc

LONGEST_PAUSE_S = 5.0
STALE_S = 120.0
"""The chain makes a block every few seconds: an older tip is an indexer that stands still."""
_LITERAL_S = 1.0
_RHYTHM_BLOCKS = 100


class TonFeed(AbstractAsyncContextManager[SignalBuffer]):
    """One subscription to a server's news; entering it means: the tip is known, and it is asked.

    `nursery` is where tasks may run that must not outlive the subscription. Iterate over what
    entering returns, until it raises TransientError or PersistentError.
    """

    def __init__(
        self,
        rpc: TonRpc,
        mempool: Mempool,
        index: WatchIndex,
        *,
        poll_interval_s: float,
        block_time_s: float,
        log: Log,
    ) -> None:
        self._rpc = rpc
        self._mempool = mempool
        self._index = index
        self._poll_interval_s = poll_interval_s
        self._block_time_s = block_time_s
        self._log = log
        self._buffer = SignalBuffer()
        self._manager = trio.open_nursery()
        self.nursery: trio.Nursery | None = None
        self.tip: BlockRef | None = None
        """As of the last look; None before the first."""
        self._recent: deque[tuple[int, int]] = deque(maxlen=_RHYTHM_BLOCKS)
        self._is_stale = False

    async def __aenter__(self) -> SignalBuffer:
        self._rpc.forget()
        self.tip, _ = await self._rpc.tip()
        self.nursery = nursery = await self._manager.__aenter__()
        nursery.start_soon(self._buffer.guard, self._run_looks)
        nursery.start_soon(self._buffer.guard, self._rpc.watch)
        nursery.start_soon(self._mempool.run, self._index, self._buffer)
        return self._buffer

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        nursery, self.nursery = self.nursery, None
        self.tip = None
        assert nursery is not None, "entered before"
        nursery.cancel_scope.cancel()
        # The body's own exception is kept out: a nursery would wrap it into a group.
        await self._manager.__aexit__(None, None, None)

    def statistics(self) -> SignalStatistics:
        return self._buffer.statistics()

    async def _run_looks(self) -> None:
        while True:
            began = trio.current_time()
            # What is said from here on may be in a block that this look does not see.
            spoken = self._mempool.renew()
            await self._look(began)
            with trio.move_on_at(max(began + self.pause_s(), trio.current_time())):
                await spoken.wait()

    async def _look(self, began: float) -> None:
        tip, is_new = await self._rpc.tip()
        before, self.tip = self.tip, tip
        if before is None or tip.hash != before.hash:
            self._recent.append((tip.height, tip.time_s))
            self._buffer.put(TipMoved())
        if is_new and not self._stands_still(tip):
            self._buffer.put(Heartbeat(began))

    def pause_s(self) -> float:
        """How long to wait from one question about the tip to the next."""
        if self._poll_interval_s < _LITERAL_S:
            return self._poll_interval_s
        return max(self._poll_interval_s, min(self._rhythm_s(), LONGEST_PAUSE_S))

    def _rhythm_s(self) -> float:
        """Seconds between blocks, lately."""
        if len(self._recent) >= 2:
            (first, began), (last, ended) = self._recent[0], self._recent[-1]
            if last - first >= 10:
                return (ended - began) / (last - first)
        return self._block_time_s

    def _stands_still(self, tip: BlockRef) -> bool:
        age_s = time.time() - tip.time_s
        is_stale = age_s > STALE_S
        if is_stale and not self._is_stale:
            self._log.warning(
                "the last block is old: the server's indexer stands still, or the chain does, or"
                " this machine's clock is wrong. Invoices do not expire meanwhile",
                endpoint=self._rpc.where,
                height=tip.height,
                age_s=round(age_s),
            )
        elif self._is_stale and not is_stale:
            self._log.info("blocks come again", endpoint=self._rpc.where, height=tip.height)
        self._is_stale = is_stale
        return is_stale
