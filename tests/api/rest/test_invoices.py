"""Creating and reading invoices over REST."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import orjson
import pytest

from actors.core.assets import Catalogue
from actors.ports import TransientError
from api.convert import parse_instant
from tests.helpers.house import BTC_KEY
from tests.helpers.problems import places, problem_of


async def create(client, owner, **changes):
    body = {"user_id": str(owner), "asset": "BTC", "amount": "0.015", "expires_in": 600}
    body = {name: value for name, value in {**body, **changes}.items() if value is not ...}
    return await client.post("/v1/invoices", json=body)


async def created(client, owner, **changes):
    response = await create(client, owner, **changes)
    assert response.status_code == 201, await response.get_data()
    return await response.get_json()


async def read(client, invoice_id):
    response = await client.get(f"/v1/invoices/{invoice_id}")
    assert response.status_code == 200
    return await response.get_json()


async def test_a_new_invoice_is_shown_whole_and_can_be_read_again(client, house):
    user_id = await house.user()
    response = await create(client, user_id)
    assert response.status_code == 201
    made = await response.get_json()
    assert response.headers["Location"] == f"/v1/invoices/{made['id']}"
    assert made["address"] == "bcrt1qqdcfs9s5gjsnmazcsqfe2h6gwzwdu2eutsfms7"
    assert (made["status"], made["amount"], made["amount_base"]) == ("PENDING", "0.015", "1500000")
    assert (made["due"], made["received"], made["payments"]) == ("0.015", "0", [])
    assert made["confirmations_required"] == 2
    assert not any(made["flags"].values())
    again = await client.get(response.headers["Location"])
    assert await again.get_json() == made
    assert again.headers["ETag"] == response.headers["ETag"]


@pytest.mark.parametrize(
    ("given", "base", "shown"),
    [({"amount": "0"}, "0", "0"),
     ({"amount": "00.10"}, "10000000", "0.1"),
     ({"amount": "21000000.00000001"}, "2100000000000001", "21000000.00000001"),
     ({"amount_base": "1", "amount": ...}, "1", "0.00000001"),
     ({"amount_base": 2**53 + 1, "amount": ...}, "9007199254740993", "90071992.54740993"),
     ({"amount_base": "9" * 80, "amount": None}, "9" * 80, f"{'9' * 72}.{'9' * 8}")],
)  # fmt: skip
async def test_amounts_are_exact_in_both_forms(client, house, given, base, shown):
    made = await created(client, await house.user(), **given)
    assert (made["amount_base"], made["amount"]) == (base, shown)


@pytest.mark.parametrize(
    ("given", "hint"),
    [({"amount": 0.1}, '"0.1"'), ({"amount": 1}, '"1"'), ({"amount": "0.123456789"}, "decimals"),
     ({"amount": "-1"}, "plain decimal"), ({"amount": "1e3"}, "plain decimal"),
     ({"amount": ""}, "plain decimal"), ({"amount": "NaN"}, "plain decimal"),
     ({"amount": True}, "text"), ({"amount": ["1"]}, "text"), ({"amount": " 1"}, "plain decimal"),
     ({"amount": ..., "amount_base": 1.0}, "whole"),
     ({"amount": ..., "amount_base": -1}, "least 0"),
     ({"amount": ..., "amount_base": "1.5"}, "whole"),
     ({"amount": ..., "amount_base": False}, "whole"),
     ({"amount": ..., "amount_base": 10**30}, "as a text"),
     ({"amount": ..., "amount_base": "9" * 81}, "80 digits")],
)  # fmt: skip
async def test_amounts_that_are_none_are_refused_with_a_hint(client, house, given, hint):
    user_id = await house.user()
    body = {"user_id": str(user_id), "asset": "BTC", "amount": "1", "expires_in": 60, **given}
    body = {name: value for name, value in body.items() if value is not ...}
    # Python's own JSON writes integers that orjson does not.
    response = await client.post(
        "/v1/invoices", data=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    document = await problem_of(response, 422, "INVALID_REQUEST")
    assert places(document)[0] in ("#/amount", "#/amount_base")
    assert hint in document["errors"][0]["detail"]
    assert await house.store.last_seq() == 0


async def test_everything_that_is_wrong_is_told_at_once(client, house):
    response = await client.post(
        "/v1/invoices",
        json={
            "user": "me",
            "user_id": "me",
            "asset": "BTC",
            "amount": "0.000000001",
            "expires_at": "2001-01-01T00:00:00Z",
            "confirmations": 2**32,
        },
    )
    document = await problem_of(response, 422, "INVALID_REQUEST")
    assert sorted(places(document)) == [
        "#/amount", "#/confirmations", "#/expires_at", "#/user", "#/user_id",
    ]  # fmt: skip
    assert "did you mean 'user_id'" in document["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [({}, {"#/user_id", "#/asset", "#/amount", "#/expires_in"}),
     ({"amount": "1", "amount_base": 1, "expires_in": 1, "expires_at": "2999-01-01T00:00:00Z"},
      {"#/user_id", "#/asset", "#/amount", "#/expires_in"}),
     ({"user_id": None, "asset": "btc", "amount": "1", "expires_in": 1.5},
      {"#/user_id", "#/asset", "#/expires_in"})],
)  # fmt: skip
async def test_missing_and_doubled_fields(client, body, wrong):
    response = await client.post("/v1/invoices", json=body)
    document = await problem_of(response, 422, "INVALID_REQUEST")
    assert set(places(document)) == wrong


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({"expires_in": 0}, 10), ({"expires_in": 9}, 10), ({"expires_in": 11}, 11)],
)
async def test_the_time_to_pay_is_ten_seconds_at_least(client, house, given, wanted):
    made = await created(client, await house.user(), **given)
    assert parse_instant(made["expires_at"]) - parse_instant(made["created_at"]) == wanted * 1000


async def test_a_deadline_is_kept_as_it_is_given_and_cut_at_the_year_9999(client, house):
    user_id = await house.user()
    wanted = "2031-02-03T04:05:06.789+02:00"
    made = await created(client, user_id, expires_in=..., expires_at=wanted)
    assert made["expires_at"] == "2031-02-03T02:05:06.789Z"
    made = await created(client, user_id, expires_in=2**63 - 1)
    assert made["expires_at"] == "9999-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [({"user_id": str(uuid4())}, 404, "NO_SUCH_USER"), ({"asset": "LTC"}, 409, "NO_KEY"),
     ({"asset": "ETH"}, 503, "ASSET_DISABLED")],
)  # fmt: skip
async def test_refusals_of_the_core(client, house, changes, status, reason):
    user_id = await house.user(btc=BTC_KEY)
    response = await create(client, user_id, **changes)
    await problem_of(response, status, reason)
    assert await house.store.last_seq() == 0


async def test_an_invoice_that_could_not_be_stored_is_not_there(client, house):
    user_id = await house.user()
    house.store.fail("append", TransientError("the disk is full"))
    await problem_of(await create(client, user_id), 503, "STORE_UNAVAILABLE")
    assert await house.store.last_seq() == 0


async def test_a_payment_from_mempool_to_confirmation(client, house):
    made = await created(client, await house.user(), confirmations=2)
    invoice = await house.store.invoice(UUID(made["id"]))
    tx = house.btc.pay(invoice.invoice.terms.destination, 1_000_000, 600_000)
    await house.told()
    seen = await read(client, made["id"])
    assert (seen["status"], seen["received"], seen["confirmed"]) == (
        "PENDING_MEMPOOL",
        "0.016",
        "0",
    )
    assert [flag for flag, up in seen["flags"].items() if up] == ["overpaid"]
    assert (seen["due"], seen["txid"]) == ("0", tx.txid.hex())
    first, second = seen["payments"]
    assert first["outpoint"] == f"{tx.txid.hex()}:0"
    assert (second["index"], second["amount"], second["amount_base"]) == (1, "0.006", "600000")
    assert (first["state"], first["confirmations"], first["height"]) == ("mempool", 0, None)
    block = house.btc.mine(tx)
    await house.told()
    mined = (await read(client, made["id"]))["payments"][0]
    assert (mined["state"], mined["confirmations"]) == ("included", 1)
    assert (mined["height"], mined["block_hash"]) == (block.height, block.hash.hex())
    house.btc.mine_empty()
    await house.told()
    settled = await read(client, made["id"])
    assert (settled["status"], settled["confirmed"]) == ("CONFIRMED", "0.016")
    assert settled["confirmed_at"] is not None
    assert settled["payments"][0]["confirmations"] == 2


async def test_flags_and_lost_payments_are_shown(client, house):
    user_id = await house.user()
    made = await created(client, user_id, confirmations=1)
    other = await created(client, user_id, confirmations=1, expires_in=10)
    found = {one.hex: row for row, one in await house.store.destinations("btc")}
    short = house.btc.pay(found[made["id"].replace("-", "")], 1000)
    await house.told()
    assert (await read(client, made["id"]))["flags"]["underpaid"]
    winner = house.btc.pay(found[made["id"].replace("-", "")], 1_500_000, replaces=short)
    await house.told()
    replaced, paid = (await read(client, made["id"]))["payments"]
    assert (replaced["state"], replaced["replaced_by"]) == ("replaced", winner.txid.hex())
    assert paid["state"] == "mempool"
    house.btc.mine(winner)
    await house.told()
    house.btc.reorg(1, take=[house.btc.steal(winner)])
    await house.told()
    reversed_ = await read(client, made["id"])
    assert (reversed_["status"], reversed_["flags"]["reversed"]) == ("CONFIRMED", True)
    assert reversed_["payments"][1]["state"] == "double_spent"
    house.clock.jump(11)
    await house.told()
    house.btc.pay(found[other["id"].replace("-", "")], 5)
    await house.told()
    late = await read(client, other["id"])
    assert (late["status"], late["flags"]["late"], late["due"]) == ("EXPIRED", True, "0")
    assert (late["received"], late["credited"]) == ("0.00000005", "0")


async def test_history_and_explanation(client, house):
    made = await created(client, await house.user(), confirmations=1)
    events = await (await client.get(f"/v1/invoices/{made['id']}/events")).get_json()
    (first,) = events["items"]
    assert (first["seq"], first["version"], first["type"]) == (1, 1, "invoice.created")
    assert (first["at"], first["data"]["terms"]["invoice_id"]) == (made["created_at"], made["id"])
    told = await (await client.get(f"/v1/invoices/{made['id']}/explain")).get_json()
    assert (told["id"], told["status"]) == (made["id"], "PENDING")
    assert [one["code"] for one in told["reasons"]] == ["nothing_received"]
    assert made["address"] in told["reasons"][0]["text"]


@pytest.mark.parametrize("below", ["", "/events", "/explain"])
async def test_an_invoice_that_is_not_there(client, below):
    await problem_of(await client.get(f"/v1/invoices/{uuid4()}{below}"), 404, "NO_SUCH_INVOICE")
    await problem_of(await client.get(f"/v1/invoices/nonsense{below}"), 404, "INVALID_INVOICE_ID")


async def test_an_asset_that_left_the_catalogue_is_still_shown_in_base_units(client, house):
    made = await created(client, await house.user())
    catalogue = house.invoicing.catalogue
    house.invoicing.catalogue = Catalogue(
        chains=[catalogue.chains["ltc"]], assets=[catalogue.assets["LTC"]]
    )
    seen = await read(client, made["id"])
    assert (seen["amount"], seen["amount_base"]) == (None, "1500000")


async def test_an_etag_is_of_the_bytes(client, house):
    made = await created(client, await house.user())
    response = await client.get(f"/v1/invoices/{made['id']}")
    etag = response.headers["ETag"]
    for sent in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        same = await client.get(f"/v1/invoices/{made['id']}", headers={"If-None-Match": sent})
        assert (same.status_code, await same.get_data()) == (304, b"")
        assert same.headers["ETag"] == etag
    other = await client.get(f"/v1/invoices/{made['id']}", headers={"If-None-Match": '"x"'})
    assert other.status_code == 200
    assert orjson.loads(await other.get_data()) == made
