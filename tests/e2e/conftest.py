"""Daemons and shops for the end-to-end tests: as few as possible, since each takes a second."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.anvil import AnvilNode
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.browser import Browser
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay, StatusStream
from tests.helpers.merchant_site import MerchantSite
from tests.helpers.pay_desk import PayDesk
from tests.helpers.postgres import PostgresServer
from tests.helpers.shop import Shop, leaks
from tests.nodes.install import find, how_to_install

FAST = {"TALLY_LTC_POLL_INTERVAL_S": "0.2"}
MakeDaemon = Callable[..., Daemon]


@pytest.fixture(scope="session", params=["btc", "ltc"])
def node(request: pytest.FixtureRequest) -> BitcoinNode:
    """A test that asks for it runs on both chains."""
    return request.getfixturevalue(f"{request.param}_node")


@pytest.fixture(scope="session")
def daemons(
    btc_node: BitcoinNode,
    ltc_node: BitcoinNode,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Daemon]]:
    """One daemon on SQLite and one on PostgreSQL, both on both nodes. Shared: leave them running.

    When all is done their logs must hold no secret and no failure.
    """
    url = postgres_server.create_database()
    running = {
        store: Daemon(tmp_path_factory.mktemp(store), nodes=(btc_node, ltc_node), env=env | FAST)
        for store, env in {
            "sqlite": {"TALLY_LOG_LEVEL": "debug"},
            "postgres": {"TALLY_DATABASE_URL": url},
        }.items()
    }
    with ThreadPoolExecutor() as pool:
        list(pool.map(Daemon.start, running.values()))
    yield running
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(Daemon.stop, running.values()))
    for daemon in running.values():
        assert daemon.exit_status == 0
        check_log_text(daemon)


@pytest.fixture(scope="session")
def clients(
    daemons: dict[str, Daemon],
) -> Iterator[dict[str, tuple[GoiPay, StatusStream]]]:
    with contextlib.ExitStack() as stack:
        opened = {}
        for store, daemon in daemons.items():
            client = stack.enter_context(GoiPay(daemon.grpc_port))
            opened[store] = client, client.watch()
        yield opened


@pytest.fixture
def shops(
    daemons: dict[str, Daemon],
    clients: dict[str, tuple[GoiPay, StatusStream]],
    node: BitcoinNode,
) -> list[Shop]:
    """A fresh user at each of the two daemons: one block serves both stores."""
    return [Shop(daemon, node, *clients[store]) for store, daemon in daemons.items()]


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Daemons of the test's own, not yet started; stopped and searched for secrets at the end."""
    made: list[Daemon] = []

    def make(*nodes: BitcoinNode, **options: object) -> Daemon:
        env = {**FAST, **options.pop("env", {})}
        daemon = Daemon(tmp_path / f"daemon{len(made)}", nodes=nodes, env=env, **options)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        assert daemon.stop(), f"the daemon did not stop in time: {daemon.log.read_text()[-2000:]}"
        check_log_text(daemon)


@pytest.fixture(scope="session")
def desk(
    btc_node: BitcoinNode, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PayDesk]:
    """A merchant with a site of its own, payment pages, and customers with a browser. Shared."""
    if find("evm") is None:
        pytest.skip(how_to_install("evm"))
    with AnvilNode(1) as eth_node:
        env = {
            "ETH_DAEMON_URL": eth_node.ws_url,
            "TALLY_WEBHOOKS_ALLOW_NETWORKS": "127.0.0.0/8",
        }
        daemon = Daemon(tmp_path_factory.mktemp("desk"), nodes=(btc_node,), env=env)
        hosts = f"127.0.0.1:{daemon.http_port}"
        with daemon, MerchantSite(daemon.url) as site, browser.allow(hosts, site.host):
            yield PayDesk(daemon, site, browser, {"BTC": btc_node, "ETH": eth_node})
            assert site.faults == []
        check_log_text(daemon)


def check_log_text(daemon: Daemon) -> None:
    if not daemon.log.exists():
        return
    text = daemon.log.read_text()
    assert not leaks(text, daemon)
    assert "Traceback" not in text, text[text.index("Traceback") - 2000 :][:6000]
    assert "actor crashed" not in text
