"""The composition root: follow the nurseries and you follow a payment.

node ──▶ driver ──▶ chain watcher ──▶ router ──▶ invoice actor ──▶ event log ──▶ event hub ──▶ API

The store opens first and closes last; the chains stand on it; the APIs stand on both. Stopping goes
the other way: first nobody may ask any more, then nobody looks at chains, then the log is closed.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from actors.audit import Audit
from actors.chain_supervisor import ChainSupervisor
from actors.chain_watcher import WatchPolicy
from actors.event_hub import EventHub
from actors.idempotency import Idempotency
from actors.invoicing import Invoicing
from actors.orders import Orders
from actors.outbox import Outbox
from actors.ports import Committed, Store
from actors.repeats import Repeats
from actors.wallets import Wallets
from daemon.admission import open_gate
from daemon.clock import SystemClock
from daemon.config import Config
from daemon.house import House
from daemon.keys import Keyring
from daemon.logging import LogOutput, get_logger
from daemon.metrics import Metrics
from daemon.reload import Reload
from daemon.sdnotify import Notifier, watchdog
from daemon.servers import Servers
from daemon.sources import Source, open_source
from daemon.store import open_store
from daemon.unlock import open_keyring, stored_webhooks
from daemon.webhooks import open_webhooks

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
    task_status: trio.TaskStatus[Servers] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again and re-opens the log.

    `started` means: the store is open, every known address is watched for, both APIs listen.
    Raises PersistentError or TransientError if the store or a listener cannot be had.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with (
            _stopping_calmly(signals) as stopping,
            _house(config) as house,
            Servers(config, house).serving() as servers,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell_systemd, house, notifier)
                nursery.start_soon(lambda: watchdog(notifier, healthy=lambda: True))
                house.metrics.watch(
                    chains=house.chains,
                    store=house.store.statistics,
                    hub=house.hub.statistics,
                    grpc=servers.grpc.statistics,
                    clock=SystemClock(),
                )
                house.metrics.watch_webhooks(house.webhooks.engine.statistics, clock=SystemClock())
                notifier.ready(house.status())
                _log.info("ready", grpc=servers.grpc_address, http=servers.http_address)
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
            await servers.stop(grace_s=API_GRACE_S)
    _log.info("stopped")


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

    def committed(batch: Sequence[Committed]) -> None:
        hub.publish(batch)
        metrics.log_append.observe(store.statistics().last_commit_s)

    async with (
        open_store(config.database.url.reveal(), on_commit=committed) as store,
        trio.open_nursery() as nursery,
    ):
        gate = await open_gate(config, store, log=get_logger("access"))
        # Before the chains: what they are scanned with must be complete when they start.
        keyring = await open_keyring(
            config, store, log=get_logger("keys"), others=await stored_webhooks(store)
        )
        chains: dict[str, ChainSupervisor] = {}
        sources = _sources(config, keyring, chains)
        chains |= _supervisors(config, sources, store, metrics)
        await _start(chains, nursery)
        invoicing = Invoicing(
            store=store, deriver=keyring, catalogue=config.catalogue, chains=chains, clock=clock
        )
        idempotency = Idempotency(store, clock=clock, log=get_logger("access"))
        nursery.start_soon(gate.run)
        nursery.start_soon(idempotency.run)
        try:
            outbox, audit = Outbox(store, hub), Audit(store, clock=clock)
            async with open_webhooks(
                config.webhooks,
                store=store,
                hub=hub,
                outbox=outbox,
                vault=keyring.vault,
                audit=audit,
            ) as webhooks:
                yield House(
                    store=store,
                    hub=hub,
                    outbox=outbox,
                    chains=chains,
                    sources=sources,
                    keyring=keyring,
                    invoicing=invoicing,
                    metrics=metrics,
                    gate=gate,
                    audit=audit,
                    repeats=Repeats(invoicing, idempotency),
                    webhooks=webhooks,
                    wallets=Wallets(invoicing, store=store, clock=clock),
                    orders=Orders(invoicing, store=store, clock=clock),
                    brands=store.brands,
                )
        finally:
            nursery.cancel_scope.cancel()
            for source in sources.values():
                with trio.CancelScope(shield=True):
                    await source.aclose()


def _sources(
    config: Config, keyring: Keyring, chains: Mapping[str, ChainSupervisor]
) -> dict[str, Source]:
    """A driver per chain; `chains` may be filled afterwards."""
    return {
        coin.coin: open_source(
            coin,
            config.catalogue.assets.values(),
            log=get_logger(f"driver.{coin.coin}"),
            open_destinations=partial(_open_destinations, chains, coin.coin),
            view_keys=keyring.monero.view_keys(coin.coin).keys,
        )
        for coin in config.coins.values()
    }


def _supervisors(
    config: Config, sources: Mapping[str, Source], store: Store, metrics: Metrics
) -> dict[str, ChainSupervisor]:
    clock = SystemClock()
    return {
        coin.coin: ChainSupervisor(
            coin.chain,
            sources[coin.coin],
            store,
            clock=clock,
            log=get_logger(f"chain.{coin.coin}"),
            policy=WatchPolicy(
                reorg_limit=coin.reorg_limit,
                settled_watch_depth=coin.settled_watch_depth,
                finality=coin.evm.finality if coin.evm else None,
            ),
            on_push=metrics.push_to_stream.observe,
        )
        for coin in config.coins.values()
    }


async def _start(chains: Mapping[str, ChainSupervisor], nursery: trio.Nursery) -> None:
    # What is loaded stays: keep the garbage collector from walking it again and again.
    gc.disable()
    try:
        for supervisor in chains.values():
            await nursery.start(supervisor.run)
    finally:
        gc.enable()
    gc.collect()
    gc.freeze()


def _open_destinations(chains: Mapping[str, ChainSupervisor], chain: str) -> list[bytes]:
    """What a driver asks of the supervisor that it is made before."""
    return chains[chain].open_destinations()


async def _tell_systemd(house: House, notifier: Notifier) -> None:
    """Keep the line in `systemctl status` true."""
    while True:
        await trio.sleep(STATUS_EVERY_S)
        notifier.status(house.status())
