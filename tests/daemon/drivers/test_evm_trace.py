"""Transfers of value inside transactions, out of both forms of traces."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.drivers.evm_trace import TraceMissingError, from_call_tracer, from_trace_block
from daemon.drivers.evm_wire import InternalTransfer, OtherBlockError, WireError
from tests.helpers.anvil import AnvilNode, new_address
from tests.helpers.evm_data import OTHER, OURS, hexed
from tests.nodes.install import find, how_to_install

TXID = "0x" + "11" * 32
BLOCK = "0x" + "22" * 32
Json = dict[str, Any]


def frame(kind: str = "CALL", value: int = 0, *calls: Json, to: bytes = OURS, **more: Any) -> Json:
    return {"type": kind, "to": hexed(to), "value": hex(value), "calls": list(calls), **more}


def entry(path: list[int], value: int = 0, *, kind: str = "call", **more: Any) -> Json:
    action = {"callType": "call", "to": hexed(OURS), "value": hex(value), **more.pop("action", {})}
    return {
        "type": kind,
        "action": action,
        "traceAddress": path,
        "transactionHash": TXID,
        "blockHash": BLOCK,
        **more,
    }


def nested(outermost: Json) -> list[tuple[int, int]]:
    found = from_call_tracer([{"txHash": TXID, "result": outermost}], [TXID])
    return [(one.number, one.amount_base) for one in found.get(TXID, [])]


def flat(*entries: Json) -> list[tuple[int, int]]:
    found = from_trace_block(list(entries), BLOCK, [TXID])
    return [(one.number, one.amount_base) for one in found.get(TXID, [])]


def test_the_transaction_s_own_value_is_left_out() -> None:
    assert nested(frame("CALL", 5)) == []
    assert flat(entry([], 5)) == []


def test_transfers_are_counted_as_they_were_executed() -> None:
    tree = frame("CALL", 9, frame("CALL", 1, frame("CALL", 2), frame("CALL", 0)), frame("CALL", 3))
    assert nested(tree) == [(0, 1), (1, 2), (2, 3)]
    paths = ([], 9), ([0], 1), ([0, 0], 2), ([0, 1], 0), ([1], 3)
    assert flat(*(entry(path, value) for path, value in paths)) == [(0, 1), (1, 2), (2, 3)]


def test_nothing_below_an_error_has_happened() -> None:
    failed = frame("CALL", 1, frame("CALL", 2), error="execution reverted")
    assert nested(frame("CALL", 0, failed, frame("CALL", 3))) == [(0, 3)]
    assert nested(frame("CALL", 0, frame("CALL", 3), error="out of gas")) == []
    listed = [
        entry([]), entry([0], 1, error="Reverted"), entry([0, 0], 2), entry([0, 0, 0], 4),
        entry([1], 3), entry([10], 5),
    ]  # fmt: skip
    assert flat(*listed) == [(0, 3), (1, 5)]
    assert flat(entry([], error="Reverted"), entry([0], 2)) == []


@pytest.mark.parametrize("kind", ["DELEGATECALL", "CALLCODE", "STATICCALL"])
def test_calls_that_move_nothing(kind: str) -> None:
    assert nested(frame("CALL", 0, frame(kind, 5, frame("CALL", 1)))) == [(0, 1)]
    inner = {"action": {"callType": kind.lower()}}
    assert flat(entry([]), entry([0], 5, **inner), entry([0, 0], 1)) == [(0, 1)]


def test_other_ways_to_move_value() -> None:
    tree = frame("CALL", 0, *(frame(kind, 5) for kind in ("CREATE", "CREATE2", "SELFDESTRUCT")))
    assert nested(tree) == [(0, 5), (1, 5), (2, 5)]
    made = entry([0], 5, kind="create", result={"address": hexed(OTHER)})
    will = entry([1], kind="suicide")
    will["action"] = {"refundAddress": hexed(OURS), "balance": "0x6"}
    found = from_trace_block([entry([]), made, will], BLOCK, [TXID])
    assert found == {TXID: [InternalTransfer(0, OTHER, 5), InternalTransfer(1, OURS, 6)]}


def test_calls_may_nest_deep() -> None:
    tree = frame("CALL", 1)
    for _ in range(5000):
        tree = frame("CALL", 0, tree)
    assert nested(frame("CALL", 0, tree)) == [(0, 1)]


def test_traces_of_another_block() -> None:
    for answer in ([], [{"txHash": BLOCK, "result": frame()}], [{"result": {}}, {"result": {}}]):
        with pytest.raises(OtherBlockError):
            from_call_tracer(answer, [TXID])
    for listed in ([], [{**entry([]), "blockHash": TXID}], [entry([], transactionHash=BLOCK)]):
        with pytest.raises(OtherBlockError):
            from_trace_block(listed, BLOCK, [TXID])


def test_rewards_belong_to_no_transaction() -> None:
    reward = {**entry([], 5, kind="reward"), "transactionHash": None}
    assert flat(entry([]), entry([0], 1), reward) == [(0, 1)]


def test_a_trace_that_is_missing() -> None:
    answer = [{"txHash": TXID, "error": "execution timeout"},
              {"txHash": BLOCK, "result": frame("CALL", 0, frame("CALL", 4))}]  # fmt: skip
    with pytest.raises(TraceMissingError, match="execution timeout"):
        from_call_tracer(answer, [TXID, BLOCK])
    assert from_call_tracer(answer, [TXID, BLOCK], tolerant=True) == {
        BLOCK: [InternalTransfer(0, OURS, 4)]
    }


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["0x1", TXID, BLOCK]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "to", "value", "calls", "error", "action", "traceAddress"]),
            inner,
        )
    ),
    max_leaves=8,
)


@given(VALUES, VALUES)
@settings(max_examples=300)
def test_bad_traces_are_refused_or_read(value: Any, other: Any) -> None:
    tree = {"type": "CALL", "calls": [{"type": "CALL", "value": value, "to": other}, value]}
    listed = [entry([]), entry([0], kind="call", action={"value": value, "to": other})]
    spoiled = [{**entry([0]), "traceAddress": value, "action": other}, entry([])]
    for read in (
        lambda: from_call_tracer([{"txHash": TXID, "result": tree}], [TXID]),
        lambda: from_call_tracer([{"txHash": TXID, "result": {"calls": other}}], [TXID]),
        lambda: from_call_tracer(value, [TXID]),
        lambda: from_trace_block(listed, BLOCK, [TXID]),
        lambda: from_trace_block(spoiled, BLOCK, [TXID]),
        lambda: from_trace_block(value, BLOCK, [TXID]),
    ):
        try:
            found = read()
        except WireError:
            continue
        assert all(one.amount_base > 0 for transfers in found.values() for one in transfers)


# --- a real node ---

_numbers = itertools.count(7000)


@pytest.fixture(scope="module")
def node() -> Iterator[AnvilNode]:
    if find("evm") is None:
        pytest.skip(how_to_install("evm"))
    with AnvilNode(1) as running:
        yield running


def test_both_forms_give_the_same_transfers_at_the_same_places(node: AnvilNode) -> None:
    """And together with the transactions' own values they explain each payee's balance."""
    payer, other = node.deploy("Payer"), node.deploy("Payer")
    payees = [new_address(next(_numbers)) for _ in range(8)]
    node.pay_batch(payer, {payees[0]: 5, payees[1]: 6})
    for payee, signature, *arguments in (
        (payees[2], "payThrough(address,address,uint256)", other, payees[2], 7),
        (payees[3], "payInFailingCall(address,uint256)", payees[3], 8),
        (payees[4], "payAndFail(address)", payees[4]),
        (payees[5], "payByDelegate(address,address)", other, payees[5]),
        (payees[6], "payByLastWill(address)", payees[6]),
        ("", "payIntoNewContract()"),
    ):
        assert payee in (*arguments, "")
        node.invoke("Payer", payer, signature, *arguments, value_base=9)
    node.pay(payees[7], 11)
    node.mine()
    height = hex(node.height())
    made = node.block("latest")
    hashes = made["transactions"]
    assert len(hashes) == 8
    tree = from_call_tracer(
        node.rpc("debug_traceBlockByNumber", height, {"tracer": "callTracer"}), hashes
    )
    assert from_trace_block(node.rpc("trace_block", height), made["hash"], hashes) == tree
    paid: dict[str, int] = {}
    for transfers in tree.values():
        for one in transfers:
            payee = hexed(one.destination)
            paid[payee] = paid.get(payee, 0) + one.amount_base
    for payee in payees[:7]:
        assert paid.get(payee, 0) == node.balance(payee)
    assert payees[7] not in paid
