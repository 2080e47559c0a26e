"""A connection that asks nothing keeps its place without what serves requests, and wakes again."""

from __future__ import annotations

import h2.connection
import pytest
import trio
import trio.testing

from api.rest import serving
from tests.helpers.event_source import http
from tests.helpers.tasks import tasks, until

ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
OK = {"status": "ok"}


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(serving, "REST_AFTER_S", 0.01)


def resting(web) -> int:
    return len(web.server._resting)


async def test_it_rests_and_wakes_again_and_again(house):
    async with http(house) as web, web.connection() as source:
        for _ in range(3):
            await until(lambda: resting(web) == 1)
            await source.ask("/healthz", {})
            assert await source.document() == OK
        assert web.server.statistics().accepted == 1


async def test_a_resting_connection_is_one_task(house):
    async with http(house) as web:
        await trio.testing.wait_all_tasks_blocked()
        before = tasks()
        async with web.connection() as source:
            await source.ask("/healthz", {})
            await source.document()
            await until(lambda: resting(web) == 1)
            assert tasks() == before + 1


async def test_a_request_that_comes_in_pieces_is_waited_for(house):
    async with http(house) as web, web.connection() as source:
        await source.stream.send_all(ASK[:10])
        await trio.sleep(0.05)
        assert resting(web) == 0
        await source.stream.send_all(ASK[10:-1])
        await trio.sleep(0.05)
        assert resting(web) == 0
        await source.stream.send_all(ASK[-1:])
        source.head = (await source._until(b"\r\n\r\n")).decode()
        assert (source.status, await source.document()) == (200, OK)


async def test_no_request_is_lost_on_the_way_to_rest(house, monkeypatch):
    """However close to the moment of rest it comes."""
    async with http(house) as web, web.connection() as source:
        for number in range(60):
            await trio.sleep(0.01 * (0.9 + (number % 20) / 100))
            with trio.fail_after(5):
                await source.ask("/healthz", {})
                assert await source.document() == OK


async def test_who_waits_for_an_answer_does_not_rest(house):
    invoice = await house.invoice(await house.user())
    path = f"/v1/invoices/{invoice.terms.invoice_id}"
    async with http(house) as web, web.connection() as source:
        await source.ask(path, {})
        await source.document()
        tag = source.header("etag")
        source.head = ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.ask, f"{path}?wait=60", {"If-None-Match": tag})
            await until(lambda: web.server._app.room.waiting == 1)
            await trio.sleep(0.05)
            assert resting(web) == 0
            await house.paid(invoice)
        assert source.status == 200


async def test_a_stream_can_begin_on_a_connection_that_has_rested(house):
    async with http(house) as web, web.connection() as source:
        await until(lambda: resting(web) == 1)
        await source.ask("/v1/events", {"Accept": "text/event-stream"})
        assert (await source.block()).retry == "3000"


async def test_who_goes_while_resting_leaves_nothing(house):
    async with http(house) as web:
        async with web.connection():
            await until(lambda: resting(web) == 1)
        await until(lambda: web.server.statistics().open == 0)
        assert resting(web) == 0
        assert web.server.statistics().failed == 0


async def test_who_says_nothing_for_long_is_closed(house, monkeypatch):
    monkeypatch.setattr(serving, "IDLE_S", 0.05)
    async with http(house) as web, web.connection() as source:
        with trio.fail_after(10):
            assert await source.stream.receive_some() == b""
        await until(lambda: web.server.statistics().open == 0)


async def test_the_end_of_the_daemon_closes_those_who_rest_at_once(house):
    async with http(house) as web, web.connection() as source:
        await until(lambda: resting(web) == 1)
        web.shutdown.set()
        with trio.fail_after(2):
            assert await source.stream.receive_some() == b""


async def test_half_a_request_is_not_waited_for_without_end(house, monkeypatch):
    """However it drips."""
    monkeypatch.setattr(serving, "IDLE_S", 0.2)
    async with http(house) as web, web.connection() as source:
        with trio.fail_after(10):
            try:
                for byte in ASK[:-1] * 100:
                    await source.stream.send_all(bytes([byte]))
                    await trio.sleep(0.005)
            except trio.BrokenResourceError:
                pass
        await until(lambda: web.server.statistics().open == 0)


async def test_a_connection_of_http_2_does_not_rest_and_ends_when_it_idles(house, monkeypatch):
    monkeypatch.setattr(serving, "IDLE_S", 0.1)
    peer = h2.connection.H2Connection()
    peer.initiate_connection()
    async with http(house) as web, web.connection() as source:
        await source.stream.send_all(peer.data_to_send())
        with trio.fail_after(10):
            while await source.stream.receive_some():
                assert resting(web) == 0
        await until(lambda: web.server.statistics().open == 0)


async def test_the_end_of_the_daemon_closes_those_who_do_not_rest_yet_at_once(house, monkeypatch):
    monkeypatch.setattr(serving, "REST_AFTER_S", 60)
    async with http(house) as web, web.connection() as source:
        await source.ask("/healthz", {})
        await source.document()
        await trio.testing.wait_all_tasks_blocked(0.01)
        web.shutdown.set()
        with trio.fail_after(2):
            assert await source.stream.receive_some() == b""
