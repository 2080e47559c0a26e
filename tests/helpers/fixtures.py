"""pytest plugin: real servers, shared by all tests of a run. Registered in tests/conftest.py.

A server that is not installed skips the test, with the command that installs it; no fixture
downloads anything.
"""

from collections.abc import Iterator

import pytest

from tests.helpers.anvil import AnvilNode
from tests.helpers.bitcoind import BitcoinNode, Family
from tests.helpers.browser import Browser
from tests.helpers.devtools import DevTools
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import MoneroNode
from tests.helpers.postgres import PostgresServer
from tests.nodes.install import find, how_to_install


def _node(family: Family) -> Iterator[BitcoinNode]:
    if find(family) is None:
        pytest.skip(how_to_install(family))
    with BitcoinNode(family) as node:
        node.fund()
        yield node


@pytest.fixture(scope="session")
def btc_node() -> Iterator[BitcoinNode]:
    """A funded Bitcoin Knots with all ZMQ topics.

    Shared: leave it running, on the network, and with a chain that is its longest.
    """
    yield from _node("btc")


@pytest.fixture(scope="session")
def ltc_node() -> Iterator[BitcoinNode]:
    """A funded Litecoin node, below MWEB's activation. Shared, like ``btc_node``."""
    yield from _node("ltc")


def _evm_node(chain_id: int) -> Iterator[AnvilNode]:
    if find("evm") is None:
        pytest.skip(how_to_install("evm"))
    with AnvilNode(chain_id) as node:
        yield node


@pytest.fixture
def eth_node() -> Iterator[AnvilNode]:
    """A fresh node with Ethereum's chain id that makes blocks on mine() only.

    Not shared: it starts in 0.1 s, and its reorgs leave no way back.
    """
    yield from _evm_node(1)


@pytest.fixture
def bnb_node() -> Iterator[AnvilNode]:
    """The same with BNB Smart Chain's chain id."""
    yield from _evm_node(56)


@pytest.fixture(scope="session")
def xmr_node() -> Iterator[MoneroNode]:
    """A Monero node with ZMQ and a second, restricted port (``url``), without login.

    Shared: leave it running, its pool empty and its chain its longest.
    """
    if find("xmr") is None:
        pytest.skip(how_to_install("xmr"))
    with MoneroNode(restricted=True) as node:
        yield node


@pytest.fixture(scope="session")
def xmr_wallet(xmr_node: MoneroNode) -> Iterator[MoneroWallet]:
    """A funded wallet on that node. Shared: leave its first wallet open."""
    with MoneroWallet(xmr_node) as wallet:
        wallet.fund()
        yield wallet


@pytest.fixture(autouse=True)
def settled_wallet(request: pytest.FixtureRequest) -> None:
    """What an earlier test relayed, flushed or displaced is no longer on the wallet's mind."""
    if "xmr_wallet" in request.fixturenames:
        request.getfixturevalue("xmr_wallet").settle()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server without fsync. Shared: leave it running."""
    if find("postgres") is None:
        pytest.skip(how_to_install("postgres"))
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy address of an empty database of the test's own."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium. Shared: each page is a profile of its own."""
    for part in ("chromium", "fonts", "axe"):
        if find(part) is None:
            pytest.skip(how_to_install(part))
    with DevTools(tmp_path_factory.mktemp("browser")) as tools:
        yield Browser(tools)
