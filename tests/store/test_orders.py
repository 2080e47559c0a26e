"""The rows of orders, on every store."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import trio

from actors.order_book import Order
from actors.ports import Store
from tests.store.conftest import Opener

ALICE, BOB = UUID(int=1), UUID(int=2**127 + 5)
FIRST = Order(
    id=2**53 - 1,
    invoice_id=UUID(int=7),
    user_id=ALICE,
    wallet_id=3,
    merchant_order_id="№ 1' --",
    attempt=1,
    description="<b>two\nlines</b>",
    callback_url="https://shop.example/done?a=b",
    merchant_name="Grüße 🛒",
    created_at_ms=2**41,
)


def another(order_id: int, **more) -> Order:
    return replace(FIRST, id=order_id, invoice_id=UUID(int=order_id), **more)


async def test_an_order_is_found_by_all_its_names(open_again: Opener):
    async with open_again() as store:
        assert await store.orders.claim_order(FIRST) == FIRST
    async with open_again() as store:
        orders = store.orders
        assert await orders.order(FIRST.id) == FIRST
        assert await orders.order_of_invoice(FIRST.invoice_id) == FIRST
        assert await orders.newest_order(ALICE, FIRST.merchant_order_id) == FIRST
        assert await orders.order(5) is None
        assert await orders.order_of_invoice(UUID(int=5)) is None
        assert await orders.newest_order(BOB, FIRST.merchant_order_id) is None
        assert await orders.newest_order(ALICE, "other") is None


async def test_orders_are_found_among_many_invoices(store: Store):
    mine = [another(order_id, attempt=order_id) for order_id in (1, 700, 1400)]
    for order in mine:
        await store.orders.claim_order(order)
    asked = [UUID(int=number) for number in range(1, 1402)]
    found = await store.orders.orders_of_invoices(asked)
    assert sorted(found, key=lambda one: one.id) == mine
    assert await store.orders.orders_of_invoices(asked[1:9]) == ()
    assert await store.orders.orders_of_invoices([]) == ()


async def test_the_first_claim_stands(store: Store):
    orders = store.orders
    assert await orders.claim_order(FIRST) == FIRST
    assert await orders.claim_order(FIRST) == FIRST
    assert await orders.claim_order(another(8, description="other", wallet_id=9)) == FIRST
    assert await orders.order(8) is None
    theirs = another(9, user_id=BOB)
    assert await orders.claim_order(theirs) == theirs


async def test_the_newest_attempt_is_the_highest(store: Store):
    orders = store.orders
    attempts = [another(20 - number, attempt=number) for number in (1, 3, 2)]
    for order in attempts:
        assert await orders.claim_order(order) == order
    assert await orders.newest_order(ALICE, FIRST.merchant_order_id) == attempts[1]
    assert await orders.order(19) == attempts[0]


async def test_an_id_that_is_taken_is_told_apart(store: Store):
    orders = store.orders
    await orders.claim_order(FIRST)
    for same in ({"id": FIRST.id}, {"invoice_id": FIRST.invoice_id}):
        assert await orders.claim_order(replace(another(8, attempt=2), **same)) is None
    assert await orders.newest_order(ALICE, FIRST.merchant_order_id) == FIRST


async def test_one_of_many_who_claim_at_once_wins(store: Store):
    answers = []

    async def claim(order_id: int) -> None:
        answers.append(await store.orders.claim_order(another(order_id)))

    async with trio.open_nursery() as nursery:
        for order_id in range(1, 21):
            nursery.start_soon(claim, order_id)
    assert len(answers) == 20
    assert len(set(answers)) == 1
    assert await store.orders.newest_order(ALICE, FIRST.merchant_order_id) == answers[0]


async def test_attempts_are_listed_from_the_newest(store: Store):
    orders = store.orders
    attempts = [another(20 - number, attempt=number) for number in (2, 1, 3)]
    for order in (*attempts, another(30, user_id=BOB), another(31, merchant_order_id="x")):
        await orders.claim_order(order)
    name = FIRST.merchant_order_id
    found = await orders.attempts(ALICE, name, limit=9)
    assert [one.attempt for one in found] == [3, 2, 1]
    assert await orders.attempts(ALICE, name, limit=2) == found[:2]
    assert await orders.attempts(ALICE, "other", limit=2) == ()
