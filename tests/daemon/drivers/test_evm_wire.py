"""Searching blocks and pending transactions, against a slow search and against bad answers."""

import copy
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.core.chain_events import ChainTx, OutPoint, Output
from actors.core.watch_index import WatchIndex
from daemon.drivers.evm_wire import (
    INTERNAL,
    TRANSFER_TOPIC,
    EvmBlock,
    InternalTransfer,
    OtherBlockError,
    WireError,
    block_ref,
    block_with_logs,
    block_with_receipts,
    concerned,
    conflict_key,
    data,
    match_block,
    match_pending,
    quantity,
)
from tests.helpers.evm_data import (
    ASSETS,
    CONTRACT,
    OTHER,
    OURS,
    STRANGER,
    Json,
    block,
    digest,
    hexed,
    index_of,
    receipt,
    transaction,
    transfer_call,
    transfer_from_call,
    transfer_log,
)

HUGE = 10**26
KEY = conflict_key(STRANGER, 0)


def matched(*pairs: tuple[Json, Json], index: WatchIndex | None = None) -> tuple[ChainTx, ...]:
    made, receipts = block(7, *pairs)
    return match_block(block_with_receipts(made, receipts, {}), index or index_of(OURS), ASSETS)


def outputs(*found: tuple[int, bytes, int, str], of: str = "tx") -> tuple[Output, ...]:
    return tuple(
        Output(OutPoint(digest(of), place), payee, amount_base, asset)
        for place, payee, amount_base, asset in found
    )


# --- scalars ---


@pytest.mark.parametrize(
    ("text", "number"),
    [("0x0", 0), ("0x10", 16), (hex(HUGE), HUGE), (hex(2**256 - 1), 2**256 - 1), ("0x00F", 15)],
)
def test_a_quantity(text: str, number: int) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize(
    "value",
    ["", "0x", "16", "0x1_0", " 0x1", "0x1 ", "0x-1", "-0x1", "0x+1", "0xg", hex(2**256), 5, None,
     True, 1.5, ["0x1"], "0x１"],  # noqa: RUF001 - a digit that int() would take
)  # fmt: skip
def test_no_quantity(value: object) -> None:
    with pytest.raises(WireError):
        quantity(value)


@pytest.mark.parametrize("value", ["", "00", "0x0", "0x0 00", "0xzz", 7, None, "0x" + "00" * 19])
def test_no_data(value: object) -> None:
    with pytest.raises(WireError):
        data(value, 20)


def test_data_keeps_upper_case() -> None:
    assert data("0xAbCd") == b"\xab\xcd"


def test_a_block_s_identity() -> None:
    ref = block_ref(block(7)[0])
    assert (ref.height, ref.hash, ref.parent) == (7, digest("block 7"), digest("block 6"))
    assert ref.time_s == 1_700_000_084


@pytest.mark.parametrize("field", ["number", "hash", "parentHash", "timestamp"])
def test_a_block_without_identity(field: str) -> None:
    made = block(7)[0]
    del made[field]
    with pytest.raises(WireError):
        block_ref(made)


# --- payments in blocks ---


@pytest.mark.parametrize("amount_base", [1, 20 * 10**18, HUGE, 2**256 - 1])
def test_a_native_payment(amount_base: int) -> None:
    tx = transaction("tx", to=OURS, value=amount_base)
    (found,) = matched((tx, receipt(tx)))
    expected = outputs((0, OURS, amount_base, "ETH"))
    assert found == ChainTx(digest("tx"), expected, (KEY,))


def test_token_payments_add_up_at_their_places() -> None:
    tx = transaction("tx", to=CONTRACT)
    logs = [transfer_log(OTHER, 1), transfer_log(OURS, HUGE), transfer_log(OURS, 3)]
    (found,) = matched((tx, receipt(tx, *logs)))
    assert found.outputs == outputs((2, OURS, HUGE, "TOKEN"), (3, OURS, 3, "TOKEN"))


def test_a_payment_of_both_kinds_and_by_a_contract() -> None:
    tx = transaction("tx", to=OURS, value=5)
    made, receipts = block(7, (tx, receipt(tx, transfer_log(OURS, 6))))
    inside = {tx["hash"]: [InternalTransfer(0, OTHER, 1), InternalTransfer(1, OURS, 7)]}
    found = match_block(block_with_receipts(made, receipts, inside), index_of(OURS), ASSETS)
    assert found[0].outputs == outputs(
        (0, OURS, 5, "ETH"), (1, OURS, 6, "TOKEN"), (INTERNAL + 1, OURS, 7, "ETH")
    )


def test_only_a_contract_s_payment() -> None:
    tx = transaction("tx")
    made, receipts = block(7, (tx, receipt(tx)))
    inside = {tx["hash"]: [InternalTransfer(0, OURS, 7)]}
    (found,) = match_block(block_with_receipts(made, receipts, inside), index_of(OURS), ASSETS)
    assert found.outputs == outputs((INTERNAL, OURS, 7, "ETH"))


def test_the_order_is_the_block_s() -> None:
    txs = [transaction(name, to=OURS, value=1) for name in "cab"]
    assert [tx.txid for tx in matched(*((tx, receipt(tx)) for tx in txs))] == list(
        map(digest, "cab")
    )


def test_addresses_in_capitals_are_understood() -> None:
    """EIP-55 in an answer is allowed by nobody and would be easy to overlook."""
    tx = transaction("tx", to=OURS, value=5)
    tx["to"] = "0x" + OURS.hex().upper()
    log = transfer_log(OURS, 6)
    log["address"] = "0x" + CONTRACT.hex().upper()
    assert len(matched((tx, receipt(tx, log)))[0].outputs) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"topics": [TRANSFER_TOPIC]},
        {"topics": []},
        {"topics": [TRANSFER_TOPIC, hexed(bytes(32)), hexed(bytes(32)), hexed(bytes(32))]},
        {"topics": [hexed(bytes(32)), hexed(bytes(32)), "0x" + OURS.hex().rjust(64, "0")]},
        {"topics": [TRANSFER_TOPIC, hexed(bytes(32)), "0x01" + OURS.hex().rjust(62, "0")]},
        {"data": "0x"},
        {"data": "0x" + "00" * 31},
        {"data": "0x" + "00" * 63 + "01"},
        {"address": hexed(STRANGER)},
    ],
)
def test_a_log_that_is_no_payment(change: Json) -> None:
    tx = transaction("tx", to=CONTRACT)
    log = {**transfer_log(OURS, 1), **change}
    assert matched((tx, receipt(tx, log))) == ()


def test_no_payment() -> None:
    txs = [
        transaction("nothing", to=OURS, value=0),
        transaction("creation", to=None, value=5),
        transaction("somebody", to=OTHER, value=5),
    ]
    assert matched(*((tx, receipt(tx)) for tx in txs)) == ()
    assert matched() == ()


def test_a_failed_transaction_is_told_only_where_it_was_awaited() -> None:
    tx = transaction("tx", to=OURS, value=5)
    failed = receipt(tx, transfer_log(OURS, 5), status=0)
    assert matched((tx, failed)) == ()
    index = index_of(OURS)
    index.unconfirmed[digest("tx")] = set()
    assert matched((tx, failed), index=index) == (ChainTx(digest("tx"), (), (KEY,)),)


def test_what_excludes_an_awaited_transaction_is_told() -> None:
    index = index_of(OURS)
    index.claim(digest("awaited"), (conflict_key(STRANGER, 4),))
    other, same = transaction("other", nonce=5), transaction("same", nonce=4)
    found = matched((other, receipt(other)), (same, receipt(same)), index=index)
    assert found == (ChainTx(digest("same"), (), (conflict_key(STRANGER, 4),)),)


# --- bad blocks ---


def test_receipts_of_another_block() -> None:
    tx = transaction("tx")
    made, _ = block(7, (tx, receipt(tx)))
    _, receipts = block(7, (tx, receipt(tx)), branch="b")
    for answer in (receipts, None):
        with pytest.raises(OtherBlockError):
            block_with_receipts(made, answer, {})


def test_logs_of_another_block() -> None:
    made, _ = block(7)
    with pytest.raises(OtherBlockError):
        block_with_logs(made, [{"blockHash": hexed(digest("other"))}], {})


def test_receipts_that_do_not_fit() -> None:
    one, other = transaction("one"), transaction("other")
    made, receipts = block(7, (one, receipt(one)), (other, receipt(other)))
    for wrong in ([], receipts[:1], [receipts[0], receipts[0]], [*receipts, receipts[1]], [{}, {}],
                  ["x"], [None, None]):  # fmt: skip
        with pytest.raises(WireError):
            block_with_receipts(made, wrong, {})


def test_a_receipt_more_than_transactions_is_borne() -> None:
    """Polygon has one for what its other chain sent."""
    tx, more = transaction("tx", to=OURS, value=1), transaction("more")
    made, _ = block(7, (tx, receipt(tx)))
    _, receipts = block(7, (tx, receipt(tx)), (more, receipt(more, transfer_log(OURS, 4))))
    (found,) = match_block(block_with_receipts(made, receipts, {}), index_of(OURS), ASSETS)
    assert found.txid == digest("tx")


def test_a_transaction_twice() -> None:
    tx = transaction("tx", to=OURS, value=1)
    made, receipts = block(7, (tx, receipt(tx)), (tx, receipt(tx)))
    with pytest.raises(WireError, match="twice"):
        block_with_receipts(made, receipts, {})


@pytest.mark.parametrize("txs", [None, ["0x12"], [None], {}, "x"])
def test_transactions_that_are_none(txs: object) -> None:
    made, receipts = block(7)
    with pytest.raises(WireError):
        block_with_receipts({**made, "transactions": txs}, receipts, {})


ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70)
    | st.sampled_from(["0x", "0x0", "0x1", hex(HUGE), hexed(OURS), hexed(digest("tx"))])
)  # fmt: skip
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)


@st.composite
def spoiled(draw: Any) -> tuple[Any, Any]:
    """A block and its receipts with one to three fields removed, replaced or repeated."""
    tx, token = transaction("tx", to=OURS, value=5), transaction("token", to=CONTRACT)
    made, receipts = block(7, (tx, receipt(tx)), (token, receipt(token, transfer_log(OURS, HUGE))))
    whole = copy.deepcopy([made, receipts])
    for _ in range(draw(st.integers(1, 3))):
        place: Any = whole
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            match draw(st.sampled_from(["remove", "replace", "repeat"])):
                case "remove" if isinstance(place, dict):
                    del place[key]
                case "repeat" if isinstance(place, list):
                    place.append(copy.deepcopy(place[key]))
                case _:
                    place[key] = draw(VALUES)
            break
    return whole[0], whole[1]


@given(spoiled())
@settings(max_examples=400)
def test_bad_blocks_are_refused_or_read_never_worse(given: tuple[Any, Any]) -> None:
    made, receipts = given
    index = index_of(OURS)
    index.claim(digest("awaited"), (KEY,))
    index.unconfirmed[digest("other")] = set()
    try:
        found = match_block(block_with_receipts(made, receipts, {}), index, ASSETS)
    except WireError:
        return
    for tx in found:
        assert all(output.destination == OURS for output in tx.outputs)


@given(VALUES, VALUES)
def test_nonsense_for_a_block(made: Any, receipts: Any) -> None:
    with pytest.raises(WireError):
        block_with_receipts(made, receipts, {})


# --- against a slow search ---

ADDRESSES = [OURS, OTHER, STRANGER, CONTRACT]


@st.composite
def blocks(draw: Any) -> tuple[Json, list[Json]]:
    pairs = []
    for number in range(draw(st.integers(0, 5))):
        tx = transaction(
            f"tx {number}",
            to=draw(st.sampled_from([*ADDRESSES, None])),
            value=draw(st.sampled_from([0, 1, 20 * 10**18, HUGE])),
            sender=draw(st.sampled_from(ADDRESSES)),
            nonce=draw(st.integers(0, 3)),
        )
        logs = [
            transfer_log(
                draw(st.sampled_from(ADDRESSES)),
                draw(st.integers(1, HUGE)),
                contract=draw(st.sampled_from([CONTRACT, STRANGER])),
            )
            for _ in range(draw(st.integers(0, 3)))
        ]
        pairs.append((tx, receipt(tx, *logs, status=draw(st.integers(0, 1)))))
    return block(7, *pairs)


def slow_search(made: Json, receipts: list[Json], index: WatchIndex) -> list[ChainTx]:
    found = []
    for tx, one in zip(made["transactions"], receipts, strict=True):
        txid, paid = bytes.fromhex(tx["hash"][2:]), []
        if one["status"] == "0x1":
            payee = bytes.fromhex((tx["to"] or "0x")[2:])
            if payee in index.destinations and int(tx["value"], 16):
                paid.append(Output(OutPoint(txid, 0), payee, int(tx["value"], 16), "ETH"))
            for place, log in enumerate(one["logs"]):
                payee = bytes.fromhex(log["topics"][2][26:])
                if log["address"] == hexed(CONTRACT) and payee in index.destinations:
                    amount_base = int(log["data"], 16)
                    paid.append(Output(OutPoint(txid, 1 + place), payee, amount_base, "TOKEN"))
        key = bytes.fromhex(tx["from"][2:]) + int(tx["nonce"], 16).to_bytes(8, "big")
        if paid or txid in index.unconfirmed or key in index.conflicts:
            found.append(ChainTx(txid, tuple(paid), (key,)))
    return found


@given(blocks(), st.booleans())
def test_the_search_finds_what_a_slow_one_finds(given: tuple[Json, Any], awaits: bool) -> None:
    made, receipts = given
    index = index_of(OURS, OTHER)
    if awaits:
        index.claim(digest("awaited"), (conflict_key(STRANGER, 1),))
        index.unconfirmed[digest("tx 1")] = set()
    read = block_with_receipts(made, receipts, {})
    expected = slow_search(made, receipts, index)
    assert list(match_block(read, index, ASSETS)) == expected
    # From logs alone: at least those are worth a look.
    logs = [log for log in read.logs if log["address"] in ASSETS.tokens]
    some = {bytes.fromhex(tx["hash"][2:]) for tx in concerned(
        EvmBlock(read.ref, read.txs, logs, None, {}), index, ASSETS
    )}  # fmt: skip
    assert {tx.txid for tx in expected} <= some


# --- the mempool ---


def test_a_pending_native_payment() -> None:
    tx = transaction("tx", to=OURS, value=HUGE, nonce=2**63)
    found = match_pending(tx, index_of(OURS), ASSETS)
    assert found == ChainTx(
        digest("tx"), outputs((0, OURS, HUGE, "ETH")), (conflict_key(STRANGER, 2**63),)
    )


@pytest.mark.parametrize(
    "call", [transfer_call(OURS, HUGE), transfer_from_call(OTHER, OURS, HUGE),
             transfer_call(OURS, HUGE) + "c0ffee"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["input", "data"])
def test_a_pending_token_payment_promises_its_first_log(call: str, field: str) -> None:
    tx = transaction("tx", to=CONTRACT)
    del tx["input"]
    found = match_pending({**tx, field: call}, index_of(OURS), ASSETS)
    assert found is not None
    assert found.outputs == outputs((1, OURS, HUGE, "TOKEN"))


@pytest.mark.parametrize(
    ("to", "call"),
    [
        (STRANGER, transfer_call(OURS, 1)),
        (CONTRACT, transfer_call(OTHER, 1)),
        (CONTRACT, transfer_call(OURS, 1)[:-2]),
        (CONTRACT, "0x095ea7b3" + transfer_call(OURS, 1)[10:]),
        (CONTRACT, "0xa9059cbb01" + transfer_call(OURS, 1)[12:]),
        (CONTRACT, transfer_from_call(OURS, OTHER, 1)),
        (CONTRACT, "0x"),
        (None, transfer_call(OURS, 1)),
    ],
)
def test_a_pending_call_that_promises_nothing(to: bytes | None, call: str) -> None:
    assert match_pending(transaction("tx", to=to, call=call), index_of(OURS), ASSETS) is None


def test_pending_transactions_that_we_wait_for_or_that_exclude_one() -> None:
    index = index_of(OURS)
    index.claim(digest("awaited"), (KEY,))
    assert match_pending(transaction("tx"), index, ASSETS) == ChainTx(digest("tx"), (), (KEY,))
    assert match_pending(transaction("tx", nonce=1), index, ASSETS) is None
    index.unconfirmed[digest("tx")] = set()
    found = match_pending(transaction("tx", nonce=1), index, ASSETS)
    assert found == ChainTx(digest("tx"), (), (conflict_key(STRANGER, 1),))


def test_a_transaction_that_we_wait_for_promises_nothing_new() -> None:
    """Its block may have shown the payment at another place, before a reorg took it back."""
    index = index_of(OURS)
    index.unconfirmed[digest("tx")] = set()
    call = transaction("tx", to=CONTRACT, call=transfer_call(OURS, 5))
    assert match_pending(call, index, ASSETS) == ChainTx(digest("tx"), (), (KEY,))


@given(st.data())
@settings(max_examples=300)
@example(None)
def test_bad_pending_transactions_are_refused_or_read(drawn: Any) -> None:
    tx: Json = transaction("tx", to=CONTRACT, call=transfer_call(OURS, 5))
    if drawn is None:
        tx["nonce"] = hex(2**70)
    else:
        field = drawn.draw(st.sampled_from(sorted(tx)))
        tx[field] = drawn.draw(VALUES)
    try:
        found = match_pending(tx, index_of(OURS), ASSETS)
    except WireError:
        return
    assert found is None or found.outputs
