"""Which driver follows which family of chains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from actors.core.assets import Asset
from actors.ports import Log
from daemon.config import CoinConfig, EvmConfig, NodeUrl, TonConfig
from daemon.drivers.bitcoin import BitcoinSource, ZmqChoice
from daemon.drivers.endpoints import EndpointPool, open_endpoints
from daemon.drivers.evm import EvmSource
from daemon.drivers.evm_internal import OpenDestinations, Way
from daemon.drivers.jsonrpc import JsonRpcClient, Login
from daemon.drivers.monero import MoneroSource
from daemon.drivers.monero_rpc import MoneroRpc, open_monero
from daemon.drivers.monero_search import ViewKeys
from daemon.drivers.ton import TonSource
from daemon.drivers.ton_rpc import TonRpc, open_ton

Source = BitcoinSource | EvmSource | MoneroSource | TonSource

_WAYS = MappingProxyType(
    {
        "auto": None,
        "trace": Way.TRACE_BLOCK,
        "debug": Way.DEBUG_TRACE,
        "balance": Way.BALANCES,
        "off": Way.NONE,
    }
)
"""How the settings call the ways to see payments by contracts."""


def login_of(coin: CoinConfig) -> Login:
    """How the node at `coin` is told who we are."""
    return replace(login_of_node(coin.node), cookie_file=coin.cookie_file)


def login_of_node(node: NodeUrl) -> Login:
    """How one of several nodes is told who we are."""
    return Login(user=node.user, password=node.password.reveal() if node.password else None)


def open_source(
    coin: CoinConfig,
    assets: Iterable[Asset],
    *,
    log: Log,
    open_destinations: OpenDestinations | None = None,
    view_keys: ViewKeys = tuple,
) -> Source:
    """The driver for a chain, aimed at the configured nodes; connects to nothing yet.

    Of `assets` those of the chain count. `open_destinations` gives the addresses of its open
    invoices, for nodes that can not tell what contracts pay, or that tell news of named addresses
    only. `view_keys` gives what Monero is scanned with; without, only the node can be looked at.
    """
    chain = coin.chain
    if coin.evm is not None:
        return EvmSource(
            open_pool(coin, coin.evm, log=log),
            chain=chain,
            assets=[asset for asset in assets if asset.chain == chain.id],
            log=log,
            chain_id=coin.evm.chain_id,
            poll_interval_s=coin.poll_interval_s,
            finality=coin.evm.finality,
            open_destinations=open_destinations,
            internal_way=_WAYS[coin.evm.internal],
        )
    if coin.monero is not None:
        return MoneroSource(
            open_monero_nodes(coin, log=log),
            chain=chain,
            view_keys=view_keys,
            log=log,
            zmq=coin.monero.zmq_pub,
            poll_interval_s=coin.poll_interval_s,
        )
    if coin.ton is not None:
        return TonSource(
            open_ton_servers(coin, coin.ton, log=log),
            chain=chain,
            assets=[asset for asset in assets if asset.chain == chain.id],
            log=log,
            poll_interval_s=coin.poll_interval_s,
            open_destinations=open_destinations if coin.ton.streaming else None,
        )
    # The catalogue knows no other family.
    assert chain.family == "bitcoin", f"no driver for the family {chain.family!r}"
    client = JsonRpcClient(
        coin.node.url,
        setting=f"coin.{chain.id}",
        login=login_of(coin),
        timeout_s=coin.rpc_timeout_s,
    )
    return BitcoinSource(
        client,
        chain=chain.id,
        asset=chain.coin,
        log=log,
        zmq=ZmqChoice(enabled=coin.zmq.enabled, endpoints=coin.zmq.endpoints or None),
        poll_interval_s=coin.poll_interval_s,
    )


def open_servers(coin: CoinConfig, *, log: Log) -> EndpointPool | MoneroRpc | TonRpc:
    """The configured servers of a chain that may have several; connects to nothing yet."""
    if coin.evm is not None:
        return open_pool(coin, coin.evm, log=log)
    if coin.ton is not None:
        return open_ton_servers(coin, coin.ton, log=log)
    return open_monero_nodes(coin, log=log)


def open_pool(coin: CoinConfig, evm: EvmConfig, *, log: Log) -> EndpointPool:
    """The configured endpoints of an EVM chain; connects to nothing yet."""
    return open_endpoints(
        [node.reveal() for node in coin.nodes],
        setting=f"coin.{coin.coin}",
        chain_id=evm.chain_id,
        log=log,
        timeout_s=coin.rpc_timeout_s,
    )


def open_monero_nodes(coin: CoinConfig, *, log: Log) -> MoneroRpc:
    """The configured nodes of Monero; connects to nothing yet."""
    return open_monero(
        [node.reveal() for node in coin.nodes],
        setting=f"coin.{coin.coin}",
        log=log,
        timeout_s=coin.rpc_timeout_s,
    )


def open_ton_servers(coin: CoinConfig, ton: TonConfig, *, log: Log) -> TonRpc:
    """The configured servers of TON; connects to nothing yet."""
    return open_ton(
        [node.reveal() for node in coin.nodes],
        setting=f"coin.{coin.coin}",
        log=log,
        network=ton.network,
        timeout_s=coin.rpc_timeout_s,
    )


def apply_live(source: Source, coin: CoinConfig) -> None:
    """Give the driver what may change while it runs (SIGHUP)."""
    if isinstance(source, BitcoinSource):
        source.use_login(login_of(coin))
    elif isinstance(source, MoneroSource | TonSource):
        source.use_logins([login_of_node(node) for node in coin.nodes])
