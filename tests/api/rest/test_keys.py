"""API keys, made and revoked over REST."""

from __future__ import annotations

from uuid import uuid4

import pytest

from actors.ports import TransientError
from tests.api.rest.test_access import Counter
from tests.helpers.problems import places, problem_of

WANTED = {"name": "shop.example", "scopes": ["write", "read"]}


@pytest.fixture
def counter(house):
    return Counter(house)


async def make(counter, headers, **change):
    status, made, _ = await counter.ask("POST", "/v1/keys", headers, {**WANTED, **change})
    assert status == 201, made
    return made


def bearer(made):
    return {"Authorization": f"Bearer {made['key']}"}


async def test_a_key_opens_at_once_and_is_shown_once(counter, house):
    admin = await counter.key("admin")
    user_id = await house.user()
    made = await make(counter, admin, user_id=str(user_id), expires_in=60)
    assert made["key"].startswith(f"tk_{made['prefix']}_")
    assert (made["scopes"], made["state"]) == (["read", "write"], "in force")
    assert made["user_id"] == str(user_id)
    assert (await counter.ask("GET", "/v1/assets", bearer(made)))[0] == 200
    _, listed, _ = await counter.ask("GET", "/v1/keys", admin)
    assert listed["items"][0] == {name: made[name] for name in made if name != "key"}
    assert made["key"] not in str(listed)
    trail = await house.store.acts(before=None, limit=1)
    act = trail[0].act
    assert (act.act, act.target) == ("key.added", made["prefix"])
    assert act.actor == f"key:{admin['Authorization'][10:18]}"
    assert act.detail == f"'shop.example' may read, write, for user {user_id}"
    assert made["key"] not in f"{trail} {house.log.lines}"
    house.clock.jump(61)
    assert (await counter.ask("GET", "/v1/assets", bearer(made)))[0] == 401


async def test_a_revoked_key_opens_nothing_any_more(counter, house):
    admin = await counter.key("admin")
    made = await make(counter, admin)
    path = f"/v1/keys/{made['prefix']}"
    assert (await counter.ask("DELETE", path, admin))[0] == 204
    status, problem, _ = await counter.ask("GET", "/v1/assets", bearer(made))
    assert status == 401
    assert "was revoked" in problem["detail"]
    status, problem, _ = await counter.ask("DELETE", path, admin)
    assert (status, problem["reason"]) == (404, "NO_SUCH_KEY")
    _, listed, _ = await counter.ask("GET", "/v1/keys?state=revoked", admin)
    assert [one["prefix"] for one in listed["items"]] == [made["prefix"]]
    assert listed["items"][0]["revoked_at"]
    acts = [one.act.act for one in await house.store.acts(before=None, limit=2)]
    assert acts == ["key.revoked", "key.added"]


async def test_what_the_gate_learned_outlasts_a_look_that_had_begun_before(counter, house):
    """The keys are being read while one is added and another revoked: the older answer loses."""
    admin = await counter.key("admin")
    old = await make(counter, admin)
    book, seen = house.store, await house.store.api_keys()
    read = book.api_keys
    made = {}

    async def read_late():
        book.api_keys = read
        made.update(await make(counter, admin))
        assert (await counter.ask("DELETE", f"/v1/keys/{old['prefix']}", admin))[0] == 204
        return seen

    book.api_keys = read_late
    await house.gate.load()
    assert (await counter.ask("GET", "/v1/assets", bearer(made)))[0] == 200
    assert (await counter.ask("GET", "/v1/assets", bearer(old)))[0] == 401


async def test_lists_come_in_pages(counter, house):
    admin = await counter.key("admin")
    made = []
    for number in range(5):
        house.clock.jump(1)
        made.append((await make(counter, admin, name=f"n{number}"))["prefix"])
    _, first, _ = await counter.ask("GET", "/v1/keys?limit=3", admin)
    _, second, _ = await counter.ask("GET", f"/v1/keys?limit=3&before={first['next']}", admin)
    assert second["next"] is None
    found = [one["prefix"] for one in first["items"] + second["items"]]
    assert found == [*reversed(made), admin["Authorization"][10:18]]
    status, problem, _ = await counter.ask("GET", "/v1/keys?before=nobody00", admin)
    assert (status, places(problem)) == (422, ["before"])


async def test_a_restricted_key_makes_sees_and_revokes_its_users_keys_only(counter, house):
    mine, theirs = await house.user(), await house.invoicing.register_user()
    admin, own = await counter.key("admin"), await counter.key("admin", user_id=mine)
    foreign = await make(counter, admin, user_id=str(theirs))
    made = await make(counter, own)
    assert made["user_id"] == str(mine)
    _, listed, _ = await counter.ask("GET", "/v1/keys", own)
    prefixes = {made["prefix"], own["Authorization"][10:18]}
    assert {one["prefix"] for one in listed["items"]} == prefixes
    absent = await counter.ask("DELETE", "/v1/keys/nobody00", own)
    hidden = await counter.ask("DELETE", f"/v1/keys/{foreign['prefix']}", own)
    assert absent[0] == hidden[0] == 404
    assert hidden[1]["detail"] == absent[1]["detail"].replace("nobody00", foreign["prefix"])
    assert (await counter.ask("GET", f"/v1/keys?before={foreign['prefix']}", own))[0] == 422
    for user_id in (theirs, uuid4()):
        body = {**WANTED, "user_id": str(user_id)}
        status, problem, _ = await counter.ask("POST", "/v1/keys", own, body)
        assert (status, problem["reason"]) == (404, "NO_SUCH_USER")
    assert (await counter.ask("DELETE", f"/v1/keys/{made['prefix']}", own))[0] == 204
    assert (await counter.ask("GET", "/v1/keys", bearer(foreign)))[0] == 403


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"name": " "}, "#/name", "printable"),
        ({"name": "a\nb"}, "#/name", "printable"),
        ({"name": None}, "#/name", "missing"),
        ({"scopes": []}, "#/scopes", "at least one"),
        ({"scopes": ["reed"]}, "#/scopes", "did you mean 'read'"),
        ({"scopes": [["read"]]}, "#/scopes", "must be a text"),
        ({"expires_in": 0}, "#/expires_in", "from 1"),
        ({"expires_in": 5, "expires_at": "2027-01-01T00:00:00Z"}, "#", "give one"),
        ({"expires_at": "1971-01-01T00:00:00Z"}, "#", "has passed"),
    ],
)
async def test_what_cannot_be_meant_is_refused_in_words(client, house, change, pointer, words):
    answer = await client.post("/v1/keys", json={**WANTED, **change})
    problem = await problem_of(answer, 422, "INVALID_REQUEST")
    assert places(problem) == [pointer]
    assert words in problem["errors"][0]["detail"]
    assert await house.store.api_keys() == ()


async def test_a_key_of_nobody_is_not_made(client, house):
    answer = await client.post("/v1/keys", json={**WANTED, "user_id": str(uuid4())})
    await problem_of(answer, 404, "NO_SUCH_USER")
    assert await house.store.api_keys() == ()


async def test_a_store_that_fails_makes_no_key(client, house, monkeypatch):
    async def fails(_key, _act):
        raise TransientError("locked")

    monkeypatch.setattr(house.store, "add_api_key", fails)
    await problem_of(await client.post("/v1/keys", json=WANTED), 503, "STORE_UNAVAILABLE")
    assert not house.gate.has_key
