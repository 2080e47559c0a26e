"""What the EVM driver assumes of a node's JSON-RPC answers (EIP-1474). Docstrings say what.

Where anvil differs from the nodes that people run (geth, reth, Erigon, Nethermind, bsc), the
docstring says so: the driver has to bear both.
"""

import json
import re
from collections.abc import Iterator

import pytest

from tests.helpers.anvil import ACCOUNT_BASE, COIN_BASE, AnvilNode, new_address
from tests.helpers.evm_abi import TRANSFER_TOPIC, topic_of
from tests.helpers.evm_rpc import RpcError
from tests.nodes.install import find, how_to_install

PAYEE = new_address(1)
UNKNOWN = "0x" + "11" * 32
QUANTITY = re.compile(r"0x(0|[1-9a-f][0-9a-f]*)")


@pytest.fixture(scope="module")
def node() -> Iterator[AnvilNode]:
    """One node for all tests here: none of them displaces a block."""
    if find("evm") is None:
        pytest.skip(how_to_install("evm"))
    with AnvilNode(56) as running:
        yield running


@pytest.fixture(scope="module")
def token(node: AnvilNode) -> str:
    return node.deploy("Token", 6, 10**26)


# --- identity ---


def test_a_node_tells_its_chain_and_software(node: AnvilNode) -> None:
    """`eth_chainId` is a quantity, `net_version` the same in decimal, `web3_clientVersion` text."""
    assert node.rpc("eth_chainId") == "0x38"
    assert node.rpc("net_version") == "56"
    assert node.rpc("web3_clientVersion").startswith("anvil/")


def test_the_genesis_block_tells_two_private_chains_apart(eth_node: AnvilNode) -> None:
    """Block 0 of two private chains with one chain id differs (by its time), also on restart."""
    genesis = eth_node.block(0)
    assert genesis["parentHash"] == "0x" + "0" * 64
    eth_node.restart()
    assert eth_node.block(0)["hash"] == genesis["hash"]
    with AnvilNode(1, extra=["--timestamp=1500000000"]) as other:
        assert other.block(0)["hash"] != genesis["hash"]


def test_a_synchronised_node_says_false(node: AnvilNode) -> None:
    """`eth_syncing` is false when in step; other nodes answer an object while they are not.

    `net_peerCount` is missing here, and on most public endpoints: nothing may depend on it.
    """
    assert node.rpc("eth_syncing") is False
    with pytest.raises(RpcError) as caught:
        node.rpc("net_peerCount")
    assert caught.value.code == -32601


# --- blocks, transactions, receipts ---


def test_quantities_are_hex_without_leading_zeros_and_may_exceed_64_bits(node: AnvilNode) -> None:
    """Numbers in blocks, transactions and balances: 0x0, 0x38; a balance here has 90 bits."""
    node.pay(PAYEE, 20 * COIN_BASE)
    node.mine()
    block = node.block("latest", full=True)
    (transaction,) = block["transactions"]
    for field in ("number", "timestamp", "baseFeePerGas", "gasUsed"):
        assert QUANTITY.fullmatch(block[field]), field
    for field in ("nonce", "value", "gas", "blockNumber", "transactionIndex", "type"):
        assert QUANTITY.fullmatch(transaction[field]), field
    assert int(transaction["value"], 16) == 20 * COIN_BASE > 2**64
    balance = node.rpc("eth_getBalance", node.accounts[9], "latest")
    assert QUANTITY.fullmatch(balance)
    assert int(balance, 16) == ACCOUNT_BASE > 2**89


def test_addresses_come_in_small_letters(node: AnvilNode, token: str) -> None:
    """`from`, `to`, a log's `address`: lower case, so that one lookup in a table does."""
    txid = node.pay_token(token, PAYEE, 1)
    node.mine()
    transaction, receipt = node.rpc("eth_getTransactionByHash", txid), node.receipt(txid)
    found = [transaction["from"], transaction["to"], receipt["to"], receipt["logs"][0]["address"]]
    assert found == [address.lower() for address in found]


def test_a_block_by_number_tells_its_hash_and_parent(node: AnvilNode) -> None:
    """`parentHash` of each block is the `hash` of the one before; by hash it is the same block."""
    node.mine(2)
    tip, parent = node.block("latest"), node.block(node.height() - 1)
    assert tip["parentHash"] == parent["hash"]
    assert node.block(parent["hash"]) == parent


def test_unknown_blocks_and_transactions_are_null(node: AnvilNode) -> None:
    """A height above the tip, an unknown hash: the result is null, not an error.

    The same for receipts of a block, a transaction and its receipt.
    """
    above = hex(node.height() + 1)
    assert node.rpc("eth_getBlockByNumber", above, False) is None
    assert node.rpc("eth_getBlockReceipts", above) is None
    for method in ("eth_getBlockReceipts", "eth_getTransactionByHash", "eth_getTransactionReceipt"):
        assert node.rpc(method, UNKNOWN) is None
    assert node.rpc("eth_getBlockByHash", UNKNOWN, False) is None


def test_block_receipts_come_in_one_call_by_number_or_hash(node: AnvilNode, token: str) -> None:
    """`eth_getBlockReceipts` has every receipt in the block's order, with its logs.

    By the hash too, which alone is safe while the chain may reorganise.
    """
    sent = [node.pay_token(token, PAYEE, 5), node.pay(PAYEE, 1), node.pay_token(token, PAYEE, 6)]
    (block_hash,) = node.mine()
    receipts = node.rpc("eth_getBlockReceipts", block_hash)
    assert receipts == node.rpc("eth_getBlockReceipts", hex(node.height()))
    assert [receipt["transactionHash"] for receipt in receipts] == sent
    assert [receipt["transactionIndex"] for receipt in receipts] == ["0x0", "0x1", "0x2"]
    assert [receipt["status"] for receipt in receipts] == ["0x1"] * 3
    assert [len(receipt["logs"]) for receipt in receipts] == [1, 0, 1]
    # The log's index counts through the block, not the transaction.
    assert receipts[2]["logs"][0]["logIndex"] == "0x1"
    assert {receipt["blockHash"] for receipt in receipts} == {block_hash}


def test_anvil_writes_a_number_where_others_write_hex(node: AnvilNode) -> None:
    """`blockTimestamp` of a receipt is a JSON number on anvil; geth has no such field.

    Fields that are not needed must not be read.
    """
    txid = node.pay(PAYEE, 1)
    node.mine()
    assert isinstance(node.receipt(txid)["blockTimestamp"], int)


def test_a_failed_transaction_is_in_the_block_with_status_0_and_no_logs(node: AnvilNode) -> None:
    """A call that writes a Transfer and reverts: `status` 0x0, `logs` empty, `value` as sent.

    The transaction's own fields look like a payment: only the receipt tells.
    """
    failing = node.deploy("FailingToken", 10**26)
    txid = node.pay_token(failing, PAYEE, 5)
    payer = node.deploy("Payer")
    coin = node.invoke("Payer", payer, "payAndFail(address)", PAYEE, value_base=7)
    before = node.balance(PAYEE)
    node.mine()
    for failed in (txid, coin):
        assert node.receipt(failed)["status"] == "0x0"
        assert node.receipt(failed)["logs"] == []
    assert node.rpc("eth_getTransactionByHash", coin)["value"] == "0x7"
    assert node.balance(PAYEE) == before


def test_safe_and_finalized_are_tags_with_a_distance(eth_node: AnvilNode) -> None:
    """`safe` and `finalized` name blocks; anvil puts them 32 and 64 below the tip, or at 0.

    Ethereum's are whole epochs (32 slots) behind, BSC's a few blocks. A node without finality
    answers an error or null.
    """
    assert [eth_node.block(tag)["number"] for tag in ("safe", "finalized")] == ["0x0", "0x0"]
    eth_node.mine(70)
    assert int(eth_node.block("safe")["number"], 16) == 70 - 32
    assert int(eth_node.block("finalized")["number"], 16) == 70 - 64
    assert eth_node.block("earliest")["number"] == "0x0"


def test_the_distance_is_two_epochs_of_a_chosen_length() -> None:
    """With two slots per epoch, `finalized` is four below the tip: BSC's fast finality."""
    with AnvilNode(56, extra=["--slots-in-an-epoch=2"]) as node:
        node.mine(10)
        assert int(node.block("safe")["number"], 16) == 8
        assert int(node.block("finalized")["number"], 16) == 6


def test_the_pending_block_has_a_height_and_the_mempool(node: AnvilNode) -> None:
    """`pending` is the block that would be next, on anvil with a hash (geth: null): never a tip."""
    txid = node.pay(PAYEE, 1)
    pending = node.block("pending")
    assert int(pending["number"], 16) == node.height() + 1
    assert pending["transactions"] == [txid]
    assert pending["hash"] != node.mine()[0]


# --- tokens ---


def test_decimals_of_a_contract_by_eth_call(node: AnvilNode, token: str) -> None:
    """`decimals()` is a 32-byte word; error 3 where the contract lacks it; 0x where no code is.

    So an empty answer means no contract, which `eth_getCode` (0x) confirms.
    """
    call = {"data": "0x313ce567"}
    assert node.rpc("eth_call", {"to": token, **call}, "latest") == "0x" + "6".rjust(64, "0")
    bare = node.deploy("NoDecimalsToken", 1)
    with pytest.raises(RpcError, match="revert") as caught:
        node.rpc("eth_call", {"to": bare, **call}, "latest")
    assert (caught.value.code, caught.value.data) == (3, "0x")
    assert node.rpc("eth_call", {"to": PAYEE, **call}, "latest") == "0x"
    assert node.rpc("eth_getCode", PAYEE, "latest") == "0x"


def test_a_transfer_log(node: AnvilNode, token: str) -> None:
    """Three topics (the event, from, to) and 32 bytes of data; several logs may have one payee."""
    payer = node.deploy("Payer")
    payee = new_address(2)
    txid = node.pay_token_batch(payer, token, {payee: 10**25, PAYEE: 7})
    node.mine()
    first, second = node.receipt(txid)["logs"]
    assert first["topics"] == [TRANSFER_TOPIC, topic_of(node.accounts[0]), topic_of(payee)]
    assert int(first["data"], 16) == 10**25
    assert len(first["data"]) == 2 + 64
    assert first["address"] == token
    assert first["removed"] is False
    assert second["topics"][2] == topic_of(PAYEE)


def test_a_token_that_returns_nothing_logs_all_the_same(node: AnvilNode) -> None:
    """USDT's way: no return value, the same log."""
    silent = node.deploy("SilentToken", 10**12)
    txid = node.pay_token(silent, PAYEE, 5_000_000)
    node.mine()
    (log,) = node.receipt(txid)["logs"]
    assert (log["topics"][2], int(log["data"], 16)) == (topic_of(PAYEE), 5_000_000)


def test_a_fee_on_transfer_token_logs_what_arrived(node: AnvilNode) -> None:
    """The call says 1000, the log 990 and the balance 990; the fee is a second log."""
    taxed = node.deploy("FeeToken", 10**26)
    payee = new_address(3)
    txid = node.pay_token(taxed, payee, 1000)
    node.mine()
    logs = {log["topics"][2]: int(log["data"], 16) for log in node.receipt(txid)["logs"]}
    assert logs == {topic_of(payee): 990, topic_of(node.accounts[0]): 10}
    assert node.token_balance(taxed, payee) == 990


def test_logs_with_the_topic_of_transfer_may_have_any_shape(node: AnvilNode) -> None:
    """ERC-721 has four topics and no data; others index nothing, or carry more or fewer bytes."""
    odd = node.deploy("OddLogs")
    for signature in ("thing(address,uint256)", "unindexed(address,uint256)"):
        node.invoke("OddLogs", odd, signature, PAYEE, 5)
    for size in (0, 31, 64):
        node.invoke("OddLogs", odd, "sized(address,uint256)", PAYEE, size)
    node.mine()
    logs = node.rpc("eth_getLogs", {"address": odd, "topics": [TRANSFER_TOPIC]})
    shapes = [(len(log["topics"]), len(log["data"]) // 2 - 1) for log in logs]
    assert shapes == [(4, 0), (1, 96), (3, 0), (3, 31), (3, 64)]


# --- eth_getLogs ---


def test_logs_by_range_contracts_and_payees(node: AnvilNode, token: str) -> None:
    """Addresses and each topic may be lists (any of them), null is anything; both ends count."""
    other = node.deploy("Token", 18, 10**26)
    payees = [new_address(10), new_address(11), new_address(12)]
    first = node.height() + 1
    for payee in payees:
        node.pay_token(token, payee, 1)
        node.pay_token(other, payee, 2)
        node.mine()
    last = first + 2
    wanted = {
        "fromBlock": hex(first),
        "toBlock": hex(last),
        "address": [token],
        "topics": [[TRANSFER_TOPIC], None, [topic_of(payees[0]), topic_of(payees[2])]],
    }
    logs = node.rpc("eth_getLogs", wanted)
    assert [(log["address"], int(log["blockNumber"], 16)) for log in logs] == [
        (token, first),
        (token, last),
    ]
    # Anvil has no limit; others refuse some thousand blocks, logs, addresses or topics.
    wanted["address"] = [token, other]
    wanted["topics"] = [TRANSFER_TOPIC, None, [topic_of(new_address(n)) for n in range(2000)]]
    assert len(node.rpc("eth_getLogs", wanted)) == 6


def test_logs_of_one_block_by_its_hash(node: AnvilNode, token: str) -> None:
    """`blockHash` instead of a range; a hash that is not on the chain is error -32000."""
    node.pay_token(token, PAYEE, 1)
    (block_hash,) = node.mine()
    (log,) = node.rpc("eth_getLogs", {"blockHash": block_hash})
    assert log["blockHash"] == block_hash
    with pytest.raises(RpcError, match="unknown block") as caught:
        node.rpc("eth_getLogs", {"blockHash": UNKNOWN})
    assert caught.value.code == -32000
    with pytest.raises(RpcError) as caught:
        node.rpc("eth_getLogs", {"blockHash": block_hash, "fromBlock": "0x0"})
    assert caught.value.code == -32602


def test_ranges_beyond_the_tip(node: AnvilNode) -> None:
    """An end beyond the tip is cut off in silence; a start beyond it is -32602; reversed is empty.

    So `toBlock` must be a height that was seen as a block before: otherwise "no logs" may mean
    "not there yet".
    """
    node.mine()
    tip = node.height()
    assert node.rpc("eth_getLogs", {"fromBlock": hex(tip), "toBlock": hex(tip + 99)}) == []
    assert node.rpc("eth_getLogs", {"fromBlock": hex(tip), "toBlock": hex(tip - 1)}) == []
    with pytest.raises(RpcError, match="BlockOutOfRange") as caught:
        node.rpc("eth_getLogs", {"fromBlock": hex(tip + 1), "toBlock": hex(tip + 2)})
    assert caught.value.code == -32602


# --- errors and batches ---


def test_error_codes(node: AnvilNode) -> None:
    """-32601 unknown method, -32602 bad parameters, -32003 a transaction that is refused."""
    for method, params, code in (
        ("eth_nope", (), -32601),
        ("eth_getBlockByNumber", (), -32602),
        ("eth_getBlockByNumber", ("0x", False), -32602),
        ("eth_getBalance", (PAYEE, hex(node.height() + 9)), -32602),
        ("eth_sendRawTransaction", ("0x1234",), -32602),
        ("eth_subscribe", ("newHeads",), -32601),  # over HTTP
    ):
        with pytest.raises(RpcError) as caught:
            node.rpc(method, *params)
        assert caught.value.code == code, method
    with pytest.raises(RpcError, match="nonce too low") as caught:
        node.send(PAYEE, nonce=0)
    assert caught.value.code == -32003


def test_a_batch_is_answered_in_its_order_with_errors_in_place(node: AnvilNode) -> None:
    """An array of answers; anvil keeps the order (JSON-RPC 2.0 lets a node choose another).

    HTTP says 200 whatever the answers are. A call without `id` has no answer.
    """
    calls = [(3, "eth_chainId"), (1, "eth_nope"), (2, "eth_blockNumber")]
    batch = [{"jsonrpc": "2.0", "id": n, "method": name, "params": []} for n, name in calls]
    status, body = node.client.post([*batch, {"jsonrpc": "2.0", "method": "eth_chainId"}])
    answers = json.loads(body)
    assert (status, [answer["id"] for answer in answers]) == (200, [3, 1, 2])
    assert answers[1]["error"]["code"] == -32601


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b" " * (3 << 20) + b"[]"])
def test_a_request_that_is_refused_whole(node: AnvilNode, body: bytes) -> None:
    """One error object with `id` null and code -32600, over HTTP 200, also for a batch.

    That is how a batch of more than 2 MB ends on anvil; others say 413.
    """
    status, answer = node.client.post(body)
    assert status == 200
    found = json.loads(answer)
    assert (found["id"], found["error"]["code"]) == (None, -32600)


def test_old_state_may_be_gone_where_old_blocks_are_not(node: AnvilNode) -> None:
    """Balances at old heights need an archive; blocks, receipts and logs do not.

    Anvil, started again, knows no state but the last: -32602. A pruned geth says -32000
    "missing trie node" or "historical state … is not available".
    """
    with AnvilNode(1) as own:
        own.pay(PAYEE, 5)
        own.mine(3)
        assert own.rpc("eth_getBalance", PAYEE, "0x1") == "0x5"
        own.restart()
        assert own.rpc("eth_getBalance", PAYEE, "latest") == "0x5"
        assert len(own.rpc("eth_getBlockReceipts", "0x1")) == 1
        with pytest.raises(RpcError):
            own.rpc("eth_getBalance", PAYEE, "0x1")
