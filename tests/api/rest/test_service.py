"""Assets, chains, health, readiness and metrics."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from actors.core.outcomes import AssetDisabled
from actors.invoicing import NewInvoice
from actors.ports import TransientError
from api.rest.app import create_app
from tests.helpers.house import open_house


async def test_alive_and_ready(client):
    assert await (await client.get("/healthz")).get_json() == {"status": "ok"}
    response = await client.get("/readyz")
    document = await response.get_json()
    assert (response.status_code, document["ready"]) == (200, True)
    assert document["store"] == {"ready": True, "reason": None}
    assert {name: one["state"] for name, one in document["chains"].items()} == {
        "btc": "current",
        "ltc": "current",
    }


async def test_not_ready_while_a_chain_is_not_and_alive_nevertheless(client, house):
    house.chains["ltc"].fail_with = TransientError("coin.ltc.daemon.url: connection refused")
    await house.told()
    response = await client.get("/readyz")
    document = await response.get_json()
    assert (response.status_code, document["ready"]) == (503, False)
    assert document["chains"]["ltc"]["state"] == "unreachable"
    assert "coin.ltc.daemon.url" in document["chains"]["ltc"]["reason"]
    assert document["chains"]["btc"]["state"] == "current"
    assert (await client.get("/healthz")).status_code == 200


async def test_not_ready_while_the_store_is_not(house):
    async def why() -> str | None:
        await trio.lowlevel.checkpoint()
        return "database.url is locked"

    client = create_app(replace(house.edge(), store_ready=why)).test_client()
    response = await client.get("/readyz")
    document = await response.get_json()
    assert response.status_code == 503
    assert document["store"] == {"ready": False, "reason": "database.url is locked"}


async def test_a_store_that_does_not_answer_is_not_ready(autojump_clock):
    async with open_house() as house:

        async def never() -> str | None:
            await trio.sleep_forever()

        client = create_app(replace(house.edge(), store_ready=never)).test_client()
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert "5 s" in (await response.get_json())["store"]["reason"]


async def test_metrics_are_passed_on_as_they_are(client):
    response = await client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert await response.get_data() == b"tallyd_up 1\n"


async def test_assets_say_whether_they_can_be_used(client):
    items = (await (await client.get("/v1/assets")).get_json())["items"]
    assets = {one["id"]: one for one in items}
    assert (assets["BTC"]["exponent"], assets["BTC"]["enabled"]) == (8, True)
    assert assets["BTC"]["reason"] is None
    assert (assets["ETH"]["enabled"], assets["ETH"]["contract"]) == (False, None)
    assert assets["ETH"]["reason"] == "coin.eth.daemon.url is not set"
    assert assets["HOUSE_TOKEN"]["contract"] == "0x" + "00" * 20
    assert assets["USDT_TON"]["contract"].startswith("0:b113a994")


async def test_an_asset_that_the_driver_refuses_is_not_enabled_and_cannot_be_asked_for(
    client, house
):
    reason = "its contract has 6 decimals, but the asset file says 18"
    house.btc.disabled["BTC"] = reason
    items = (await (await client.get("/v1/assets")).get_json())["items"]
    btc = next(one for one in items if one["id"] == "BTC")
    assert (btc["enabled"], btc["reason"]) == (False, reason)
    user = await house.invoicing.register_user()
    refused = await house.invoicing.create_invoice(NewInvoice(user, "BTC", 1, 60_000))
    assert refused == AssetDisabled("BTC", reason)


@pytest.mark.parametrize("blocks", [0, 3])
async def test_chains_say_where_they_stand(client, house, blocks):
    house.btc.mine_empty(blocks)
    await house.told()
    items = (await (await client.get("/v1/chains")).get_json())["items"]
    btc = next(one for one in items if one["chain"] == "btc")
    assert (btc["height"], btc["node_height"]) == (100 + blocks, 100 + blocks)
    assert btc["block_hash"] == house.btc.blocks[-1][0].hash.hex()
    assert btc["network"] == "regtest"


async def test_the_end_of_the_log_can_be_noted_down(client, house):
    empty = await (await client.get("/v1/log")).get_json()
    assert (empty["seq"], len(empty["hash"])) == (0, 64)
    await house.invoice(await house.user())
    tip = await (await client.get("/v1/log")).get_json()
    assert tip["seq"] == 1
    assert tip["anchor"] == f"1:{tip['hash']}" == str(await house.store.tip())
    assert tip["log_id"] == empty["log_id"] == await house.outbox.log_id()
    assert tip["hash"] != empty["hash"]
