"""Every assumption about the RPC interface is checked on both nodes of the family."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.bitcoind import BitcoinNode


@pytest.fixture(params=["btc", "ltc"])
def node(request: pytest.FixtureRequest) -> BitcoinNode:
    """Each shared node in turn."""
    found: BitcoinNode = request.getfixturevalue(f"{request.param}_node")
    return found


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that wait."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield pool
