"""Every refusal, with its exact text, on both wires: a change here is a change for clients."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
import trio
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from actors.access_book import Scope
from actors.gate import FAILURES_BURST
from actors.ports import PersistentError, TransientError
from actors.wallets import Wallet, WalletAsset
from api.access import scope_of_rpc
from api.payscrypt import KINDS
from tests.helpers.house import EVM_KEY, LTC_KEY
from tests.helpers.payscrypt import CREATE, HTTP_OF, LATER, PUBLIC, SERVICE, Shop, Told, open_shop

ROOT = Path(__file__).parents[3]
INVALID = [
    ({"merchant_order_id": None}, "merchant_order_id"),
    ({"merchant_order_id": ""}, "merchant_order_id"),
    ({"merchant_order_id": "x" * 129}, "merchant_order_id"),
    ({"merchant_order_id": "a\0b"}, "merchant_order_id"),
    ({"asset_name": None}, "asset_name"),
    ({"target_value": None}, "target_value"),
    ({"target_value": "0"}, "target_value"),
    ({"target_value": "-5"}, "target_value"),
    ({"target_value": "+5"}, "target_value"),
    ({"target_value": "0.5"}, "target_value"),
    ({"target_value": "1e8"}, "target_value"),
    ({"target_value": "05"}, "target_value"),
    ({"target_value": " 5"}, "target_value"),
    ({"target_value": "5\n"}, "target_value"),
    ({"target_value": "\u0665"}, "target_value"),
    ({"target_value": "9" * 79}, "target_value"),
    ({"callback_url": "javascript:alert(1)"}, "callback_url"),
    ({"callback_url": "//evil.example"}, "callback_url"),
    ({"callback_url": "https://a b/"}, "callback_url"),
    ({"callback_url": "ftp://shop.example/"}, "callback_url"),
    ({"callback_url": "https://shop.example/" + "a" * 2048}, "callback_url"),
    ({"pg_wallet_id": None}, "pg_wallet_id"),
    ({"pg_wallet_id": 0}, "pg_wallet_id"),
    ({"pg_wallet_id": -1}, "pg_wallet_id"),
    ({"description": "x" * 201}, "description"),
    ({"description": "\x1b[2J"}, "description"),
    ({"merchant_name": "x" * 101}, "merchant_name"),
    # Several at once: the first of the request is named.
    ({"target_value": "x", "asset_name": None, "description": "x" * 201}, "asset_name"),
]


async def refused(shop: Shop, wanted, code: int, message: str, **how) -> None:
    """createOrder is refused so on both wires."""
    found = await shop.create(wanted, **how)
    assert (found.code, found.message) == (code, message)
    assert found.status == HTTP_OF[code]
    assert await shop.create_grpc(wanted, **how) == found


@pytest.mark.parametrize(("change", "field"), INVALID)
async def test_a_field_that_cannot_be_meant(shop, change, field):
    await refused(shop, shop.wanted(**change), 3, f"invalid {field}")


async def test_assets_wallets_and_keys(shop, house):
    await refused(shop, shop.wanted(asset_name="ETH"), 3, "unsupported asset_name")
    await refused(shop, shop.wanted(asset_name="<script>"), 3, "unsupported asset_name")
    await refused(shop, shop.wanted(pg_wallet_id=99), 5, "wallet not found")
    await refused(shop, shop.wanted(pg_wallet_id=2**63 - 1), 5, "wallet not found")
    await refused(shop, shop.wanted(asset_name="LTC"), 9, "wallet has no key for asset")
    other_id = await house.user(ltc=LTC_KEY)
    theirs = await house.wallets.add(other_id, name="theirs", keys=[("ltc", LTC_KEY)])
    assert isinstance(theirs, Wallet)
    wanted = shop.wanted(asset_name="LTC", pg_wallet_id=theirs.id)
    await refused(shop, wanted, 5, "wallet not found")
    everybodys = await shop.create(wanted, apikey=await shop.key("write", user_id=other_id))
    assert everybodys.code == 0


async def test_a_number_that_stands_for_another_order(shop):
    wanted = shop.wanted()
    assert (await shop.create(wanted)).code == 0
    text = "merchant_order_id already used with different parameters"
    for change in (
        {"target_value": "1500001"},
        {"description": "x"},
        {"callback_url": "https://shop.example/"},
        {"merchant_name": "x"},
    ):
        await refused(shop, {**wanted, **change}, 6, text)


async def test_a_chain_that_is_away(shop, house):
    made = await house.wallets.add(
        shop.user_id, name="eth", keys=[("eth", EVM_KEY)], assets=(WalletAsset("ETH"),)
    )
    assert isinstance(made, Wallet)
    wanted = shop.wanted(asset_name="ETH", pg_wallet_id=made.id)
    await refused(shop, wanted, 14, "chain backend unavailable")
    assert (await shop.create(wanted)).headers["Retry-After"] == "30"


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "apikey", [None, "x", "tk_00000000_00000000000000000000000000000000", "Bearer x"]
)
async def test_without_a_key_there_is_no_order_not_even_on_loopback(shop, apikey):
    assert shop.gate.rules.anonymous
    await refused(shop, shop.wanted(), 16, "invalid apikey", apikey=apikey)


async def test_the_key_comes_before_the_request(shop):
    """Who has none learns nothing of fields and wallets."""
    for wanted in ({}, shop.wanted(pg_wallet_id=99), {"pg_wallet_id": 2}):
        await refused(shop, wanted, 16, "invalid apikey", apikey=None)


async def test_a_key_that_is_revoked_elsewhere_is_refused_at_the_next_request(shop):
    wanted = shop.wanted()
    assert (await shop.create(wanted)).code == (await shop.create_grpc(wanted)).code == 0
    await shop.revoke(shop.token)
    await refused(shop, wanted, 16, "invalid apikey")


async def test_a_key_that_is_made_elsewhere_is_good_at_once(shop):
    for create in (shop.create, shop.create_grpc):
        token = await shop.key("write", load=False)
        assert (await create(shop.wanted(), apikey=token)).code == 0


async def test_an_expired_key(shop, house):
    house.clock.jump(1)
    token = await shop.key("write")
    key = shop.gate._keys[token[3:11]]
    object.__setattr__(key, "expires_at_ms", house.clock.now_ms())
    await refused(shop, shop.wanted(), 16, "invalid apikey", apikey=token)


async def test_a_key_without_the_scope(shop):
    token = await shop.key("read")
    await refused(shop, shop.wanted(), 7, "apikey lacks the scope write", apikey=token)
    for scope in ("write", "admin"):
        assert (await shop.create(shop.wanted(), apikey=await shop.key(scope))).code == 0


async def test_a_key_that_is_bound_to_nobody_is_good_for_every_merchants_wallet(shop):
    token = await shop.key("write", bound=False)
    wanted = shop.wanted()
    assert (await shop.create(wanted, apikey=token)).code == 0
    assert await shop.create(wanted) == await shop.create_grpc(wanted, apikey=token)


async def test_the_key_may_be_shown_as_to_our_own_apis(shop):
    bearer = f"Bearer {shop.token}"
    assert (await shop.rest(CREATE, shop.wanted(), Authorization=bearer)).code == 0
    assert (await shop.grpc("createOrder", shop.wanted(), ("authorization", bearer))).code == 0
    # A proxy's own credentials are none of ours where `apikey` is there.
    found = await shop.rest(CREATE, shop.wanted(), Authorization="Basic eDp5", apikey=shop.token)
    assert found.code == 0


async def test_a_stranger_may_read_and_a_bad_key_is_no_hindrance(shop):
    made = await shop.create(shop.wanted())
    shop.gate.direct, shop.gate.address = False, "192.0.2.7:1"
    document = {"id": made.order["id"]}
    assert (await shop.rest(PUBLIC, document, apikey="x", Authorization="Bearer x")).code == 0
    assert (await shop.grpc("getPublicOrderById", document, ("apikey", "x"))).code == 0


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order_id",
    ["", "0", "-1", "01", "1.0", "x", "1e3", " 1", "1\n", "\u0661", "9" * 20, "../1", "<b>"],
)
async def test_an_id_that_is_none(shop, order_id):
    found = await shop.rest(PUBLIC, {"id": order_id})
    assert found == Told(3, "invalid id")
    assert found.status == 400
    assert await shop.grpc("getPublicOrderById", {"id": order_id}) == found


@pytest.mark.parametrize("order_id", ["1", str(2**53 - 1), str(2**53), str(2**63), "9" * 19])
async def test_an_id_that_no_order_has(shop, order_id):
    found = await shop.rest(PUBLIC, {"id": order_id})
    assert found == Told(5, "order not found")
    assert found.status == 404
    assert await shop.grpc("getPublicOrderById", {"id": order_id}) == found
    assert await shop.rest(f"{PUBLIC}?id={order_id}", method="GET") == found
    renamed = await shop.rest(f"{LATER}/{order_id}", method="GET")
    assert renamed == Told(5, "invoice not found")


async def test_a_merchants_number_or_wallet_is_no_id(shop):
    made = await shop.create(shop.wanted(merchant_order_id="12345"))
    for wrong in ("12345", str(shop.wallet_id)):
        assert (await shop.rest(PUBLIC, {"id": wrong})).code == 5
    assert "12345" not in str((await shop.rest(PUBLIC, {"id": made.order["id"]})).order)


# --- how often ------------------------------------------------------------------------------------


async def test_a_key_has_a_rate(house):
    async with open_shop(house, rate_per_s=0.01, burst=2) as shop:
        wanted = shop.wanted()
        assert (await shop.create(wanted)).code == (await shop.create_grpc(wanted)).code == 0
        await refused(shop, wanted, 8, "rate limit exceeded")
        assert int((await shop.create(wanted)).headers["Retry-After"]) > 1


async def test_an_address_has_a_rate_but_not_loopback(house):
    async with open_shop(house, rate_per_s=0.01, burst=2) as shop:
        document = {"id": "1"}
        assert {(await shop.rest(PUBLIC, document)).code for _ in range(5)} == {5}
        shop.gate.address = "192.0.2.7:1"
        assert (await shop.rest(PUBLIC, document)).code == 5
        assert (await shop.grpc("getPublicOrderById", document)).code == 5
        found = await shop.rest(PUBLIC, document)
        assert found == Told(8, "rate limit exceeded")
        assert int(found.headers["Retry-After"]) > 1
        assert found.headers["Access-Control-Allow-Origin"] == "*"
        assert await shop.grpc("getPublicOrderById", document) == found


async def test_who_tries_keys_is_stopped(shop):
    for _ in range(FAILURES_BURST):
        assert (await shop.create({}, apikey="x")).code == 16
    await refused(shop, {}, 8, "rate limit exceeded", apikey="x")


# --- faults of ours -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (TransientError("locked by secret-host"), 14, "store unavailable"),
        (PersistentError("no such table"), 13, "internal error"),
    ],
)
async def test_a_store_that_fails(shop, house, monkeypatch, error, code, text):
    async def fail(*args, **kwargs):
        raise error

    wanted = shop.wanted()
    for name in ("newest_order", "order"):
        monkeypatch.setattr(house.store.orders, name, fail)
    await refused(shop, wanted, code, text)
    found = await shop.rest(PUBLIC, {"id": "1"})
    assert (found.code, found.message) == (code, text)
    assert await shop.grpc("getPublicOrderById", {"id": "1"}) == found
    monkeypatch.setattr(house.store, "api_keys_revision", fail)
    await refused(shop, wanted, code, text)


async def test_a_fault_of_ours_says_nothing(shop, house, monkeypatch):
    async def fail(*args, **kwargs):
        raise ZeroDivisionError("secret internals")

    for name in ("create", "find"):
        monkeypatch.setattr(type(house.orders), name, fail)
    await refused(shop, shop.wanted(), 13, "internal error")
    found = await shop.grpc("getPublicOrderById", {"id": "1"})
    assert found == await shop.rest(PUBLIC, {"id": "1"}) == Told(13, "internal error")


# --- the later names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"price": "0"}, 3, "invalid price"),
        ({"price": 5}, 3, "invalid price"),
        ({"redirect_url": "javascript:1"}, 3, "invalid redirect_url"),
        ({"merchant_invoice_id": ""}, 3, "invalid merchant_invoice_id"),
        ({"wallet_id": "x"}, 3, "invalid wallet_id"),
        ({"asset": "ETH"}, 3, "unsupported asset"),
        ({"wallet_id": "99"}, 5, "wallet not found"),
    ],
)
async def test_refusals_have_the_names_of_the_request(shop, change, code, text):
    wanted = {
        "merchant_invoice_id": "B-1",
        "asset": "BTC",
        "price": "1",
        "wallet_id": str(shop.wallet_id),
        **change,
    }
    assert await shop.create(wanted, path=LATER) == Told(code, text)


# --- gRPC alone -----------------------------------------------------------------------------------


def test_the_scopes_of_the_service():
    assert scope_of_rpc(f"/{SERVICE}/createOrder") is Scope.WRITE
    assert scope_of_rpc(f"/{SERVICE}/getPublicOrderById") is None
    assert scope_of_rpc(f"/{SERVICE}/dropEverything") is Scope.ADMIN


async def test_programs_are_told_a_reason_beside_the_text(shop):
    found = await shop.create_grpc(shop.wanted(target_value="0"))
    assert found.headers["tally-reason"] == "INVALID_FIELD"


async def test_reflection_shows_the_service(shop):
    def look():
        with grpc.insecure_channel(f"127.0.0.1:{shop.port}") as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            file = database.FindFileContainingSymbol(SERVICE)
            return database.get_services(), [one.name for one in file.service[0].method]

    services, methods = await trio.to_thread.run_sync(look)
    assert SERVICE in services
    assert methods == ["createOrder", "getPublicOrderById"]


# --- the documentation ----------------------------------------------------------------------------


def test_the_documentation_has_every_refusal():
    page = (ROOT / "docs" / "payscrypt.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([0-9]+) \| ([0-9]+) \| `([^`]+)` \|$", page, re.MULTILINE)
    told = [(int(code), int(http), text) for code, http, text in rows]
    assert told == [(kind.grpc, kind.http, kind.title) for kind in KINDS.values()]
