"""WatchInvoices gives every reader every event once, whenever he comes and however slow he is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from uuid import UUID

import pytest
import trio
import trio.testing

from actors.access import mint
from actors.access_book import Act
from actors.ports import VersionConflict
from api.grpc.limits import KIB, Limits
from proto.tally.v1 import InvoiceServiceStub, WatchInvoicesRequest
from tests.helpers.house import House, open_house
from tests.helpers.ledger import creation, grow, payment
from tests.helpers.tally_calls import TallyCalls, tally

ALICE, BOB = UUID(int=1001), UUID(int=1002)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as running:
        yield running


@pytest.fixture
async def call(house: House) -> AsyncIterator[TallyCalls]:
    async with tally(house) as calls:
        yield calls


async def write(house: House, first: int, count: int, *, user_id: UUID = ALICE) -> None:
    """Invoices that no chain knows, straight into the log."""
    for number in range(first, first + count):
        await grow(house.store, number, user_id=user_id)
        await trio.lowlevel.checkpoint()


async def burst(house: House, count: int, *, first: int = 1) -> None:
    """So many events in one commit."""
    held, store = [], house.store
    store._publish = held.extend
    for number in range(first, first + count):
        assert not isinstance(await store.append(None, [creation(number)]), VersionConflict)
    del store._publish
    store._publish(held)


def seqs(events) -> list[int]:
    return [one.seq for one in events]


async def test_a_reader_gets_what_was_then_a_heartbeat_then_what_comes(call, house):
    await write(house, 1, 5)
    async with call.watch(after_seq=2) as stream:
        assert seqs(await stream.until_caught_up()) == [3, 4, 5]
        assert stream.seq == 5
        await write(house, 6, 2)
        assert seqs(await stream.take(2)) == [6, 7]
    (event,) = await house.outbox.read(6, 1)
    async with call.watch(after_id=event.id) as stream:
        assert await stream.until_caught_up() == []
        assert stream.seq == 7


async def test_without_a_cursor_it_begins_when_the_headers_are_there(call, house):
    await write(house, 1, 3)
    async with call.watch() as stream:
        await write(house, 4, 1)
        assert seqs(await stream.take(1)) == [4]


async def test_an_event_is_what_the_outbox_says(call, house):
    invoice = await grow(house.store, 1)
    await house.store.append(invoice, payment(invoice))
    async with call.watch(after_seq=0) as stream:
        for wire, event in zip(await stream.take(3), await house.outbox.read(0, 9), strict=True):
            assert (wire.id, wire.seq, wire.type, wire.version, wire.asset) == (
                event.id, event.seq, event.type, event.version, event.asset,
            )  # fmt: skip
            assert (wire.invoice_id, wire.user_id) == (str(event.invoice_id), str(event.user_id))
            assert wire.at.ToMilliseconds() == event.at_ms
            assert wire.data == event.data.decode()


@pytest.mark.parametrize("replayed", [True, False])
async def test_filters_are_kept_in_replay_and_live(house, replayed):
    user_id = await house.user()
    wanted = {"types": ["invoice.created", "payment.seen"]}

    async def events() -> UUID:
        mine = await house.invoice(user_id)
        await house.paid(mine)
        await write(house, 1000, 3, user_id=BOB)
        return mine.terms.invoice_id

    async with tally(house) as call:
        if replayed:
            mine = await events()
        async with (
            call.watch(after_seq=0, user_id=str(user_id)) as by_user,
            call.watch(after_seq=0, **wanted) as by_type,
        ):
            for stream in () if replayed else (by_user, by_type):
                assert await stream.until_caught_up() == []
            if not replayed:
                mine = await events()
            assert [one.type for one in await by_type.take(5)] == [
                "invoice.created", "payment.seen", *["invoice.created"] * 3,
            ]  # fmt: skip
            assert [one.type for one in await by_user.take(3)] == [
                "invoice.created", "payment.seen", "invoice.covered",
            ]  # fmt: skip
        async with call.watch(after_seq=0, invoice_id=str(mine), types=["payment.seen"]) as both:
            (event,) = await both.until_caught_up()
            assert (event.invoice_id, event.type) == (str(mine), "payment.seen")
            assert both.seq == await house.store.last_seq(), "beyond what does not pass"


async def test_heartbeats_come_at_the_asked_pace_with_the_newest_number(call, house):
    async with call.watch(heartbeat={"seconds": 1}, types=["invoice.settled"]) as stream:
        assert (await stream.response()).seq == 0
        await write(house, 1, 3)
        assert (await stream.response()).seq == 3


async def test_many_listen_to_one_encoding_and_leave_nothing_behind(call, house):
    async with call.watch() as one, call.watch() as two, call.watch(user_id=None) as three:
        for stream in (one, two, three):
            await stream.until_caught_up()
        assert call.service.watching.listening == 3
        assert house.hub.statistics().listeners == 1
        await write(house, 1, 2)
        for stream in (one, two, three):
            assert seqs(await stream.take(2)) == [1, 2]
    with trio.fail_after(10):
        while call.service.watching.listening:
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert house.hub.statistics().listeners == 0
    assert house.outbox.statistics().tail == 0


async def test_a_burst_is_read_instead_of_pushed_and_ends_no_stream(house):
    limits = Limits(stream_outbound_bytes=64 * KIB)
    async with tally(house, limits=limits) as call, call.watch() as one, call.watch() as two:
        for stream in (one, two):
            await stream.until_caught_up()
        await burst(house, 3000)
        for stream in (one, two):
            assert seqs(await stream.take(3000)) == [*range(1, 3001)]
        await write(house, 5000, 1)
        for stream in (one, two):
            assert seqs(await stream.take(1)) == [3001]


@pytest.mark.parametrize("seed", range(4))
async def test_readers_that_break_off_and_resume_miss_nothing(call, house, seed):
    """Eight readers of chance against a writer of chance."""
    random = Random(seed)
    heard: list[list[int]] = [[] for _ in range(8)]
    total = 600

    async def read(found: list[int]) -> None:
        cursor = 0
        while cursor < total:
            async with call.watch(after_seq=cursor) as stream:
                for _ in range(random.randint(1, 30)):
                    found += seqs((await stream.response()).events)
                    cursor = stream.seq
                    if cursor >= total:
                        break

    async with trio.open_nursery() as nursery:
        for found in heard:
            nursery.start_soon(read, found)
        number = 1
        while number <= total:
            count = min(total + 1 - number, random.choice((1, 1, 2, 5, 40, 300)))
            if random.random() < 0.3:
                await burst(house, count, first=number)
            else:
                await write(house, number, count)
            number += count
    assert heard == [[*range(1, total + 1)]] * 8


async def test_who_does_not_read_is_ended_and_told_where_to_resume(house):
    """By time: nothing was taken of what waits."""
    limits = Limits(stall_timeout_s=1.0, stream_outbound_bytes=64 * KIB)
    async with tally(house, limits=limits) as call:
        async with call.watch(after_seq=0) as stream:
            await stream.until_caught_up()
            await write(house, 1, 20_000)
            with trio.fail_after(30):
                while not call.running.server.statistics()["readers_cut_off"]:
                    await trio.testing.wait_all_tasks_blocked(0.05)
            found: list[int] = []
            end = None
            try:
                while True:
                    found += seqs((await stream.response()).events)
            except Exception:  # noqa: BLE001 - grpcio's own error, looked at below
                end = await stream.end()
            assert (end.code, end.reason) == ("RESOURCE_EXHAUSTED", "READER_TOO_FAR_BEHIND")
            resume_seq = int(end.facts["resume_after_seq"])
            assert found == [*range(1, len(found) + 1)], "what came before has no gap"
            assert 0 < resume_seq <= len(found), "nothing is skipped by resuming there"
        async with call.watch(after_seq=resume_seq) as stream:
            rest = await stream.take(20_000 - resume_seq)
            assert seqs(rest) == [*range(resume_seq + 1, 20_001)]


async def test_who_loses_too_much_ground_is_ended_with_the_place(house):
    """By distance: he reads, but too slowly."""
    async with tally(house) as call:
        call.service.watching._max_lag = 1000
        async with call.watch() as stream:
            await stream.until_caught_up()
            await burst(house, 1001)
            end = await stream.end()
        assert (end.code, end.reason) == ("RESOURCE_EXHAUSTED", "READER_TOO_FAR_BEHIND")
        assert end.facts == {"resume_after_seq": "0"}
        assert "after_seq 0" in end.text


async def test_the_streams_end_at_once_when_the_server_stops(house):
    async with tally(house) as call, call.watch() as stream:
        await stream.until_caught_up()
        with trio.fail_after(5):
            await call.running.server.shutdown(grace_s=4)
        end = await stream.end()
        assert end.code == "CANCELLED"


async def test_a_grpclib_client_reads_the_generated_way(call, house):
    await write(house, 1, 700)

    async def work(channel) -> list[int]:
        found: list[int] = []
        stub = InvoiceServiceStub(channel)
        async for response in stub.watch_invoices(WatchInvoicesRequest(after_seq=100)):
            found += seqs(response.events)
            if not response.events:
                return found
        raise AssertionError("the stream ended")

    assert await call.running.grpclib(work) == [*range(101, 701)]


async def test_a_restricted_key_sees_its_own_user_alone(house):
    alice, bob = await house.user(), await house.invoicing.register_user()
    stored, key = mint(
        name="shop", scopes=["read", "write"], user_id=alice, now_ms=house.clock.now_ms()
    )
    act = Act(at_ms=0, actor="cli", address="local", act="key.added", target=stored.prefix)
    await house.store.add_api_key(stored, act)
    await house.gate.load()
    async with tally(house) as call:
        mine = await house.invoice(alice)
        await write(house, 1000, 2, user_id=bob)
        headers = (("authorization", f"Bearer {key}"),)
        async with call.watch(after_seq=0, metadata_=headers) as stream:
            events = await stream.until_caught_up()
            assert [one.invoice_id for one in events] == [str(mine.terms.invoice_id)]
            await write(house, 2000, 1, user_id=bob)
            await house.invoice(alice)
            assert [one.user_id for one in await stream.take(1)] == [str(alice)]
        async with call.watch(user_id=str(bob), metadata_=headers) as stream:
            assert (await stream.end()).reason == "NO_SUCH_USER"
        theirs = str(UUID(int=1000 << 64 | 1000))
        async with call.watch(invoice_id=theirs, metadata_=headers) as stream:
            assert (await stream.end()).reason == "NO_SUCH_INVOICE"
        page = await call("ListInvoices", metadata_=headers)
        assert {one.user_id for one in page.invoices} == {str(alice)}
        for rpc in ("GetInvoice", "CancelInvoice", "ExplainInvoice"):
            found = await call(rpc, invoice_id=theirs, metadata_=headers)
            assert found.reason == "NO_SUCH_INVOICE"
        found = await call("ListInvoices", user_id=str(bob), metadata_=headers)
        assert found.reason == "NO_SUCH_USER"
