"""Helpers of the assumptions."""

from typing import Any

import pytest

from tests.helpers.bitcoind import BitcoinNode, Family
from tests.nodes.install import find, how_to_install


def spare_node(family: Family, *extra: str, **settings: Any) -> BitcoinNode:
    """Return a node of the test's own, not started."""
    if find(family) is None:
        pytest.skip(how_to_install(family))
    return BitcoinNode(family, extra=extra, **settings)


families = pytest.mark.parametrize("family", ["btc", "ltc"])
