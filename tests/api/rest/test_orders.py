"""Orders over REST, for who runs the daemon or the shop."""

from __future__ import annotations

from uuid import uuid4

import pytest

from actors.order_book import Order
from tests.api.rest.test_access import Counter
from tests.helpers.house import BTC_KEY, LTC_KEY
from tests.helpers.orders import NUMBER, make_wallet, place_order
from tests.helpers.problems import places, problem_of


@pytest.fixture
async def user_id(house):
    return await house.invoicing.register_user()


@pytest.fixture
async def wallet(house, user_id):
    return await make_wallet(house, user_id)


def found_at(user_id, number=NUMBER):
    return f"/v1/orders?user_id={user_id}&merchant_order_id={number}"


async def read(client, placed):
    answer = await client.get(f"/v1/orders/{placed.order.id}")
    assert answer.status_code == 200
    return await answer.get_json()


async def test_an_order_is_read_with_its_invoice(client, house, user_id, wallet):
    placed = await place_order(
        house, wallet, description="<b>Two</b> cups", callback_url="https://shop.example/done"
    )
    order = await read(client, placed)
    invoice_id = placed.order.invoice_id
    assert order.pop("invoice") == await (await client.get(f"/v1/invoices/{invoice_id}")).get_json()
    assert order.pop("created_at")
    assert order == {
        "id": str(placed.order.id),
        "user_id": str(user_id),
        "wallet_id": wallet.id,
        "merchant_order_id": NUMBER,
        "attempt": 1,
        "status": "PENDING",
        "confirmations": 0,
        "description": "<b>Two</b> cups",
        "callback_url": "https://shop.example/done",
        "merchant_name": "",
        "page_url": f"/pay/{placed.order.id}",
    }
    await client.put(f"/v1/users/{user_id}/brand", json={"name": "Corner Shop"})
    await house.paid(placed.invoice)
    paid = await read(client, placed)
    assert (paid["status"], paid["merchant_name"]) == ("CONFIRMING", "Corner Shop")
    await house.mined(placed.invoice, 2)
    done = await read(client, placed)
    assert (done["status"], done["confirmations"]) == ("SUCCESSFUL", 2)
    assert done["invoice"]["status"] == "CONFIRMED"


async def test_a_merchants_number_finds_every_attempt(client, house, user_id, wallet):
    first = await place_order(house, wallet)
    await house.orders.cancel(first.order.id)
    second = await place_order(house, wallet)
    await place_order(house, wallet, number="other")
    answer = await client.get(found_at(user_id))
    found = (await answer.get_json())["items"]
    assert [(one["id"], one["attempt"], one["status"]) for one in found] == [
        (str(second.order.id), 2, "PENDING"),
        (str(first.order.id), 1, "CANCELED"),
    ]
    assert await (await client.get(found_at(user_id, "none"))).get_json() == {"items": []}
    await problem_of(await client.get(found_at(uuid4())), 404, "NO_SUCH_USER")
    for path, missing in (
        (f"/v1/orders?user_id={user_id}", "merchant_order_id"),
        ("/v1/orders?merchant_order_id=x", "user_id"),
    ):
        problem = await problem_of(await client.get(path), 422, "INVALID_REQUEST")
        assert places(problem) == [missing]


async def test_an_order_that_was_only_begun_does_not_exist(client, house, user_id, wallet):
    begun = Order(
        id=17,
        invoice_id=uuid4(),
        user_id=user_id,
        wallet_id=wallet.id,
        merchant_order_id=NUMBER,
        attempt=1,
        description="",
        callback_url="",
        merchant_name="",
        created_at_ms=1,
    )
    assert await house.store.orders.claim_order(begun) == begun
    await problem_of(await client.get("/v1/orders/17"), 404, "NO_SUCH_ORDER")
    await problem_of(await client.post("/v1/orders/17/cancel"), 404, "NO_SUCH_ORDER")
    assert await (await client.get(found_at(user_id))).get_json() == {"items": []}


async def test_what_waits_is_cancelled_once_and_its_number_is_free(client, house, wallet):
    placed = await place_order(house, wallet)
    path = f"/v1/orders/{placed.order.id}/cancel"
    for _ in range(2):
        answer = await client.post(path)
        assert answer.status_code == 200
        assert (await answer.get_json())["status"] == "CANCELED"
    trail = [one.act for one in await house.store.acts(before=None, limit=9)]
    assert [(one.act, one.target, one.detail) for one in trail] == [
        ("order.cancelled", str(placed.order.id), f"invoice {placed.order.invoice_id}")
    ]
    again = await place_order(house, wallet)
    assert again.order.attempt == 2


async def test_what_has_received_something_is_not_cancelled(client, house, wallet):
    placed = await place_order(house, wallet)
    await house.paid(placed.invoice, 1)
    answer = await client.post(f"/v1/orders/{placed.order.id}/cancel")
    await problem_of(answer, 409, "NOT_CANCELLABLE")
    assert await house.store.acts(before=None, limit=9) == ()


@pytest.mark.parametrize("word", ["1", "0", "-5", "007", "x", "9" * 19, "9" * 50, str(2**53)])
async def test_what_is_no_order_is_not_there(client, wallet, word):
    await problem_of(await client.get(f"/v1/orders/{word}"), 404, "NO_SUCH_ORDER")
    await problem_of(await client.post(f"/v1/orders/{word}/cancel"), 404, "NO_SUCH_ORDER")


async def test_a_restricted_key_sees_its_users_orders_only(house):
    counter = Counter(house)
    mine, theirs = [await house.invoicing.register_user() for _ in range(2)]
    own = await place_order(house, await make_wallet(house, mine, btc=BTC_KEY))
    foreign = await place_order(house, await make_wallet(house, theirs, ltc=LTC_KEY), asset="LTC")
    headers = await counter.key("read", "write", user_id=mine)
    _, order, _ = await counter.ask("GET", f"/v1/orders/{own.order.id}", headers)
    assert order["id"] == str(own.order.id)
    _, listed, _ = await counter.ask("GET", f"/v1/orders?merchant_order_id={NUMBER}", headers)
    assert listed["items"] == [order]
    hidden = await counter.ask("GET", found_at(theirs), headers)
    absent = await counter.ask("GET", found_at(uuid4()), headers)
    assert hidden[0] == absent[0] == 404
    for method, tail in (("GET", ""), ("POST", "/cancel")):
        hidden = await counter.ask(method, f"/v1/orders/{foreign.order.id}{tail}", headers)
        absent = await counter.ask(method, f"/v1/orders/5{tail}", headers)
        assert hidden[0] == absent[0] == 404
        assert hidden[1]["detail"].replace(f"'{foreign.order.id}'", "'5'") == absent[1]["detail"]
    assert (await house.orders.find(foreign.order.id)).status.name == "PENDING"
    reader = await counter.key("read", user_id=mine)
    assert (await counter.ask("POST", f"/v1/orders/{own.order.id}/cancel", reader))[0] == 403
    assert (await counter.ask("POST", f"/v1/orders/{own.order.id}/cancel", headers))[0] == 200
