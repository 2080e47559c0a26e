"""One process of the simulated daemon: composed as `daemon.app` composes the real one, with fakes
only at the ports (chain sources, store's disk, keys, webhook sender, streams, clock).
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from random import Random
from typing import Any
from uuid import UUID

import trio
import trio.testing

from actors.access import Caller
from actors.audit import Audit
from actors.chain_supervisor import ChainSupervisor
from actors.chain_watcher import WatchPolicy
from actors.core.assets import Chain
from actors.event_hub import EventHub
from actors.gate import Gate, GateRules
from actors.idempotency import Idempotency
from actors.invoicing import Invoicing
from actors.orders import Orders
from actors.outbox import Outbox
from actors.ports import (
    Account,
    Committed,
    Derived,
    PersistentError,
    PublicKey,
    TransientError,
)
from actors.repeats import Repeats
from actors.supervisor import RestartPolicy
from actors.wallets import Wallets
from actors.webhook_actor import WebhookFigures, WebhookRules, WebhookTools
from actors.webhook_book import Endpoint, Form
from actors.webhook_engine import PAUSED, WebhookEngine
from actors.webhook_forms import OrderForm, StandardForm
from actors.webhook_sending import Sender
from actors.webhooks import Webhooks
from api.event_json import event_json, notice_json
from api.grpc.gatekeeper import gatekeeper
from api.grpc.goipay import InvoiceService, UserService
from api.grpc.health import SERVING
from api.grpc.limits import Limits
from api.grpc.peer import Peer
from api.grpc.server import Server
from api.grpc.tally import InvoiceService as TallyInvoiceService
from api.grpc.watching import Watching
from api.rest.edge import Edge, HttpLimits
from tests.helpers.house import CATALOGUE
from tests.helpers.recording_log import RecordingLog
from tests.helpers.virtual_clock import VirtualClock
from tests.sim.disk import Disk, KilledError, ProcessStore
from tests.sim.ends import Line, LivingSender, SocketLine
from tests.sim.node import SimNode
from tests.sim.restapp import http_server

RESTART = RestartPolicy(first_delay_s=0.5, max_delay_s=2, persistent_delay_s=3)
POLICY = WatchPolicy(reorg_limit=10, settled_watch_depth=12, lag_patience_s=8, eviction_grace_s=2)
FINAL = WatchPolicy(
    reorg_limit=10,
    settled_watch_depth=12,
    lag_patience_s=8,
    eviction_grace_s=2,
    finality="finalized",
)
TAIL_EVENTS = 24
"""Small, so that readers fall out of it."""
MAX_LAG = 60
LIMITS = Limits(stream_outbound_bytes=24 * 1024, stall_timeout_s=20, keepalive_interval_s=600)
ITSELF = Caller(actor="tallyd", address="local", scopes=frozenset())
INSIDE: ContextVar[object] = ContextVar("inside", default=None)
"""The process that a task is of: what a crash counts and ends."""


class PlainKeys:
    """`AddressDeriver`: any text is a key, and addresses say where they come from."""

    def parse_key(self, chain: Chain, text: str) -> PublicKey:
        return PublicKey(chain.id, text, "a key of the simulation")

    def derive(
        self, chain: Chain, account: Account, *, network: str, major: int, minor: int
    ) -> Derived:
        address = f"{chain.id}-{account.id}-{major}-{minor}"
        return Derived(address, address.encode())


class Gone(Exception):  # noqa: N818 - no error of anybody's: the daemon is away
    """The daemon died, or hung up, before it answered."""


class Process:
    """Lives from `run` until it is killed or stopped."""

    def __init__(
        self,
        *,
        disk: Disk,
        nodes: Mapping[str, SimNode],
        clock: VirtualClock,
        random: Random,
        sender: Sender,
    ) -> None:
        self.clock = clock
        self.log = RecordingLog()
        self.store = ProcessStore(disk)
        self.published: list[Committed] = []
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.up = False
        """It serves."""
        self.alive = False
        """It runs, and can be killed."""
        self.chains: dict[str, ChainSupervisor] = {}
        self._nodes = nodes
        self._random = random
        self._sender = sender
        self._nursery: trio.Nursery
        self._lines: set[Any] = set()

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Returns when it is over; a failure of the disk at its start ends it as well."""
        INSIDE.set(self)
        self.alive = True
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self.store.run)
                    await self._compose(nursery)
        except BaseExceptionGroup as group:
            _, unexpected = group.split(lambda one: self._expected(one))  # noqa: PLW0108 - split takes no method
            if unexpected is not None:
                raise unexpected from None
        finally:
            self.up = self.alive = False
            self._hang_up()
            self.over.set()

    def _expected(self, failure: BaseException) -> bool:
        """Death; or, before it was up, a disk that cannot be used."""
        if isinstance(failure, BaseExceptionGroup):
            return False
        if isinstance(failure, KilledError):
            return self.store.dead
        return not self.up and "the simulated disk" in str(failure)

    def kill(self) -> None:
        """SIGKILL: nothing that its tasks still do has an effect outside."""
        self.store.kill()
        self._hang_up()
        self.up = self.alive = False
        self.scope.cancel()

    async def stop(self) -> None:
        """SIGTERM: first nobody may ask any more, then nobody looks at chains, then the store."""
        if self.up:
            self.up = False
            self._nursery.start_soon(self._stop)
        await self.over.wait()

    async def _stop(self) -> None:
        await self.grpc.shutdown(grace_s=2.0)
        self._hang_up()
        self._working.cancel()

    def _hang_up(self) -> None:
        for line in tuple(self._lines):
            line.hang_up()

    async def ask(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do something inside the process, for one outside; a failure of the world is returned.

        Raises Gone if it dies first.
        """
        if not self.up:
            raise Gone
        found: list[Any] = []
        done = trio.Event()

        async def inside() -> None:
            INSIDE.set(self)
            try:
                found.append(await work())
            except (TransientError, PersistentError) as failure:
                found.append(failure)
            finally:
                done.set()

        self._nursery.start_soon(inside)
        await done.wait()
        if not found:
            raise Gone
        return found[0]

    # --- composition ------------------------------------------------------------------------------

    async def _compose(self, nursery: trio.Nursery) -> None:
        store, clock, log = self.store, self.clock, self.log
        hub = self.hub = EventHub(log=log)

        def committed(batch: Sequence[Committed]) -> None:
            hub.publish(batch)
            self.published.extend(batch)

        store.listen(committed)
        async with trio.open_nursery() as working:
            self._working = working.cancel_scope
            gate = Gate(store, GateRules(anonymous=True), clock=clock, log=log)
            await gate.load()
            for chain, node in self._nodes.items():
                self.chains[chain] = ChainSupervisor(
                    CATALOGUE.chains[chain],
                    node,
                    store,
                    clock=clock,
                    log=log,
                    policy=FINAL if node.final is not None else POLICY,
                    restart=RESTART,
                )
            for supervisor in self.chains.values():
                await working.start(supervisor.run)
            self.invoicing = Invoicing(
                store=store,
                deriver=PlainKeys(),
                catalogue=CATALOGUE,
                chains=self.chains,
                clock=clock,
                new_id=self.new_id,
            )
            idempotency = Idempotency(store, clock=clock, log=log, new_id=self.new_id)
            working.start_soon(gate.run)
            working.start_soon(idempotency.run)
            self.outbox = Outbox(store, hub, tail_events=TAIL_EVENTS)
            audit = Audit(store, clock=clock)
            self.webhooks = self._make_webhooks(audit)
            await working.start(self.webhooks.engine.run)
            repeats = Repeats(self.invoicing, idempotency)
            self._serve(working, gate=gate, audit=audit, repeats=repeats)
            await working.start(self.http._departures.run)
            working.start_soon(self.http._app.keep_up)
            self.up = True
        nursery.cancel_scope.cancel()

    def _serve(self, working: trio.Nursery, *, gate: Gate, audit: Audit, repeats: Repeats) -> None:
        tally = TallyInvoiceService(self.invoicing, repeats, outbox=self.outbox, clock=self.clock)
        tally.watching = Watching(self.outbox, max_lag=MAX_LAG)
        self.goipay = InvoiceService(self.invoicing, hub=self.hub)
        users = UserService(self.invoicing, audit=audit, reveal=None)
        self.grpc = Server(
            [users, self.goipay, tally],
            log=self.log,
            limits=LIMITS,
            interceptors=[gatekeeper(gate)],
        )
        working.start_soon(self.grpc._tend)
        self.grpc.health.set(SERVING)
        self.http = http_server(
            Edge(
                invoicing=self.invoicing,
                hub=self.hub,
                outbox=self.outbox,
                clock=self.clock,
                log=self.log,
                metrics=lambda: b"tallyd_up 1\n",
                store_ready=self._store_ready,
                version="0.0.0",
                gate=gate,
                access_book=self.store,
                audit=audit,
                repeats=repeats,
                webhooks=self.webhooks,
                wallets=Wallets(self.invoicing, store=self.store, clock=self.clock),
                orders=Orders(self.invoicing, store=self.store, clock=self.clock),
                brands=self.store.brands,
                limits=HttpLimits(),
            )
        )

    async def _store_ready(self) -> str | None:
        await self.store.last_seq()
        return None

    def _make_webhooks(self, audit: Audit) -> Webhooks:
        store, clock = self.store, self.clock

        async def alarm(endpoint: Endpoint, why: str) -> None:
            await audit.record(ITSELF, PAUSED, target=str(endpoint.id), detail=why)

        def notice(event_id: str, endpoint: Endpoint, why: str) -> bytes:
            return notice_json(
                event_id, PAUSED, at_ms=clock.now_ms(), user_id=None, data={"reason": why}
            )

        tools = WebhookTools(
            book=store.webhooks,
            outbox=self.outbox,
            sender=LivingSender(self._sender, store),
            open_secret=lambda _id, sealed: sealed[::-1],
            composers={
                Form.STANDARD: StandardForm(event_json),
                Form.PAYSCRYPT: OrderForm(store.orders, lambda *_one: b"{}"),
            },
            clock=clock,
            log=self.log,
            chance=self._random.random,
            rules=WebhookRules(concurrency=3),
            figures=WebhookFigures(),
            healthy=trio.CapacityLimiter(8),
            failing=trio.CapacityLimiter(4),
        )
        engine = WebhookEngine(tools, self.hub, alarm=alarm, notice=notice)
        return Webhooks(
            store=store,
            engine=engine,
            seal=lambda _id, secret: secret[::-1],
            new_secret=lambda: self._random.randbytes(32),
            check_url=lambda _url: None,
            test_body=lambda event_id, _endpoint, _at_ms: event_id.encode(),
            clock=clock,
        )

    def new_id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    # --- its doors --------------------------------------------------------------------------------

    def connect_grpc(self) -> trio.StapledStream:
        """A connection for gRPC: memory. Raises Gone."""
        if not self.up:
            raise Gone
        ours, theirs = trio.testing.memory_stream_pair()
        line = Line(theirs)
        self._open(line, lambda: self.grpc.serve_stream(line, Peer("127.0.0.1:1")))
        return ours

    def connect_http(self) -> trio.SocketStream:
        """The same for HTTP, which asks the kernel about its connections. Raises Gone."""
        if not self.up:
            raise Gone
        ours, theirs = map(trio.socket.from_stdlib_socket, socket.socketpair())
        line = SocketLine(theirs)
        self._open(line, lambda: self.http._serve_connection(line))
        return trio.SocketStream(ours)

    def _open(self, line: Line | SocketLine, serve: Callable[[], Awaitable[None]]) -> None:
        self._lines.add(line)

        async def inside() -> None:
            INSIDE.set(self)
            try:
                await serve()
            finally:
                self._lines.discard(line)
                line.close()

        self._nursery.start_soon(inside)
