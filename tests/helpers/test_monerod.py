"""The node and wallet helpers themselves: what tests and the demo rely on."""

from pathlib import Path

import pytest

from tests.helpers.monero_address import MAINNET, MAINNET_SUBADDRESS, decode, encode
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import COIN_BASE, NOBODY, MoneroNode
from tests.helpers.monerod_rpc import HttpError, MoneroClient
from tests.nodes.install import find, how_to_install


@pytest.fixture(autouse=True)
def installed() -> None:
    if find("xmr") is None:
        pytest.skip(how_to_install("xmr"))


def test_addresses_are_keys_both_ways(xmr_wallet: MoneroWallet) -> None:
    for address, prefix in (
        (NOBODY, MAINNET),
        (xmr_wallet.address(), MAINNET),
        (xmr_wallet.address(0, 3), MAINNET_SUBADDRESS),
        (xmr_wallet.address(1, 2), MAINNET_SUBADDRESS),
    ):
        assert decode(address).prefix == prefix
        assert encode(decode(address)) == address
    spoiled = NOBODY[:-1] + ("1" if NOBODY[-1] != "1" else "2")
    with pytest.raises(ValueError, match="checksum"):
        decode(spoiled)


def test_the_version_is_one_that_publishes_its_own_transactions(xmr_node: MoneroNode) -> None:
    version = xmr_node.rpc("get_info")["version"].split("-")[0]
    assert tuple(map(int, version.split("."))) >= (0, 18, 4, 0)


def test_a_node_is_the_same_after_a_restart_and_a_kill(tmp_path: Path) -> None:
    with MoneroNode(datadir=tmp_path / "node") as node:
        node.mine(3)
        place = (node.url, node.zmq_endpoint, node.height(), node.tip())
        node.restart()
        assert (node.url, node.zmq_endpoint, node.height(), node.tip()) == place
        node.mine()
        tip = node.tip()
        node.kill()
        assert not node.is_running
        node.start()
        assert (node.height(), node.tip()) == (4, tip)


def test_a_reorg_displaces_blocks(xmr_node: MoneroNode) -> None:
    xmr_node.mine(3)
    height = xmr_node.height()
    old, new = xmr_node.reorg(2)
    assert xmr_node.height() == height + 1
    assert [xmr_node.block_hash(height - 1 + n) for n in range(3)] == new
    assert not set(old) & set(new)
    again, newer = xmr_node.reorg(3, length=5)
    assert again == new
    assert xmr_node.tip() == newer[-1]


def test_a_login_is_asked_for_on_both_ports() -> None:
    with MoneroNode(login=("merchant", "s3cret"), restricted=True) as node:
        node.mine()
        assert node.height() == 1
        for port in (node.rpc_port, node.restricted_port):
            assert MoneroClient(port, node.login).rpc("get_info")["height"] == 2
            for login in (None, ("merchant", "wrong")):
                with pytest.raises(HttpError) as caught:
                    MoneroClient(port, login).rpc("get_info")
                assert caught.value.status == 401


def test_a_wallet_pays_sweeps_and_sees(xmr_node: MoneroNode, xmr_wallet: MoneroWallet) -> None:
    address, view_key = xmr_wallet.address(), xmr_wallet.view_key()
    to_one, to_two = xmr_wallet.address(0, 21), xmr_wallet.address(0, 22)  # no other test's
    sent = xmr_wallet.transfer({to_one: COIN_BASE, to_two: 2 * COIN_BASE})
    assert xmr_node.pool_txids() == {sent.txid}
    xmr_node.mine(11)
    xmr_wallet.refresh()
    mine = [one for one in xmr_wallet.received() if one.txid == sent.txid and one.index[1]]
    assert {(one.index[1], one.amount_base) for one in mine} == {
        (21, COIN_BASE),
        (22, 2 * COIN_BASE),
    }
    (swept,) = xmr_wallet.sweep(to_two, subaddr_indices=[21])
    assert len(swept.key_images) == 1
    xmr_node.mine()
    # Everything of the one who pays, by the view key alone, from a process of its own.
    with MoneroWallet(xmr_node) as viewer:
        viewer.restore_view_only(address, view_key)
        viewer.address(0, 22)
        viewer.refresh()
        seen = {(one.txid, one.index, one.amount_base) for one in viewer.received()}
    assert (swept.txid, (0, 22), COIN_BASE - swept.fee_base) in seen
    assert {(one.txid, one.index, one.amount_base) for one in mine} <= seen
