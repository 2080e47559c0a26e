"""Ids, instants and invoices survive the way over the wires."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.assets import Asset, Catalogue, Chain
from actors.core.invoice import State
from actors.core.money import from_double
from actors.invoicing import LAST_INSTANT_MS
from api import convert
from proto.goipay.crypto.v1 import CoinType
from tests.helpers.google_messages import google_class
from tests.helpers.invoices import CREATED_MS, EXPIRES_MS, History, block, included, seen, txid

BTC = Asset("BTC", "btc", "BTC", "Bitcoin", 8)


def catalogue(*assets: Asset) -> Catalogue:
    return Catalogue(chains=[Chain("btc", "Bitcoin", "bitcoin", "BTC", 600, 2)], assets=assets)


@given(st.uuids())
def test_a_uuid_is_taken_with_and_without_dashes_in_either_case(value: UUID):
    for text in (str(value), value.hex, str(value).upper(), value.hex.upper()):
        assert convert.parse_uuid(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d1",
        "0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d100",
        "{0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10}",
        "urn:uuid:0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10",
        "0b4f2f3e6c1c-4f0e-9b57-3f2a7a1f9d10",
        " 0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10",
        "0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10\n",
        "0b4f2f3e_6c1c_4f0e_9b57_3f2a7a1f9d10",
        "gb4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10",
        "\u0660b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10",
    ],
)
def test_other_texts_are_no_uuid(text):
    assert convert.parse_uuid(text) is None


@given(st.text(max_size=40))
def test_no_text_makes_the_uuid_reader_fail(text):
    found = convert.parse_uuid(text)
    assert found is None or found.hex == text.replace("-", "").lower()


@given(st.integers(0, LAST_INSTANT_MS))
def test_an_instant_comes_back_from_its_text_to_the_millisecond(at_ms):
    text = convert.format_instant(at_ms)
    assert text.endswith("Z")
    assert convert.parse_instant(text) == at_ms


ZONES = st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))


@given(st.datetimes(timezones=ZONES).filter(lambda at: 1970 < at.year < 9999))
def test_an_instant_is_read_in_any_zone(at):
    text = at.isoformat()
    wanted = (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
    assert convert.parse_instant(text) == wanted
    # A plus sign that a query string turned into a blank.
    assert convert.parse_instant(text.replace("+", " ")) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "2026-01-31", "2026-01-31T23:59:59", "1700000000", "2026-02-30T00:00:00Z", "now",
     "2026-01-31T24:30:00Z", "2026-01-31 23:59:59Z", "2026-01-31T23:59:59+25:00"],
)  # fmt: skip
def test_what_is_no_instant_is_refused_in_words(text):
    with pytest.raises(ValueError, match="instant"):
        convert.parse_instant(text)


@given(st.text(max_size=40))
def test_no_text_makes_the_instant_reader_fail_otherwise(text):
    with pytest.raises(ValueError, match="instant"):
        convert.parse_instant(f"{text}!")


def test_every_coin_of_goipay_has_its_asset_and_back():
    for coin in CoinType:
        asset_id = convert.asset_id_of(coin)
        assert asset_id is not None
        assert convert.coin_of(asset_id) is coin
    assert convert.asset_id_of(CoinType(99)) is None
    assert convert.coin_of("NO_SUCH_COIN") is None
    assert convert.coin_of("") is None


def test_every_state_has_a_status_of_its_own():
    assert set(convert.STATUS_OF) == set(State)
    words = ["CANCELLED", "CONFIRMED", "EXPIRED", "PENDING", "PENDING_MEMPOOL"]
    assert sorted(convert.STATE_OF_WORD) == words
    assert len(convert.STATUS_WORD) == len(State)
    for word, state in convert.STATE_OF_WORD.items():
        assert convert.STATUS_WORD[state] == word


def google(invoice, asset=BTC):
    """What an official client reads of the invoice."""
    wire = convert.wire_invoice(invoice, catalogue(asset))
    assert wire is not None
    return google_class("invoice.v1.Invoice").FromString(bytes(wire))


def test_a_new_invoice_on_the_wire():
    story = History()
    read = google(story.invoice)
    assert read.id == str(story.invoice.terms.invoice_id)
    assert read.userId == str(story.invoice.terms.user_id)
    assert read.cryptoAddress == "bcrt1qexample"
    assert read.coin == 1
    assert (read.requiredAmount, read.actualAmount) == (0.5, 0.0)
    assert read.confirmationsRequired == 3
    assert read.status == 0
    assert read.txId == ""
    assert read.createdAt.ToMilliseconds() == CREATED_MS
    assert read.expiresAt.ToMilliseconds() == EXPIRES_MS
    assert read.confirmedAt.ToJsonString() == "0001-01-01T00:00:00Z"


def test_a_paid_and_a_confirmed_invoice_on_the_wire():
    story = History(confirmations=1)
    story.tell(seen("a", 20_000_000, at_ms=CREATED_MS + 1))
    assert (google(story.invoice).status, google(story.invoice).actualAmount) == (0, 0.2)
    story.tell(seen("b", 30_000_001, at_ms=CREATED_MS + 2))
    read = google(story.invoice)
    assert (read.status, read.actualAmount) == (1, 0.50000001)
    assert read.txId == txid("b").hex()
    for name, amount in (("a", 20_000_000), ("b", 30_000_001)):
        story.tell(included(name, amount, into=block(7), at_ms=CREATED_MS + 3))
    read = google(story.invoice)
    assert read.status == 3
    assert read.confirmedAt.ToMilliseconds() == CREATED_MS + 3


def test_the_farthest_instants_and_numbers_fit():
    story = History()
    terms = replace(
        story.invoice.terms,
        expires_at_ms=LAST_INSTANT_MS,
        confirmations=2**32 - 1,
        required_base=from_double(1.7976931348623157e308, 8),
    )
    read = google(replace(story.invoice, terms=terms))
    assert read.expiresAt.ToJsonString() == "9999-12-31T23:59:59.999Z"
    assert read.confirmationsRequired == 2**32 - 1
    assert read.requiredAmount == 1.7976931348623157e308


def test_what_goipay_has_no_number_for_is_not_sent_as_another_coin():
    story = History(asset="HOUSE_TOKEN")
    house = replace(BTC, id="HOUSE_TOKEN", contract=b"\x01" * 20)
    assert convert.wire_invoice(story.invoice, catalogue(BTC, house)) is None
    assert convert.wire_invoice(story.invoice, catalogue(BTC)) is None


def test_a_transaction_is_named_as_its_chain_names_it():
    story = History(asset="ETH", chain="eth")
    story.tell(seen("a", 5, at_ms=CREATED_MS, asset="ETH"))
    chain = Chain("eth", "Ethereum", "evm", "ETH", 12, 12)
    assets = Catalogue(chains=[chain], assets=[Asset("ETH", "eth", "ETH", "Ether", 18)])
    wire = convert.wire_invoice(story.invoice, assets)
    assert wire is not None
    assert wire.tx_id == f"0x{txid('a').hex()}"


@given(st.floats(min_value=0, max_value=2**32), st.integers(0, 18))
def test_a_required_amount_comes_back_as_the_double_that_was_asked(amount, exponent):
    wanted_base = from_double(round(amount, exponent), exponent)
    terms = replace(History().invoice.terms, required_base=wanted_base)
    wire = convert.wire_invoice(
        replace(History().invoice, terms=terms), catalogue(replace(BTC, exponent=exponent))
    )
    assert wire is not None
    assert from_double(wire.required_amount, exponent) == pytest.approx(wanted_base, rel=1e-15)
