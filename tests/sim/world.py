"""The simulated world: chains and nodes, disk, clock, receivers, clients, and the daemon in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import trio

from actors.chain_supervisor import ChainState
from actors.core.chain_events import OutPoint
from actors.core.events import InvoiceCreated
from actors.ports import ChainCursor
from actors.webhooks import NewWebhook
from tests.helpers.crasher import Crasher
from tests.helpers.fake_chain import FakeTx
from tests.helpers.house import CATALOGUE
from tests.helpers.virtual_clock import VirtualClock
from tests.sim.account import SimAccount
from tests.sim.backend import Backend
from tests.sim.disk import Disk
from tests.sim.node import SimNode
from tests.sim.process import INSIDE, Gone, Process
from tests.sim.readers import Reader
from tests.sim.receivers import Receiver, Receivers

CHAINS = ("btc", "eth", "xmr")
HEIGHT = 14
BACK_S = 0.7
"""From the end of a process to the start of the next one."""


@dataclass(eq=False)
class Followed:
    """A chain, its accounts, and what the daemon can know of it."""

    node: SimNode
    accounts: list[SimAccount]
    paid: list[FakeTx]
    evicted: list[FakeTx]
    branches: list
    lies: set[OutPoint] = field(default_factory=set)
    remembers: bool = True
    """The daemon has followed it without a break since the last moment of rest."""
    muddled: bool = False
    """It may have learnt what happened since then in another order, or only the end of it."""
    highest: int = HEIGHT
    """That it has ever reached: the daemon keeps no more blocks below it than a reorg may take."""
    shaken: bool = False
    """Blocks may have been told of more than once since then: a reorg, or a node that lied."""
    lost: list | None = None
    """The branch that the daemon is on, while the node is on one that forks off too deep."""
    changes: dict[int, int] = field(default_factory=dict)
    """Account (by number) → how often its payments changed since the last moment of rest."""


class Killer(Crasher):
    """Counts the steps of the daemon's tasks alone."""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.context.get(INSIDE) is not None:
            super().after_task_step(task)


class World:
    """Everything but the plan. `run` keeps the daemon running, until cancelled."""

    def __init__(
        self, random: Random, nursery: trio.Nursery, *, chains: Sequence[str] = CHAINS
    ) -> None:
        self.random = random
        self.nursery = nursery
        self.clock = VirtualClock()
        self.disk = Disk()
        self.disk.watch_cursor = self._check_cursor
        self.receivers = Receivers(random)
        self.chains = {chain: self._chain(chain) for chain in chains}
        self.backends: list[Backend] = []
        self.readers: list[Reader] = []
        self.down = False
        """Nobody starts the daemon again."""
        self.wake = trio.Event()
        self.processes = 0
        self.kills = 0
        self.process = self._process()
        self.killer = Killer(None, self._kill)
        self._told: dict[str, set[bytes]] = {chain: set() for chain in chains}
        self._learnt = 0
        self.bugs: list[str] = []
        self.violations: list[str] = []
        """What was seen, wherever it was seen, and must not be."""

    def _chain(self, chain: str) -> Followed:
        node = SimNode(
            chain,
            random=self.random,
            clock=self.clock,
            asset=CATALOGUE.chains[chain].coin,
            height=HEIGHT,
        )
        if chain == "eth":
            node.final = HEIGHT - 4
        return Followed(node, [], [], [], [list(node.blocks)])

    # --- the daemon -------------------------------------------------------------------------------

    def _process(self) -> Process:
        self.processes += 1
        return Process(
            disk=self.disk,
            nodes={chain: one.node for chain, one in self.chains.items()},
            clock=self.clock,
            random=self.random,
            sender=self.receivers,
        )

    async def run(self) -> None:
        """As systemd does: start it, and start it again when it is over."""
        while True:
            await self.process.run()
            self._bury(self.process)
            await trio.sleep(BACK_S)
            while self.down:
                self.wake = trio.Event()
                await self.wake.wait()
            self.process = self._process()

    def _kill(self) -> None:
        if self.process.alive:
            self.kills += 1
            self.process.kill()

    def kill_soon(self, steps: int | None) -> None:
        """After that many steps of the daemon's tasks; None: not at all."""
        self.killer.crash_after(steps)
        wanted = steps is not None
        if wanted and not self.killer.counting:
            trio.lowlevel.add_instrument(self.killer)
        if not wanted and self.killer.counting:
            trio.lowlevel.remove_instrument(self.killer)
        self.killer.counting = wanted

    def _bury(self, process: Process) -> None:
        """What it published was the log, in order; and it had no bug."""
        seqs = [one.seq for one in process.published]
        first = process.store.first_seq + 1
        assert seqs == [*range(first, first + len(seqs))], "published with a gap"
        for line in process.log.lines:
            if "exc_info" in line.fields and line.level == "error":
                self.bugs.append(f"{line.event}: {line.fields}")
        assert not self.bugs, self.bugs[0]

    async def ask(self, work: Callable[[Process], Awaitable[Any]]) -> Any:
        """Do something inside the daemon as it is now (see Process.ask)."""
        process = self.process
        return await process.ask(lambda: work(process))

    async def add_webhook(self, receiver: Receiver) -> None:
        """Insist until the endpoint is there."""
        self.receivers.by_url[receiver.url] = receiver
        receiver.secret = self.random.randbytes(32)
        wanted = NewWebhook(receiver.url, receiver.user_id, receiver.types)
        while True:
            with suppress(Gone):
                await self.ask(lambda process: process.webhooks.add(wanted, receiver.secret))
            for one in self.disk.webhooks._endpoints.values():
                if one.url == receiver.url:
                    receiver.webhook_id = one.id
            if receiver.webhook_id is not None:
                break
            await trio.sleep(1)
        first = self.disk.webhooks._endpoints[receiver.webhook_id]
        receiver.first_seq = min(receiver.first_seq or first.cursor, first.cursor)

    # --- what is known ----------------------------------------------------------------------------

    def learn(self) -> None:
        """Open an account for every invoice that is in the log."""
        log = self.disk.log
        while self._learnt < len(log):
            event = log[self._learnt].event
            self._learnt += 1
            if isinstance(event, InvoiceCreated):
                self.chains[event.terms.chain].accounts.append(SimAccount(event.terms))

    def accounts(self) -> list[SimAccount]:
        return [account for one in self.chains.values() for account in one.accounts]

    def known_invoices(self, user_id: UUID) -> list[UUID]:
        return [
            promise.invoice_id
            for backend in self.backends
            if backend.user_id == user_id
            for promise in backend.promises
        ]

    def follows(self, chain: str) -> bool:
        """Whether the daemon says that it knows all of the chain, up to the node's tip."""
        process = self.process
        if not process.up or chain not in process.chains:
            return False
        health = process.chains[chain].health()
        tip = self.chains[chain].node.blocks[-1][0]
        return health.state is ChainState.CURRENT and health.tip == tip

    def _check_cursor(self, cursor: ChainCursor) -> None:
        """No cursor stands beyond a block whose payments are not in the log."""
        told, node = self._told[cursor.chain], self.chains[cursor.chain].node
        blocks = cursor.view.blocks
        for block in blocks:
            if block.hash in told:
                continue
            for tx in node.ever[block.hash]:
                for out in tx.outputs:
                    self._check_recorded(cursor.chain, out.destination, out.outpoint, block.hash)
        self._told[cursor.chain] = {block.hash for block in blocks}

    def _check_recorded(
        self, chain: str, destination: bytes, outpoint: OutPoint, block_hash: bytes
    ) -> None:
        invoice = self.disk.payee(chain, destination)
        if invoice is None or invoice.terms.invoice_id in self.disk._quarantine:
            return
        payment = invoice.find(outpoint)
        if payment is None or payment.block_hash != block_hash:
            # Kept for the next moment of rest: here it would only be a bug of the daemon's.
            self.violations.append(f"the {chain} cursor is ahead of the log: {outpoint}")
