"""What the status stream tells, when, how often, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest
import trio
import trio.testing

from actors.core.invoice import fold
from actors.core.policy import Band, Policy
from actors.ports import Committed
from api.grpc.goipay import news
from tests.helpers.goipay_calls import Calls, goipay
from tests.helpers.house import BTC_KEY, House, open_house
from tests.helpers.invoices import CREATED_MS, EXPIRES_MS, History, block, included, seen

PENDING, MEMPOOL, EXPIRED, CONFIRMED = 0, 1, 2, 3


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as running:
        yield running


@pytest.fixture
async def call(house: House) -> AsyncIterator[Calls]:
    async with goipay(house) as calls:
        yield calls


def told(invoices: list[object]) -> list[tuple[int, float]]:
    return [(one.status, one.actualAmount) for one in invoices]


async def test_a_payment_from_creation_to_confirmation(call: Calls, house: House):
    user_id = await house.user()
    async with call.stream() as stream:
        made = await call(
            "CreateInvoice", userId=str(user_id), coin=1, amount=0.015, timeout=600, confirmations=2
        )
        (pending,) = await stream.take(1)
        assert (pending.id, pending.cryptoAddress) == (made.paymentId, made.address)
        assert (pending.userId, pending.coin) == (str(user_id), 1)
        assert pending.confirmedAt.ToJsonString() == "0001-01-01T00:00:00Z"
        (row,) = await house.store.destinations("btc")
        tx = house.btc.pay(row[0], 1_500_000)
        await house.told()
        house.btc.mine(tx)
        house.btc.mine_empty()
        await house.told()
        paid, confirmed = await stream.take(2)
        assert told([pending, paid, confirmed]) == [
            (PENDING, 0.0),
            (MEMPOOL, 0.015),
            (CONFIRMED, 0.015),
        ]
        assert paid.txId == confirmed.txId == tx.txid.hex()
        assert confirmed.confirmedAt.ToMilliseconds() >= confirmed.createdAt.ToMilliseconds()


async def test_zero_confirmations_tell_mempool_and_confirmed_in_this_order(
    call: Calls, house: House
):
    user_id = await house.user()
    async with call.stream() as stream:
        invoice = await house.invoice(user_id, 1000, confirmations=0)
        await house.paid(invoice)
        assert told(await stream.take(3)) == [(PENDING, 0.0), (MEMPOOL, 1e-5), (CONFIRMED, 1e-5)]


async def test_an_underpaid_invoice_is_told_as_money_comes(call: Calls, house: House):
    user_id = await house.user()
    async with call.stream() as stream:
        invoice = await house.invoice(user_id, 1000)
        await house.paid(invoice, 300)
        await house.paid(invoice, 300)
        await house.paid(invoice, 400)
        await house.paid(invoice, 1)
        assert told(await stream.take(5)) == [
            (PENDING, 0.0),
            (PENDING, 3e-06),
            (PENDING, 6e-06),
            (MEMPOOL, 1e-05),
            (MEMPOOL, 1.001e-05),
        ]


async def test_confirmed_is_told_once_whatever_comes_later(call: Calls, house: House):
    user_id = await house.user()
    async with call.stream() as stream:
        invoice = await house.invoice(user_id, 1000)
        await house.paid(invoice)
        await house.mined(invoice)
        await house.paid(invoice, 5)
        house.btc.reorg(1)
        await house.told()
        await house.mined(invoice)
        other = await house.invoice(user_id, 7)
        seen_by_stream = await stream.take(4)
        assert [one.status for one in seen_by_stream] == [PENDING, MEMPOOL, CONFIRMED, PENDING]
        assert seen_by_stream[-1].id == str(other.terms.invoice_id)


async def test_a_theft_takes_the_invoice_back_to_pending(call: Calls, house: House):
    user_id = await house.user()
    async with call.stream() as stream:
        invoice = await house.invoice(user_id, 1000)
        tx = house.btc.pay(invoice.terms.destination, 1000)
        await house.told()
        house.btc.mine(house.btc.steal(tx))
        await house.told()
        assert told(await stream.take(3)) == [(PENDING, 0.0), (MEMPOOL, 1e-05), (PENDING, 0.0)]


async def test_an_expired_invoice_is_told_once(call: Calls, house: House):
    user_id = await house.user()
    async with call.stream() as stream:
        invoice = await house.invoice(user_id, 1000, ttl_s=10)
        house.clock.jump(11)
        await house.told()
        await house.paid(invoice)
        await house.invoice(user_id, 7)
        assert [one.status for one in await stream.take(3)] == [PENDING, EXPIRED, PENDING]


async def test_every_subscriber_gets_the_same_and_none_what_was_before(call: Calls, house: House):
    user_id = await house.user()
    before = await house.invoice(user_id)
    async with call.stream() as one, call.stream() as two:
        assert call.invoices.stream.subscribers == 2
        assert house.hub.statistics().listeners == 1
        after = await house.invoice(user_id)
        for stream in (one, two):
            (heard,) = await stream.take(1)
            assert heard.id == str(after.terms.invoice_id) != str(before.terms.invoice_id)


async def test_a_subscriber_that_goes_is_forgotten(call: Calls, house: House):
    async with call.stream():
        assert call.invoices.stream.subscribers == 1
    with trio.fail_after(10):
        while call.invoices.stream.subscribers:
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert house.hub.statistics().listeners == 0


async def test_shutdown_ends_streams_with_the_documented_status(call: Calls, house: House):
    async with call.stream() as stream:
        await call.running.server.shutdown(grace_s=0.5)
        end = await stream.end()
    assert (end.code, end.text) == (1, "Stream has been closed.")


async def test_an_asset_that_goipay_has_no_number_for_is_not_told(call: Calls, house: House):
    user_id = await house.user(btc=BTC_KEY)
    strange = committed(History(asset="HOUSE_TOKEN", chain="eth", user_id=user_id))
    async with call.stream() as stream:
        call.invoices.stream._publish(strange)
        known = await house.invoice(user_id)
        (heard_of,) = await stream.take(1)
        assert heard_of.id == str(known.terms.invoice_id)


# --- which states of a batch are told -------------------------------------------------------------


def committed(story: History, *, first: int = 1) -> list[Committed]:
    """The story's events from number `first` on, as one committed batch."""
    found, before = [], None
    for number, event in enumerate(story.events, start=1):
        after = fold(story.events[:number])
        if number >= first:
            found.append(Committed(number, before, event, after))
        before = after
    return found


def heard(batch: list[Committed]) -> list[tuple[str, int]]:
    return [(one.state.value, one.received_base) for one in news(batch)]


def test_the_sum_between_a_replacement_and_its_loss_is_not_told():
    story = History(required_base=1000)
    story.tell(seen("a", 400, at_ms=CREATED_MS))
    begin = len(story.events) + 1
    story.tell(seen("b", 500, at_ms=CREATED_MS, replaces=["a"]))
    assert [one.event.kind for one in committed(story, first=begin)] == [
        "payment.seen",
        "payment.displaced",
    ]
    assert heard(committed(story, first=begin)) == [("pending", 500)]


def test_a_confirmation_that_changes_no_amount_is_not_told():
    story = History(required_base=1000, confirmations=2)
    story.tell(seen("a", 1000, at_ms=CREATED_MS))
    begin = len(story.events) + 1
    story.tell(included("a", 1000, into=block(7), at_ms=CREATED_MS))
    assert committed(story, first=begin)
    assert heard(committed(story, first=begin)) == []


def test_a_whole_life_in_one_batch_is_told_by_its_statuses():
    story = History(required_base=1000, confirmations=1)
    story.tell(seen("a", 1000, at_ms=CREATED_MS))
    story.tell(included("a", 1000, into=block(7), at_ms=CREATED_MS))
    story.tell(seen("b", 5, at_ms=EXPIRES_MS + 1))
    assert heard(committed(story)) == [("pending", 0), ("seen", 1000), ("settled", 1000)]


def test_invoices_in_one_batch_are_told_in_the_order_of_the_log():
    one, two = History(required_base=10), History(required_base=20)
    two_terms = replace(two.invoice.terms, invoice_id=UUID(int=77))
    first, second = committed(one), committed(two)
    moved = [
        replace(entry, seq=entry.seq + 1, after=replace(entry.after, terms=two_terms))
        for entry in second
    ]
    assert [invoice.terms.invoice_id for invoice in news([*first, *moved])] == [
        one.invoice.terms.invoice_id,
        UUID(int=77),
    ]


async def test_a_cancelled_invoice_has_expired_for_goipays_clients(call: Calls, house: House):
    user_id = await house.user()
    invoice = await house.invoice(user_id)
    async with call.stream() as stream:
        await house.invoicing.cancel(invoice.terms.invoice_id)
        (told_of,) = await stream.take(1)
        assert (told_of.id, told_of.status) == (str(invoice.terms.invoice_id), EXPIRED)


async def test_a_default_policy_counts_for_goipays_clients_too(call: Calls, house: House):
    user_id = await house.user()
    policy = Policy(bands=(Band(0, 9),), tolerance_bps=1000)
    assert await house.invoicing.set_policy(user_id, "BTC", policy) is None
    await call(
        "CreateInvoice", userId=str(user_id), coin=1, amount=0.015, timeout=600, confirmations=1
    )
    (row,) = await house.store.destinations("btc")
    async with call.stream() as stream:
        house.btc.mine(house.btc.pay(row[0], 1_350_000))
        await house.told()
        *_, confirmed = await stream.take(2)
        # The number that they always send takes the place of the bands.
        assert (confirmed.status, confirmed.confirmationsRequired) == (CONFIRMED, 1)
