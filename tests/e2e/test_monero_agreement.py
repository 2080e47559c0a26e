"""On a chain of several hundred mixed transactions, tallyd finds what a view-only wallet finds."""

from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import pytest

from actors.core.assets import Chain
from actors.core.watch_index import WatchIndex
from daemon.drivers.monero import MoneroSource
from daemon.drivers.monero_rpc import open_monero
from tests.helpers.monero_address import decode
from tests.helpers.monero_chain import MixedChain, mixed_chain, node_of
from tests.helpers.monero_coinbase import new_scalar
from tests.helpers.monero_data import destination
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import MoneroNode
from tests.helpers.recording_log import RecordingLog
from tests.nodes.install import find, how_to_install

XMR = Chain("xmr", "Monero", "monero", "XMR", 120, 10, unlock_blocks=10)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> MixedChain:
    if find("xmr") is None:
        pytest.skip(how_to_install("xmr"))
    return mixed_chain(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def node(chain: MixedChain) -> Iterator[MoneroNode]:
    with node_of(chain) as node:
        yield node


@pytest.fixture(scope="module")
def by_wallet(chain: MixedChain, node: MoneroNode) -> Counter:
    """What the wallet's code sees with the view key alone."""
    with MoneroWallet(node) as viewer:
        viewer.restore_view_only(chain.address, chain.view_key)
        for major, minor in chain.addresses:
            assert viewer.address(major, minor) == chain.addresses[major, minor]
        viewer.refresh()
        return Counter(
            (one.txid, one.one_time_key, one.index, one.amount_base) for one in viewer.received()
        )


@pytest.mark.parametrize("more_keys", [0, 3])
async def test_the_same_outputs_with_the_same_amounts(
    chain: MixedChain, node: MoneroNode, by_wallet: Counter, more_keys: int
) -> None:
    """Nothing more and nothing less, also with other users' view keys beside."""
    assert chain.transactions >= 300
    index = WatchIndex()
    names = {
        destination(decode(address).spend, chain.view_key): place
        for place, address in chain.addresses.items()
    }
    for each in names:
        index.watch(each, uuid4())
    view_keys = [*(new_scalar() for _ in range(more_keys)), chain.view_key]
    log = RecordingLog()
    rpc = open_monero([node.url], setting="coin.xmr", log=log)
    source = MoneroSource(rpc, chain=XMR, view_keys=lambda: view_keys, log=log)
    found: Counter = Counter()
    try:
        tip = await source.tip()
        assert tip.hash.hex() == chain.tip
        async for _, txs in source.read_blocks(range(1, tip.height + 1), index):
            for tx in txs:
                assert not tx.refused
                for out in tx.outputs:
                    assert out.one_time_key is not None
                    place = names[out.destination]
                    found[tx.txid.hex(), out.one_time_key.hex(), place, out.amount_base] += 1
    finally:
        await source.aclose()
    assert found == by_wallet
    assert max(found.values()) == 1
    assert {place for _, _, place, _ in found} == set(chain.addresses)
    assert len(found) >= 300
