"""The EVM node helper itself: what tests and the demo rely on."""

from pathlib import Path

import pytest

from tests.helpers.anvil import AnvilNode, new_address, wait_for_height
from tests.helpers.evm_abi import encode
from tests.nodes.install import find, how_to_install

PAYEE, OTHER = new_address(1), new_address(2)

pytestmark = pytest.mark.skipif(find("evm") is None, reason=how_to_install("evm"))


def test_arguments_are_encoded_as_the_specification_s_example() -> None:
    """Lists stand behind the heads, which hold their offsets."""
    words = encode(["address", "uint256[]", "uint8"], [PAYEE, [1, 2], 3]).hex()
    assert [int(words[n : n + 64], 16) for n in range(0, len(words), 64)] == [
        int(PAYEE, 16), 0x60, 3, 2, 1, 2,
    ]  # fmt: skip


def test_what_is_paid_waits_until_it_is_mined(eth_node: AnvilNode) -> None:
    first, second = eth_node.pay(PAYEE, 5), eth_node.pay(OTHER, 6, sender=eth_node.accounts[1])
    assert set(eth_node.mempool()) == {first, second}
    assert eth_node.balance(PAYEE) == 0
    hashes = eth_node.mine(3)
    assert hashes[-1] == eth_node.tip()
    assert eth_node.receipt(first)["blockHash"] == hashes[0]
    assert (eth_node.balance(PAYEE), eth_node.mempool()) == (5, [])


def test_a_reorg_leaves_the_mempool_as_it_was(eth_node: AnvilNode) -> None:
    mined = eth_node.pay(PAYEE, 5, sender=eth_node.accounts[1])
    eth_node.mine(2)
    waiting = [eth_node.pay(PAYEE, 6), eth_node.pay(PAYEE, 7)]
    old, new = eth_node.reorg(2, keep=[(mined, 1)], length=4)
    assert (len(old), len(new), eth_node.height()) == (2, 4, 4)
    assert eth_node.receipt(mined)["blockHash"] == new[1]
    assert new[-1] == eth_node.tip()
    assert eth_node.mempool() == waiting
    assert eth_node.balance(PAYEE) == 5


def test_tokens_and_batches(bnb_node: AnvilNode) -> None:
    token, payer = bnb_node.deploy("Token", 18, 10**27), bnb_node.deploy("Payer")
    bnb_node.pay_token(token, PAYEE, 10**26)
    bnb_node.pay_batch(payer, {PAYEE: 1, OTHER: 2})
    bnb_node.pay_token_batch(payer, token, {PAYEE: 3, OTHER: 4})
    bnb_node.mine()
    assert bnb_node.token_balance(token, PAYEE) == 10**26 + 3
    assert bnb_node.token_balance(token, OTHER) == 4
    assert (bnb_node.balance(PAYEE), bnb_node.balance(OTHER)) == (1, 2)


def test_stopped_it_keeps_the_chain_and_killed_it_is_as_it_was_stopped(tmp_path: Path) -> None:
    with AnvilNode(56, datadir=tmp_path / "node") as node:
        token = node.deploy("Token", 18, 10**27)
        node.pay_token(token, PAYEE, 5)
        node.mine()
        node.restart()
        place = (node.url, node.accounts, node.tip(), node.token_balance(token, PAYEE))
        node.mine(4)
        node.kill()
        assert not node.is_running
        node.start()
        assert (node.url, node.accounts, node.tip(), node.token_balance(token, PAYEE)) == place
    with AnvilNode(56, datadir=tmp_path / "node") as again:
        assert again.tip() == place[2]
        again.pay(PAYEE, 1)
        again.mine()
        assert again.balance(PAYEE) == 1


def test_a_node_with_a_block_time_mines_by_itself_until_it_is_held() -> None:
    with AnvilNode(56, block_time_s=0.05) as node:
        paid = node.pay(PAYEE, 5)
        wait_for_height(node, 3)
        assert node.receipt(paid)["status"] == "0x1"
        node.hold()
        height = node.height()
        waiting = node.pay(PAYEE, 6)
        node.mine()
        assert node.receipt(waiting)["blockNumber"] == hex(height + 1)
