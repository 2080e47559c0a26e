"""tally.v1's calls: what they answer, and how they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from actors.core.codec import EVENT_KINDS
from actors.ports import PersistentError, TransientError
from api.grpc.tally_messages import STATE_OF, STATUS_OF
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.google_messages import google_class
from tests.helpers.house import BTC_KEY, LTC_KEY, House, open_house
from tests.helpers.tally_calls import Refused, TallyCalls, tally

PENDING, MEMPOOL, CONFIRMED, EXPIRED, CANCELLED = 1, 2, 3, 4, 5


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house(make_store=FaultyStore) as running:
        yield running


@pytest.fixture
async def call(house: House) -> AsyncIterator[TallyCalls]:
    async with tally(house) as calls:
        yield calls


def order(of: UUID, **changes: object) -> dict[str, object]:
    """A request of this user, with changes; None takes a field away."""
    given: dict[str, object] = {
        "user_id": str(of),
        "asset": "BTC",
        "amount_decimal": "0.015",
        "ttl": {"seconds": 600},
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


async def create(call: TallyCalls, user_id: UUID, **changes: object):
    made = await call("CreateInvoice", **order(user_id, **changes))
    assert not isinstance(made, Refused), made
    return made.invoice


def test_every_state_has_a_status_and_zero_is_unspecified():
    assert set(STATE_OF.values()) == set(STATUS_OF)
    for enum in ("InvoiceStatus", "InvoiceOrder", "PaymentState"):
        file = google_class("tally.v1.Invoice").DESCRIPTOR.file
        values = file.enum_types_by_name[enum].values_by_number
        assert values[0].name.endswith("_UNSPECIFIED")
    assert not any(int(status) == 0 for status in STATE_OF)


async def test_a_payment_from_creation_to_confirmation(call, house):
    user_id = await house.user()
    made = await create(call, user_id, confirmations=1, metadata={"order": "7"})
    assert (made.status, made.amount.decimal, made.amount.base) == (PENDING, "0.015", "1500000")
    assert (made.user_id, made.asset, made.chain, made.network) == (
        str(user_id), "BTC", "btc", "regtest",
    )  # fmt: skip
    assert dict(made.metadata) == {"order": "7"}
    assert made.expires_at.seconds - made.created_at.seconds == 600
    assert not made.HasField("confirmed_at")
    assert not made.HasField("memo")
    (row,) = await house.store.destinations("btc")
    tx = house.btc.pay(row[0], 1_500_000)
    await house.told()
    seen = (await call("GetInvoice", invoice_id=made.id)).invoice
    assert (seen.status, seen.due.base, seen.received.decimal) == (MEMPOOL, "0", "0.015")
    (payment,) = seen.payments
    assert (payment.txid, payment.state, payment.confirmations) == (tx.txid.hex(), 1, 0)
    assert not payment.HasField("height")
    house.btc.mine(tx)
    await house.told()
    paid = (await call("GetInvoice", invoice_id=made.id)).invoice
    assert (paid.status, paid.confirmed.base, paid.payments[0].state) == (CONFIRMED, "1500000", 2)
    assert paid.payments[0].height == house.btc.height
    assert paid.HasField("confirmed_at")
    assert paid.version > seen.version > made.version


async def test_a_payment_that_is_gone_says_why(call, house):
    user_id = await house.user()
    made = await create(call, user_id)
    (row,) = await house.store.destinations("btc")
    tx = house.btc.pay(row[0], 1_500_000)
    await house.told()
    house.btc.mine(house.btc.steal(tx))
    await house.told()
    (payment,) = (await call("GetInvoice", invoice_id=made.id)).invoice.payments
    assert (payment.state, payment.gone) == (3, "double_spent")


async def test_amounts_are_exact_to_the_last_base_unit(call, house):
    user_id = await house.user()
    for given, base in (
        ({"amount_decimal": "20999999.97690001"}, "2099999997690001"),
        ({"amount_decimal": "0.00000001"}, "1"),
        ({"amount_decimal": "0"}, "0"),
        ({"amount_base": "9007199254740993"}, "9007199254740993"),
    ):
        made = await create(call, user_id, **{"amount_decimal": None, **given})
        assert made.amount.base == base


async def test_the_policy_comes_back_as_it_was_given(call, house):
    user_id = await house.user()
    policy = {
        "bands": [
            {"from_base": "0", "confirmations": 1},
            {"from_base": "100000000", "confirmations": 6},
        ],
        "rbf_confirmations": 3,
        "tolerance_base": "10",
        "tolerance_bps": 50,
        "accept_late": {"seconds": 3600},
    }
    made = await create(call, user_id, policy=policy)
    assert made.policy == google_class("tally.v1.Policy")(**policy)
    assert not (await create(call, user_id)).HasField("policy")


async def test_the_same_key_and_input_give_the_same_invoice(call, house):
    user_id = await house.user()
    first = await create(call, user_id, idempotency_key="order 7", metadata={"a": "1", "b": "2"})
    again = await create(call, user_id, idempotency_key="order 7", metadata={"b": "2", "a": "1"})
    assert again == first
    other = await call("CreateInvoice", **order(user_id, idempotency_key="order 7", asset="LTC"))
    assert (other.code, other.reason) == ("ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED")
    assert "another key" in other.text
    long = await call("CreateInvoice", **order(user_id, idempotency_key="k" * 300))
    assert (long.code, list(long.violations)) == ("INVALID_ARGUMENT", ["idempotency_key"])


async def test_only_an_invoice_that_nobody_paid_can_be_cancelled(call, house):
    user_id = await house.user()
    made = await create(call, user_id)
    cancelled = (await call("CancelInvoice", invoice_id=made.id)).invoice
    assert cancelled.status == CANCELLED
    assert (await call("CancelInvoice", invoice_id=made.id)).invoice == cancelled
    paid = await house.invoice(user_id)
    await house.paid(paid)
    refusal = await call("CancelInvoice", invoice_id=str(paid.terms.invoice_id))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "NOT_CANCELLABLE")


async def test_an_explanation_has_words_and_codes(call, house):
    made = await create(call, await house.user())
    told = await call("ExplainInvoice", invoice_id=made.id)
    assert (told.invoice_id, told.status) == (made.id, PENDING)
    assert told.reasons[0].code == "nothing_received"
    assert made.address in told.reasons[0].text


async def test_an_explanation_where_the_chain_was_taken_away(house):
    made = await house.invoice(await house.user())
    house.invoicing.chains = {}
    async with tally(house) as call:
        told = await call("ExplainInvoice", invoice_id=str(made.terms.invoice_id))
        assert any("disabled" in one.code or "chain" in one.code for one in told.reasons)


@pytest.mark.parametrize(
    ("changes", "violations"),
    [
        ({"user_id": "", "amount_decimal": None, "ttl": None}, {"user_id", "amount", "deadline"}),
        ({"user_id": "{x}"}, {"user_id"}),
        ({"amount_decimal": "1e3"}, {"amount_decimal"}),
        ({"amount_decimal": "-1"}, {"amount_decimal"}),
        ({"amount_decimal": "0.000000001"}, {"amount_decimal"}),
        ({"amount_decimal": None, "amount_base": "1.5"}, {"amount_base"}),
        ({"amount_decimal": None, "amount_base": "9" * 81}, {"amount_base"}),
        ({"amount_decimal": None, "amount_base": "٣"}, {"amount_base"}),
        ({"ttl": {"seconds": -1}}, {"ttl"}),
        ({"ttl": None, "expires_at": {"seconds": 1_000_000}}, {"expires_at"}),
        ({"policy": {"bands": [{"from_base": "x"}]}}, {"policy.bands[0].from_base"}),
        ({"policy": {"tolerance_base": "-1"}}, {"policy.tolerance_base"}),
        ({"policy": {"accept_late": {"nanos": 5_000_000}}}, {"policy.accept_late"}),
        ({"policy": {"accept_late": {"seconds": -5}}}, {"policy"}),
        ({"policy": {"tolerance_bps": 20_000}}, {"policy"}),
        ({"policy": {"bands": [{"from_base": "5"}, {"from_base": "5"}]}}, {"policy"}),
        ({"metadata": {"x": "y" * 5000}}, {"metadata"}),
        ({"asset": "DOGE"}, {"asset"}),
    ],
)
async def test_wrong_fields_are_named_all_at_once(call, house, changes, violations):
    refusal = await call("CreateInvoice", **order(await house.user(), **changes))
    assert refusal.code == "INVALID_ARGUMENT"
    assert refusal.violations.keys() == violations
    assert refusal.reason
    assert await house.store.last_seq() == 0


async def test_a_refusal_has_an_exact_status_and_the_reason_of_rest(call, house):
    nobody = uuid4()
    found = await call("CreateInvoice", **order(nobody))
    assert (found.code, found.reason) == ("NOT_FOUND", "NO_SUCH_USER")
    assert found.facts == {"user_id": str(nobody)}
    keyless = await house.invoicing.register_user()
    found = await call("CreateInvoice", **order(keyless))
    assert (found.code, found.reason) == ("FAILED_PRECONDITION", "NO_KEY")
    found = await call("CreateInvoice", **order(await house.user(), asset="ETH"))
    assert (found.code, found.reason) == ("UNAVAILABLE", "ASSET_DISABLED")
    for rpc in ("GetInvoice", "CancelInvoice", "ExplainInvoice"):
        found = await call(rpc, invoice_id=str(nobody))
        assert (found.code, found.reason) == ("NOT_FOUND", "NO_SUCH_INVOICE")
        found = await call(rpc, invoice_id="7")
        assert (found.code, list(found.violations)) == ("INVALID_ARGUMENT", ["invoice_id"])


async def test_the_store_that_is_away_is_worth_another_try(call, house):
    made = await house.invoice(await house.user())
    for error, reason in (
        (TransientError("the database is locked"), "STORE_UNAVAILABLE"),
        (PersistentError("the disk is full"), "OPERATOR_NEEDED"),
    ):
        house.store.fail("invoice", error)
        found = await call("GetInvoice", invoice_id=str(made.terms.invoice_id))
        assert (found.code, found.reason) == ("UNAVAILABLE", reason)
        assert str(error) in found.text


async def pages(call: TallyCalls, **query: object) -> list[str]:
    """The ids on all pages."""
    ids: list[str] = []
    token = ""
    while True:
        page = await call("ListInvoices", page_token=token, **query)
        assert not isinstance(page, Refused), page
        ids += [one.id for one in page.invoices]
        token = page.next_page_token
        if not token:
            return ids


async def test_lists_are_filtered_ordered_and_paged(call, house):
    alice, bob = await house.user(btc=BTC_KEY), await house.user(ltc=LTC_KEY)
    mine = [str((await house.invoice(alice, 100 + n)).terms.invoice_id) for n in range(5)]
    litecoin = await house.invoice(bob, asset="LTC")
    theirs = str(litecoin.terms.invoice_id)
    of_alice = {"page_size": 2, "user_id": str(alice), "assets": ["BTC"]}
    assert await pages(call, **of_alice, order=3) == mine
    assert await pages(call, **of_alice, order=4) == mine[::-1]
    # Those of one millisecond are ordered by id.
    newest_first = await pages(call, **of_alice)
    assert await pages(call, **of_alice, order=2) == newest_first
    assert await pages(call, **of_alice, order=1) == newest_first[::-1]
    assert sorted(newest_first) == sorted(mine)
    assert await pages(call, user_id=str(bob)) == [theirs]
    await house.paid(litecoin)
    assert await pages(call, statuses=[MEMPOOL, CONFIRMED]) == [theirs]
    everything = await pages(call, page_size=3)
    assert set(everything) == {*mine, theirs}
    updated = (await house.state(litecoin)).updated_at_ms
    since = {"seconds": updated // 1000, "nanos": updated % 1000 * 1_000_000}
    assert await pages(call, updated_since=since) == [theirs]
    assert (await pages(call, order=4, page_size=2))[0] == theirs


async def test_a_page_token_belongs_to_its_query(call, house):
    user_id = await house.user()
    for amount in (1, 2, 3):
        await house.invoice(user_id, amount)
    page = await call("ListInvoices", page_size=1)
    for query in (
        {"user_id": str(user_id)},
        {"order": 1},
        {"statuses": [PENDING]},
        {"updated_since": {"seconds": 1}},
    ):
        found = await call("ListInvoices", page_token=page.next_page_token, **query)
        assert found.code == "INVALID_ARGUMENT"
        assert "begin anew" in found.violations["page_token"]
    found = await call("ListInvoices", page_token="garbage")
    assert "`next_page_token`" in found.violations["page_token"]
    again = await call("ListInvoices", page_token=page.next_page_token, page_size=7)
    assert len(again.invoices) == 2


async def test_what_no_list_can_be_asked_for_is_named(call):
    found = await call(
        "ListInvoices",
        user_id="x",
        statuses=[0, 99],
        assets=["DOGE"],
        page_size=501,
        order=9,
    )
    assert found.violations.keys() == {
        "user_id", "statuses[0]", "statuses[1]", "assets[0]", "page_size", "order",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"user_id": "x"}, "user_id"),
        ({"invoice_id": "x"}, "invoice_id"),
        ({"types": ["invoice.paid"]}, "types[0]"),
        ({"heartbeat": {"nanos": 1}}, "heartbeat"),
        ({"heartbeat": {"seconds": 61}}, "heartbeat"),
        ({"after_seq": 1}, "start"),
        ({"after_id": "garbage"}, "start"),
        ({"after_id": "00000000-1"}, "start"),
        ({"after_seq": 2**64 - 1}, "start"),
    ],
)
async def test_what_cannot_be_watched_is_refused_with_what_to_do(call, fields, field):
    async with call.watch(**fields) as stream:
        end = await stream.end()
    assert end.code == "INVALID_ARGUMENT"
    assert list(end.violations) == [field]
    assert end.reason in ("INVALID_REQUEST", "CURSOR_REFUSED")


async def test_who_does_not_exist_cannot_be_watched(call):
    for fields, reason in (
        ({"user_id": str(uuid4())}, "NO_SUCH_USER"),
        ({"invoice_id": str(uuid4())}, "NO_SUCH_INVOICE"),
    ):
        async with call.watch(**fields) as stream:
            end = await stream.end()
        assert (end.code, end.reason) == ("NOT_FOUND", reason)


def test_every_kind_of_event_can_be_asked_for():
    assert "invoice.settled" in EVENT_KINDS
    assert len(set(EVENT_KINDS)) == len(EVENT_KINDS)
