"""One chain as the daemon follows it: the real actors on a fake node, a faulty store, a mock clock.

`start` and `stop` (or `crash`) are the daemon's; node and store live on in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import trio

from actors.chain_supervisor import ChainHealth, ChainSupervisor
from actors.chain_watcher import WatchPolicy
from actors.core.assets import Chain
from actors.core.events import Terms
from actors.core.invoice import Invoice
from actors.event_hub import EventHub
from actors.ports import ChainSource, Committed, TransientError
from actors.supervisor import RestartPolicy
from tests.helpers.fake_chain import FakeChain
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.invoices import terms
from tests.helpers.recording_log import RecordingLog
from tests.helpers.virtual_clock import VirtualClock

BTC = Chain("btc", "Bitcoin", "bitcoin", "BTC", 600, 1)
TOLD_S = 2.5
"""Within this time everything that a node knows has been told, deadlines included."""
POLICY = WatchPolicy(reorg_limit=20, settled_watch_depth=30, lag_patience_s=8, eviction_grace_s=5)
RESTART = RestartPolicy(first_delay_s=0.5, max_delay_s=4, persistent_delay_s=4)


class WatchedChain:
    """The daemon's view of one chain, and every handle that a test needs."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        clock: VirtualClock,
        node: FakeChain,
        chain: Chain = BTC,
        source: ChainSource | None = None,
        store: FaultyStore | None = None,
        policy: WatchPolicy = POLICY,
    ) -> None:
        self.clock = clock
        self.node = node
        self.source: ChainSource = source or node
        self.chain = chain
        self.store = store or FaultyStore()
        self.policy = policy
        self.log = RecordingLog()
        self.published: list[Committed] = []
        """By all incarnations of the daemon together."""
        self.latencies_s: list[float] = []
        self._nursery = nursery
        self._scope: trio.CancelScope | None = None
        self._stopped = trio.Event()
        self._made = 0
        self.starts = 0

    # --- the daemon -------------------------------------------------------------------------------

    async def start(self) -> None:
        hub = EventHub(log=self.log)
        self.hub = hub
        self.store.listen(self._publish)
        self.supervisor = ChainSupervisor(
            self.chain,
            self.source,
            self.store,
            clock=self.clock,
            log=self.log,
            policy=self.policy,
            restart=RESTART,
            on_push=self.latencies_s.append,
        )
        self._stopped = trio.Event()
        self.starts += 1
        await self._nursery.start(self._run, self.supervisor, self._stopped)

    def crash(self) -> None:
        """Cancel everything at once, wherever it is."""
        if self._scope is not None:
            self._scope.cancel()

    async def stopped(self) -> None:
        await self._stopped.wait()

    async def stop(self) -> None:
        self.crash()
        await self._stopped.wait()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    @property
    def running(self) -> bool:
        return self._scope is not None and not self._scope.cancel_called

    async def _run(
        self,
        supervisor: ChainSupervisor,
        stopped: trio.Event,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        started = False
        try:
            with trio.CancelScope() as self._scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(supervisor.run)
                    started = True
                    task_status.started()
            if not started:
                task_status.started()  # it was crashed before it was ready
        finally:
            stopped.set()

    def _publish(self, batch: list[Committed]) -> None:
        self.hub.publish(batch)
        self.published.extend(batch)

    # --- invoices ---------------------------------------------------------------------------------

    def terms(self, amount_base: int = 100, *, ttl_s: float = 3600, **changes) -> Terms:
        """Terms with an address of their own, running from now."""
        self._made += 1
        now_ms = self.clock.now_ms()
        number = self._made
        return terms(
            **{
                "invoice_id": UUID(int=number),
                "chain": self.chain.id,
                "asset": self.chain.coin,
                "address": f"address {number}",
                "destination": b"script %d" % number,
                "path": (0, number),
                "required_base": amount_base,
                "created_at_ms": now_ms,
                "expires_at_ms": now_ms + round(ttl_s * 1000),
                "watch_depth": self.policy.settled_watch_depth,
                **changes,
            }
        )

    async def create(self, amount_base: int = 100, **changes) -> Terms:
        """A recorded invoice; without a wish it needs 2 confirmations within an hour."""
        while True:
            wanted = self.terms(amount_base, **{"confirmations": 2, **changes})
            try:
                await self.supervisor.create(wanted)
            except TransientError:
                if self.running:
                    raise
                # As a backend would: the daemon was stopped meanwhile, ask again when it is back.
                await trio.sleep(1)
            else:
                return wanted

    async def invoice(self, of: Terms) -> Invoice:
        row = await self.store.invoice(of.invoice_id)
        assert row is not None
        return row.invoice

    async def kinds(self, of: Terms) -> list[str]:
        return [entry.event.kind for entry in await self.store.history(of.invoice_id)]

    # --- telling ----------------------------------------------------------------------------------

    async def told(self) -> None:
        """Wait (in virtual time) until all that the node knows has been told."""
        await trio.sleep(TOLD_S)

    def health(self) -> ChainHealth:
        return self.supervisor.health()

    async def check(self) -> None:
        """What must hold at every moment: fold = state, and every fact published once, in order."""
        await self.store.check()
        entries = await self.store.entries()
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        assert [c.seq for c in self.published] == [entry.seq for entry in entries]
        assert [c.event for c in self.published] == [entry.event for entry in entries]
        bugs = [line for line in self.log.level("error") if "exc_info" in line.fields]
        assert not bugs, bugs


@asynccontextmanager
async def watched_chain(
    *, height: int = 30, policy: WatchPolicy = POLICY, started: bool = True
) -> AsyncIterator[WatchedChain]:
    """A followed chain of that height; checked at the end."""
    clock = VirtualClock()
    async with trio.open_nursery() as nursery:
        it = WatchedChain(
            nursery, clock=clock, node=FakeChain(clock=clock, height=height), policy=policy
        )
        if started:
            await it.start()
            await it.told()
        yield it
        if it.starts:
            await it.stop()
    await it.check()
