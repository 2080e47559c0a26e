"""`/pay/{order}/live`: the present part first, then each change, to all who look, within bounds."""

from __future__ import annotations

import zlib
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import pytest
import trio
import trio.testing

from actors.ports import TransientError
from api.rest import live_pages
from api.rest.app import create_app
from api.rest.edge import HttpLimits
from api.rest.live_room import LiveRoom
from api.rest.streaming import LAST_CHUNK
from tests.helpers.event_source import http
from tests.helpers.orders import make_wallet, place_order
from tests.helpers.problems import problem_of
from tests.helpers.tasks import until

MINUTE_S = 60


@pytest.fixture
async def wallet(house):
    return await make_wallet(house, await house.user())


@pytest.fixture
async def placed(house, wallet):
    return await place_order(house, wallet)


@pytest.fixture
async def other(house, wallet):
    return await place_order(house, wallet, asset="LTC", number="B-1")


async def paid(house, placed, amount_base=None):
    await house.paid(placed.invoice, amount_base)


@asynccontextmanager
async def live(web, placed, *, small=False, headers=None, **query):
    async with web.connection(small=small) as source:
        path = f"/pay/{placed.order.id}/live"
        await source.ask(f"{path}?{urlencode(query)}" if query else path, headers or {})
        yield source


async def part(source):
    """The next part, over beats."""
    with trio.fail_after(10):
        while True:
            block = await source.block()
            assert block is not None, "the stream ended"
            if block.event is None and block.data is not None:
                assert block.id == block.data["version"]
                return block.data


def pages(web):
    return web.server._app.live.pages.statistics()


@pytest.fixture
def quick(monkeypatch):
    """Chains are looked at often: what they say comes in real time here."""
    monkeypatch.setattr(live_pages, "LOOK_S", 0.01)


# --- what is told ---------------------------------------------------------------------------------


async def test_first_comes_the_part_as_it_is_then_each_change_up_to_the_last(house, placed):
    async with http(house) as web, live(web, placed, lang="en") as source:
        assert source.status == 200
        assert source.header("content-type") == "text/event-stream"
        assert source.header("x-accel-buffering") == "no"
        assert source.header("cache-control") == "no-store"
        assert (await source.block()).retry == "3000"
        first = await source.block()
        assert (first.event, first.data["status"], first.data["final"]) == (None, "PENDING", False)
        assert placed.invoice.terms.address in first.data["html"]
        await paid(house, placed, 500_000)
        partial = await part(source)
        assert partial["status"] == "PENDING"
        assert "0.01" in partial["html"]
        await paid(house, placed, 1_000_000)
        assert (await part(source))["status"] == "CONFIRMING"
        await house.mined(placed.invoice, 2)
        while (last := await part(source))["status"] != "SUCCESSFUL":
            assert last["status"] == "CONFIRMING"
        assert last["final"] is True
        with trio.fail_after(10):
            assert await source.rest() == []
    assert pages(web) == live_pages.LiveStatistics(0, 0, 0, pages(web).rendered)


async def test_what_is_recorded_between_looking_and_watching_is_not_lost(
    house, monkeypatch, placed
):
    """The order is read before the answer begins, and the hub is asked about it after that."""
    find, asked = house.orders.find, []

    async def find_then_pay(order_id):
        found = await find(order_id)
        if not asked:
            asked.append(order_id)
            await paid(house, placed)
        return found

    monkeypatch.setattr(house.orders, "find", find_then_pay)
    async with http(house) as web, live(web, placed) as source:
        assert (await part(source))["status"] == "PENDING"
        assert (await part(source))["status"] == "CONFIRMING"


async def test_a_store_that_fails_then_is_asked_again(house, monkeypatch, quick, placed):
    find, asked = house.orders.find, []

    async def fail_once(order_id):
        asked.append(order_id)
        found = await find(order_id)
        if len(asked) == 1:
            await paid(house, placed)
        if len(asked) == 2:
            raise TransientError("the disk is away")
        return found

    monkeypatch.setattr(house.orders, "find", fail_once)
    async with http(house) as web, live(web, placed) as source:
        assert (await part(source))["status"] == "PENDING"
        assert (await part(source))["status"] == "CONFIRMING"
        assert len(asked) == 3


async def test_each_block_moves_the_confirmations_on(house, other, quick, placed):
    placed = other
    async with http(house) as web, live(web, placed, lang="en") as source:
        await part(source)
        await paid(house, placed)
        seen = [await part(source)]
        for _ in range(3):
            await house.mined(placed.invoice)
            seen.append(await part(source))
        assert {one["status"] for one in seen} == {"CONFIRMING"}
        assert len({one["version"] for one in seen}) == 4


async def test_a_block_tells_nothing_where_nothing_was_paid(house, placed):
    async with http(house) as web, live(web, placed) as source:
        await part(source)
        for _ in range(5):
            await house.mined(placed.invoice)
            web.server._app.live.pages._look()
            web.server._app.live.pages._bell.set()
            await trio.testing.wait_all_tasks_blocked()
        assert pages(web).rendered == 1


async def test_a_chain_that_is_away_is_said_and_that_it_is_back(house, quick, placed):
    async with http(house) as web, live(web, placed, lang="en") as source:
        before = await part(source)
        house.btc.fail_with = TransientError("nobody answers")
        house.btc.disconnect()
        away = await part(source)
        assert away["status"] == "PENDING"
        assert away["version"] != before["version"]
        house.btc.fail_with = None
        house.supervisors["btc"].retry()
        await house.told()
        assert (await part(source))["version"] == before["version"]


async def test_the_deadline_is_told_and_later_money_too(house, quick, placed):
    async with http(house) as web, live(web, placed, lang="en") as source:
        await part(source)
        house.clock.jump(16 * MINUTE_S)
        checking = await part(source)
        assert checking["status"] == "PENDING", "the time alone changes what is said"
        await house.told()
        while (expired := await part(source))["status"] != "EXPIRED":
            pass
        assert expired["final"] is False
        await paid(house, placed)
        late = await part(source)
        assert late["status"] == "EXPIRED"
        assert late["html"] != expired["html"]


async def test_beats_come_while_nothing_changes(house, monkeypatch, quick, placed):
    monkeypatch.setattr(live_pages, "BEAT_S", 0.02)
    async with http(house) as web, live(web, placed) as source:
        await part(source)
        beats = [await source.block() for _ in range(3)]
        assert {(one.event, one.data, one.id) for one in beats} == {("beat", 0, None)}


# --- shared by all who look -----------------------------------------------------------------------


async def test_it_is_rendered_once_for_all_pages_of_an_order_in_a_language(house, placed, other):
    async with http(house) as web, trio.open_nursery() as nursery:
        seen: dict[int, list[str]] = {}
        ready: list[int] = []

        async def look(number, order, lang):
            async with live(web, order, lang=lang) as source:
                seen[number] = [(await part(source))["html"]]
                ready.append(number)
                seen[number].append((await part(source))["html"])

        for number in range(6):
            nursery.start_soon(look, number, placed, "de" if number % 2 else "en")
        nursery.start_soon(look, 6, other, "en")
        await until(lambda: len(ready) == 7)
        assert pages(web) == live_pages.LiveStatistics(2, 3, 7, 3)
        await paid(house, placed)
        await until(lambda: pages(web).readers == 1)
        assert pages(web).rendered == 5
        await paid(house, other)
        await until(lambda: pages(web).readers == 0)
    assert seen[0] == seen[2] == seen[4] != seen[1]
    assert seen[1] == seen[3] == seen[5]


@pytest.mark.parametrize(
    ("query", "headers", "as_if"),
    [
        ({"lang": "ar"}, {"Accept-Language": "de"}, "ar"),
        ({}, {"Accept-Language": "fr, es;q=0.5"}, "es"),
        ({"lang": "tlh"}, {}, "en"),
        ({"lang": "../../etc/passwd"}, {"Accept-Language": "\xff"}, "en"),
    ],
)
async def test_the_language_is_the_page_s(house, query, headers, as_if, placed):
    async with http(house) as web:
        async with live(web, placed, headers=headers, **query) as source:
            found = await part(source)
        async with live(web, placed, lang=as_if) as source:
            assert await part(source) == found


async def test_a_page_that_cannot_be_rendered_stays_and_stops_no_other(
    house, monkeypatch, quick, placed, other
):
    async with http(house) as web, live(web, placed) as bad, live(web, other) as good:
        await part(bad)
        await part(good)
        render = web.server._app.live.pages._render

        def fail(found, language):
            if found.order.id == placed.order.id:
                raise ZeroDivisionError("a template")
            return render(found, language)

        monkeypatch.setattr(web.server._app.live.pages, "_render", fail)
        await paid(house, placed)
        await paid(house, other)
        assert (await part(good))["status"] == "CONFIRMING"
        assert len(house.log.of("a payment page cannot be rendered")) == 1
        monkeypatch.undo()
        monkeypatch.setattr(live_pages, "LOOK_S", 0.01)
        await house.mined(placed.invoice)
        assert (await part(bad))["status"] == "CONFIRMING"


# --- who comes again, and who asks for what is not there ------------------------------------------


async def test_an_id_that_the_browser_has_is_harmless(house, placed):
    async with http(house) as web:
        for last in ("0" * 16, "x", "-1", "\xff"):
            async with live(web, placed, headers={"Last-Event-ID": last}) as source:
                assert (await part(source))["status"] == "PENDING"


async def test_who_has_the_last_part_is_told_to_come_no_more(house, placed):
    await paid(house, placed)
    await house.mined(placed.invoice, 2)
    async with http(house) as web:
        async with live(web, placed) as source:
            last = await part(source)
            assert (last["status"], last["final"]) == ("SUCCESSFUL", True)
            assert await source.rest() == []
        async with live(web, placed, headers={"Last-Event-ID": "0" * 16}) as source:
            assert await part(source) == last
        async with live(web, placed, headers={"Last-Event-ID": last["version"]}) as source:
            assert source.status == 204


@pytest.mark.parametrize("word", ["1", "0", "-5", "x", "9" * 40, "1e3", "%00", "9007199254740993"])
async def test_an_order_that_is_not_there(client, word):
    await problem_of(await client.get(f"/pay/{word}/live"), 404, "NOT_FOUND")


async def test_a_key_is_not_looked_at(house, placed):
    async with http(house) as web:
        headers = {"Authorization": "Basic c2hvcDpvcGVu"}
        async with live(web, placed, headers=headers) as source:
            assert (await part(source))["status"] == "PENDING"


# --- readers that go, are slow, or are too many ---------------------------------------------------


async def test_a_reader_that_goes_leaves_nothing(house, placed):
    async with http(house) as web:
        async with live(web, placed) as source:
            await part(source)
            assert web.server._app.live.room.streams == 1
        await until(lambda: web.server.statistics().open == 0)
        assert web.server._app.live.room.streams == 0
        assert pages(web).orders == 0


async def test_a_slow_reader_gets_the_newest_part_alone(house, monkeypatch, placed):
    """What came while it did not read is not queued for it."""
    message = b": " + b"x" * 8_000_000 + b"\n\n"
    async with http(house) as web, live(web, placed, small=True) as slow:
        await part(slow)
        (page,) = web.server._app.live.pages._watched[placed.order.invoice_id].pages.values()

        def publish(version, data):
            page.version, page.packed = version, zlib.compress(data)
            page.wake()

        publish("a", message)
        await trio.testing.wait_all_tasks_blocked(0.05)
        for version in "bcd":
            publish(version, b'data: {"version": "%b"}\nid: %b\n\n' % ((version.encode(),) * 2))
        assert (await slow.block()).comment is not None
        assert (await part(slow))["version"] == "d"


async def test_pages_are_bounded_and_one_that_goes_makes_room(house, placed):
    async with http(house, limits=HttpLimits(pages=1)) as web:
        async with live(web, placed) as source:
            await part(source)
            async with live(web, placed) as other:
                assert other.status == 503
                assert other.header("retry-after") == "5"
                assert (await other.document())["reason"] == "TOO_MANY_WAITING"
        await until(lambda: web.server._app.live.room.streams == 0)
        async with live(web, placed) as again:
            assert again.status == 200


async def test_who_finds_the_room_full_after_being_let_in_is_sent_away_for_long(house, placed):
    app = create_app(house.edge(limits=HttpLimits(pages=1)))
    sent: list[bytes] = []

    async def send(data):
        sent.append(data)

    with app.live.room.streaming("192.0.2.1:5"):
        await app.live._stream(send, placed, "en", "192.0.2.7:5", seq=0)
    assert sent == [b"retry: 60000\n\n"]
    assert app.live.pages.statistics().orders == 0


async def test_one_address_cannot_take_every_place():
    room = LiveRoom(streams=10, per_address=2)
    with room.streaming("198.51.100.7:1"), room.streaming("198.51.100.7:2"):
        full = room.full("198.51.100.7:3")
        assert "198.51.100.7" in full.answer.detail
        assert room.full("198.51.100.8:3") is None
    assert room.full("198.51.100.7:3") is None
    assert (room.streams, room.addresses) == (0, 0)


async def test_of_ipv6_the_network_counts_and_loopback_does_not():
    room = LiveRoom(streams=10, per_address=1)
    with (
        room.streaming("[2001:db8::1]:1"),
        room.streaming("127.0.0.1:1"),
        room.streaming("[::1]:9"),
    ):
        assert "2001:db8::/64" in room.full("[2001:db8::ffff]:1").answer.detail
        assert room.full("[2001:db8:0:1::1]:1") is None
        assert room.full("127.0.0.1:2") is None


async def test_the_end_of_the_daemon_ends_pages_at_once_and_whole(house, placed):
    async with http(house) as web, live(web, placed) as source:
        await part(source)
        web.shutdown.set()
        with trio.fail_after(2):
            assert await source.rest() == []
        assert LAST_CHUNK.startswith(b"0")
    room = LiveRoom(streams=1, per_address=1)
    room.close()
    with room.streaming("192.0.2.1:1"):
        await trio.sleep_forever()


async def test_the_document_describes_it(client):
    document = await (await client.get("/openapi.json")).get_json()
    found = document["paths"]["/pay/{order}/live"]["get"]
    assert "text/event-stream" in found["responses"]["200"]["content"]
    assert {"204", "404", "503"} <= found["responses"].keys()
