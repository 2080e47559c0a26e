"""What the driver assumes of monerod's ZMQ messages. Docstrings say what."""

import pytest

from tests.helpers.monero_tap import MoneroTap
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import COIN_BASE, NOBODY, MoneroNode


@pytest.fixture
def tap(xmr_node: MoneroNode):
    with MoneroTap(xmr_node) as tap:
        yield tap


def test_a_block_is_told_by_first_height_parent_and_hashes(
    xmr_node: MoneroNode, tap: MoneroTap
) -> None:
    """`json-minimal-chain_main`: one frame, topic and JSON {first_height, first_prev_id, ids}."""
    parent, height = xmr_node.tip(), xmr_node.height()
    mined = xmr_node.mine(2)
    told = tap.until_marker()
    assert [message.body for message in told] == [
        {"first_height": height + 1, "first_prev_id": parent, "ids": [mined[0]]},
        {"first_height": height + 2, "first_prev_id": mined[0], "ids": [mined[1]]},
    ]


def test_a_pool_entry_is_told_with_its_body_but_without_its_txid(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet, tap: MoneroTap
) -> None:
    """`json-full-txpool_add`: a list of whole transactions, with key images, and no `id`."""
    sent = xmr_wallet.transfer({NOBODY: COIN_BASE})
    (told,) = tap.until_marker()
    assert told.topic == "json-full-txpool_add"
    (tx,) = told.body
    assert {vin["to_key"]["key_image"] for vin in tx["inputs"]} == set(sent.key_images)
    assert "id" not in tx
    assert sent.txid not in str(tx)


def test_a_refused_double_spend_and_a_flush_are_silent(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet, tap: MoneroTap
) -> None:
    """Neither the mark on the first, nor its removal is told: both are found by polling."""
    first, second = (xmr_wallet.transfer({NOBODY: COIN_BASE}, relay=False) for _ in range(2))
    xmr_wallet.relay(first)
    xmr_node.send_raw(second.blob_hex)
    xmr_node.flush_pool(first.txid)
    (told,) = tap.until_marker()
    assert {vin["to_key"]["key_image"] for vin in told.body[0]["inputs"]} == set(first.key_images)


def test_popping_blocks_is_silent(xmr_node: MoneroNode, tap: MoneroTap) -> None:
    """`/pop_blocks` publishes nothing, also not for what goes back into the pool."""
    xmr_node.mine()
    tap.until_marker()
    xmr_node.pop(2)
    assert tap.until_marker() == []


def test_the_blocks_of_a_reorg_are_told_twice(xmr_node: MoneroNode, tap: MoneroTap) -> None:
    """Each block of a branch when it comes, even before it is active, and all again at the switch.

    So a message does not say that its block is on the active chain: the node has to be asked.
    """
    xmr_node.mine(2)
    tap.until_marker()
    parent = xmr_node.block_hash(xmr_node.height() - 2)
    old_tip = xmr_node.tip()
    (side,) = xmr_node.branch(parent, 1)
    assert xmr_node.tip() == old_tip
    branch = [side, *xmr_node.branch(side, 3)]
    assert xmr_node.tip() == branch[-1]
    ids = [hash_ for message in tap.until_marker() for hash_ in message.body["ids"]]
    assert set(ids) == set(branch)
    assert ids[0] == side
    assert len(ids) > len(branch)
