"""A stream of events lasts as long as the key that opened it, and tells of its user alone."""

from __future__ import annotations

import pytest
import trio

from actors.access import mint
from actors.access_book import Act
from tests.helpers.event_source import http
from tests.helpers.house import BTC_KEY, LTC_KEY


async def make_key(house, **more) -> tuple[str, dict[str, str]]:
    key, token = mint(name="n", scopes=["read"], now_ms=house.clock.now_ms(), **more)
    act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=key.prefix)
    await house.store.add_api_key(key, act)
    await house.gate.load()
    return key.prefix, {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_stream_ends_with_its_key(house, how):
    async with http(house) as server, trio.open_nursery() as nursery:
        nursery.start_soon(house.gate.run)
        lifetime = {"expires_at_ms": house.clock.now_ms() + 60_000} if how == "expired" else {}
        prefix, headers = await make_key(house, **lifetime)
        _, others = await make_key(house)
        async with (
            server.events(headers=headers) as ending,
            server.events(headers=others) as lasting,
        ):
            await ending.block()  # it says when to connect again
            if how == "expired":
                house.clock.jump(61)
            else:
                act = Act(at_ms=1, actor="cli", address="l", act="key.revoked", target=prefix)
                await house.store.revoke_api_key(prefix, act)
            assert await ending.rest() == []
            await house.invoice(await house.user())
            (heard,) = await lasting.take(1)
            assert heard.event == "invoice.created"
        nursery.cancel_scope.cancel()


async def test_a_stream_of_a_restricted_key_tells_of_its_user_alone(house):
    mine, theirs = await house.user(btc=BTC_KEY), await house.user(ltc=LTC_KEY)
    async with http(house) as server:
        _, headers = await make_key(house, user_id=mine)
        async with server.events(headers=headers) as source:
            await house.invoice(theirs, asset="LTC")
            own = await house.invoice(mine)
            (heard,) = await source.take(1)
            assert heard.data["invoice_id"] == str(own.terms.invoice_id)
        async with server.events(headers=headers, user_id=theirs) as source:
            assert source.status == 404
