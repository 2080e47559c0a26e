"""Who gets in by REST, what they may do there, and what exists for them."""

from __future__ import annotations

from uuid import uuid4

import orjson
import pytest
from quart_trio.testing import TrioClient

from actors.access import mint
from actors.access_book import Act
from actors.gate import GateRules
from api.rest.app import create_app
from tests.helpers.house import BTC_KEY, LTC_KEY, NearGate
from tests.helpers.problems import refusing_with_problems


class Counter:
    """The application behind a gate that wants keys."""

    def __init__(self, house, **rules) -> None:
        self.house = house
        house.gate = NearGate(house.store, GateRules(**rules), clock=house.clock, log=house.log)
        self.app = create_app(house.edge())
        self.client: TrioClient = self.app.test_client()

    async def key(self, *scopes, user_id=None) -> dict[str, str]:
        """The headers of a caller."""
        key, token = mint(
            name="n", scopes=scopes, user_id=user_id, now_ms=self.house.clock.now_ms()
        )
        act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=key.prefix)
        await self.house.store.add_api_key(key, act)
        await self.house.gate.load()
        return {"Authorization": f"Bearer {token}"}

    async def ask(self, method, path, headers=None, body=None):
        sent = {} if body is None else {"json": body}
        response = await self.client.open(path, method=method, headers=headers, **sent)
        data = await response.get_data()
        try:
            return response.status_code, orjson.loads(data) if data else None, response.headers
        except orjson.JSONDecodeError:
            return response.status_code, data, response.headers


@pytest.fixture
def counter(house):
    return Counter(house)


async def test_without_a_key_only_what_is_open_is_open(counter, house):
    invoice = await house.invoice(await house.user())
    _, document, _ = await counter.ask("GET", "/openapi.json")
    opened = set()
    for path, method, operation in refusing_with_problems(document):
        url = path.replace("{invoice_id}", str(invoice.terms.invoice_id))
        url = url.replace("{user_id}", str(invoice.terms.user_id))
        headers = {"X-Forwarded-For": "192.0.2.7"}
        status, problem, told = await counter.ask(method.upper(), url, headers)
        if status != 401:
            opened.add(path)
            assert operation["security"] == []
            continue
        assert {"key": []} in operation["security"]
        assert problem["reason"] == "UNAUTHENTICATED"
        assert "tallyd access add" in problem["detail"]
        assert told["WWW-Authenticate"].startswith("Bearer")
        assert "401" in operation["responses"]
    assert opened == {"/healthz", "/readyz"}
    assert (await counter.ask("GET", "/docs", {"X-Forwarded-For": "1.1.1.1"}))[0] == 200


async def test_each_operation_needs_its_scope_and_no_other(counter):
    callers = {scope: await counter.key(scope) for scope in ("read", "write", "admin")}
    _, document, _ = await counter.ask("GET", "/openapi.json")
    seen = set()
    for path, method, operation in refusing_with_problems(document):
        if operation["security"] == []:
            continue
        url = path.replace("{", "").replace("}", "")
        for scope, headers in callers.items():
            status, problem, _ = await counter.ask(method.upper(), url, headers)
            refused = status == 403
            assert refused == (scope not in (operation["x-scope"], "admin")), (method, path)
            if refused:
                assert problem["facts"] == {"scope": operation["x-scope"]}
        seen.add((operation["operationId"], operation["x-scope"]))
    assert {
        ("registerUser", "admin"),
        ("setKeys", "admin"),
        ("listAudit", "admin"),
        ("createInvoice", "write"),
        ("listInvoices", "read"),
        ("metrics", "read"),
    } <= seen


async def test_anonymous_callers_on_this_machine_where_that_is_configured(house):
    counter = Counter(house, anonymous=True)
    assert (await counter.ask("POST", "/v1/users"))[0] == 201
    for headers in (
        {"X-Forwarded-For": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"Host": "rebound.example:8080"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[broken"},
        {"Authorization": "Bearer tk_nonsense"},
    ):
        assert (await counter.ask("POST", "/v1/users", headers))[0] == 401, headers
    for headers in (
        {"Host": "127.0.0.1:8080"},
        {"Host": "[::1]:8080", "Origin": "http://localhost:8080"},
        {"Host": "tally.localhost"},
    ):
        assert (await counter.ask("POST", "/v1/users", headers))[0] == 201, headers


async def test_probes_tell_strangers_less(counter):
    far = {"X-Forwarded-For": "192.0.2.1"}
    status, told, _ = await counter.ask("GET", "/readyz", far)
    assert (status, told["chains"]) == (200, {})
    assert (await counter.ask("GET", "/metrics", far))[0] == 401
    status, told, _ = await counter.ask("GET", "/readyz")
    assert set(told["chains"]) == {"btc", "ltc"}
    assert (await counter.ask("GET", "/metrics"))[0] == 200
    reader = await counter.key("read")
    assert (await counter.ask("GET", "/metrics", {**far, **reader}))[0] == 200
    status, told, _ = await counter.ask("GET", "/readyz", {**far, **reader})
    assert set(told["chains"]) == {"btc", "ltc"}
    writer = await counter.key("write")
    assert (await counter.ask("GET", "/metrics", {**far, **writer}))[0] == 403


# --- one user's key -------------------------------------------------------------------------------


async def test_for_a_restricted_key_other_users_do_not_exist(counter, house):
    mine = await house.user(btc=BTC_KEY)
    theirs = await house.user(ltc=LTC_KEY)
    headers = await counter.key("admin", user_id=mine)
    one, other = await house.invoice(mine), await house.invoice(theirs, asset="LTC")
    known, unknown = one.terms.invoice_id, other.terms.invoice_id
    _, listed, _ = await counter.ask("GET", "/v1/invoices", headers)
    assert [row["id"] for row in listed["items"]] == [str(known)]
    assert (await counter.ask("GET", f"/v1/invoices?user_id={mine}", headers))[1] == listed
    status, problem, _ = await counter.ask("GET", f"/v1/invoices?user_id={theirs}", headers)
    assert (status, problem["reason"]) == (404, "NO_SUCH_USER")
    for tail in ("", "/events", "/explain"):
        status, hidden, _ = await counter.ask("GET", f"/v1/invoices/{unknown}{tail}", headers)
        assert status == 404
        _, absent, _ = await counter.ask("GET", f"/v1/invoices/{uuid4()}{tail}", headers)
        assert hidden["reason"] == absent["reason"] == "NO_SUCH_INVOICE"
        assert set(hidden) == set(absent)
        assert (await counter.ask("GET", f"/v1/invoices/{known}{tail}", headers))[0] == 200
    body = {"asset": "LTC", "amount": "1", "expires_in": 60}
    for user_id in (theirs, uuid4()):
        status, problem, _ = await counter.ask(
            "POST", "/v1/invoices", headers, {**body, "user_id": str(user_id)}
        )
        assert (status, problem["reason"]) == (404, "NO_SUCH_USER")
        path = f"/v1/users/{user_id}/keys"
        assert (await counter.ask("PUT", path, headers, {"btc": BTC_KEY}))[0] == 404
    status, _, _ = await counter.ask(
        "POST", "/v1/invoices", headers, {**body, "asset": "BTC", "user_id": str(mine)}
    )
    assert status == 201


async def test_every_operation_is_decided_on_for_restricted_keys(counter):
    """What names no user is refused to them, unless it is said to be for all."""
    headers = await counter.key("admin", user_id=uuid4())
    _, document, _ = await counter.ask("GET", "/openapi.json")
    refused = set()
    for path, method, operation in refusing_with_problems(document):
        url = path.replace("{invoice_id}", str(uuid4())).replace("{user_id}", str(uuid4()))
        status, problem, _ = await counter.ask(method.upper(), url, headers)
        if status == 403:
            assert "restricted to one user" in problem["detail"]
            refused.add(operation["operationId"])
        elif "{" in path and method == "get":
            assert status == 404, path
    assert {"registerUser", "listAudit", "metrics"} <= refused
    assert not {"listAssets", "listChains", "listInvoices", "createInvoice"} & refused


# --- rates ----------------------------------------------------------------------------------------


async def test_who_asks_too_often_is_told_when_to_come_again(house):
    counter = Counter(house, rate_per_s=0.5, burst=2)
    headers = await counter.key("read")
    assert [(await counter.ask("GET", "/v1/assets", headers))[0] for _ in range(2)] == [200, 200]
    status, problem, told = await counter.ask("GET", "/v1/assets", headers)
    assert (status, problem["reason"], told["Retry-After"]) == (429, "RATE_LIMITED", "2")
    assert (await counter.ask("GET", "/v1/assets", await counter.key("read")))[0] == 200


# --- the audit trail ------------------------------------------------------------------------------


async def test_administrative_acts_leave_a_trail(counter):
    headers = await counter.key("admin")
    prefix = headers["Authorization"][10:18]
    _, user, _ = await counter.ask("POST", "/v1/users", headers)
    path = f"/v1/users/{user['id']}/keys"
    assert (await counter.ask("PUT", path, headers, {"btc": BTC_KEY}))[0] == 204
    assert (await counter.ask("PUT", path, headers, {"btc": "nonsense"}))[0] == 422
    status, trail, _ = await counter.ask("GET", "/v1/audit?limit=2", headers)
    assert status == 200
    assert [(one["act"], one["target"], one["actor"]) for one in trail["items"]] == [
        ("user.keys_set", user["id"], f"key:{prefix}"),
        ("user.registered", user["id"], f"key:{prefix}"),
    ]
    assert trail["items"][0]["detail"] == "btc"
    status, rest, _ = await counter.ask("GET", f"/v1/audit?before={trail['next']}", headers)
    assert [one["act"] for one in rest["items"]] == ["key.added"]
    assert rest["next"] is None
    assert (await counter.ask("GET", "/v1/audit?before=0", headers))[0] == 422


# --- idempotency keys -----------------------------------------------------------------------------


async def test_a_repeated_creation_gets_the_same_answer(counter, house):
    headers = await counter.key("write")
    user_id = await house.user()
    body = {"user_id": str(user_id), "asset": "BTC", "amount": "0.015", "expires_in": 60}

    async def create(key, **change):
        return await counter.ask(
            "POST", "/v1/invoices", {**headers, "Idempotency-Key": key}, {**body, **change}
        )

    status, first, told = await create("a-key")
    assert status == 201
    status, second, again = await create('"a-key"', amount="0.0150")
    assert (status, second) == (201, first)
    assert (again["ETag"], again["Location"]) == (told["ETag"], told["Location"])
    status, problem, _ = await create("a-key", amount="0.016")
    assert (status, problem["reason"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    status, problem, _ = await create("x" * 201)
    assert (status, problem["reason"]) == (400, "IDEMPOTENCY_KEY_REFUSED")
    _, listed, _ = await counter.ask("GET", "/v1/invoices", await counter.key("read"))
    assert [one["id"] for one in listed["items"]] == [first["id"]]


async def test_a_repeated_registration_gets_the_same_answer(counter):
    headers = {**await counter.key("admin"), "Idempotency-Key": "k"}
    status, first, _ = await counter.ask("POST", "/v1/users", headers)
    assert status == 201
    assert (await counter.ask("POST", "/v1/users", headers))[:2] == (201, first)
    status, problem, _ = await counter.ask("POST", "/v1/users", headers, {"id": str(uuid4())})
    assert (status, problem["reason"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    chosen = {**headers, "Idempotency-Key": "l"}
    taken = {"id": first["id"]}
    status, problem, _ = await counter.ask("POST", "/v1/users", chosen, taken)
    assert (status, problem["reason"]) == (409, "USER_EXISTS")
