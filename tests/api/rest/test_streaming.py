"""A streamed response outlives what made it: one task and a socket, and nobody is waited for."""

from __future__ import annotations

import socket
from contextlib import contextmanager

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trio.testing

from actors.ports import TransientError
from api.rest import events, streaming
from api.rest.departures import Departures
from tests.helpers.event_source import http
from tests.helpers.ledger import grow
from tests.helpers.tasks import tasks, until


async def test_an_open_stream_is_one_task(house):
    async with http(house) as web:
        await trio.testing.wait_all_tasks_blocked()
        before = tasks()
        async with web.events() as first, web.events() as second:
            await first.block()
            await second.block()
            await until(lambda: tasks() == before + 2)
        await until(lambda: tasks() == before)


async def test_a_reader_that_goes_is_noticed_although_nothing_is_sent(house):
    async with http(house) as web:
        async with web.events() as source:
            await source.block()
            assert len(web.server._departures) == 1
        await until(lambda: web.server.statistics().open == 0)
        assert len(web.server._departures) == 0
        assert house.outbox.statistics().followers == 0


async def test_a_reader_that_says_it_sends_no_more_is_gone(house):
    async with http(house) as web, web.events() as source:
        await source.block()
        await source.stream.send_eof()
        await until(lambda: web.server.statistics().open == 0)


async def test_what_a_reader_sends_meanwhile_is_not_read(house):
    async with http(house) as web, web.events() as source:
        await source.block()
        await source.stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await grow(house.store, 1)
        assert len(await source.take(1)) == 1


async def test_an_old_client_gets_the_body_as_it_is_and_its_end_with_the_connection(house):
    async with http(house) as web, web.connection() as source:
        asked = b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        await source.stream.send_all(asked)
        found = await read(source.stream, b"retry: 3000\n\n")
        assert b"chunked" not in found
        web.shutdown.set()
        with trio.fail_after(10):
            assert await source.stream.receive_some() == b""


async def test_a_stream_that_is_asked_for_on_a_kept_connection(house):
    async with http(house) as web, web.connection() as source:
        await source.ask("/healthz", {})
        assert await source.document() == {"status": "ok"}
        await source.ask("/v1/events", {"Accept": "text/event-stream"})
        assert source.header("connection") == "close"
        assert (await source.block()).retry == "3000"


async def read(stream, end: bytes) -> bytes:
    found = b""
    with trio.fail_after(10):
        while not found.endswith(end):
            found += await stream.receive_some()
    return found


async def test_http_2_keeps_its_connection_for_its_other_streams(house):
    peer = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    peer.initiate_connection()
    head = {":method": "GET", ":scheme": "http", ":authority": "localhost"}
    asked = {":path": "/v1/events", "accept": "text/event-stream"}
    async with http(house) as web, web.connection() as source:
        peer.send_headers(1, list({**head, **asked}.items()), end_stream=True)
        await source.stream.send_all(peer.data_to_send())
        bodies = {1: b"", 3: b""}

        async def listen(stream_id: int, said: bytes) -> None:
            with trio.fail_after(10):
                while said not in bodies[stream_id]:
                    for event in peer.receive_data(await source.stream.receive_some()):
                        if isinstance(event, h2.events.DataReceived):
                            bodies[event.stream_id] += event.data
                    await source.stream.send_all(peer.data_to_send())

        await listen(1, b"retry: 3000")
        peer.send_headers(3, list({**head, ":path": "/healthz"}.items()), end_stream=True)
        await source.stream.send_all(peer.data_to_send())
        await listen(3, b'"ok"')
        await grow(house.store, 1)
        await listen(1, b"event: invoice.created")


async def test_a_part_that_was_cut_off_is_not_followed_by_the_end(house, monkeypatch):
    """The reader would take it for a whole body."""

    async def flood(self, send, *rest) -> None:
        with self._room.streaming():
            while True:
                await send(b": " + b"x" * 1_000_000 + b"\n\n")

    monkeypatch.setattr(events.Events, "_stream", flood)
    async with http(house) as web, web.connection(small=True) as source:
        await source.ask("/v1/events", {"Accept": "text/event-stream"})
        await until(lambda: len(web.server._departures) == 1)
        web.shutdown.set()
        await until(lambda: web.server.statistics().open == 0)
        taken = b""
        try:
            while part := await source.stream.receive_some():
                taken = taken[-100:] + part
        except trio.BrokenResourceError:
            pass
        assert not taken.endswith(streaming.LAST_CHUNK)


async def test_a_stream_that_fails_ends_alone_and_is_told_of(house, monkeypatch):
    async def fail(self, send, *rest) -> None:
        await send(b": one\n\n")
        raise TransientError("the disk is full")

    monkeypatch.setattr(events.Events, "_stream", fail)
    async with http(house) as web:
        async with web.events() as source:
            assert (await source.block()).comment == "one"
            with pytest.raises((EOFError, trio.BrokenResourceError)):
                await source.chunk()
        assert web.server.statistics().failed == 1
        assert "the disk is full" in str(house.log.of("an http connection failed"))
        async with web.connection() as source:
            await source.ask("/healthz", {})
            assert source.status == 200


async def test_head_of_a_stream_has_no_body(house, monkeypatch):
    """Whatever the operation makes of it."""
    monkeypatch.setattr(events, "EVENT_STREAM", "")
    async with http(house) as web, web.connection() as source:
        await source.stream.send_all(b"HEAD /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await read(source.stream, b"\r\n\r\n")
        assert len(web.server._departures) == 0


# --- departures -----------------------------------------------------------------------------------


@contextmanager
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def test_each_departure_is_noticed_once(nursery):
    departures = Departures()
    await nursery.start(departures.run)
    gone: list[str] = []

    def tell(name):
        return lambda: gone.append(name)

    with pair() as (one, first), pair() as (other, second), pair() as (third, last):
        calls = {one: tell("one"), other: tell("other"), third: tell("third")}
        for its, call in calls.items():
            departures.watch(its.fileno(), call)
        second.close()
        await until(lambda: gone == ["other"])
        first.send(b"still here")
        departures.forget(third.fileno(), calls[third])
        last.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert gone == ["other"]
        first.close()
        await until(lambda: gone == ["other", "one"])
        departures.forget(one.fileno(), calls[one])
        assert len(departures) == 0


async def test_a_number_that_is_used_again_belongs_to_the_later_one(nursery):
    departures = Departures()
    await nursery.start(departures.run)
    gone: list[str] = []
    with pair() as (one, _):
        number = one.fileno()
        first, second = (lambda: gone.append("first")), (lambda: gone.append("second"))
        departures.watch(number, first)
        one.close()
        with pair() as (again, theirs):
            assert again.fileno() == number
            departures.watch(number, second)
            departures.forget(number, first)
            assert len(departures) == 1
            theirs.close()
            await until(lambda: gone == ["second"])
