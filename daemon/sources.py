"""Which driver follows which family of chains."""

from __future__ import annotations

from actors.core.assets import Chain
from actors.ports import Log
from daemon.config import CoinConfig
from daemon.drivers.bitcoin import BitcoinSource, ZmqChoice
from daemon.drivers.jsonrpc import JsonRpcClient, Login

Source = BitcoinSource


def login_of(coin: CoinConfig) -> Login:
    """How the node at `coin` is told who we are."""
    return Login(
        user=coin.user,
        password=coin.password.reveal() if coin.password else None,
        cookie_file=coin.cookie_file,
    )


def open_source(chain: Chain, coin: CoinConfig, *, log: Log) -> Source:
    """The driver for `chain`, aimed at the configured node; connects to nothing yet."""
    # The configuration lets only chains through that have a driver.
    assert chain.family == "bitcoin", f"no driver for the family {chain.family!r}"
    client = JsonRpcClient(
        coin.url,
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
