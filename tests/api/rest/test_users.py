"""Users and keys over REST."""

from __future__ import annotations

from base64 import b64encode
from uuid import UUID, uuid4

import pytest

from actors.ports import PersistentError, TransientError
from tests.helpers.goipay_calls import XMR_SPEND, XMR_VIEW
from tests.helpers.house import BTC_KEY, EVM_KEY, LTC_KEY, TON_KEY
from tests.helpers.problems import places, problem_of

XPRV = (
    "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtR"
    "BeJgk33yuGBxrMPHi"
)


async def test_a_user_is_registered_with_or_without_an_id(client, house):
    for body in (None, {}, {"id": None}):
        response = await client.post("/v1/users", json=body) if body is not None else (
            await client.post("/v1/users")
        )  # fmt: skip
        assert response.status_code == 201
        assert await house.invoicing.has_user(UUID((await response.get_json())["id"]))
    wanted = uuid4()
    response = await client.post("/v1/users", json={"id": wanted.hex.upper()})
    assert await response.get_json() == {"id": str(wanted)}
    response = await client.post("/v1/users", json={"id": str(wanted)})
    document = await problem_of(response, 409, "USER_EXISTS")
    assert document["facts"] == {"user_id": str(wanted)}


async def test_keys_are_stored_and_the_same_again_is_fine(client, house):
    user_id = await house.invoicing.register_user()
    keys = {"btc": BTC_KEY, "ltc": LTC_KEY, "eth": EVM_KEY, "bnb": EVM_KEY}
    for _ in range(2):
        response = await client.put(f"/v1/users/{user_id}/keys", json=keys)
        assert (response.status_code, await response.get_data()) == (204, b"")
    assert (await house.invoice(user_id)).terms.path == (0, 1)


async def test_monero_keys_are_one_text_and_never_seen_again(client, house):
    user_id = await house.invoicing.register_user()
    keys = {"xmr": f"{XMR_VIEW}:{XMR_SPEND}", "btc": BTC_KEY}
    response = await client.put(f"/v1/users/{user_id}/keys", json=keys)
    assert response.status_code == 204
    account = await house.store.account(user_id, "xmr")
    assert account.key.startswith(XMR_SPEND)
    metrics = await (await client.get("/metrics")).get_data()
    assert XMR_VIEW[:16] not in f"{metrics} {account} {house.log.lines}"


async def test_ton_keys_are_taken_in_every_form_and_secret_ones_refused(client, house):
    user_id = await house.invoicing.register_user()
    base64_text = b64encode(bytes.fromhex(TON_KEY)).decode()
    for text in (TON_KEY, base64_text):
        response = await client.put(f"/v1/users/{user_id}/keys", json={"ton": text})
        assert response.status_code == 204
    assert (await house.store.account(user_id, "ton")).key == TON_KEY
    response = await client.put(f"/v1/users/{user_id}/keys", json={"ton": 2 * TON_KEY})
    document = await problem_of(response, 422, "KEY_REFUSED")
    assert places(document) == ["#/ton"]
    assert "secret key" in document["detail"]
    assert TON_KEY[:16] not in f"{document} {house.log.lines}"


async def test_refused_monero_keys_are_not_repeated(client, house):
    user_id = await house.invoicing.register_user()
    wrong = (f"{XMR_SPEND}:{XMR_VIEW}", f"{XMR_VIEW}:{'02' + '00' * 31}", XMR_VIEW)
    for text in wrong:
        response = await client.put(f"/v1/users/{user_id}/keys", json={"xmr": text})
        document = await problem_of(response, 422, "KEY_REFUSED")
        assert places(document) == ["#/xmr"]
        assert XMR_VIEW[:16] not in f"{document} {house.log.lines}"
    assert await house.store.account(user_id, "xmr") is None


async def test_a_bad_key_names_its_field_and_stores_nothing(client, house):
    user_id = await house.invoicing.register_user()
    keys = {"btc": BTC_KEY, "ltc": "zpub-no"}
    response = await client.put(f"/v1/users/{user_id}/keys", json=keys)
    document = await problem_of(response, 422, "KEY_REFUSED")
    assert places(document) == ["#/ltc"]
    assert await house.store.account(user_id, "btc") is None


async def test_a_private_key_is_refused_and_never_repeated(client, house):
    user_id = await house.invoicing.register_user()
    response = await client.put(f"/v1/users/{user_id}/keys", json={"btc": XPRV})
    await problem_of(response, 422, "KEY_REFUSED")
    wrong_place = await client.put(f"/v1/users/{user_id}/keys", json={"bct": XPRV})
    for one in (response, wrong_place):
        assert XPRV[8:24].encode() not in await one.get_data()
    assert XPRV[8:24] not in str(house.log.lines)


async def test_unknown_chains_and_users_are_told(client, house):
    user_id = await house.invoicing.register_user()
    response = await client.put(f"/v1/users/{user_id}/keys", json={"bct": BTC_KEY, "doge": "x"})
    document = await problem_of(response, 422, "INVALID_REQUEST")
    assert places(document) == ["#/bct", "#/doge"]
    assert "did you mean 'btc'" in document["errors"][0]["detail"]
    stranger = await client.put(f"/v1/users/{uuid4()}/keys", json={"btc": BTC_KEY})
    await problem_of(stranger, 404, "NO_SUCH_USER")
    malformed = await client.put("/v1/users/me/keys", json={"btc": BTC_KEY})
    await problem_of(malformed, 404, "INVALID_USER_ID")


async def test_a_key_of_another_user_is_a_conflict(client, house):
    await house.user()
    other = await house.invoicing.register_user()
    response = await client.put(f"/v1/users/{other}/keys", json={"btc": BTC_KEY})
    await problem_of(response, 409, "KEY_IN_USE")


@pytest.mark.parametrize(
    ("error", "reason", "after"),
    [(TransientError("locked"), "STORE_UNAVAILABLE", "1"),
     (PersistentError("read-only"), "OPERATOR_NEEDED", "30")],
)  # fmt: skip
async def test_a_store_that_fails_says_when_to_come_again(
    client, house, monkeypatch, error, reason, after
):
    async def fail(*args, **more):
        raise error

    monkeypatch.setattr(house.store, "add_user", fail)
    response = await client.post("/v1/users", json={})
    document = await problem_of(response, 503, reason)
    assert (response.headers["Retry-After"], document["detail"]) == (after, str(error))
    assert house.log.of("a request failed")
