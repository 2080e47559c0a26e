"""A chain that this process watches: its driver, and the supervisor that owns it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from actors.chain_supervisor import ChainSupervisor
from actors.chain_watcher import WatchPolicy
from actors.core.assets import Catalogue
from actors.ports import Store
from daemon.clock import SystemClock
from daemon.config import CoinConfig
from daemon.keys import Keyring
from daemon.logging import get_logger
from daemon.metrics import Metrics
from daemon.sources import Source, open_source


@dataclass(frozen=True, slots=True)
class WatchedChain:
    source: Source
    supervisor: ChainSupervisor


def open_chain(
    coin: CoinConfig, *, catalogue: Catalogue, keyring: Keyring, store: Store, metrics: Metrics
) -> WatchedChain:
    """The parts of a chain; connects to nothing, and watches nothing before it is run."""
    made: list[ChainSupervisor] = []

    def open_destinations() -> list[bytes]:
        """What the driver asks of the supervisor that it is made before."""
        return made[0].open_destinations()

    source = open_source(
        coin,
        catalogue.assets.values(),
        log=get_logger(f"driver.{coin.coin}"),
        open_destinations=open_destinations,
        view_keys=keyring.monero.view_keys(coin.coin).keys,
    )
    supervisor = ChainSupervisor(
        coin.chain,
        source,
        store,
        clock=SystemClock(),
        log=get_logger(f"chain.{coin.coin}"),
        policy=policy_of(coin),
        on_push=metrics.push_to_stream.observe,
    )
    made.append(supervisor)
    return WatchedChain(source, supervisor)


def policy_of(coin: CoinConfig) -> WatchPolicy:
    """How the chain is followed, whoever does."""
    return WatchPolicy(
        reorg_limit=coin.reorg_limit,
        settled_watch_depth=coin.settled_watch_depth,
        finality=coin.evm.finality if coin.evm else None,
    )


@contextmanager
def loading() -> Iterator[None]:
    """What is loaded in this block stays: keep the garbage collector from walking it ever again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.collect()
    gc.freeze()
