"""Toncenter's JSON: what is believed, and what is not."""

import base64
import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.drivers import ton_wire as wire
from daemon.drivers.ton_wire import TonWireError

ACCOUNT = bytes(1) + bytes(range(32))
HASH = bytes(range(32))
BLOCK = {
    "workchain": -1, "seqno": 7, "root_hash": base64.b64encode(HASH).decode(), "gen_utime": "123",
    "tx_count": 3, "global_id": -239,
}  # fmt: skip
TX = {
    "hash": base64.b64encode(HASH).decode(), "account": wire.raw_address(ACCOUNT),
    "mc_block_seqno": 7, "emulated": False,
    "description": {"type": "ord", "aborted": True},
    "in_msg": {
        "source": wire.raw_address(ACCOUNT), "value": "18446744073709551616", "bounced": False,
        "message_content": {"body": "te6"},
    },
}  # fmt: skip


def changed(of: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(of), **changes}


@pytest.mark.parametrize(
    "text",
    [
        HASH.hex(),
        base64.b64encode(HASH).decode(),
        base64.urlsafe_b64encode(HASH).decode(),
        base64.b64encode(HASH).decode().rstrip("="),
    ],
)
def test_hashes_are_read_in_every_form(text):
    assert wire.as_hash(text, "hash") == HASH


@pytest.mark.parametrize("text", ["", None, 5, "A" * 42, "A" * 45, "?" * 44, "g" * 64, "é" * 44])
def test_what_is_no_hash_is_refused(text):
    with pytest.raises(TonWireError, match="no hash"):
        wire.as_hash(text, "hash")


def test_accounts_are_read_raw_and_friendly():
    raw = wire.raw_address(ACCOUNT)
    assert wire.as_account(raw, "") == ACCOUNT
    assert wire.as_account(raw.lower(), "") == ACCOUNT
    friendly = base64.urlsafe_b64encode(b"\x11" + ACCOUNT + b"\0\0").decode()
    assert wire.as_account(friendly, "") == ACCOUNT
    assert wire.as_account("-1:" + "00" * 32, "") == b"\xff" + bytes(32)


@pytest.mark.parametrize("text", ["", None, "0:12", "200:" + "00" * 32, "?" * 48, "0:" + "0" * 65])
def test_what_is_no_account_is_refused(text):
    with pytest.raises(TonWireError, match="no address"):
        wire.as_account(text, "account")


def test_a_page_lists_what_may_be_a_payment_and_the_masterchains_own():
    other = base64.b64encode(bytes(32)).decode()
    tick = {"hash": other, "account": "-1:" + "33" * 32, "mc_block_seqno": 7, "in_msg": None}
    listed, page = wire.page({"transactions": [TX, tick, TX]}, 7)
    assert listed == 3
    assert page.hashes == {HASH, bytes(32)}
    assert page.masters == {bytes(32)}
    (tx,) = page.txs
    assert (tx.account, tx.value_base, tx.aborted, tx.body) == (ACCOUNT, 2**64, True, "te6")


@pytest.mark.parametrize(
    "message",
    [
        None,
        {"source": None, "value": None},
        {"source": None, "value": "5"},
        {"source": "x", "value": "5", "bounced": True},
    ],
)
def test_what_brings_no_money_is_no_payment(message):
    assert wire.transaction(changed(TX, in_msg=message)) is None


def test_what_went_back_is_no_payment():
    gone = changed(TX, description={"aborted": True, "bounce": {"type": "ok"}})
    assert wire.transaction(gone) is None
    stayed = changed(TX, description={"aborted": True, "bounce": {"type": "nofunds"}})
    assert wire.transaction(stayed) is not None


@pytest.mark.parametrize(
    "block",
    [
        changed(BLOCK, workchain=0),
        changed(BLOCK, seqno=-1),
        changed(BLOCK, seqno=True),
        changed(BLOCK, gen_utime="soon"),
        changed(BLOCK, tx_count=1.5),
        {},
        [],
        None,
    ],
)
def test_a_block_of_another_shape_is_refused(block):
    with pytest.raises(TonWireError):
        wire.header(block)


def test_transactions_of_all_blocks_are_counted_where_all_tell():
    shard = changed(BLOCK, workchain=0, tx_count=4)
    assert wire.total_transactions({"blocks": [BLOCK, shard]}) == 7
    assert wire.total_transactions({"blocks": [BLOCK, changed(shard, tx_count=None)]}) is None
    assert [each.seqno for each in wire.headers({"blocks": [BLOCK, shard]})] == [7]


def test_stacks_of_both_versions_are_read():
    v3 = {
        "exit_code": 0,
        "stack": [{"type": "num", "value": "-0x1"}, {"type": "cell", "value": "a"}],
    }
    v2 = {"exit_code": 0, "stack": [["num", "-0x1"], ["cell", {"bytes": "a", "object": {}}]]}
    assert wire.stack(v3) == wire.stack(v2) == (0, [("num", "-0x1"), ("cell", "a")])


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else []
    return [at, *(place for key, each in inner for place in _places(each, (*at, key)))]


@given(
    st.sampled_from(_places(TX)[1:]),
    st.none() | st.booleans() | st.integers() | st.text(max_size=50) | st.lists(st.none())
    | st.dictionaries(st.text(max_size=3), st.none(), max_size=1),
)  # fmt: skip
def test_any_other_value_anywhere_gives_an_answer_or_a_refusal(place, value):
    tx: Any = copy.deepcopy(TX)
    inner = tx
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with contextlib.suppress(TonWireError):
        wire.page({"transactions": [tx]}, 7)
    with contextlib.suppress(TonWireError):
        wire.page_v2({"transactions": [tx]})
    with contextlib.suppress(TonWireError):
        wire.header(tx)
