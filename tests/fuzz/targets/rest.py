"""HTTP from outside: bytes on the socket, and every operation of the OpenAPI document."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache, partial
from random import Random
from typing import Any
from urllib.parse import quote

import h11
import orjson
import trio

from actors.access import mint
from actors.access_book import Act
from actors.wallets import Wallet, WalletAsset
from api.rest.app import RestApp, create_app
from api.rest.edge import HttpLimits
from api.rest.serving import HttpServer
from tests.fuzz.engine import HANG_S, Check, Target, until
from tests.fuzz.mutation import WORDS, as_json, mutated, mutated_json, mutated_text
from tests.helpers.house import BTC_KEY, House, open_house

READ_S = 0.15
"""How long an answer without end is listened to."""
PROBLEM = {"type", "title", "status", "detail", "instance", "reason", "advice"}
PLACE = re.compile(r"\{(\w+)\}")
QUERIES = {
    "limit": ("1", "500"), "after": ("0", "7"), "before": ("5",), "wait": ("0", "1"),
    "state": ("open", "active", "dead"), "with_payments": ("true",), "lang": ("de", "ar"),
    "at": ("2026-11-20T00:00:00Z",), "at_ms": ("1700000000000",), "status": ("PENDING",),
    "cursor": ("AAAA",), "id": ("1",), "merchant_order_id": ("A-1",), "chain": ("btc",),
}  # fmt: skip
HEADERS = (
    ("Idempotency-Key", "one"), ("If-None-Match", '"1"'), ("Last-Event-ID", "5"),
    ("Authorization", "Bearer tk_00000000_0000000000000000000000"), ("apikey", "tk_0_0"),
    ("Content-Type", "application/json; charset=utf-8"), ("Accept", "text/event-stream"),
    ("Accept-Language", "de;q=0.5, ar"), ("X-Forwarded-For", "1.2.3.4"), ("Origin", "https://x.y"),
    ("Forwarded", "for=1.2.3.4"), ("Range", "bytes=0-1"), ("Expect", "100-continue"),
    ("Cookie", "lang=de"), ("Connection", "keep-alive"), ("Accept-Encoding", "br"),
)  # fmt: skip


def app_of(house: House) -> RestApp:
    edge = replace(house.edge(limits=HttpLimits(wait_s=0)), public_url="https://pay.example")
    return create_app(edge)


@cache
def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation) of everything there is, as the document tells."""
    found: list[Any] = []

    async def ask() -> None:
        async with open_house() as house:
            response = await app_of(house).test_client().get("/openapi.json")
            found.append(orjson.loads(await response.get_data()))

    # Another run of Trio: in a thread of its own, where there may be one here already.
    thread = threading.Thread(target=trio.run, args=(ask,))
    thread.start()
    thread.join()
    return [
        (method.upper(), path, operation)
        for path, item in sorted(found[0]["paths"].items())
        for method, operation in sorted(item.items())
    ]


# --- what is sent ---------------------------------------------------------------------------------


def request(method: str, target: str, headers: list[tuple[str, str]], body: bytes | None) -> bytes:
    """An HTTP/1.1 request as it stands, whatever is in its parts."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *(f"{n}: {v}" for n, v in headers)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "", ""])
    return head.encode("utf-8", "replace") + (body or b"")


def drawn_request(dice: Random) -> bytes:
    """One operation, with its parts changed but well framed, so that they are looked at."""
    method, path, operation = dice.choice(operations())
    if dice.random() < 0.25:
        path = PLACE.sub(
            lambda _: quote(mutated_text(dice, dice.choice(WORDS)), safe="", errors="replace"), path
        )
    query = []
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query" and dice.random() < 0.6:
            value = dice.choice(QUERIES.get(parameter["name"], ("@user_id@", "1")))
            value = value if dice.random() < 0.4 else mutated_text(dice, value)
            query.append(f"{parameter['name']}={quote(value[:3000], safe='@', errors='replace')}")
    target = path[:6000] + ("?" + "&".join(query * dice.choice((1, 1, 1, 2))) if query else "")
    target = PLACE.sub(r"@\1@", target)
    headers = [("Connection", "close")]
    for name, value in dice.sample(HEADERS, dice.choice((0, 0, 1, 2, 4))):
        given = value if dice.random() < 0.4 else mutated_text(dice, value)
        headers.append((name, re.sub(r"[^ -~\x80-\xff]", "", given)[:4000]))
    if method == "POST" and "payscrypt" in str(operation["tags"]).lower():
        headers.append(("apikey", "@key@"))
    body = None
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        example = content.get("application/json", {}).get("example", {})
        given = mutated_json(dice, example) if dice.random() < 0.9 else example
        body = as_json(given) if dice.random() < 0.9 else mutated(dice, as_json(given))
        if dice.random() < 0.95:
            headers.append(("Content-Type", "application/json"))
    if dice.random() < 0.03:
        method = dice.choice(("HEAD", "OPTIONS", "TRACE", "BREW", "PATCH", "PUT"))
    return request(method, target, headers, body)


@cache
def seeds() -> list[bytes]:
    """Good requests, also in ways that clients rarely use."""
    asked = []
    for method, path, operation in operations():
        content = operation.get("requestBody", {}).get("content", {})
        body = as_json(content["application/json"]["example"]) if content else None
        headers = [("Content-Type", "application/json")] if content else []
        asked.append(request(method, PLACE.sub(r"@\1@", path), headers, body))
    chunks = b'7\r\n{"id": \r\n5;x=y\r\nnull}\r\n0\r\nTrailer: x\r\n\r\n'
    head = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")]
    stream = [("Last-Event-ID", "0"), ("Accept", "text/event-stream")]
    upgrade = [
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "x"),
        ("Sec-WebSocket-Version", "13"),
    ]
    asked += [
        request("POST", "/v1/users", head, None) + chunks,
        request("GET", "/v1/events", stream, None),
        request("GET", "/healthz", [], None) * 3,
        request("POST", "/v1/users", [("Expect", "100-continue")], b"{}"),
        request("GET", "/healthz", [("Upgrade", "h2c"), ("Connection", "Upgrade")], None),
        request("GET", "/healthz", [("Upgrade", "websocket"), *upgrade], None),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),
    ]  # fmt: skip
    return asked


def drawn_bytes(dice: Random) -> bytes:
    return mutated(dice, dice.choice(seeds()), others=seeds())


# --- what comes back ------------------------------------------------------------------------------


def judged(sent: bytes, received: bytes) -> None:
    """Each answer is a valid one, none is a fault of ours, refusals have their form."""
    rest = received
    for _ in range(200):
        if not rest or rest.startswith(b"HTTP/1.1 101 "):
            return  # after 101 another protocol is spoken
        peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
        method = "HEAD" if sent.startswith(b"HEAD ") else "GET"
        peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        peer.send(h11.EndOfMessage())
        peer.receive_data(rest)
        peer.receive_data(b"")
        body, head, went_on = b"", None, False
        broken = ""
        try:
            while not isinstance(
                event := peer.next_event(), h11.EndOfMessage | h11.ConnectionClosed
            ):
                if isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.InformationalResponse):
                    went_on = True  # and the body that it waits for never comes
                else:
                    break
        except h11.RemoteProtocolError as error:
            broken = str(error)
        # Cut off, by us or because the request was: the head has to be whole all the same.
        assert head or went_on or not broken or not rest.startswith(b"HTTP"), (broken, rest[:300])
        if head is None:
            return
        _judge(head, body, whole=peer.their_state is h11.DONE)
        rest = peer.trailing_data[0]


def _judge(head: h11.Response, body: bytes, *, whole: bool) -> None:
    status = head.status_code
    headers = dict(head.headers)
    kind = headers.get(b"content-type", b"")
    assert status < 500 or status in (501, 503, 505), (status, body[:500])
    assert b"Traceback" not in body
    if status < 400 or not body or not whole:
        return
    if kind == b"application/problem+json":
        document = orjson.loads(body)
        assert document.keys() >= PROBLEM, document
        assert document["status"] == status
        assert document["detail"]
    elif b"grpc-code" in headers:
        document = orjson.loads(body)
        assert document.keys() == {"code", "message", "details"}, document
        assert str(document["code"]).encode() == headers[b"grpc-code"]


# --- sessions -------------------------------------------------------------------------------------


async def known(house: House, app: RestApp) -> dict[str, str]:
    """Ids of what exists, by the names that stand for them."""
    user_id = await house.user(btc=BTC_KEY)
    invoice = await house.invoice(user_id)
    await house.paid(invoice)
    wallet = await house.wallets.add(
        user_id, name="w", keys=[("btc", BTC_KEY)], assets=(WalletAsset("BTC"),)
    )
    assert isinstance(wallet, Wallet)
    key, token = mint(name="n", scopes=["write"], user_id=user_id, now_ms=house.clock.now_ms())
    act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=key.prefix)
    await house.store.add_api_key(key, act)
    await house.gate.load()
    order = {
        "merchant_order_id": "A-1", "asset_name": "BTC", "target_value": "1500000",
        "pg_wallet_id": str(wallet.id),
    }  # fmt: skip
    client = app.test_client()
    made = await client.post("/apis/pg/create_order", json=order, headers={"apikey": token})
    document = orjson.loads(await made.get_data())
    number = str(document["order"]["id"])
    hook = await client.post("/v1/webhooks", json={"url": "https://shop.example/hook"})
    return {
        "user_id": str(user_id), "invoice_id": str(invoice.terms.invoice_id),
        "wallet_id": str(wallet.id), "order_id": number, "id": number, "order": number,
        "webhook_id": str(orjson.loads(await hook.get_data()).get("id", "x")),
        "prefix": key.prefix, "name": "page.css", "asset": "BTC", "chain": "btc", "key": token,
    }  # fmt: skip


@asynccontextmanager
async def serving() -> AsyncIterator[Check]:
    async with open_house() as house, trio.open_nursery() as nursery:
        app = app_of(house)
        ids = await known(house, app)
        server, shutdown = HttpServer(app), trio.Event()
        addresses = await nursery.start(partial(server.serve, "127.0.0.1", 0, shutdown=shutdown))

        async def check(data: bytes) -> None:
            for name, value in ids.items():
                data = data.replace(f"@{name}@".encode(), value.encode())
            received = await exchange(addresses[0][1], data, within_s=READ_S)
            judged(data, received)
            assert not house.log.of("crashed"), house.log.of("crashed")[-1]
            # Hypercorn's HTTP/2 may close while it sends: that ends this one connection only.
            failed = [
                line
                for line in house.log.of("connection failed")
                if "BusyResourceError" not in str(line.fields["error"])
            ]
            assert not failed, failed
            house.log.lines.clear()

        yield check
        assert (await exchange(addresses[0][1], request("GET", "/healthz", [], None)))[
            9:12
        ] == b"200"
        await until(lambda: not server.statistics().open)
        shutdown.set()


async def exchange(port: int, data: bytes, *, within_s: float = HANG_S) -> bytes:
    """Everything that comes back before the server closes, or says nothing more for a while."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    received = b""
    with trio.move_on_after(within_s):
        try:
            await stream.send_all(data)
            await stream.send_eof()
            while more := await stream.receive_some(65536):
                received += more
        except trio.BrokenResourceError:
            pass  # closed with unread bytes, which is an end as well
    await trio.aclose_forcefully(stream)
    return received


TARGETS = [
    Target("http-bytes", drawn_bytes, serving, cases=250),
    Target("http-requests", drawn_request, serving, cases=350),
]
