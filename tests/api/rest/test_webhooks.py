"""`/v1/webhooks` over REST: what it answers, refuses, writes into the trail, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import trio

from actors.access import mint
from actors.access_book import Act, Scope
from actors.core.webhook import Health, Pause
from actors.webhook_book import Owed, Progress
from tests.helpers.house import House

HOOK = {"url": "https://shop.example/hook"}


@pytest.fixture
async def engine(house: House, nursery: trio.Nursery) -> AsyncIterator[None]:
    await nursery.start(house.webhooks.engine.run)


async def add(client, **more) -> dict:
    response = await client.post("/v1/webhooks", json=HOOK | more)
    assert response.status_code == 201, await response.get_json()
    return await response.get_json()


async def problem(response) -> tuple[int, str, str]:
    document = await response.get_json()
    faults = "; ".join(one["detail"] for one in document.get("errors", ()))
    return response.status_code, document["reason"], f"{document['detail']} {faults}"


async def test_the_secret_is_shown_once(client, house):
    user_id = str(await house.user())
    made = await add(client, user_id=user_id, types=["invoice.settled"])
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert made["state"] == "active"
    assert (made["types"], made["user_id"]) == (["invoice.settled"], user_id)
    listed = await (await client.get("/v1/webhooks")).get_json()
    assert listed == {"items": [made]}
    assert (await (await client.get(f"/v1/webhooks?user_id={uuid4()}")).get_json())["items"] == []
    view = await (await client.get(f"/v1/webhooks/{made['id']}")).get_json()
    assert view == {**made, "waiting": 0, "dead": 0, "behind": 0}
    rotated = await (await client.post(f"/v1/webhooks/{made['id']}/rotate", json={})).get_json()
    assert rotated["secret"].startswith("whsec_")
    assert rotated["old_secret_until"] is not None


@pytest.mark.parametrize(
    ("body", "reason", "why"),
    [
        ({"url": "ftp://shop.example"}, "WEBHOOK_URL_REFUSED", "https://"),
        ({}, "INVALID_REQUEST", "url"),
        ({**HOOK, "types": ["invoice.setled"]}, "INVALID_REQUEST", "did you mean"),
        ({**HOOK, "types": ["zzz"]}, "INVALID_REQUEST", "known are"),
        ({**HOOK, "types": "invoice.settled"}, "INVALID_REQUEST", "list"),
        ({**HOOK, "secret": "whsec_short"}, "INVALID_REQUEST", "24 to 64"),
        ({**HOOK, "secret": "c2VjcmV0" * 5}, "INVALID_REQUEST", "whsec_"),
        ({**HOOK, "from_start": "yes"}, "INVALID_REQUEST", "true or false"),
        ({**HOOK, "user_id": str(uuid4())}, "NO_SUCH_USER", "no user"),
        ({**HOOK, "uri": "x"}, "INVALID_REQUEST", "did you mean"),
    ],
)
async def test_what_cannot_be_an_endpoint_is_refused(client, body, reason, why):
    _, told, detail = await problem(await client.post("/v1/webhooks", json=body))
    assert told == reason
    assert why in detail


async def test_there_is_a_limit(client, house):
    rules = house.webhooks.engine.tools.rules
    most = rules.most_endpoints
    object.__setattr__(rules, "most_endpoints", 1)
    try:
        await add(client)
        found = await problem(await client.post("/v1/webhooks", json=HOOK))
    finally:
        object.__setattr__(rules, "most_endpoints", most)
    assert found[:2] == (409, "TOO_MANY_WEBHOOKS")


async def test_ids_that_are_none_or_unknown(client):
    calls = [
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"),
        ("POST", "/rotate"), ("POST", "/test"), ("GET", "/deliveries"), ("GET", "/backlog"),
    ]  # fmt: skip
    for method, path in calls:
        response = await client.open(f"/v1/webhooks/{uuid4()}{path}", method=method)
        assert (await problem(response))[:2] == (404, "NO_SUCH_WEBHOOK")
        response = await client.open(f"/v1/webhooks/none{path}", method=method)
        assert (await problem(response))[:2] == (404, "INVALID_WEBHOOK_ID")


async def test_its_life_and_the_trail_of_it(client, house, engine):
    made = await add(client)
    path = f"/v1/webhooks/{made['id']}"
    changed = await client.patch(
        path, json={"types": ["payment.seen"], "url": "https://b.example/"}
    )
    assert (await changed.get_json())["url"] == "https://b.example/"
    refused = await client.patch(path, json={"url": "gopher://"})
    assert (await problem(refused))[1] == "WEBHOOK_URL_REFUSED"
    paused = await (await client.post(f"{path}/pause")).get_json()
    assert (paused["state"], paused["paused"]) == ("paused", "asked")
    tested = await (await client.post(f"{path}/test")).get_json()
    assert (tested["delivered"], tested["status"]) == (True, 200)
    house.sender.mood = lambda _sent: 500
    tested = await (await client.post(f"{path}/test")).get_json()
    assert (tested["delivered"], tested["error"]) == (False, "HTTP 500")
    resumed = await (await client.post(f"{path}/resume", json={"from": "now"})).get_json()
    assert resumed["state"] == "active"
    log = await (await client.get(f"{path}/deliveries?limit=1")).get_json()
    assert [one["status"] for one in log["items"]] == [500]
    older = await (await client.get(f"{path}/deliveries?before={log['next']}")).get_json()
    assert [(one["status"], one["type"]) for one in older["items"]] == [(200, "webhook.test")]
    assert older["next"] is None
    assert (await client.delete(path)).status_code == 204
    acts = await house.store.acts(before=None, limit=50)
    done = [one.act.act for one in reversed(acts) if one.act.target == made["id"]]
    assert done == [
        f"webhook.{what}"
        for what in ("added", "changed", "paused", "tested", "tested", "resumed", "removed")
    ]


async def test_events_are_sent_and_sent_again(client, house, engine):
    made = await add(client)
    path = f"/v1/webhooks/{made['id']}"
    invoice = await house.invoice(await house.user())
    await trio.testing.wait_all_tasks_blocked()
    assert [one.body["type"] for one in house.sender.taken] == ["invoice.created"]
    sent = house.sender.taken[0]
    again = await client.post(f"{path}/redeliver", json={"event_id": sent.id})
    assert await again.get_json() == {"count": 1}
    await trio.testing.wait_all_tasks_blocked()
    times = {"since": "2020-01-01T00:00:00Z", "until": "2030-01-01T00:00:00Z"}
    again = await client.post(f"{path}/redeliver", json=times)
    assert await again.get_json() == {"count": 1}
    await trio.testing.wait_all_tasks_blocked()
    assert [one.id for one in house.sender.taken] == [sent.id] * 3
    view = await (await client.get(path)).get_json()
    assert (view["waiting"], view["behind"]) == (0, 0)
    assert invoice.version == 1


@pytest.mark.parametrize(
    "body",
    [{}, {"event_id": "1", "since": "2020-01-01T00:00:00Z"}, {"since": "2020-01-01T00:00:00Z"}],
)
async def test_what_to_send_again_is_said_in_one_way(client, body):
    made = await add(client)
    response = await client.post(f"/v1/webhooks/{made['id']}/redeliver", json=body)
    status, _, detail = await problem(response)
    assert status == 422
    assert "either event_id" in detail


@pytest.mark.parametrize("event_id", ["1", "deadbeef-1", "nonsense"])
async def test_what_is_not_there_cannot_be_sent_again(client, event_id):
    made = await add(client)
    response = await client.post(
        f"/v1/webhooks/{made['id']}/redeliver", json={"event_id": event_id}
    )
    assert (await problem(response))[:2] == (422, "CANNOT_REDELIVER")


async def test_the_backlog_is_listed(client, house):
    made = await add(client)
    endpoint = (await house.webhooks.find())[0]
    rows = {
        -5: Owed(seq=-5, lane=uuid4(), at_ms=5, notice=b"a\nb\n{}"),
        3: Owed(seq=3, lane=uuid4(), at_ms=7, attempts=2, next_at_ms=9000, error="HTTP 500"),
        4: Owed(seq=4, lane=uuid4(), at_ms=8, dead=True, attempts=20, error="HTTP 500"),
    }
    health = Health(Pause.FAILING, 10, 5, 20)
    await house.store.webhooks.record(endpoint.id, Progress([], rows), cursor=9, health=health)
    path = f"/v1/webhooks/{made['id']}"
    waiting = await (await client.get(f"{path}/backlog")).get_json()
    assert [(one["seq"], one["next_at"] is None) for one in waiting["items"]] == [
        (None, True),
        (3, False),
    ]
    dead = await (await client.get(f"{path}/backlog?state=dead")).get_json()
    assert [(one["seq"], one["attempts"]) for one in dead["items"]] == [(4, 20)]
    view = await (await client.get(path)).get_json()
    assert (view["paused"], view["waiting"], view["dead"]) == ("failing", 2, 1)


async def test_a_key_for_one_user_sees_that_users_endpoints_alone(client, house):
    mine, other = await house.user(), await house.invoicing.register_user()
    key, token = mint(name="shop", scopes=["admin"], user_id=mine, now_ms=house.clock.now_ms())
    act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=key.prefix)
    await house.store.add_api_key(key, act)
    await house.gate.load()
    theirs = await add(client, user_id=str(other))
    everybodys = await add(client)
    bearer = {"Authorization": f"Bearer {token}"}
    made = await client.post("/v1/webhooks", json=HOOK, headers=bearer)
    assert made.status_code == 201
    document = await made.get_json()
    assert document["user_id"] == str(mine)
    listed = await (await client.get("/v1/webhooks", headers=bearer)).get_json()
    assert [one["id"] for one in listed["items"]] == [document["id"]]
    for webhook in (theirs, everybodys):
        response = await client.post(f"/v1/webhooks/{webhook['id']}/pause", headers=bearer)
        assert (await problem(response))[:2] == (404, "NO_SUCH_WEBHOOK")
    response = await client.post(
        "/v1/webhooks", json={**HOOK, "user_id": str(other)}, headers=bearer
    )
    assert response.status_code == 404
    assert (await client.get(f"/v1/webhooks/{document['id']}", headers=bearer)).status_code == 200


async def test_managing_them_needs_the_scope_for_it(client, house):
    key, token = mint(name="reader", scopes=[Scope.WRITE], now_ms=house.clock.now_ms())
    act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=key.prefix)
    await house.store.add_api_key(key, act)
    await house.gate.load()
    response = await client.get("/v1/webhooks", headers={"Authorization": f"Bearer {token}"})
    assert (await problem(response))[:2] == (403, "FORBIDDEN")


async def test_a_form_is_chosen_once_and_shown_everywhere(client, house):
    made = await add(client, form="payscrypt")
    path = f"/v1/webhooks/{made['id']}"
    kinds = [
        "invoice.covered",
        "invoice.expired",
        "invoice.cancelled",
        "invoice.uncovered",
        "invoice.settled",
    ]
    assert made["form"] == "payscrypt"
    assert made["types"] == kinds
    listed = await (await client.get("/v1/webhooks")).get_json()
    assert [one["form"] for one in listed["items"]] == ["payscrypt"]
    assert (await (await client.get(path)).get_json())["form"] == "payscrypt"
    narrowed = await client.patch(path, json={"types": ["invoice.settled"]})
    assert (await narrowed.get_json())["types"] == ["invoice.settled"]
    widened = await client.patch(path, json={"types": []})
    assert (await widened.get_json())["types"] == kinds
    assert (await client.patch(path, json={"form": "standard"})).status_code == 422
    paused = await (await client.post(f"{path}/pause")).get_json()
    assert paused["form"] == "payscrypt"
    tested = await (await client.post(f"{path}/test")).get_json()
    assert tested["delivered"]
    assert house.sender.sent[0].body["merchant_order_id"] == "webhook.test"
    assert (await add(client))["form"] == "standard"
    acts = await house.store.acts(before=None, limit=50)
    added = [one.act.detail for one in reversed(acts) if one.act.act == "webhook.added"]
    assert added == [f"{HOOK['url']} ({form})" for form in ("payscrypt", "standard")]


async def test_what_does_not_go_with_a_form_is_refused(client):
    response = await client.post("/v1/webhooks", json={**HOOK, "form": "paysrypt"})
    assert (await problem(response))[1] == "INVALID_REQUEST"
    made = await add(client, form="payscrypt")
    strange = {"types": ["invoice.settled", "payment.seen"]}
    for method, path, body in (
        ("POST", "/v1/webhooks", {**HOOK, "form": "payscrypt", **strange}),
        ("PATCH", f"/v1/webhooks/{made['id']}", strange),
    ):
        response = await client.open(path, method=method, json=body)
        status, reason, detail = await problem(response)
        assert (status, reason) == (422, "INVALID_REQUEST")
        assert "payment.seen" in detail
        assert "invoice.covered" in detail
        assert (await response.get_json())["errors"][0]["pointer"] == "#/types"
