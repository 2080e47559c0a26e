"""The node helper itself: what tests and the demo rely on."""

import http.client
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.helpers.bitcoind import (
    COIN_BASE,
    BitcoinNode,
    Family,
    base_units,
    coins,
    connect,
    split,
)
from tests.nodes.install import find, how_to_install


@pytest.fixture(params=["btc", "ltc"])
def family(request: pytest.FixtureRequest) -> Family:
    if find(request.param) is None:
        pytest.skip(how_to_install(request.param))
    family: Family = request.param
    return family


@pytest.fixture
def pair(family: Family) -> Iterator[tuple[BitcoinNode, BitcoinNode]]:
    with BitcoinNode(family) as node, BitcoinNode(family) as other:
        node.fund(coinbases=2)
        connect(node, other)
        yield node, other


def test_amounts_are_exact_both_ways() -> None:
    for amount_base in (0, 1, COIN_BASE - 1, 21_000_000 * COIN_BASE):
        assert base_units(Decimal(coins(amount_base))) == amount_base


def test_two_nodes_split_and_heal(pair: tuple[BitcoinNode, BitcoinNode]) -> None:
    node, other = pair
    common = node.height()
    split(node, other)
    lost = node.mine_empty(1)
    kept = other.mine_empty(2)
    connect(node, other)
    assert node.tip() == other.tip() == kept[-1]
    assert node.height() == common + 2
    assert node.rpc("getblockheader", lost[0])["confirmations"] == -1


def test_a_node_still_follows_others_after_its_own_reorgs(
    pair: tuple[BitcoinNode, BitcoinNode],
) -> None:
    node, other = pair
    node.mine_empty(3)
    connect(node, other)
    split(node, other)
    height = node.height()
    first_old, first_new = node.reorg(2)
    second_old, second_new = node.reorg(3)
    assert second_old == first_new
    assert len(second_new) == 4
    assert node.height() == height + 2
    other.mine_empty(5)  # on the blocks that the first reorg displaced
    connect(node, other)
    assert node.rpc("getblockheader", first_old[0])["confirmations"] > 0


def test_killed_and_started_again_it_is_the_same_node(family: Family, tmp_path: Path) -> None:
    with BitcoinNode(family, datadir=tmp_path / "node") as node:
        node.fund(coinbases=1)
        node.restart()
        place = (node.url, node.user, node.password, node.tip())
        node.kill()
        assert not node.is_running
        node.start()
        assert (node.url, node.user, node.password, node.tip()) == place
        node.pay(node.new_address(), COIN_BASE)
    again = BitcoinNode(family, datadir=tmp_path / "node")
    with again:
        assert again.tip() == place[-1]
        again.mine()


def test_an_idle_keep_alive_connection_does_not_hold_up_stopping(family: Family) -> None:
    with BitcoinNode(family) as node:
        node.mine()
        idle = http.client.HTTPConnection("127.0.0.1", node.rpc_port)
        idle.request("POST", "/", b"{}")
        idle.getresponse().read()
        node.restart()
        assert node.height() == 1
        idle.close()


def test_what_its_wallet_sends_is_taken_whatever_its_date(btc_node: BitcoinNode) -> None:
    """Knots by itself refuses nLockTime 21, which a wallet writes now and then below height 121."""
    coin = btc_node.rpc("listunspent")[0]
    left = {btc_node.new_address(): coins(base_units(coin["amount"]) - 100_000)}
    spent = [{"txid": coin["txid"], "vout": coin["vout"]}]
    raw = btc_node.rpc("createrawtransaction", spent, left, 21, True)
    signed = btc_node.rpc("signrawtransactionwithwallet", raw)["hex"]
    (verdict,) = btc_node.rpc("testmempoolaccept", [signed])
    assert verdict["allowed"], verdict
