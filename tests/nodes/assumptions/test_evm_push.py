"""What the EVM driver assumes of a node's websocket and its subscriptions. Docstrings say what."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.anvil import AnvilNode, new_address
from tests.helpers.evm_abi import TRANSFER_TOPIC, topic_of
from tests.helpers.evm_rpc import EvmSocket, RpcError

PAYEE = new_address(1)


@pytest.fixture
def node(bnb_node: AnvilNode) -> AnvilNode:
    return bnb_node


@pytest.fixture
def socket(node: AnvilNode) -> Iterator[EvmSocket]:
    with node.socket() as connection:
        yield connection


def is_tip_of(node: AnvilNode) -> Any:
    tip = node.tip()
    return lambda head: head["hash"] == tip


# --- subscriptions ---


def test_new_heads_are_whole_headers(node: AnvilNode, socket: EvmSocket) -> None:
    """One per block, in order, with hash, parentHash, number and timestamp."""
    heads = socket.subscribe("newHeads")
    hashes = node.mine(3)
    taken = socket.take(heads, 3)
    assert [head["hash"] for head in taken] == hashes
    assert [head["parentHash"] for head in taken[1:]] == hashes[:2]
    assert [head["number"] for head in taken] == ["0x1", "0x2", "0x3"]
    assert all(head["timestamp"].startswith("0x") for head in taken)


def test_logs_by_contract_and_topic(node: AnvilNode, socket: EvmSocket) -> None:
    """The filter is that of eth_getLogs without a range; other logs are not pushed."""
    token, other = node.deploy("Token", 6, 10**9), node.deploy("Token", 6, 10**9)
    topics = [TRANSFER_TOPIC, None, [topic_of(PAYEE)]]
    logs = socket.subscribe("logs", {"address": [token], "topics": topics})
    node.pay_token(other, PAYEE, 1)
    node.pay_token(token, new_address(2), 2)
    node.pay_token(token, PAYEE, 3)
    (block_hash,) = node.mine()
    log = socket.next(logs)
    assert (int(log["data"], 16), log["blockHash"], log["removed"]) == (3, block_hash, False)


def test_a_block_s_logs_may_come_before_or_after_its_head(
    node: AnvilNode, socket: EvmSocket
) -> None:
    """Two subscriptions have no order between them; each keeps its own. All come."""
    token = node.deploy("Token", 6, 10**9)
    heads, logs = socket.subscribe("newHeads"), socket.subscribe("logs", {"address": token})
    for amount_base in (1, 2, 3):
        node.pay_token(token, PAYEE, amount_base)
    (block_hash,) = node.mine()
    taken = socket.take(logs, 3)
    assert [int(log["data"], 16) for log in taken] == [1, 2, 3]
    assert {log["blockHash"] for log in taken} == {block_hash}
    assert socket.next(heads)["hash"] == block_hash


def test_pending_transactions_with_their_bodies(node: AnvilNode, socket: EvmSocket) -> None:
    """With `true` the whole transaction comes, its block null; without it, the hash alone.

    `true` is geth's and anvil's; Nethermind has another name, and some endpoints refuse it or
    send hashes all the same: look at the type of what comes.
    """
    whole = socket.subscribe("newPendingTransactions", True)
    hashes = socket.subscribe("newPendingTransactions")
    txid = node.pay(PAYEE, 20)
    transaction = socket.next(whole)
    assert (transaction["hash"], transaction["to"], transaction["value"]) == (txid, PAYEE, "0x14")
    assert transaction["blockHash"] is None
    assert transaction["input"] == "0x"
    assert socket.next(hashes) == txid


def test_a_pending_contract_creation_pays_nobody(node: AnvilNode, socket: EvmSocket) -> None:
    """`to` is null in a transaction that deploys a contract, with whatever value."""
    whole = socket.subscribe("newPendingTransactions", True)
    node.deploy("Purse", value_base=5)
    transaction = socket.next(whole)
    assert (transaction["to"], transaction["value"]) == (None, "0x5")


def test_a_transaction_with_a_gap_before_its_nonce_is_told_once_the_gap_is_filled(
    node: AnvilNode, socket: EvmSocket
) -> None:
    """It is known by its hash, but not pushed and not in a block until then."""
    whole = socket.subscribe("newPendingTransactions", True)
    sender = node.accounts[1]
    early = node.send(PAYEE, value_base=1, nonce=1, sender=sender)
    assert node.rpc("eth_getTransactionByHash", early)["nonce"] == "0x1"
    first = node.send(PAYEE, value_base=1, nonce=0, sender=sender)
    assert [one["hash"] for one in socket.take(whole, 2)] == [first, early]


def test_a_replacement_is_pushed_and_the_old_transaction_is_not_taken_back(
    node: AnvilNode, socket: EvmSocket
) -> None:
    """Same sender, same nonce, higher fee; the old hash answers null and nothing says why."""
    whole = socket.subscribe("newPendingTransactions", True)
    old = node.pay(PAYEE, 20)
    new = node.replace(old, to=new_address(2))
    first, second = socket.take(whole, 2)
    assert (first["hash"], second["hash"]) == (old, new)
    assert (first["from"], first["nonce"]) == (second["from"], second["nonce"])
    assert node.rpc("eth_getTransactionByHash", old) is None
    assert node.mempool() == [new]
    with pytest.raises(RpcError, match="underpriced") as caught:
        node.send(PAYEE, value_base=20, nonce=0)
    assert caught.value.code == -32003


def test_a_dropped_transaction_is_null_and_nothing_is_pushed(
    node: AnvilNode, socket: EvmSocket
) -> None:
    """Only asking for it shows that the mempool forgot it; its nonce is free again."""
    whole = socket.subscribe("newPendingTransactions", True)
    dropped = node.pay(PAYEE, 20)
    node.drop(dropped)
    assert node.rpc("eth_getTransactionByHash", dropped) is None
    assert node.rpc("eth_getTransactionReceipt", dropped) is None
    later = node.pay(PAYEE, 21)
    assert [one["hash"] for one in socket.take(whole, 2)] == [dropped, later]
    assert node.rpc("eth_getTransactionByHash", later)["nonce"] == "0x0"


def test_unknown_subscriptions_are_refused(socket: EvmSocket) -> None:
    """-32602 for a name that does not exist, -32603 for one that anvil has not made (`syncing`)."""
    for name, code in (("nope", -32602), ("syncing", -32603)):
        with pytest.raises(RpcError) as caught:
            socket.subscribe(name)
        assert caught.value.code == code


def test_a_subscription_ends_when_told(node: AnvilNode, socket: EvmSocket) -> None:
    """`eth_unsubscribe` says true, and false for an id that is not known (geth: an error)."""
    ended, kept = socket.subscribe("newHeads"), socket.subscribe("newHeads")
    assert ended != kept
    assert socket.call("eth_unsubscribe", ended) is True
    node.mine()
    socket.next(kept)
    assert not socket.pushed[ended]
    assert socket.call("eth_unsubscribe", ended) is False


# --- the connection ---


def test_answers_come_in_any_order(node: AnvilNode, socket: EvmSocket) -> None:
    """Pipelined calls are answered as they are done: only the `id` tells which is which."""
    node.mine(5)
    before = len(socket.messages)
    for number in range(100, 120):
        call = {"jsonrpc": "2.0", "id": number, "method": "eth_getBlockByNumber"}
        socket.send(json.dumps({**call, "params": [hex(number % 5), True]}))
    for number in range(100, 120):
        socket.wait_message(lambda text, n=number: f'"id":{n},' in text)  # type: ignore[misc]
    answers = [json.loads(text) for text in socket.messages[before:]]
    assert sorted(answer["id"] for answer in answers) == list(range(100, 120))
    assert all(answer["result"]["number"] == hex(answer["id"] % 5) for answer in answers)


def test_a_batch_over_the_websocket_is_one_message(socket: EvmSocket) -> None:
    """An array in, an array out."""
    calls = [{"jsonrpc": "2.0", "id": n, "method": "eth_chainId", "params": []} for n in (501, 502)]
    socket.send(json.dumps(calls))
    answers = json.loads(socket.wait_message(lambda text: text.startswith("[")))
    assert [(answer["id"], answer["result"]) for answer in answers] == [
        (501, "0x38"),
        (502, "0x38"),
    ]


def test_nonsense_is_answered_without_an_id_and_the_connection_lives(socket: EvmSocket) -> None:
    """-32600 with `id` null: no call of ours can be matched with it."""
    socket.send('{"broken')
    answer = json.loads(socket.wait_message(lambda text: '"id":null' in text))
    assert answer["error"]["code"] == -32600
    assert socket.call("eth_chainId") == "0x38"


def test_a_big_block_is_one_frame_of_megabytes(node: AnvilNode, socket: EvmSocket) -> None:
    """A block of 150 transactions of 8 kB each is 2.4 MB in one frame: limits must allow that.

    trio-websocket's default is 1 MiB.
    """
    for _ in range(150):
        node.send(PAYEE, data="0x" + "00" * 8000, gas=200_000)
    node.mine()
    socket.frame_sizes.clear()
    block = socket.call("eth_getBlockByNumber", "latest", True)
    assert len(block["transactions"]) == 150
    assert len(socket.frame_sizes) == 1
    assert socket.frame_sizes[0] > 150 * 2 * 8000


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_node_that_ends_closes_the_connection_without_a_close_frame(
    node: AnvilNode, socket: EvmSocket, end: str
) -> None:
    """The stream just ends (1006), whether the node was stopped in order or killed."""
    heads = socket.subscribe("newHeads")
    getattr(node, end)()
    with pytest.raises(ConnectionError, match="1006"):
        socket.next(heads)


def test_subscriptions_do_not_survive_a_restart_nor_does_the_mempool(
    node: AnvilNode, socket: EvmSocket
) -> None:
    """A new connection has none, and nothing is pushed for what came meanwhile.

    Blocks, transactions, receipts and logs are there again, so what was missed can be read.
    """
    token = node.deploy("Token", 6, 10**9)
    paid = node.pay_token(token, PAYEE, 3)
    (block_hash,) = node.mine()
    waiting = node.pay(PAYEE, 4)
    heads = socket.subscribe("newHeads")
    node.restart()
    with node.socket() as again:
        assert again.call("eth_unsubscribe", heads) is False
        assert again.call("eth_getBlockByNumber", "latest", False)["hash"] == block_hash
        assert again.call("eth_getTransactionReceipt", paid)["blockHash"] == block_hash
        assert len(again.call("eth_getLogs", {"address": token, "fromBlock": "0x0"})) == 2
        assert again.call("eth_getTransactionByHash", waiting) is None
        heads = again.subscribe("newHeads")
        (next_hash,) = node.mine()
        assert again.next(heads)["hash"] == next_hash


def test_a_node_can_come_back_with_another_chain_id(node: AnvilNode) -> None:
    """The same blocks under another chain id: it must be asked anew after every connection."""
    node.mine(2)
    tip = node.tip()
    node.stop()
    node.chain_id = 97
    node.start()
    assert (node.rpc("eth_chainId"), node.tip()) == ("0x61", tip)


# --- blocks taken back ---


def test_a_reorg_pushes_the_new_heads_and_takes_no_log_back(
    node: AnvilNode, socket: EvmSocket
) -> None:
    """Heads of the new blocks come with heights that repeat; no log with `removed: true` comes.

    geth sends `removed` logs, but not to who was disconnected: compare parent hashes. A log that
    moved to another block comes again from there.
    """
    token = node.deploy("Token", 6, 10**9)
    heads, logs = socket.subscribe("newHeads"), socket.subscribe("logs", {"address": token})
    gone = node.pay_token(token, PAYEE, 1)
    node.mine()
    moved = node.pay_token(token, PAYEE, 2, sender=node.accounts[0])
    node.mine()
    socket.take(logs, 2)
    # The first payment has the lower nonce: without it the second could not be included.
    old, new = node.reorg(2, keep=[(gone, 0), (moved, 1)])
    taken = socket.take_until(heads, is_tip_of(node))
    assert [head["hash"] for head in taken] == old + new
    assert [head["number"] for head in taken] == ["0x2", "0x3", "0x2", "0x3", "0x4"]
    again = socket.take(logs, 2)
    assert [(log["transactionHash"], log["blockHash"]) for log in again] == [
        (gone, new[0]),
        (moved, new[1]),
    ]
    assert not any(log["removed"] for log in again)


def test_what_a_reorg_drops_is_gone_from_everywhere(node: AnvilNode, socket: EvmSocket) -> None:
    """The old block, its transactions and receipts are null, and they are not pending again.

    On geth the old block stays known by its hash, and its transactions are pending again.
    """
    whole, heads = socket.subscribe("newPendingTransactions", True), socket.subscribe("newHeads")
    paid = node.pay(PAYEE, 5)
    node.mine()
    (old,), new = node.reorg(1)
    assert len(new) == 2
    assert node.rpc("eth_getBlockByHash", old, False) is None
    assert node.rpc("eth_getBlockReceipts", old) is None
    assert node.rpc("eth_getTransactionByHash", paid) is None
    assert node.rpc("eth_getTransactionReceipt", paid) is None
    assert node.mempool() == []
    socket.take_until(heads, is_tip_of(node))
    last = node.pay(PAYEE, 6)
    assert [one["hash"] for one in socket.take(whole, 2)] == [paid, last]


def test_a_reorg_may_keep_the_height(node: AnvilNode, socket: EvmSocket) -> None:
    """The tip is another block at the same height: a height says nothing about the chain."""
    node.mine(2)
    heads = socket.subscribe("newHeads")
    height = node.height()
    (old,), (new,) = node.reorg(1, length=1)
    assert old != new
    assert node.height() == height
    assert socket.next(heads)["hash"] == new


@pytest.mark.parametrize("how", ["evm_revert", "anvil_rollback"])
def test_some_ways_back_are_silent_until_the_next_block(
    node: AnvilNode, socket: EvmSocket, how: str
) -> None:
    """`evm_revert` and `anvil_rollback` shorten the chain and push nothing.

    The next head has a height that was there before, and the transactions are gone. A node that
    was restored from a backup looks the same.
    """
    heads = socket.subscribe("newHeads")
    snapshot = node.rpc("evm_snapshot")
    paid = node.pay(PAYEE, 5)
    first = node.mine(2)
    # Waited for: anvil looks a head up when it tells it, and says nothing of one that is gone.
    taken = socket.take(heads, 2)
    node.rpc(how, snapshot if how == "evm_revert" else 2)
    assert node.height() == 0
    assert node.rpc("eth_getTransactionByHash", paid) is None
    assert node.mempool() == []
    (after,) = node.mine()
    taken += socket.take(heads, 1)
    assert [head["hash"] for head in taken] == [*first, after]
    assert [head["number"] for head in taken] == ["0x1", "0x2", "0x1"]
