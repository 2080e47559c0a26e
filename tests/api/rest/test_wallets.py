"""Wallets over REST."""

from __future__ import annotations

from uuid import uuid4

import pytest

from actors.wallets import MAX_WALLETS
from tests.api.rest.test_access import Counter
from tests.helpers.goipay_calls import XMR_SPEND, XMR_VIEW
from tests.helpers.house import BTC_KEY, EVM_KEY, LTC_KEY
from tests.helpers.orders import make_wallet, place_order
from tests.helpers.problems import places, problem_of

XPRV = (
    "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtR"
    "BeJgk33yuGBxrMPHi"
)
WANTED = {
    "name": "Web shop",
    "keys": {"btc": BTC_KEY},
    "assets": [{"asset": "BTC", "confirmations": 3, "expires_in_s": 600}, {"asset": "LTC"}],
}
FIRST, SECOND = (
    {"asset": "BTC", "confirmations": 3, "expires_in_s": 600},
    {"asset": "LTC", "confirmations": None, "expires_in_s": None},
)


def of_user(user_id):
    return f"/v1/users/{user_id}/wallets"


async def add(client, user_id, **change):
    answer = await client.post(of_user(user_id), json={**WANTED, **change})
    assert answer.status_code == 201, await answer.get_json()
    return await answer.get_json()


async def acts(house):
    return [
        (one.act.act, one.act.target, one.act.detail)
        for one in await house.store.acts(before=None, limit=20)
    ]


async def test_a_wallet_is_made_read_and_listed(client, house):
    user_id = await house.invoicing.register_user()
    made = await add(client, user_id)
    assert (made["id"], made["user_id"], made["name"]) == (1, str(user_id), "Web shop")
    assert (made["chains"], made["assets"]) == (["btc"], [FIRST, SECOND])
    assert made["archived_at"] is None
    assert await (await client.get("/v1/wallets/1")).get_json() == made
    assert await (await client.patch("/v1/wallets/1", json={})).get_json() == made
    other = await add(client, await house.invoicing.register_user(), keys={"ltc": LTC_KEY})
    assert other["id"] == 2
    assert await (await client.get(of_user(user_id))).get_json() == {"items": [made]}
    for path, found, more in (
        ("/v1/wallets", [made, other], None),
        ("/v1/wallets?limit=1", [made], 1),
        ("/v1/wallets?limit=1&after=1", [other], None),
        ("/v1/wallets?after=2", [], None),
    ):
        assert await (await client.get(path)).get_json() == {"items": found, "next": more}
    placed = await place_order(house, await house.wallets.look(1))
    assert placed.invoice.confirmations == 3
    assert placed.invoice.terms.expires_at_ms - placed.invoice.terms.created_at_ms == 600_000
    assert await acts(house) == [
        ("wallet.added", "2", f"user {other['user_id']}, ltc"),
        ("wallet.added", "1", f"user {user_id}, btc"),
    ]


async def test_without_assets_it_has_those_of_its_keys(client, house):
    user_id = await house.invoicing.register_user()
    made = await add(client, user_id, assets=None, keys={"eth": EVM_KEY})
    assert [one["asset"] for one in made["assets"]] == ["ETH", "HOUSE_TOKEN"]
    bare = await add(client, user_id, assets=None, keys=None)
    assert (bare["chains"], bare["assets"]) == ([], [])


async def test_no_answer_has_a_key(client, house):
    user_id = await house.invoicing.register_user()
    keys = {"xmr": f"{XMR_VIEW}:{XMR_SPEND}", "btc": BTC_KEY}
    made = await add(client, user_id, keys=keys, assets=None)
    listed = await (await client.get("/v1/wallets")).get_data()
    answers = f"{made} {listed} {await acts(house)} {house.log.lines}"
    for secret in (XMR_VIEW, XMR_SPEND, BTC_KEY):
        assert secret[:16] not in answers
    changed = await client.patch("/v1/wallets/1", json={"keys": {"xmr": keys["xmr"]}})
    assert XMR_VIEW[:16] not in (await changed.get_data()).decode()


async def test_what_is_changed_holds_for_orders_to_come(client, house):
    user_id = await house.invoicing.register_user()
    await add(client, user_id)
    wallet = await house.wallets.look(1)
    before = await place_order(house, wallet)
    answer = await client.patch(
        "/v1/wallets/1", json={"name": "Kiosk", "assets": [{"asset": "LTC", "confirmations": 0}]}
    )
    changed = await answer.get_json()
    assert (answer.status_code, changed["name"]) == (200, "Kiosk")
    assert changed["assets"] == [{**SECOND, "confirmations": 0}]
    assert changed["chains"] == ["btc"]
    answer = await client.patch("/v1/wallets/1", json={"keys": {"ltc": LTC_KEY, "btc": None}})
    changed = await answer.get_json()
    assert (changed["chains"], changed["name"]) == (["ltc"], "Kiosk")
    placed = await place_order(house, wallet, asset="LTC", number="B")
    assert placed.invoice.confirmations == 0
    assert (await house.orders.find(before.order.id)).invoice == before.invoice
    assert (await acts(house))[:2] == [
        ("wallet.changed", "1", "key of ltc, key of btc"),
        ("wallet.changed", "1", "name, assets"),
    ]


async def test_an_archived_wallet_takes_no_orders_until_it_is_restored(client, house):
    user_id = await house.invoicing.register_user()
    await add(client, user_id)
    wallet = await house.wallets.look(1)
    placed = await place_order(house, wallet)
    for _ in range(2):
        archived = await (await client.post("/v1/wallets/1/archive")).get_json()
        assert archived["archived_at"] is not None
    assert (await house.orders.find(placed.order.id)).invoice == placed.invoice
    for _ in range(2):
        restored = await (await client.post("/v1/wallets/1/restore")).get_json()
        assert restored["archived_at"] is None
    await place_order(house, wallet, number="B")
    assert [one[0] for one in await acts(house)] == [
        "wallet.restored",
        "wallet.archived",
        "wallet.added",
    ]


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"name": None}, "#/name", "missing"),
        ({"name": " "}, "#/name", "printable"),
        ({"name": "\x1b[2J"}, "#/name", "printable"),
        ({"keys": [BTC_KEY]}, "#/keys", "JSON object"),
        ({"keys": {"doge": BTC_KEY}}, "#/keys", "'doge' is not known here"),
        ({"keys": {"btc": 5}}, "#/keys", "must be a text"),
        ({"assets": "BTC"}, "#/assets", "must be a list"),
        ({"assets": ["BTC"]}, "#/assets", "JSON object"),
        ({"assets": [{"asset": "BTX"}]}, "#/assets", "did you mean 'BTC'"),
        ({"assets": [{"asset": "BTC", "confirmation": 5}]}, "#/assets", "'confirmations'"),
        ({"assets": [{"asset": "BTC", "confirmations": -1}]}, "#/assets", "from 0"),
        ({"assets": [{"asset": "BTC", "expires_in_s": 9}]}, "#/assets", "from 10"),
        ({"assets": [{"asset": "BTC", "expires_in_s": 1e3}]}, "#/assets", "whole number"),
        ({"wallet": 1}, "#/wallet", "not known here"),
    ],
)
async def test_what_cannot_be_meant_is_refused_in_words(client, house, change, pointer, words):
    user_id = await house.invoicing.register_user()
    answer = await client.post(of_user(user_id), json={**WANTED, **change})
    problem = await problem_of(answer, 422, "INVALID_REQUEST")
    assert places(problem) == [pointer]
    assert words in problem["errors"][0]["detail"]
    assert await house.wallets.find() == ()


async def test_refused_keys_are_named_and_not_repeated(client, house):
    user_id = await house.invoicing.register_user()
    for chain, key in (("btc", XPRV), ("xmr", f"{XMR_SPEND}:{XMR_VIEW}"), ("ltc", "nonsense")):
        answer = await client.post(of_user(user_id), json={**WANTED, "keys": {chain: key}})
        problem = await problem_of(answer, 422, "KEY_REFUSED")
        assert places(problem) == [f"#/keys/{chain}"]
        assert key[:16] not in f"{problem} {house.log.lines}"
    await add(client, await house.invoicing.register_user())
    answer = await client.post(of_user(user_id), json=WANTED)
    await problem_of(answer, 409, "KEY_IN_USE")
    assert len(await house.wallets.find()) == 1


async def test_the_same_asset_twice_and_a_key_that_is_not_there(client, house):
    user_id = await house.invoicing.register_user()
    twice = {**WANTED, "assets": [{"asset": "BTC"}, {"asset": "BTC"}]}
    problem = await problem_of(
        await client.post(of_user(user_id), json=twice), 422, "WALLET_REFUSED"
    )
    assert places(problem) == ["#/assets"]
    assert "BTC twice" in problem["detail"]
    await add(client, user_id)
    answer = await client.patch("/v1/wallets/1", json={"keys": {"eth": None}})
    problem = await problem_of(answer, 422, "WALLET_REFUSED")
    assert places(problem) == ["#/keys"]


async def test_there_is_a_most(client, house):
    user_id = await house.invoicing.register_user()
    for _ in range(MAX_WALLETS):
        await house.wallets.add(user_id, name="n", keys=[])
    answer = await client.post(of_user(user_id), json=WANTED)
    problem = await problem_of(answer, 409, "TOO_MANY_WALLETS")
    assert str(MAX_WALLETS) in problem["detail"]


@pytest.mark.parametrize("word", ["2", "0", "-1", "01", "1.0", "x", "9" * 19, "9" * 40, "%D9%A1"])
async def test_what_is_no_wallet_is_not_there(client, house, word):
    await add(client, await house.invoicing.register_user())
    for method, tail in (("GET", ""), ("PATCH", ""), ("POST", "/archive"), ("POST", "/restore")):
        body = {"name": "x"} if method == "PATCH" else None
        answer = await client.open(f"/v1/wallets/{word}{tail}", method=method, json=body)
        await problem_of(answer, 404, "NO_SUCH_WALLET")


async def test_nobody_has_no_wallets(client):
    for method in ("GET", "POST"):
        body = WANTED if method == "POST" else None
        answer = await client.open(of_user(uuid4()), method=method, json=body)
        await problem_of(answer, 404, "NO_SUCH_USER")


async def test_a_restricted_key_sees_its_users_wallets_only(house):
    counter = Counter(house)
    mine, theirs = [await house.invoicing.register_user() for _ in range(2)]
    own = await make_wallet(house, mine, btc=BTC_KEY)
    foreign = await make_wallet(house, theirs, ltc=LTC_KEY)
    headers = await counter.key("admin", user_id=mine)
    for path in ("/v1/wallets", of_user(mine)):
        _, listed, _ = await counter.ask("GET", path, headers)
        assert [one["id"] for one in listed["items"]] == [own.id]
    assert (await counter.ask("GET", of_user(theirs), headers))[0] == 404
    assert (await counter.ask("POST", of_user(theirs), headers, WANTED))[0] == 404
    for method, tail, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("POST", "/archive", None),
        ("POST", "/restore", None),
    ):
        hidden = await counter.ask(method, f"/v1/wallets/{foreign.id}{tail}", headers, body)
        absent = await counter.ask(method, f"/v1/wallets/777{tail}", headers, body)
        assert hidden[0] == absent[0] == 404
        assert hidden[1]["detail"].replace(f"'{foreign.id}'", "'777'") == absent[1]["detail"]
        assert (await counter.ask(method, f"/v1/wallets/{own.id}{tail}", headers, body))[0] == 200
    assert await house.wallets.look(foreign.id) == foreign
    reader = await counter.key("read", user_id=mine)
    assert (await counter.ask("GET", f"/v1/wallets/{own.id}", reader))[0] == 200
    assert (await counter.ask("PATCH", f"/v1/wallets/{own.id}", reader, {"name": "x"}))[0] == 403
