"""`/v1/events`: pages, long-polls and server-sent events say what the outbox says."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from actors.access import mint
from actors.access_book import Act
from api.event_json import event_document
from api.rest import events, streaming
from api.rest.edge import HttpLimits
from tests.helpers.event_source import http
from tests.helpers.house import House
from tests.helpers.ledger import grow
from tests.helpers.problems import problem_of

ALICE = UUID(int=1001)


async def write(house: House, first: int, count: int, *, user_id: UUID = ALICE) -> None:
    """Invoices that no chain knows, straight into the log."""
    for number in range(first, first + count):
        await grow(house.store, number, user_id=user_id)


def seqs(document) -> list[int]:
    return [one["seq"] for one in document["items"]]


# --- pages ----------------------------------------------------------------------------------------


async def test_pages_lead_through_the_whole_log(client, house):
    await write(house, 1, 25)
    found: list[int] = []
    after, more = 0, True
    while more:
        page = await (await client.get(f"/v1/events?after={after}&limit=10")).get_json()
        found += seqs(page)
        after, more = page["next_after"], page["has_more"]
    assert found == [*range(1, 26)]
    assert after == 25
    page = await (await client.get(f"/v1/events?after={after}")).get_json()
    assert page == {"items": [], "next_after": 25, "has_more": False}


async def test_an_item_is_the_event_as_everywhere(client, house):
    invoice = await house.invoice(await house.user())
    page = await (await client.get("/v1/events")).get_json()
    (item,) = page["items"]
    history = await client.get(f"/v1/invoices/{invoice.terms.invoice_id}/events")
    (entry,) = (await history.get_json())["items"]
    assert {name: item[name] for name in entry} == entry
    assert item["invoice_id"] == str(invoice.terms.invoice_id)
    assert item["user_id"] == str(invoice.terms.user_id)
    assert item["id"] == f"{await house.outbox.log_id()}-{item['seq']}"
    assert item["asset"] == "BTC"


async def test_filters_are_joined_and_the_place_goes_beyond_what_they_keep_back(client, house):
    user_id = await house.user()
    mine = await house.invoice(user_id)
    await house.paid(mine)
    await write(house, 1000, 5)
    for query, expected in (
        (f"user_id={user_id}", [1, 2, 3]),
        (f"invoice_id={mine.terms.invoice_id}", [1, 2, 3]),
        ("type=invoice.created", [1, 4, 5, 6, 7, 8]),
        (f"type=invoice.covered,payment.seen&user_id={user_id}", [2, 3]),
        ("type=invoice.settled", []),
    ):
        page = await (await client.get(f"/v1/events?{query}")).get_json()
        assert seqs(page) == expected, query
        assert page["next_after"] == 8
    by_header = await client.get("/v1/events?after=2", headers={"Last-Event-ID": "7"})
    assert seqs(await by_header.get_json()) == [8]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("after=9", "beyond the newest event 3"),
        ("after=x", "neither a sequence number nor an event id"),
        ("after=", "neither a sequence number nor an event id"),
        ("after=00000000-1", "is of another database"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_cursor_that_cannot_be_one_is_refused(client, house, query, said, accept):
    await write(house, 1, 3)
    response = await client.get(f"/v1/events?{query}", headers={"Accept": accept})
    document = await problem_of(response, 422, "CURSOR_REFUSED")
    assert said in document["detail"]


async def test_what_cannot_be_asked_for_is_named(client, house):
    response = await client.get("/v1/events?limit=0&wait_s=31&type=invoice.paid&user_id=x&before=1")
    document = await problem_of(response, 422, "INVALID_REQUEST")
    assert {one["parameter"] for one in document["errors"]} == {
        "limit", "wait_s", "type", "user_id", "before",
    }  # fmt: skip
    await problem_of(await client.get(f"/v1/events?user_id={uuid4()}"), 404, "NO_SUCH_USER")
    await problem_of(await client.get(f"/v1/events?invoice_id={uuid4()}"), 404, "NO_SUCH_INVOICE")


# --- long-polls -----------------------------------------------------------------------------------


async def test_an_empty_page_waits_for_the_next_event(client, house, nursery):
    await write(house, 1, 2)
    answers: list[object] = []

    async def ask() -> None:
        response = await client.get("/v1/events?after=2&wait_s=30&type=invoice.created")
        answers.append(await response.get_json())

    nursery.start_soon(ask)
    with trio.fail_after(10):
        while house.outbox.statistics().followers == 0:
            await trio.testing.wait_all_tasks_blocked()
        await write(house, 3, 1)
        while not answers:
            await trio.testing.wait_all_tasks_blocked()
    assert [seqs(one) for one in answers] == [[3]]
    assert house.outbox.statistics().followers == 0


async def test_a_wait_ends_when_its_time_is_up(app, house, autojump_clock):
    client = app.test_client()
    began = trio.current_time()
    page = await (await client.get("/v1/events?wait_s=7")).get_json()
    assert page == {"items": [], "next_after": 0, "has_more": False}
    assert 7 <= trio.current_time() - began < 8


async def test_waits_are_bounded_and_end_with_the_daemon(house, nursery):
    async with http(house, limits=HttpLimits(waiting=1)) as web, web.connection() as first:
        nursery.start_soon(first.ask, "/v1/events?wait_s=30", {})
        with trio.fail_after(10):
            while house.outbox.statistics().followers == 0:
                await trio.testing.wait_all_tasks_blocked(0.01)
            async with web.connection() as second:
                await second.ask("/v1/events?wait_s=30", {})
                assert second.status == 503
                assert (await second.document())["reason"] == "TOO_MANY_WAITING"
            web.shutdown.set()
            while not first.head:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await first.document())["items"] == []


# --- streams --------------------------------------------------------------------------------------


async def test_a_stream_replays_then_follows(house):
    await write(house, 1, 5)
    async with http(house) as web, web.events(after=2) as source:
        assert source.status == 200
        assert source.header("content-type") == "text/event-stream"
        assert source.header("x-accel-buffering") == "no"
        found = await source.take(3)
        await write(house, 6, 2)
        found += await source.take(2)
        expected = await house.outbox.read(2, 10)
        assert [one.id for one in found] == [one.id for one in expected]
        assert [one.event for one in found] == [one.type for one in expected]
        for one, event in zip(found, expected, strict=True):
            assert one.data.keys() == event_document(event).keys()
            assert one.data["seq"] == event.seq


async def test_it_says_first_how_soon_to_come_back(house):
    async with http(house) as web, web.events() as source:
        first = await source.block()
        assert first.retry == "3000"
        assert first.event is None


async def test_without_a_cursor_it_begins_now_and_the_header_counts_before_the_query(house):
    await write(house, 1, 5)
    last = (await house.outbox.read(3, 1))[0].id
    async with http(house) as web:
        async with web.events(last=last, after=0) as source:
            assert [one.seq for one in await source.take(1)] == [5]
        async with web.events() as source:
            with trio.fail_after(10):
                while house.outbox.statistics().followers == 0:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            await write(house, 6, 1)
            assert [one.seq for one in await source.take(1)] == [6]


async def test_a_heartbeat_moves_the_place_over_what_the_filter_keeps_back(house, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    await write(house, 1, 4)
    async with http(house) as web, web.events(after=0, type="invoice.settled") as source:
        await source.block()
        beat = await source.block()
        assert (beat.comment, beat.event, beat.data, beat.seq) == ("nothing new", None, None, 4)


async def test_shutting_down_ends_streams_at_once_and_whole(house):
    await write(house, 1, 3)
    async with http(house) as web, web.events(after=0) as source:
        await source.take(3)
        web.shutdown.set()
        with trio.fail_after(2):
            assert await source.rest() == []
    assert house.outbox.statistics().followers == 0


async def test_streams_are_bounded_and_one_that_goes_makes_room(house):
    async with http(house, limits=HttpLimits(streams=1)) as web:
        async with web.events() as source:
            assert source.status == 200
            await source.block()
            async with web.events() as other:
                assert other.status == 503
                assert (await other.document())["reason"] == "TOO_MANY_WAITING"
        with trio.fail_after(10):
            while house.outbox.statistics().followers:
                await trio.testing.wait_all_tasks_blocked(0.01)
        async with web.events() as again:
            assert again.status == 200


async def test_head_and_json_are_no_streams(house):
    async with http(house) as web, web.connection() as source:
        await source.ask("/v1/events", {"Accept": "application/json, text/html"})
        assert (source.status, source.header("content-type")) == (200, "application/json")


async def test_who_loses_too_much_ground_is_told_where_to_resume(house, monkeypatch):
    monkeypatch.setattr(events, "MAX_LAG", 10)
    await write(house, 1, 20)
    async with http(house) as web, web.events(after=0) as source:
        assert len(await source.take(20)) == 20
        await trio.testing.wait_all_tasks_blocked(0.05)
        # No checkpoint lets the stream run in between: the memory store's own are its only ones.
        held = []
        house.store._publish = held.extend
        await write(house, 100, 11)
        del house.store._publish
        house.store._publish(held)
        *_, last = await source.rest()
        assert last.event == "error"
        assert last.data["reason"] == "READER_TOO_FAR_BEHIND"
        assert last.data["resume_after_seq"] == 20
        async with web.events(last=last.data["resume_after"]) as again:
            assert [one.seq for one in await again.take(11)] == [*range(21, 32)]


async def test_who_takes_nothing_is_hung_up_on(house, monkeypatch):
    async def flood(self, send, *rest) -> None:
        """More than any kernel keeps."""
        while True:
            await send(b": " + b"x" * 1_000_000 + b"\n\n")

    monkeypatch.setattr(streaming, "STALL_S", 0.4)
    monkeypatch.setattr(events.Events, "_stream", flood)
    async with http(house) as web, web.connection(small=True) as source:
        await source.ask("/v1/events", {"Accept": "text/event-stream"})
        with trio.fail_after(30):
            while web.server.statistics().open:
                await trio.testing.wait_all_tasks_blocked(0.05)


async def test_a_restricted_key_sees_its_own_user_alone(house):
    alice, bob = await house.user(), await house.invoicing.register_user()
    stored, key = mint(name="shop", scopes=["read"], user_id=alice, now_ms=house.clock.now_ms())
    act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=stored.prefix)
    await house.store.add_api_key(stored, act)
    await house.gate.load()
    headers = {"Authorization": f"Bearer {key}"}
    mine = await house.invoice(alice)
    await write(house, 1000, 2, user_id=bob)
    async with http(house) as web:
        async with web.events(after=0, headers=headers) as source:
            (one,) = await source.take(1)
            assert one.data["invoice_id"] == str(mine.terms.invoice_id)
            await write(house, 2000, 1, user_id=bob)
            await house.invoice(alice)
            (one,) = await source.take(1)
            assert one.data["user_id"] == str(alice)
        for query in (f"user_id={bob}", f"invoice_id={UUID(int=1000 << 64 | 1000)}"):
            async with web.connection() as source:
                await source.ask(f"/v1/events?{query}", headers)
                assert source.status == 404
        async with web.connection() as source:
            await source.ask("/v1/events?after=0", headers)
            assert {one["user_id"] for one in (await source.document())["items"]} == {str(alice)}


async def test_the_document_describes_both_forms(client):
    document = await (await client.get("/openapi.json")).get_json()
    content = document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]
    assert content.keys() == {"application/json", "text/event-stream"}
