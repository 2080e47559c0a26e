"""What only some chains know of a payment, as the REST interface shows it."""

from __future__ import annotations

import pytest

from actors.core.assets import Asset, Catalogue, Chain
from actors.core.chain_events import OutPoint, RefusedOutput, Removal
from actors.core.inputs import OutputsRefused, TipReached, TxRemoved
from api.convert import format_instant
from api.rest.represent import invoice_json
from api.rest.schemas import SCHEMAS
from tests.helpers.invoices import (
    CREATED_MS,
    DESTINATION,
    EXPIRES_MS,
    History,
    block,
    included,
    seen,
    txid,
)

CATALOGUE = Catalogue(
    chains=[
        Chain("btc", "Bitcoin", "bitcoin", "BTC", 600, 2),
        Chain("xmr", "Monero", "monero", "XMR", 120, 10, unlock_blocks=10),
    ],
    assets=[Asset("BTC", "btc", "BTC", "Bitcoin", 8), Asset("XMR", "xmr", "XMR", "Monero", 12)],
)
IN_TIME = CREATED_MS + 1000


def shown(story: History) -> dict:
    document = invoice_json(story.invoice, CATALOGUE, None)
    for name, part in (
        ("Invoice", document),
        *(("Payment", one) for one in document["payments"]),
        *(("RefusedOutput", one) for one in document["refused"]),
    ):
        assert set(part) == set(SCHEMAS[name]["properties"])
    return document


def monero(**changes) -> History:
    return History(chain="xmr", asset="XMR", required_base=100, confirmations=1, **changes)


def test_nothing_is_said_on_chains_that_know_nothing_of_it():
    story = History(required_base=100, confirmations=1)
    story.tell(included("a", 100, into=block(10), at_ms=IN_TIME))
    document = shown(story)
    (payment,) = document["payments"]
    names = ("unlock_height", "unlock_at", "duplicate", "spendable_at_height")
    assert [payment[name] for name in names] == [None, None, False, None]
    assert (document["flags"]["refused"], document["refused"]) == (False, [])


def test_when_money_can_be_moved():
    story = monero()
    story.tell(seen("a", 60, at_ms=IN_TIME, asset="XMR"))
    story.tell(included("b", 40, into=block(10), at_ms=IN_TIME, asset="XMR"))
    waiting, mined = shown(story)["payments"]
    assert waiting["spendable_at_height"] is None
    assert mined["spendable_at_height"] == 19, "block 20 may spend it"


@pytest.mark.parametrize(
    ("lock", "height", "at"),
    [
        ({"unlock_height": 70}, 70, None),
        ({"unlock_ms": EXPIRES_MS}, None, format_instant(EXPIRES_MS)),
    ],
)
def test_locked_money_is_received_and_not_credited(lock, height, at):
    story = monero()
    story.tell(included("a", 100, into=block(10), at_ms=IN_TIME, asset="XMR", **lock))
    document = shown(story)
    (payment,) = document["payments"]
    assert (payment["unlock_height"], payment["unlock_at"]) == (height, at)
    assert payment["spendable_at_height"] == height
    assert (document["received_base"], document["credited_base"]) == ("100", "0")
    assert (document["confirmed_base"], document["due_base"]) == ("0", "100")


def test_unlocked_money_is_as_any_other():
    story = monero()
    story.tell(included("a", 100, into=block(10), at_ms=IN_TIME, asset="XMR", unlock_height=70))
    story.tell(TipReached(70, IN_TIME))
    document = shown(story)
    assert document["status"] == "CONFIRMED"
    assert document["payments"][0]["unlock_height"] is None


def test_the_second_output_with_a_key_is_a_duplicate():
    story = monero()
    for name in ("a", "b"):
        same = {"asset": "XMR", "one_time_key": b"P"}
        story.tell(included(name, 60, into=block(10), at_ms=IN_TIME, **same))
    document = shown(story)
    assert [payment["duplicate"] for payment in document["payments"]] == [False, True]
    assert document["received_base"] == "60"
    assert document["flags"]["underpaid"]


def test_a_contested_payment():
    story = monero()
    story.tell(seen("a", 100, at_ms=IN_TIME, asset="XMR"))
    story.tell(TxRemoved(txid("a"), Removal.CONTESTED, None, IN_TIME))
    document = shown(story)
    assert document["payments"][0]["state"] == "contested"
    assert document["status"] == "PENDING"


def test_what_is_refused_is_an_alarm():
    story = monero()
    refused = RefusedOutput(OutPoint(txid("a"), 1), DESTINATION, "XMR", "it proves nothing")
    story.tell(OutputsRefused((refused,), IN_TIME))
    document = shown(story)
    assert document["flags"]["refused"]
    assert document["refused"] == [
        {
            "outpoint": f"{txid('a').hex()}:1",
            "txid": txid("a").hex(),
            "index": 1,
            "asset": "XMR",
            "reason": "it proves nothing",
        }
    ]
    assert document["payments"] == []
