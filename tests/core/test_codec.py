"""The stored form: everything comes back as it was, and its words stay the same for ever."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core import codec
from actors.core import events as ev
from actors.core.chain_events import OutPoint, Removal
from actors.core.invoice import Invoice, State
from actors.core.payment import Payment, Refusal
from actors.core.policy import Applied, Band, Policy
from tests.helpers.invoices import TERMS, txid

instants = st.integers(0, 2**53 - 1)
amounts = st.integers(0, 2**256 - 1)
heights = st.integers(0, 2**40)
hashes = st.binary(min_size=1, max_size=32)
texts = st.text(max_size=20).filter(lambda text: text.isprintable())
names = st.dictionaries(texts, texts, max_size=3).map(lambda found: tuple(found.items()))
policies = st.builds(
    Policy,
    bands=st.lists(st.builds(Band, amounts, heights), max_size=3).map(tuple),
    rbf_confirmations=st.none() | heights,
    tolerance_base=amounts,
    tolerance_bps=st.integers(0, 10_000),
    accept_late_s=heights,
)
applied = st.builds(
    Applied,
    name=texts,
    numbers=st.dictionaries(
        st.sampled_from(["confirmations", "missing_base", "accept_late_s"]), heights, max_size=3
    ).map(lambda found: tuple(found.items())),
)
outpoints = st.builds(OutPoint, hashes, st.integers(0, 2**32 - 1))
terms = st.builds(
    ev.Terms,
    invoice_id=st.uuids(),
    user_id=st.uuids(),
    asset=texts,
    chain=texts,
    network=texts,
    address=texts,
    destination=st.binary(max_size=40),
    account_id=st.integers(1, 2**53),
    path=st.tuples(st.integers(0, 2**31), st.integers(0, 2**31 - 1)),
    required_base=amounts,
    confirmations=st.integers(0, 2**32 - 1),
    created_at_ms=instants,
    expires_at_ms=instants,
    watch_depth=st.integers(0, 2**32),
    memo=st.none() | texts,
    policy=st.none() | policies,
    metadata=names,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "at_ms": instants,
    "terms": terms,
    "outpoint": outpoints,
    "amount_base": amounts,
    "credited_base": amounts,
    "asset": texts,
    "first_seen_ms": instants,
    "late": st.booleans(),
    "height": heights,
    "block_hash": hashes,
    "reason": st.sampled_from(Removal),
    "by": st.none() | hashes,
    "spends": st.lists(st.binary(max_size=40), max_size=3).map(tuple),
    "one_time_key": st.none() | hashes,
    "unlock_height": st.none() | heights,
    "unlock_ms": st.none() | instants,
    "tip_height": st.none() | heights,
    "replaceable": st.booleans(),
    "policies": st.lists(applied, max_size=2).map(tuple),
}
ALL_KINDS = ev.Event.__args__
KINDS = [kind for kind in ALL_KINDS if kind is not ev.PaymentRefused]
"""Those whose fields have one meaning; a refusal's `reason` is a text."""
events = st.one_of(
    *(st.builds(kind, **{name: FIELDS[name] for name in kind.__match_args__}) for kind in KINDS),
    st.builds(ev.PaymentRefused, at_ms=instants, outpoint=outpoints, asset=texts, reason=texts),
)
payments = st.builds(
    Payment,
    outpoint=outpoints,
    amount_base=amounts,
    asset=texts,
    first_seen_ms=instants,
    late=st.booleans(),
    height=st.none() | heights,
    block_hash=st.none() | hashes,
    gone=st.none() | st.sampled_from(Removal),
    gone_by=st.none() | hashes,
    spends=st.lists(st.binary(max_size=40), max_size=3).map(tuple),
    one_time_key=st.none() | hashes,
    unlock_height=st.none() | heights,
    unlock_ms=st.none() | instants,
    replaceable=st.booleans(),
    accepted=st.booleans(),
)
refusals = st.builds(Refusal, outpoint=outpoints, asset=texts, reason=texts)
invoices = st.builds(
    Invoice,
    terms=terms,
    state=st.sampled_from(State),
    version=st.integers(1, 2**40),
    payments=st.lists(payments, max_size=4).map(tuple),
    deadline_reached=st.booleans(),
    reversed=st.booleans(),
    settled_at_ms=st.none() | instants,
    updated_at_ms=instants,
    refused=st.lists(refusals, max_size=2).map(tuple),
)


def test_every_kind_of_event_is_known() -> None:
    assert len({kind.kind for kind in ALL_KINDS}) == len(ALL_KINDS) == 15


@given(events)
def test_an_event_comes_back_as_it_was(event: ev.Event) -> None:
    data = orjson.loads(orjson.dumps(codec.event_to_json(event)))
    assert "kind" not in data
    assert codec.event_from_json(event.kind, data) == event


@given(invoices)
def test_an_invoice_comes_back_as_it_was(invoice: Invoice) -> None:
    data = orjson.loads(orjson.dumps(codec.invoice_to_json(invoice)))
    assert codec.invoice_from_json(data) == invoice
    state = orjson.loads(orjson.dumps(codec.state_to_json(invoice)))
    assert "terms" not in state
    assert codec.state_from_json(invoice.terms, state) == invoice


def test_the_stored_words_do_not_change() -> None:
    """What an older version wrote must stay readable: a new form needs a new kind."""
    event = ev.PaymentIncluded(
        at_ms=1,
        outpoint=OutPoint(txid("a"), 7),
        amount_base=2**70,
        asset="BTC",
        first_seen_ms=2,
        late=False,
        height=3,
        block_hash=b"\x0a" * 32,
    )
    assert json.dumps(codec.event_to_json(event)) == (
        '{"at_ms": 1, "outpoint": ["' + txid("a").hex() + '", 7],'
        ' "amount_base": "1180591620717411303424", "asset": "BTC", "first_seen_ms": 2,'
        ' "late": false, "height": 3, "block_hash": "' + "0a" * 32 + '", "spends": []}'
    )
    displaced = ev.PaymentDisplaced(1, OutPoint(b"\x01", 0), Removal.DOUBLE_SPENT, None)
    assert codec.event_to_json(displaced) == {
        "at_ms": 1,
        "outpoint": ["01", 0],
        "reason": "double_spent",
        "by": None,
    }
    assert codec.terms_to_json(TERMS) == {
        "invoice_id": "00000000-0000-0000-0000-000000000001",
        "user_id": "00000000-0000-0000-0000-000000000002",
        "asset": "BTC",
        "chain": "btc",
        "network": "regtest",
        "address": "bcrt1qexample",
        "destination": "0014" + "11" * 20,
        "account_id": 1,
        "path": [0, 1],
        "required_base": "50000000",
        "confirmations": 3,
        "created_at_ms": 1_700_000_000_000,
        "expires_at_ms": 1_700_003_600_000,
        "watch_depth": 100,
        "finality": None,
    }
    with_memo = codec.terms_to_json(replace(TERMS, memo="100000387"))
    assert with_memo == {**codec.terms_to_json(TERMS), "memo": "100000387"}
    assert codec.state_to_json(Invoice(TERMS, updated_at_ms=5)) == {
        "state": "pending",
        "version": 1,
        "payments": [],
        "deadline_reached": False,
        "reversed": False,
        "settled_at_ms": None,
        "updated_at_ms": 5,
    }


def test_what_many_invoices_share_is_held_once() -> None:
    read = [
        codec.terms_from_json(orjson.loads(orjson.dumps(codec.terms_to_json(one))))
        for one in (TERMS, replace(TERMS, invoice_id=UUID(int=9)))
    ]
    assert read[0].user_id is read[1].user_id
    assert read[0].asset is read[1].asset
    assert read[0].network is read[1].network


@pytest.mark.parametrize(
    ("kind", "data", "problem"),
    [
        ("payment.teleported", {}, "unknown"),
        ("invoice.expired", {"at_ms": 1}, "credited_base"),
        ("invoice.expired", {"at_ms": 1, "credited_base": "x"}, "invalid literal"),
        ("invoice.expired", {"at_ms": 1, "credited_base": "1", "new": 2}, "new"),
        ("payment.displaced", {"reason": "boredom"}, "boredom"),
        ("payment.displaced", {"outpoint": []}, "range"),
        ("invoice.created", {"at_ms": 1, "terms": {}}, "path"),
        ("invoice.created", {"at_ms": 1, "terms": {"path": [1]}}, "unpack"),
    ],
)
def test_an_event_of_another_version_is_refused(kind: str, data: codec.Json, problem: str) -> None:
    with pytest.raises(codec.CodecError, match=problem):
        codec.event_from_json(kind, data)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "vanished"},
        {"payments": [{}]},
        {"payments": None},
        {"terms": {**codec.terms_to_json(TERMS), "invoice_id": "no uuid"}},
        {"terms": {**codec.terms_to_json(TERMS), "user_id": None}},
    ],
)
def test_a_state_of_another_version_is_refused(change: codec.Json) -> None:
    whole = codec.invoice_to_json(Invoice(TERMS))
    with pytest.raises(codec.CodecError):
        codec.invoice_from_json({**whole, **change})
    del whole["terms"]
    with pytest.raises(codec.CodecError, match="terms"):
        codec.invoice_from_json(whole)


def test_what_was_written_before_a_field_was_added_is_read_without_it() -> None:
    terms_data = codec.terms_to_json(TERMS)
    del terms_data["finality"]
    assert codec.terms_from_json(terms_data) == TERMS
    payment = Payment(OutPoint(txid("a"), 0), 5, "BTC", 1, late=False)
    state = codec.state_to_json(Invoice(TERMS, payments=(payment,)))
    del state["payments"][0]["spends"]
    assert codec.state_from_json(TERMS, state).payments == (payment,)


def test_what_only_some_chains_have_is_written_only_there():
    """What was stored before these fields were added is the same text as what is stored now."""
    plain = ev.PaymentSeen(1, OutPoint(b"\x01", 0), 5, "XMR", 2, late=False)
    assert list(codec.event_to_json(plain))[-1] == "spends"
    locked = replace(plain, one_time_key=b"\x0a\x0b", unlock_height=7, unlock_ms=9)
    written = codec.event_to_json(locked)
    assert list(written.items())[-3:] == [
        ("one_time_key", "0a0b"),
        ("unlock_height", 7),
        ("unlock_ms", 9),
    ]
    assert codec.event_from_json("payment.seen", written) == locked
    payment = Payment(OutPoint(txid("a"), 0), 5, "XMR", 1, late=False)
    state = codec.state_to_json(Invoice(TERMS, payments=(payment,)))
    assert list(state["payments"][0])[-1] == "spends"
    assert "refused" not in state
    refused = Invoice(TERMS, refused=(Refusal(OutPoint(b"\x01", 3), "XMR", "no proof"),))
    assert codec.state_to_json(refused)["refused"] == [
        {"outpoint": ["01", 3], "asset": "XMR", "reason": "no proof"}
    ]


def test_a_refusal_says_why_in_words():
    event = ev.PaymentRefused(1, OutPoint(b"\x01", 3), "XMR", "evicted")
    written = codec.event_to_json(event)
    assert written == {"at_ms": 1, "outpoint": ["01", 3], "asset": "XMR", "reason": "evicted"}
    assert codec.event_from_json("payment.refused", written) == event
