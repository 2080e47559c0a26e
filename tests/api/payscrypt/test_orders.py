"""What the two calls answer, on both wires."""

from __future__ import annotations

import pytest
import trio

from actors.brand_book import Brand
from actors.wallets import WalletAsset
from api.rest.app import create_app
from tests.helpers.payscrypt import CREATE, LATER, PUBLIC, Told

LATER_NAMES = {
    "merchant_order_id": "merchant_invoice_id",
    "pg_wallet_id": "wallet_id",
    "asset_name": "asset",
    "target_value": "price",
    "callback_url": "redirect_url",
    "redirect_url": "payment_url",
}


def later(document):
    return {LATER_NAMES.get(name, name): value for name, value in document.items()}


async def test_an_order_is_made_and_told_alike_on_both_wires(shop, house):
    wanted = shop.wanted(description="Two <b>books</b>", callback_url="https://shop.example/a?b=c")
    made = await shop.create(wanted)
    assert (made.status, made.code) == (200, 0)
    order = made.order
    row = await house.store.orders.order(int(order["id"]))
    invoice = (await house.store.invoice(row.invoice_id)).invoice
    assert order == {
        "id": str(row.id),
        "type": "NORMAL",
        "asset_name": "BTC",
        "target_value": "1500000",
        "target_confirmations": "2",
        "variants": [invoice.terms.address],
        "expired_at": str(invoice.terms.created_at_ms // 1000 + 900),
        "merchant_order_id": "A-1",
        "description": "Two <b>books</b>",
        "status": "PENDING",
        "value": "0",
        "confirmations": "0",
        "created_at": str(invoice.terms.created_at_ms // 1000),
        "updated_at": str(invoice.updated_at_ms // 1000),
        "chain": "bitcoin",
        "network": "regtest",
        "callback_url": "https://shop.example/a?b=c",
        "redirect_url": f"https://pay.example/pay/{order['id']}",
    }
    assert await shop.create_grpc(wanted) == made
    assert 0 < int(order["id"]) < 2**53


@pytest.mark.parametrize("root", ["", "/payscrypt"])
async def test_all_paths_lead_to_the_same_orders(shop, root):
    wanted = shop.wanted(callback_url="https://shop.example/")
    made = await shop.create(wanted, path=root + CREATE)
    assert made.code == 0
    renamed = await shop.create(later(wanted), path=root + LATER)
    assert renamed.order == later(made.order)
    identity = {"id": made.order["id"]}
    found = await shop.rest(root + PUBLIC, identity)
    assert found.order["id"] == made.order["id"]
    assert not {"merchant_order_id", "redirect_url", "pg_wallet_id"} & set(found.order)
    by_query = await shop.rest(f"{root}{PUBLIC}?id={identity['id']}&utm=1&utm=2", method="GET")
    assert by_query == found
    read = await shop.rest(f"{root}{LATER}/{identity['id']}", method="GET")
    assert read.order == later(found.order)
    assert await shop.grpc("getPublicOrderById", identity) == found


async def test_a_payment_is_followed_to_its_end(shop, house):
    made = await shop.create(shop.wanted())
    row = await house.store.orders.order(int(made.order["id"]))
    invoice = (await house.store.invoice(row.invoice_id)).invoice

    async def look(**fields):
        document = {"id": made.order["id"], **fields}
        found = await shop.rest(PUBLIC, document)
        assert await shop.grpc("getPublicOrderById", document) == found
        return found.order

    assert (await look())["payments"] == []
    await house.paid(invoice, 1_000_000)
    part = await look(with_payments=True)
    assert (part["status"], part["value"], part["confirmations"]) == ("PENDING", "1000000", "0")
    await house.paid(invoice, 600_000)
    covered = await look()
    assert (covered["status"], covered["value"]) == ("CONFIRMING", "1600000")
    assert covered["payments"] == []
    await house.mined(invoice)
    assert (await look())["confirmations"] == "1"
    await house.mined(invoice)
    done = await look(with_payments=True)
    assert (done["status"], done["confirmations"]) == ("SUCCESSFUL", "2")
    first, second = done["payments"]
    assert (first["value"], second["value"]) == ("1000000", "600000")
    assert first["id"] == f"{first['txid']}:{first['id'].partition(':')[2]}"
    assert first["address"] == done["variants"][0]
    assert first["confirmations"] == "2"
    assert int(first["block_height"]) > 0
    for query in ("with_payments=true", "withPayments=1"):
        asked = await shop.rest(f"{PUBLIC}?id={made.order['id']}&{query}", method="GET")
        assert len(asked.order["payments"]) == 2


async def test_the_names_of_the_wire_and_its_numbers(shop):
    wanted = shop.wanted()
    camel = {
        "merchantOrderId": wanted["merchant_order_id"],
        "assetName": "BTC",
        "targetValue": "1500000",
        "pgWalletId": str(shop.wallet_id),
        "description": None,
        "code": "a plugin's own field",
    }
    made = await shop.create(camel)
    assert made.code == 0
    assert (await shop.create({**wanted, "pg_wallet_id": float(shop.wallet_id)})) == made


async def test_the_wallet_decides_where_it_says_something(shop):
    asset = WalletAsset("BTC", confirmations=5, expiry_ms=60_000)
    wallet = await shop.wallet("btc", assets=(asset,))
    order = (await shop.create(shop.wanted(pg_wallet_id=wallet.id))).order
    assert order["target_confirmations"] == "5"
    assert int(order["expired_at"]) - int(order["created_at"]) == 60


async def test_the_merchants_name_is_the_orders_or_the_brands(shop, house):
    await house.store.brands.set_brand(Brand(user_id=shop.user_id, name="Ada's"), at_ms=1)
    named = await shop.create(shop.wanted(merchant_name="Books"))
    plain = await shop.create(shop.wanted())
    names = [
        (await shop.rest(PUBLIC, {"id": made.order["id"]})).order["merchant_name"]
        for made in (named, plain)
    ]
    assert names == ["Books", "Ada's"]


# --- again and again ------------------------------------------------------------------------------


async def test_the_same_order_is_given_back_however_often_and_from_wherever(shop, house):
    wanted = shop.wanted()
    found: list[Told] = []

    async def ask(create):
        found.append(await create(wanted))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask, shop.create)
            nursery.start_soon(ask, shop.create_grpc)
    assert len(found) == 16
    assert all(one == found[0] and one.code == 0 for one in found)
    assert len(house.supervisors["btc"].open_destinations()) == 1


async def test_after_the_end_the_number_stands_for_a_new_order(shop, house):
    wanted = shop.wanted()
    first = await shop.create(wanted)
    cancelled = await house.orders.cancel(int(first.order["id"]))
    assert cancelled.order.attempt == 1
    seen = await shop.rest(PUBLIC, {"id": first.order["id"]})
    assert seen.order["status"] == "CANCELED"
    second = await shop.create(wanted)
    assert second.code == 0
    assert second.order["id"] != first.order["id"]
    assert second.order["variants"] != first.order["variants"]


# --- where the page is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("pay.example", "http://pay.example"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
async def test_without_a_setting_the_page_is_where_the_request_went(shop, house, host, url):
    client = create_app(house.edge()).test_client()
    response = await client.post(
        CREATE, headers={"apikey": shop.token, "Host": host}, json=shop.wanted()
    )
    order = (await response.get_json())["order"]
    assert order["redirect_url"] == f"{url}/pay/{order['id']}"


@pytest.mark.parametrize("host", ["evil.example/x?", "a@b", "a b", "<script>", "", "a:b:c"])
async def test_a_host_that_is_none_is_refused(shop, house, host):
    client = create_app(house.edge()).test_client()
    response = await client.post(
        CREATE, headers={"apikey": shop.token, "Host": host}, json=shop.wanted()
    )
    assert response.status_code == 400
    assert response.headers["grpc-message"] == "invalid Host"
