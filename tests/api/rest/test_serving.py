"""HTTP over real sockets: requests, bad peers, limits, and the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import h11
import pytest
import trio
import trio.testing

from api.rest import serving
from api.rest.app import create_app
from api.rest.edge import HttpLimits
from api.rest.serving import HttpListenError, HttpServer
from tests.helpers.house import open_house


class Running:
    def __init__(self, server, port, app, house, shutdown):
        self.server, self.port, self.app, self.house = server, port, app, house
        self.shutdown = shutdown
        self.streams = []

    async def connect(self):
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        return stream

    async def ask(self, target, *, stream=None, **headers):
        """One GET: status, headers and body. Without a stream, the peer has to close its own."""
        own = stream is None
        stream = stream or await self.connect()
        if own:
            headers["Connection"] = "close"
        await stream.send_all(request(target, **headers))
        with trio.fail_after(10):
            found = await answer(stream)
            if own:
                assert await stream.receive_some(1) == b"", "the server closes when it said so"
        return found


def request(target, method="GET", **headers):
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


async def answer(stream, method="GET"):
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    peer.send(h11.EndOfMessage())
    status, headers, body = None, {}, b""
    while True:
        event = peer.next_event()
        if event is h11.NEED_DATA:
            peer.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return status, headers, body


@asynccontextmanager
async def http(**limits) -> AsyncIterator[Running]:
    async with open_house() as house, trio.open_nursery() as nursery:
        app = create_app(house.edge(limits=HttpLimits(**limits)))
        server, shutdown = HttpServer(app), trio.Event()
        addresses = await nursery.start(partial(server.serve, "127.0.0.1", 0, shutdown=shutdown))
        running = Running(server, addresses[0][1], app, house, shutdown)
        try:
            yield running
        finally:
            for stream in running.streams:
                await trio.aclose_forcefully(stream)
        shutdown.set()


async def test_requests_on_one_connection_and_on_many():
    async with http() as running:
        stream = await running.connect()
        for _ in range(3):
            status, headers, body = await running.ask("/healthz", stream=stream)
            assert (status, body) == (200, b'{"status":"ok"}')
            assert "server" not in headers
        await stream.aclose()
        for _ in range(3):
            assert (await running.ask("/healthz"))[0] == 200
        assert running.server.statistics().accepted == 4


async def test_answers_without_content_say_nothing_of_it():
    async with http() as running:
        invoice = await running.house.invoice(await running.house.user())
        path = f"/v1/invoices/{invoice.terms.invoice_id}"
        _, headers, _ = await running.ask(path)
        status, headers, body = await running.ask(path, If_None_Match=headers["etag"])
        assert (status, body) == (304, b"")
        assert not {"content-type", "content-length"} & set(headers)


async def test_head_has_the_length_and_no_body():
    async with http() as running:
        _, _, body = await running.ask("/openapi.json")
        stream = await running.connect()
        await stream.send_all(request("/openapi.json", method="HEAD", Connection="close"))
        status, headers, nothing = await answer(stream, "HEAD")
        assert (status, headers["content-length"], nothing) == (200, str(len(body)), b"")
        assert await stream.receive_some() == b""


@pytest.mark.parametrize(
    "data",
    [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nBroken\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
     b"\x00" * 99,
     b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 40,
     b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
     b"GET /docs HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"],
)  # fmt: skip
async def test_a_bad_peer_ends_its_own_connection_only(data):
    async with http() as running:
        stream = await running.connect()
        await stream.send_all(data)
        await stream.send_eof()
        with trio.fail_after(10):
            try:
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        await stream.aclose()
        assert (await running.ask("/healthz"))[0] == 200
    assert running.server.statistics().open == 0


async def test_a_client_that_goes_frees_its_long_poll():
    async with http() as running:
        invoice = await running.house.invoice(await running.house.user())
        path = f"/v1/invoices/{invoice.terms.invoice_id}"
        _, headers, _ = await running.ask(path)
        stream = await running.connect()
        await stream.send_all(request(f"{path}?wait=60", If_None_Match=headers["etag"]))
        await until(lambda: running.app.room.waiting == 1)
        await stream.aclose()
        await until(lambda: running.app.room.waiting == 0)
        assert running.house.hub.statistics().waiters == 0


async def until(condition):
    with trio.fail_after(10):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.005)


async def test_a_long_poll_is_answered_at_the_change():
    async with http() as running:
        invoice = await running.house.invoice(await running.house.user())
        path = f"/v1/invoices/{invoice.terms.invoice_id}"
        _, headers, _ = await running.ask(path)
        async with trio.open_nursery() as nursery:
            found = []

            async def poll():
                found.append(await running.ask(f"{path}?wait=60", If_None_Match=headers["etag"]))

            nursery.start_soon(poll)
            await until(lambda: running.app.room.waiting == 1)
            await running.house.paid(invoice)
        assert found[0][0] == 200
        assert b"PENDING_MEMPOOL" in found[0][2]


async def test_shutdown_answers_those_who_wait_and_closes_those_who_idle():
    async with http() as running:
        invoice = await running.house.invoice(await running.house.user())
        path = f"/v1/invoices/{invoice.terms.invoice_id}"
        idle = await running.connect()
        _, headers, _ = await running.ask(path, stream=idle)
        waiting = await running.connect()
        await waiting.send_all(request(f"{path}?wait=60", If_None_Match=headers["etag"]))
        await until(lambda: running.app.room.waiting == 1)
        running.shutdown.set()
        with trio.fail_after(10):
            assert (await answer(waiting))[0] == 304
            assert await idle.receive_some() == b""
            assert await waiting.receive_some() == b""
    assert running.server.statistics().open == 0


async def test_shutdown_does_not_wait_for_a_reader_that_takes_nothing(monkeypatch):
    monkeypatch.setattr(serving, "GRACE_S", 0.05)
    async with http() as running:
        stream = await running.connect()
        # Far more answers than the sockets between us can hold.
        await stream.send_all(request("/docs") * 400)
        await until(lambda: running.server.statistics().open == 1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        running.shutdown.set()
        await until(lambda: running.server.statistics().open == 0)


async def test_more_connections_than_the_limit_are_closed_at_once():
    async with http(connections=2) as running:
        kept = [await running.connect() for _ in range(2)]
        await until(lambda: running.server.statistics().open == 2)
        for _ in range(2):
            extra = await running.connect()
            with trio.fail_after(10):
                assert await extra.receive_some() == b""
        assert running.server.statistics().refused == 2
        assert len(running.house.log.of("http connections refused")) == 1
        await kept[0].aclose()
        await until(lambda: running.server.statistics().open == 1)
        assert (await running.ask("/healthz"))[0] == 200


async def test_a_port_that_is_taken_is_said_with_the_setting():
    async with http() as running:
        with pytest.raises(HttpListenError, match=r"http\.port \(TALLY_HTTP_PORT\)") as caught:
            await serving.serve(running.app, "127.0.0.1", running.port, shutdown=trio.Event())
        assert "already in use" in str(caught.value)


async def test_a_host_that_is_none_is_said_with_the_setting():
    async with http() as running:
        with pytest.raises(HttpListenError, match="TALLY_HTTP_HOST"):
            await serving.serve(running.app, "no.such.host.invalid", 0, shutdown=trio.Event())


async def test_a_name_with_several_addresses_is_bound_on_one_port():
    async with open_house() as house, trio.open_nursery() as nursery:
        app, shutdown = create_app(house.edge()), trio.Event()
        addresses = await nursery.start(
            partial(serving.serve, app, "localhost", 0, shutdown=shutdown)
        )
        assert len({address[1] for address in addresses}) == 1
        for host, port in addresses:
            await trio.aclose_forcefully(await trio.open_tcp_stream(host, port))
        shutdown.set()
