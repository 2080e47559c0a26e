"""Who gets in by gRPC, what they may call, and what exists for them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio

from actors.access import mint
from actors.access_book import Act, Scope
from actors.gate import Gate, GateRules
from api.access import FOR_THE_WHOLE_DAEMON, RPC_SCOPES, current_caller, scope_of_rpc
from api.grpc.gatekeeper import gatekeeper
from api.grpc.goipay import InvoiceService, UserService
from api.grpc.peer import Peer
from tests.helpers.goipay_calls import SERVICES, refused
from tests.helpers.google_messages import google_class
from tests.helpers.grpc_serving import serving
from tests.helpers.house import BTC_KEY, LTC_KEY, open_house


@pytest.fixture
async def house():
    async with open_house() as running:
        yield running


class Counter:
    """GoiPay's services behind a gate."""

    def __init__(self, house, gate: Gate, channel: grpc.Channel) -> None:
        self.house = house
        self.gate = gate
        self._channel = channel

    async def key(self, *scopes, user_id=None, expires_at_ms=None) -> str:
        now_ms = self.house.clock.now_ms()
        key, token = mint(
            name="n", scopes=scopes, user_id=user_id, expires_at_ms=expires_at_ms, now_ms=now_ms
        )
        act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=key.prefix)
        await self.house.store.add_api_key(key, act)
        await self.gate.load()
        return token

    async def call(self, rpc: str, token: str | None = None, /, **fields: Any) -> Any:
        """The answer, or the error."""
        service = SERVICES[rpc]
        package = service.rsplit(".", 1)[0]
        request = google_class(f"{package}.{rpc}Request")(**fields)
        call = self._channel.unary_unary(
            f"/{service}/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=google_class(f"{package}.{rpc}Response").FromString,
        )
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)

        def run() -> Any:
            try:
                return call(request, timeout=30, metadata=metadata)
            except grpc.RpcError as error:
                return error

        return await trio.to_thread.run_sync(run)

    def watch(self, token: str) -> Any:
        return self._channel.unary_stream(
            "/invoice.v1.InvoiceService/InvoiceStatusStream",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=google_class("invoice.v1.InvoiceStatusStreamResponse").FromString,
        )(
            google_class("invoice.v1.InvoiceStatusStreamRequest")(),
            timeout=60,
            metadata=(("authorization", f"Bearer {token}"),),
        )


@asynccontextmanager
async def counter(house, **rules):
    gate = Gate(house.store, GateRules(**rules), clock=house.clock, log=house.log)
    users = UserService(house.invoicing, audit=house.audit, reveal=None)
    invoices = InvoiceService(house.invoicing, hub=house.hub)
    async with serving(users, invoices, interceptors=[gatekeeper(gate)]) as running:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            yield Counter(house, gate, channel)


def code(error) -> str:
    return error.code().name


async def test_goipay_without_a_key_is_as_it_was_where_anonymous_callers_may_come(house):
    async with counter(house, anonymous=True) as shop:
        user = await shop.call("RegisterUser")
        assert len(user.userId) == 36
        assert code(await shop.call("RegisterUser", "tk_nonsense")) == "UNAUTHENTICATED"


async def test_goipay_without_a_key_is_turned_away_elsewhere(house):
    async with counter(house) as shop:
        for rpc in set(SERVICES) - {"InvoiceStatusStream"}:
            error = refused(await shop.call(rpc))
            assert (error.code, error.reason) == (16, "UNAUTHENTICATED")
            assert "tallyd access add" in error.text
        health = shop._channel.unary_unary("/grpc.health.v1.Health/Check")
        await trio.to_thread.run_sync(lambda: health(b"", timeout=30))


async def test_scopes(house):
    async with counter(house) as shop:
        keys = {scope: await shop.key(scope) for scope in Scope}
        for path, scope in RPC_SCOPES.items():
            rpc = path.rpartition("/")[2]
            if rpc == "InvoiceStatusStream":
                continue
            for held, token in keys.items():
                answer = await shop.call(rpc, token)
                denied = isinstance(answer, grpc.RpcError) and code(answer) == "PERMISSION_DENIED"
                assert denied == (held not in (scope, Scope.ADMIN)), (rpc, held)
                if denied:
                    assert refused(answer).reason == "FORBIDDEN"


async def test_an_expired_key_says_when(house):
    async with counter(house) as shop:
        token = await shop.key("admin", expires_at_ms=house.clock.now_ms() + 1000)
        house.clock.jump(2)
        error = refused(await shop.call("RegisterUser", token))
        assert error.code == 16
        assert "expired at" in error.text
        assert token not in error.text


async def test_for_a_restricted_key_other_users_do_not_exist(house):
    mine, theirs = await house.user(btc=BTC_KEY), await house.user(ltc=LTC_KEY)
    async with counter(house) as shop:
        token = await shop.key("admin", user_id=mine)
        one, other = await house.invoice(mine), await house.invoice(theirs, asset="LTC")
        ids = [str(row.terms.invoice_id) for row in (one, other)]
        answer = await shop.call("GetInvoices", token, paymentIds=ids)
        assert [row.id for row in answer.invoices] == ids[:1]
        wanted = {"coin": 2, "amount": 1.0, "timeout": 60}
        hidden = refused(await shop.call("CreateInvoice", token, userId=str(theirs), **wanted))
        assert (hidden.code, hidden.reason) == (3, "NO_SUCH_USER")
        for rpc in ("UpdateCryptoKeys", "GetCryptoKeys"):
            hidden = refused(await shop.call(rpc, token, userId=str(theirs)))
            assert (hidden.code, hidden.text) == (3, "Invalid userId (user does not exist).")
            assert not isinstance(await shop.call(rpc, token, userId=str(mine)), grpc.RpcError)
        assert refused(await shop.call("RegisterUser", token)).code == 7


async def test_the_stream_of_a_restricted_key_tells_of_its_user_alone(house):
    mine, theirs = await house.user(btc=BTC_KEY), await house.user(ltc=LTC_KEY)
    async with counter(house) as shop:
        bound = shop.watch(await shop.key("read", user_id=mine))
        free = shop.watch(await shop.key("read"))
        for call in (bound, free):
            await trio.to_thread.run_sync(call.initial_metadata)
        first = await house.invoice(theirs, asset="LTC")
        second = await house.invoice(mine)
        ids = [str(row.terms.invoice_id) for row in (first, second)]
        heard = [(await trio.to_thread.run_sync(next, free)).invoice.id for _ in range(2)]
        assert heard == ids
        assert (await trio.to_thread.run_sync(next, bound)).invoice.id == ids[1]
        bound.cancel()
        free.cancel()


async def test_a_stream_ends_with_the_key_that_opened_it(house):
    async with counter(house) as shop, trio.open_nursery() as nursery:
        nursery.start_soon(shop.gate.run)
        tokens = [await shop.key("read") for _ in range(2)]
        expiring = await shop.key("read", expires_at_ms=house.clock.now_ms() + 60_000)
        calls = [shop.watch(token) for token in (*tokens, expiring)]
        for call in calls:
            await trio.to_thread.run_sync(call.initial_metadata)
        prefix = tokens[0][3:11]
        act = Act(at_ms=1, actor="cli", address="local", act="key.revoked", target=prefix)
        await house.store.revoke_api_key(prefix, act)
        house.clock.jump(61)
        for call in (calls[0], calls[2]):
            assert await trio.to_thread.run_sync(lambda call=call: call.code().name) == (
                "UNAUTHENTICATED"
            )
        assert calls[1].is_active()
        calls[1].cancel()
        nursery.cancel_scope.cancel()


async def test_who_calls_too_often_is_told_when_to_come_again(house):
    async with counter(house, rate_per_s=0.1, burst=1) as shop:
        token = await shop.key("admin")
        assert not isinstance(await shop.call("RegisterUser", token), grpc.RpcError)
        error = await shop.call("RegisterUser", token)
        assert code(error) == "RESOURCE_EXHAUSTED"
        trailing = dict(error.trailing_metadata())
        assert trailing["tally-reason"] == "RATE_LIMITED"
        status = google_class("google.rpc.Status").FromString(trailing["grpc-status-details-bin"])
        wait = google_class("google.rpc.RetryInfo")()
        assert status.details[1].Unpack(wait)
        assert 9 <= wait.retry_delay.seconds <= 10


async def test_acts_by_grpc_leave_a_trail(house):
    async with counter(house) as shop:
        token = await shop.key("admin")
        user = await shop.call("RegisterUser", token)
        await shop.call("UpdateCryptoKeys", token, userId=user.userId)
        keys, registered, _ = await house.store.acts(before=None, limit=9)
        assert (keys.act.act, keys.act.target) == ("user.keys_set", user.userId)
        assert (registered.act.act, registered.act.target) == ("user.registered", user.userId)
        assert registered.act.actor == f"key:{token[3:11]}"
        assert registered.act.address.startswith("127.0.0.1:")


async def test_a_certificate_or_a_proxy_is_what_the_gate_is_told_of(house):
    asked = []

    class Listening(Gate):
        def admit(self, knock):
            asked.append(knock)
            return super().admit(knock)

    rules = GateRules(subjects={"shop": frozenset({Scope.READ})}, anonymous=True)
    gate = Listening(house.store, rules, clock=house.clock, log=house.log)
    ask = gatekeeper(gate)
    peer = Peer("192.0.2.7:1", tls=True, subject="CN=shop")
    assert await ask("/invoice.v1.InvoiceService/GetInvoices", {}, peer) is None
    assert current_caller().actor == "mtls:CN=shop"
    proxied = await ask(
        "/invoice.v1.InvoiceService/GetInvoices",
        {"x-forwarded-for": "192.0.2.7"},
        Peer("127.0.0.1:1"),
    )
    assert proxied is not None
    assert [(one.subject, one.direct) for one in asked] == [("CN=shop", True), (None, False)]


def test_every_rpc_needs_something_and_unknown_ones_the_most():
    assert scope_of_rpc("/grpc.health.v1.Health/Check") is None
    assert scope_of_rpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo") is Scope.READ
    assert scope_of_rpc("/tally.v1.InvoiceService/WatchInvoices") is Scope.READ
    assert scope_of_rpc("/tally.v1.InvoiceService/CancelInvoice") is Scope.WRITE
    assert scope_of_rpc("/tally.v1.AnyService/DropEverything") is Scope.ADMIN
    assert scope_of_rpc("/other.v1.Service/GetAll") is Scope.ADMIN
    assert set(RPC_SCOPES) >= FOR_THE_WHOLE_DAEMON
    assert {path.rpartition("/")[2] for path in RPC_SCOPES} == set(SERVICES)
