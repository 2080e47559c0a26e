"""Owns one chain: its driver, watcher, router, invoice actors and cursor; keeps them running.

The invoice actors outlive the watcher: when the node's connection fails, only the watcher ends, is
retried with backoff, and goes on where its view stands. No other chain is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from uuid import UUID

import trio

from actors.chain_watcher import ChainWatcher, WatchPolicy, WatchProgress
from actors.core.assets import Chain
from actors.core.chain_events import ChainEvent
from actors.core.chain_view import BlockRef, ChainView
from actors.core.events import Terms
from actors.core.inputs import CancelAsked
from actors.core.invoice import Invoice
from actors.core.watch_index import WatchIndex
from actors.invoice_actor import ActorStatistics, InvoiceActors
from actors.mailbox import MailboxStatistics
from actors.ports import (
    ChainCursor,
    ChainSource,
    Log,
    NodeStatus,
    PersistentError,
    Store,
    TransientError,
    WallClock,
)
from actors.router import Router
from actors.supervisor import Family, RestartPolicy, Supervisor, SupervisorStatistics


class ChainState(Enum):
    STARTING = "starting"
    UNREACHABLE = "unreachable"
    """The node (or the store) fails in a way that may pass by itself."""
    REFUSED = "refused"
    """A person has to act: wrong network, pruned blocks, wrong credentials."""
    CRASHED = "crashed"
    CATCHING_UP = "catching_up"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class ChainHealth:
    """A chain's standing, for readiness, metrics and explanations."""

    chain: str
    state: ChainState
    reason: str | None
    """Why it is not current, for people."""
    network: str | None
    tip: BlockRef | None
    """The newest block that every invoice has been told of."""
    node_height: int | None
    as_of_ms: int | None
    """Everything the node knew by this instant has been told."""
    software: str | None
    push: str | None
    pruned_below: int | None


@dataclass(frozen=True, slots=True)
class ChainStatistics:
    actors: ActorStatistics
    mailbox: MailboxStatistics | None
    restarts: SupervisorStatistics
    progress: WatchProgress
    destinations: int


@dataclass(frozen=True, slots=True)
class ChainFigures:
    """`ChainStatistics` for whoever has only room for plain numbers: metrics, other processes."""

    open: int
    loaded: int
    awake: int
    set_aside: int
    crashes: int
    destinations: int
    mailbox: int
    blocks_read: int
    reorgs: int
    mempool_reads: int
    restarts: Mapping[str, int]
    """By the family of the failure."""


class ChainSupervisor:
    """The supervisor actor of one chain; also the door through which its invoices are created."""

    def __init__(
        self,
        chain: Chain,
        source: ChainSource,
        store: Store,
        *,
        clock: WallClock,
        log: Log,
        policy: WatchPolicy,
        restart: RestartPolicy | None = None,
        on_push: Callable[[float], None] = lambda _latency_s: None,
    ) -> None:
        """`on_push` gets the seconds from each pushed transaction to its published event."""
        self.chain = chain
        self.policy = policy
        self._source = source
        self._store = store
        self._clock = clock
        self._log = log
        self._on_push = on_push
        self._router = Router(WatchIndex())
        self._actors: InvoiceActors | None = None
        self._watcher: ChainWatcher | None = None
        self._cursor: ChainCursor | None = None
        self._status: NodeStatus | None = None
        self._failure: tuple[Family, str] | None = None
        self._told_again: dict[UUID, int] = {}
        self._supervisor = Supervisor(
            f"chain {chain.id}",
            self._follow,
            log=log,
            policy=restart,
            on_failure=self._failed,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load what is durable, then follow the node until cancelled.

        `started` means that invoices can be created and that no known address would be overlooked;
        the node need not have answered yet.
        """
        async with trio.open_nursery() as nursery:
            self._actors = InvoiceActors(
                chain=self.chain.id,
                store=self._store,
                nursery=nursery,
                changed=self._router.note,
                log=self._log,
            )
            await self._load(self._actors)
            task_status.started()
            await self._supervisor.run()

    @property
    def network(self) -> str | None:
        """The network that addresses are made for; None until a node has ever answered."""
        return self._cursor.network if self._cursor else None

    def retry(self) -> None:
        """If the chain waits before its next attempt, make it now (SIGHUP)."""
        self._supervisor.nudge()

    def use_confirmations(self, confirmations: int) -> None:
        """Change the number required of invoices that name none (SIGHUP)."""
        self.chain = replace(self.chain, confirmations=confirmations)

    def open_destinations(self) -> list[bytes]:
        """The addresses of open invoices in the native coin."""
        return self._actors.open_destinations(self.chain.coin) if self._actors else []

    def disabled_assets(self) -> Mapping[str, str]:
        """Asset id → why it cannot be asked for, as the driver found."""
        return self._source.disabled_assets()

    async def create(self, terms: Terms) -> Invoice:
        """Watch the terms' address, then record the invoice (see InvoiceActors.create)."""
        assert self._actors is not None, "run() has started"
        self._router.index.watch(terms.destination, terms.invoice_id)
        return await self._actors.create(terms)

    async def cancel(self, invoice_id: UUID) -> None:
        """Have the invoice cancelled if nothing was paid to it; durable when this returns.

        What came of it is in the invoice's state. It is decided in line with what the chain says.
        Raises TransientError if the daemon is stopped meanwhile.
        """
        assert self._actors is not None, "run() has started"
        tip_height = self._cursor.view.tip.height if self._cursor else 0
        asked = CancelAsked(self._clock.now_ms())
        await self._actors.ask(invoice_id, asked, height=tip_height + 1)

    def health(self) -> ChainHealth:
        progress = self._watcher.progress if self._watcher else WatchProgress()
        state, reason = self._standing(progress)
        view = self._watcher.view if self._watcher else None
        if view is None and self._cursor is not None:
            view = self._cursor.view
        return ChainHealth(
            chain=self.chain.id,
            state=state,
            reason=reason,
            network=self.network,
            tip=view.tip if view else None,
            node_height=progress.node_height,
            as_of_ms=progress.as_of_ms,
            software=self._status.software if self._status else None,
            push=self._status.push if self._status else None,
            pruned_below=self._status.pruned_below if self._status else None,
        )

    def statistics(self) -> ChainStatistics:
        assert self._actors is not None, "run() has started"
        return ChainStatistics(
            actors=self._actors.statistics(),
            mailbox=self._watcher.statistics() if self._watcher else None,
            restarts=self._supervisor.statistics(),
            progress=self._watcher.progress if self._watcher else WatchProgress(),
            destinations=len(self._router.index.destinations),
        )

    def figures(self) -> ChainFigures | None:
        """The statistics in plain numbers; None before `run`."""
        if self._actors is None:
            return None
        statistics = self.statistics()
        actors, progress = statistics.actors, statistics.progress
        return ChainFigures(
            open=actors.open,
            loaded=actors.loaded,
            awake=actors.awake,
            set_aside=actors.set_aside,
            crashes=actors.crashes,
            destinations=statistics.destinations,
            mailbox=statistics.mailbox.depth if statistics.mailbox else 0,
            blocks_read=progress.blocks_read,
            reorgs=progress.reorgs,
            mempool_reads=progress.mempool_reads,
            restarts={family.value: n for family, n in statistics.restarts.restarts.items()},
        )

    # --- Audience: what the watcher tells ---------------------------------------------------------

    async def tell(self, event: ChainEvent, view: ChainView) -> None:
        assert self._actors is not None, "run() has started"
        await self._router.route(event, self._actors, tip_height=view.tip.height)

    async def read_up_to(self, as_of_ms: int, view: ChainView) -> None:
        assert self._actors is not None, "run() has started"
        if self._supervisor.statistics().failing_since is not None:
            self._log.info("chain is current again", chain=self.chain.id, height=view.tip.height)
        self._supervisor.healthy()
        await self._router.read_up_to(as_of_ms, self._actors, tip_height=view.tip.height)
        if self._told_again:
            await self._release()

    async def final_up_to(self, height: int, view: ChainView) -> None:
        assert self._actors is not None, "run() has started"
        await self._router.final_up_to(
            height, self._clock.now_ms(), self._actors, tip_height=view.tip.height
        )

    async def save(self, view: ChainView) -> None:
        assert self._cursor is not None, "the node's identity is known before blocks are read"
        await self._save_cursor(self._cursor.network, self._cursor.genesis, view)

    def pushed(self, latency_s: float) -> None:
        self._on_push(latency_s)

    # --- life -------------------------------------------------------------------------------------

    async def _load(self, actors: InvoiceActors) -> None:
        """Take up every address and every invoice that can still change."""
        chain = self.chain.id
        self._cursor = await self._store.cursor(chain)
        watch = self._router.index.watch
        tip_height = self._cursor.view.tip.height if self._cursor else 0
        # The live ones first: the index then holds the very objects that their terms hold.
        for invoice in await self._store.live(chain, tip_height=tip_height):
            watch(invoice.terms.destination, invoice.terms.invoice_id)
            actors.adopt(invoice)
        for destination, _ in await self._store.destinations(chain):
            self._router.index.watch_stored(destination)
        self._log.info(
            "chain loaded",
            chain=chain,
            addresses=len(self._router.index.destinations),
            invoices=actors.statistics().loaded,
            height=tip_height if self._cursor else None,
        )

    async def _follow(self) -> None:
        """One attempt: look at the node, agree on where to start, watch until it fails."""
        status = await self._source.status()
        first_contact = self._status is None
        self._status = status
        self._check_identity(status)
        if status.syncing:
            raise TransientError(
                f"the {self.chain.id} node is still syncing: block {status.tip.height} of"
                f" {status.headers_height}. Payments are not watched until it is done; nothing is"
                " lost, all blocks are read then"
            )
        if self._watcher is None:
            self._watcher = await self._start_watcher(status)
        self._check_pruned(status, self._watcher.view)
        if first_contact:
            self._log.info(
                "node reached",
                chain=self.chain.id,
                software=status.software,
                network=status.network,
                height=status.tip.height,
                push=status.push,
                pruned_below=status.pruned_below,
            )
        # It answers and is the right one: from here on the chain is behind, not out of reach.
        self._failure = None
        await self._watcher.run()

    def _check_identity(self, status: NodeStatus) -> None:
        known = self._cursor
        if known is None or (known.network, known.genesis) == (status.network, status.genesis):
            return
        raise PersistentError(
            f"the node at coin.{self.chain.id}.daemon.url is on network {status.network!r} (genesis"
            f" {status.genesis.hex()[:16]}…), but this database has been used with"
            f" {known.network!r} (genesis {known.genesis.hex()[:16]}…). Point the setting at the"
            " right node, or use another database for the other network"
        )

    def _check_pruned(self, status: NodeStatus, view: ChainView) -> None:
        needed = view.tip.height + 1
        if status.pruned_below is not None and status.pruned_below > needed:
            raise PersistentError(
                f"the {self.chain.id} node has pruned the blocks below {status.pruned_below}, but"
                f" tallyd has read only up to {needed - 1}. Point coin.{self.chain.id}.daemon.url"
                " at a node that still has them (a full node, or one with a larger prune size)"
            )

    async def _start_watcher(self, status: NodeStatus) -> ChainWatcher:
        keep = self.policy.reorg_limit + 1
        if self._cursor is None:
            view = ChainView(await self._source.window(status.tip, keep))
            await self._save_cursor(status.network, status.genesis, view)
        else:
            view = await self._rewound(self._cursor.view, keep)
        return ChainWatcher(
            self._source,
            self._router.index,
            view,
            self,
            clock=self._clock,
            log=self._log,
            policy=self.policy,
        )

    async def _rewound(self, view: ChainView, keep: int) -> ChainView:
        """The view to start from so that invoices that were set aside are told again."""
        self._told_again = await self._store.quarantined(self.chain.id)
        from_height = min(self._told_again.values(), default=view.tip.height + 1)
        if from_height > view.tip.height:
            return view
        self._log.warning(
            "reading blocks again for invoices that were set aside",
            chain=self.chain.id,
            from_height=from_height,
            invoices=len(self._told_again),
        )
        if from_height > view.floor.height:
            return view.rewind_below(from_height)
        base = await self._source.block_at(from_height - 1)
        if base is None:
            raise TransientError(
                f"the {self.chain.id} node does not have block {from_height - 1} yet"
            )
        return ChainView(await self._source.window(base, keep))

    async def _release(self) -> None:
        """Invoices that were told again without crashing are up to date."""
        assert self._actors is not None, "run() has started"
        still_aside = self._actors.set_aside()
        for invoice_id in [*self._told_again]:
            if invoice_id not in still_aside:
                await self._store.release(invoice_id)
            del self._told_again[invoice_id]

    async def _save_cursor(self, network: str, genesis: bytes, view: ChainView) -> None:
        cursor = ChainCursor(
            chain=self.chain.id,
            network=network,
            genesis=genesis,
            view=view,
            saved_at_ms=self._clock.now_ms(),
        )
        await self._store.save_cursor(cursor)
        self._cursor = cursor

    def _failed(self, family: Family, text: str) -> None:
        self._failure = (family, text)

    def _standing(self, progress: WatchProgress) -> tuple[ChainState, str | None]:
        if self._failure is not None:
            family, text = self._failure
            return {
                Family.TRANSIENT: ChainState.UNREACHABLE,
                Family.PERSISTENT: ChainState.REFUSED,
                Family.BUG: ChainState.CRASHED,
            }[family], text
        if self._watcher is None:
            return ChainState.STARTING, "the node has not answered yet"
        if progress.current:
            return ChainState.CURRENT, None
        return ChainState.CATCHING_UP, progress.behind or "reading what happened meanwhile"
