"""The composition root: follow the nurseries and you follow a payment.

node ──▶ driver ──▶ chain watcher ──▶ router ──▶ invoice actor ──▶ event log ──▶ event hub ──▶ API

The store opens first and closes last; the chains stand on it; the APIs stand on both. Stopping goes
the other way: first nobody may ask any more, then nobody looks at chains, then the log is closed.

In roles (daemon/roles.py) the arrow is cut at the event log, and the pieces are processes: those
that watch end there, those that serve or deliver begin there, and the hub of each is fed from it.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from actors.audit import Audit
from actors.duties import Duties
from actors.event_hub import EventHub
from actors.idempotency import Idempotency
from actors.invoicing import Invoicing
from actors.orders import Orders
from actors.outbox import Outbox
from actors.ports import Committed, Store
from actors.repeats import Repeats
from actors.wallets import Wallets
from daemon.admission import open_gate
from daemon.chains import loading, open_chain
from daemon.clock import SystemClock
from daemon.config import Config
from daemon.ground import Ground, Works
from daemon.house import House
from daemon.logging import LogOutput, get_logger
from daemon.metrics import Metrics
from daemon.reload import Reload
from daemon.roles import Roles
from daemon.sdnotify import Notifier, watchdog
from daemon.servers import Servers
from daemon.store import open_store
from daemon.store.shared import open_shared_store
from daemon.unlock import open_keyring, stored_webhooks
from daemon.webhooks import WebhookKit

STATUS_EVERY_S = 5.0
API_GRACE_S = 5.0
"""Of the ten seconds that a stop may take, what streams and requests are given to end."""

_log = get_logger("daemon")


async def run(
    config: Config,
    *,
    notifier: Notifier,
    output: LogOutput,
    reread: Callable[[], Config],
    task_status: trio.TaskStatus[Servers | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again and re-opens the log.

    `started` means: the store is open, every known address is watched for, both APIs listen; in
    roles, as far as that is this process' part. Raises PersistentError or TransientError if the
    store or a listener cannot be had, or if a duty that this process had is lost.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with (
            _stopping_calmly(signals) as stopping,
            _house(config) as house,
            _serving(config, house) as servers,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell_systemd, house, notifier)
                nursery.start_soon(lambda: watchdog(notifier, healthy=lambda: True))
                notifier.ready(house.status())
                where = (servers.grpc_address, servers.http_address) if servers else (None, None)
                _log.info("ready", grpc=where[0], http=where[1])
                task_status.started(servers)
                reload = Reload(config, house, servers, output, reread)
                async for received in signals:
                    if received != signal.SIGHUP:
                        break
                    notifier.reloading()
                    reload.apply()
                    notifier.ready(house.status())
                stopping.set()
                notifier.stopping("stopping")
                _log.info("stopping", signal=signal.Signals(received).name)
                nursery.cancel_scope.cancel()
            if servers is not None:
                await _stop(servers, house)
    _log.info("stopped")


async def _stop(servers: Servers, house: House) -> None:
    """Let what has begun be finished, within API_GRACE_S."""
    async with trio.open_nursery() as nursery:
        if house.roles is not None:
            nursery.start_soon(partial(house.roles.stop_asking, after_s=API_GRACE_S / 2))
        await servers.stop(grace_s=API_GRACE_S)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _stopping_calmly(signals: AsyncIterator[int]) -> AsyncIterator[trio.Event]:
    """Once the event is set, further signals are only logged, until the block has ended.

    Unread ones would be raised again at the end, and make an orderly stop look like a crash.
    """
    stopping = trio.Event()

    async def read_on() -> None:
        await stopping.wait()
        async for received in signals:
            _log.info("stopping already", signal=signal.Signals(received).name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        yield stopping
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _house(config: Config) -> AsyncIterator[House]:
    """Store, hub, chains and the service above them, each standing on the one before."""
    clock, metrics, hub = SystemClock(), Metrics(), EventHub(log=get_logger("hub"))
    async with _open_store(config, hub, metrics) as (store, duties):
        gate = await open_gate(config, store, listens=config.roles.serves, log=get_logger("access"))
        # Before the chains: what they are scanned with must be complete when they start.
        keyring = await open_keyring(
            config, store, log=get_logger("keys"), others=await stored_webhooks(store)
        )
        outbox, audit = Outbox(store, hub), Audit(store, clock=clock)
        kit = WebhookKit(
            config.webhooks, store=store, outbox=outbox, vault=keyring.vault, audit=audit
        )
        ground = Ground(
            config=config, store=store, hub=hub, keyring=keyring, metrics=metrics, kit=kit
        )
        roles = None if duties is None else Roles(ground, duties)
        async with (
            _everything(ground) if roles is None else roles.works() as works,
            trio.open_nursery() as nursery,
        ):
            invoicing = Invoicing(
                store=store,
                deriver=keyring,
                catalogue=config.catalogue,
                chains=works.chains,
                clock=clock,
            )
            idempotency = Idempotency(store, clock=clock, log=get_logger("access"))
            if config.roles.serves:
                nursery.start_soon(gate.run)
                nursery.start_soon(idempotency.run)
            yield House(
                store=store,
                hub=hub,
                outbox=outbox,
                chains=works.chains,
                watched=works.watched,
                roles=roles,
                keyring=keyring,
                invoicing=invoicing,
                metrics=metrics,
                gate=gate,
                audit=audit,
                repeats=Repeats(invoicing, idempotency),
                webhooks=works.webhooks,
                wallets=Wallets(invoicing, store=store, clock=clock),
                orders=Orders(invoicing, store=store, clock=clock, alone=roles is None),
                brands=store.brands,
            )
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_store(
    config: Config, hub: EventHub, metrics: Metrics
) -> AsyncIterator[tuple[Store, Duties | None]]:
    """Ours alone; or, in roles, shared with other processes, whose events come to the hub too."""
    url = config.database.url.reveal()

    def committed(batch: Sequence[Committed]) -> None:
        hub.publish(batch)
        metrics.log_append.observe(store.statistics().last_commit_s)

    if config.roles.alone:
        async with open_store(url, on_commit=committed) as store:
            yield store, None
    else:
        async with open_shared_store(url, on_commit=hub.publish) as shared:
            yield shared, shared.duties


@asynccontextmanager
async def _everything(ground: Ground) -> AsyncIterator[Works]:
    """Every chain watched and every webhook sent by this process."""
    watched = {
        coin.coin: open_chain(
            coin,
            catalogue=ground.config.catalogue,
            keyring=ground.keyring,
            store=ground.store,
            metrics=ground.metrics,
        )
        for coin in ground.config.coins.values()
    }
    async with trio.open_nursery() as nursery:
        try:
            with loading():
                for chain in watched.values():
                    await nursery.start(chain.supervisor.run)
            async with ground.kit.delivering(ground.hub) as engine:
                yield Works(
                    chains={chain: one.supervisor for chain, one in watched.items()},
                    watched=watched,
                    webhooks=ground.kit.service(engine),
                )
        finally:
            nursery.cancel_scope.cancel()
            for chain in watched.values():
                with trio.CancelScope(shield=True):
                    await chain.source.aclose()


@asynccontextmanager
async def _serving(config: Config, house: House) -> AsyncIterator[Servers | None]:
    """Both APIs; None where they are another process' part."""
    if not config.roles.serves:
        yield None
        return
    async with Servers(config, house).serving() as servers:
        clock = SystemClock()
        house.metrics.watch(
            chains=house.chains,
            store=house.store.statistics,
            hub=house.hub.statistics,
            grpc=servers.grpc.statistics,
            clock=clock,
        )
        house.metrics.watch_webhooks(house.webhooks.engine.statistics, clock=clock)
        if house.roles is not None:
            house.metrics.watch_roles(house.roles.holders, house.roles.statistics)
        yield servers


async def _tell_systemd(house: House, notifier: Notifier) -> None:
    """Keep the line in `systemctl status` true."""
    while True:
        await trio.sleep(STATUS_EVERY_S)
        notifier.status(house.status())
