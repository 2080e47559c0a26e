"""What the EVM driver assumes of traces: native coin that a contract pays. Docstrings say what.

Two families of calls show it. `debug_traceBlockByNumber` with `callTracer` (geth, bsc, reth,
Erigon, anvil) answers a tree per transaction; `trace_block` (Erigon, Nethermind, reth, anvil)
answers one flat list, each entry with its `traceAddress`. The two functions below are the
assumption in code: what a payee gets must be what they say, which every test compares with the
payee's balance.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.anvil import AnvilNode, new_address
from tests.helpers.evm_abi import create_data
from tests.helpers.evm_rpc import RpcError
from tests.nodes.contracts import contract
from tests.nodes.install import find, how_to_install

CALL_TRACER = {"tracer": "callTracer"}
MOVING = {"CALL", "CREATE", "CREATE2", "SELFDESTRUCT"}
"""Frames whose `value` goes from `from` to `to`. DELEGATECALL shows its caller's value as well."""
_numbers = itertools.count(1000)


@pytest.fixture(scope="module")
def node() -> Iterator[AnvilNode]:
    if find("evm") is None:
        pytest.skip(how_to_install("evm"))
    with AnvilNode(1) as running:
        yield running


@pytest.fixture(scope="module")
def payer(node: AnvilNode) -> str:
    return node.deploy("Payer")


@pytest.fixture
def payee() -> str:
    """An address of the test's own, so that its balance is what it was paid."""
    return new_address(next(_numbers))


def paid_in_tree(frame: dict[str, Any], payee: str) -> int:
    """Return what a callTracer frame pays: nothing below a frame with an `error` is done."""
    if "error" in frame:
        return 0
    own_base = 0
    if frame["type"] in MOVING and frame["to"] == payee:
        own_base = int(frame["value"], 16)
    return own_base + sum(paid_in_tree(inner, payee) for inner in frame.get("calls", []))


def paid_in_list(entries: list[dict[str, Any]], payee: str) -> int:
    """Return what `trace_block` says is paid: nothing at or below an entry with `error`."""
    failed = [
        (entry["transactionHash"], entry["traceAddress"]) for entry in entries if "error" in entry
    ]
    total_base = 0
    for entry in entries:
        place, action = entry["traceAddress"], entry["action"]
        if any(
            entry["transactionHash"] == txid and place[: len(above)] == above
            for txid, above in failed
        ):
            continue
        if entry["type"] == "call" and action["callType"] == "call" and action["to"] == payee:
            total_base += int(action["value"], 16)
        elif entry["type"] == "suicide" and action["refundAddress"] == payee:
            total_base += int(action["balance"], 16)
        elif entry["type"] == "create" and entry["result"]["address"] == payee:
            total_base += int(action["value"], 16)
    return total_base


def check(node: AnvilNode, payee: str, expected_base: int) -> tuple[Any, Any]:
    """Mine, and hold both traces of the block to the balance; returns them."""
    node.mine()
    height = hex(node.height())
    trees = node.rpc("debug_traceBlockByNumber", height, CALL_TRACER)
    entries = node.rpc("trace_block", height)
    assert node.balance(payee) == expected_base
    assert sum(paid_in_tree(tree["result"], payee) for tree in trees) == expected_base
    assert paid_in_list(entries, payee) == expected_base
    return trees, entries


def test_a_batch_payout_has_no_log_and_another_to(node: AnvilNode, payer: str, payee: str) -> None:
    """The transaction's `to` is the contract, its receipt has no log: only the trace shows it."""
    txid = node.pay_batch(payer, {payee: 5, new_address(2): 6})
    trees, entries = check(node, payee, 5)
    receipt = node.receipt(txid)
    assert (receipt["to"], receipt["logs"], receipt["status"]) == (payer, [], "0x1")
    assert [tree["txHash"] for tree in trees] == [txid]
    (call, _) = trees[0]["result"]["calls"]
    assert (call["type"], call["from"], call["to"], call["value"]) == ("CALL", payer, payee, "0x5")
    assert [entry["traceAddress"] for entry in entries] == [[], [0], [1]]
    assert {entry["transactionHash"] for entry in entries} == {txid}


def test_plain_payments_are_in_the_traces_too(node: AnvilNode, payee: str) -> None:
    """The outermost frame is the transaction itself, so traces alone tell everything once.

    `trace_block` writes block and position as numbers, not as hex.
    """
    node.pay(payee, 3)
    node.pay(payee, 4)
    _, entries = check(node, payee, 7)
    assert [entry["transactionPosition"] for entry in entries] == [0, 1]
    assert {entry["blockNumber"] for entry in entries} == {node.height()}


def test_a_payment_two_calls_deep(node: AnvilNode, payer: str, payee: str) -> None:
    """Frames nest; `traceAddress` is the path."""
    other = node.deploy("Payer")
    signature = "payThrough(address,address,uint256)"
    node.invoke("Payer", payer, signature, other, payee, 7, value_base=7)
    _, entries = check(node, payee, 7)
    assert entries[-1]["traceAddress"] == [0, 0]


def test_a_payment_inside_a_call_that_fails_is_none(
    node: AnvilNode, payer: str, payee: str
) -> None:
    """The transaction succeeds, the paying frame has no error of its own, its caller has one."""
    signature = "payInFailingCall(address,uint256)"
    txid = node.invoke("Payer", payer, signature, payee, 9, value_base=9)
    trees, entries = check(node, payee, 0)
    assert node.receipt(txid)["status"] == "0x1"
    failed = trees[0]["result"]["calls"][0]
    assert failed["error"] == "execution reverted"
    assert (failed["calls"][0]["to"], failed["calls"][0]["value"]) == (payee, "0x9")
    assert "error" not in failed["calls"][0]
    assert [entry.get("error") for entry in entries] == [None, "Reverted", None]


def test_a_payment_inside_a_transaction_that_fails_is_none(
    node: AnvilNode, payer: str, payee: str
) -> None:
    """The error stands on the outermost frame; the receipt says status 0."""
    txid = node.invoke("Payer", payer, "payAndFail(address)", payee, value_base=11)
    trees, _ = check(node, payee, 0)
    assert node.receipt(txid)["status"] == "0x0"
    assert "error" in trees[0]["result"]


def test_a_delegatecall_shows_a_value_that_does_not_move(
    node: AnvilNode, payer: str, payee: str
) -> None:
    """DELEGATECALL repeats its caller's value towards the library; the CALL inside it pays."""
    library = node.deploy("Payer")
    node.invoke("Payer", payer, "payByDelegate(address,address)", library, payee, value_base=13)
    trees, entries = check(node, payee, 13)
    delegated = trees[0]["result"]["calls"][0]
    assert (delegated["type"], delegated["to"], delegated["value"]) == (
        "DELEGATECALL",
        library,
        "0xd",
    )
    assert entries[1]["action"]["callType"] == "delegatecall"
    assert node.balance(library) == 0


def test_a_contract_made_with_value_in_it(node: AnvilNode, payer: str) -> None:
    """CREATE moves its value to the new address: `to`, or `result.address` in the flat list."""
    node.invoke("Payer", payer, "payIntoNewContract()", value_base=17)
    node.mine()
    (tree,) = node.rpc("debug_traceBlockByNumber", hex(node.height()), CALL_TRACER)
    made = tree["result"]["calls"][0]
    entry = node.rpc("trace_block", hex(node.height()))[1]
    assert (made["type"], made["value"]) == ("CREATE", "0x11")
    assert entry["type"] == "create"
    assert entry["result"]["address"] == made["to"]
    assert "to" not in entry["action"]
    assert node.balance(made["to"]) == 17


def test_a_contract_that_ends_leaves_its_coin(node: AnvilNode, payee: str) -> None:
    """SELFDESTRUCT pays its whole balance: `value` and `to`, or `balance` and `refundAddress`.

    The flat list calls it `suicide`, and its `result` is null.
    """
    purse = node.deploy("Purse", value_base=19)
    node.invoke("Purse", purse, "close(address)", payee)
    trees, entries = check(node, payee, 19)
    assert trees[0]["result"]["calls"][0]["type"] == "SELFDESTRUCT"
    assert entries[1]["type"] == "suicide"
    assert entries[1]["result"] is None


def test_a_contract_that_ends_in_its_constructor(node: AnvilNode, payer: str, payee: str) -> None:
    """In a call, and as a transaction of its own, whose `to` is null."""
    node.invoke("Payer", payer, "payByLastWill(address)", payee, value_base=23)
    check(node, payee, 23)
    data = create_data(contract("LastWill"), payee)
    node.send(None, data=data, value_base=29, gas=200_000)
    node.mine()
    assert node.balance(payee) == 23 + 29
    (tree,) = node.rpc("debug_traceBlockByNumber", hex(node.height()), CALL_TRACER)
    assert tree["result"]["type"] == "CREATE"
    assert paid_in_tree(tree["result"], payee) == 29
    assert paid_in_list(node.rpc("trace_block", hex(node.height())), payee) == 29


def test_traces_by_hash_are_the_same(node: AnvilNode, payer: str, payee: str) -> None:
    """`debug_traceBlockByHash` says which block is meant while the chain may reorganise."""
    node.pay_batch(payer, {payee: 5})
    (block_hash,) = node.mine()
    by_hash = node.rpc("debug_traceBlockByHash", block_hash, CALL_TRACER)
    assert by_hash == node.rpc("debug_traceBlockByNumber", hex(node.height()), CALL_TRACER)


def test_an_empty_block_has_no_traces(node: AnvilNode) -> None:
    """Empty lists; on Ethereum itself `trace_block` of old nodes has a `reward` entry."""
    node.mine()
    assert node.rpc("trace_block", hex(node.height())) == []
    assert node.rpc("debug_traceBlockByNumber", hex(node.height()), CALL_TRACER) == []


def test_traces_of_a_block_that_is_not_there(node: AnvilNode) -> None:
    """`debug_` says an error, `trace_block` an empty list: that must not read as "nothing paid"."""
    above = hex(node.height() + 1)
    assert node.rpc("trace_block", above) == []
    with pytest.raises(RpcError) as caught:
        node.rpc("debug_traceBlockByNumber", above, CALL_TRACER)
    assert caught.value.code == -32001


def test_one_transaction_s_trace_may_be_missing_in_the_answer(
    eth_node: AnvilNode,
) -> None:
    """After a restart anvil's old blocks answer `error` in place of `result`, per transaction.

    geth does so when a tracer fails or its time is up. `trace_block` still has them here.
    """
    txid = eth_node.pay(new_address(1), 5)
    eth_node.mine()
    eth_node.restart()
    (tree,) = eth_node.rpc("debug_traceBlockByNumber", "0x1", CALL_TRACER)
    assert tree == {"txHash": txid, "error": "Resource not found"}
    assert paid_in_list(eth_node.rpc("trace_block", "0x1"), new_address(1)) == 5


def test_trace_filter_does_not_look_at_failed_callers(
    node: AnvilNode, payer: str, payee: str
) -> None:
    """`trace_filter` by payee shows the paying frame of a failed call without its caller's error.

    So it cannot tell what was paid, and the driver does not use it.
    """
    signature = "payInFailingCall(address,uint256)"
    node.invoke("Payer", payer, signature, payee, 9, value_base=9)
    check(node, payee, 0)
    height = hex(node.height())
    wanted = {"fromBlock": height, "toBlock": height, "toAddress": [payee]}
    (entry,) = node.rpc("trace_filter", wanted)
    assert (entry["action"]["value"], "error" in entry) == ("0x9", False)
