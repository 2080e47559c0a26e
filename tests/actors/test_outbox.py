"""The outbox gives every reader the same events: none missed, none twice, whenever they come."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from random import Random
from uuid import UUID

import pytest
import trio
import trio.testing

from actors.event_hub import EventHub
from actors.outbox import (
    EVERYTHING,
    CursorRefused,
    Filter,
    Outbox,
    OutboxStatistics,
    Published,
    TooFarBehind,
    published,
)
from actors.ports import Committed
from daemon.store import MemoryStore
from tests.helpers.ledger import grow, payment, record, settlement
from tests.helpers.recording_log import RecordingLog

ALICE, BOB = UUID(int=1001), UUID(int=1002)


class House:
    """A store with its hub and outbox, and somebody who writes."""

    def __init__(self, *, tail_events: int = 64) -> None:
        self.hub = EventHub(log=RecordingLog())
        self.store = MemoryStore(self.hub.publish)
        self.outbox = Outbox(self.store, self.hub, tail_events=tail_events)
        self.invoices = 0

    async def create(self, count: int = 1, *, user_id: UUID = ALICE) -> None:
        for _ in range(count):
            self.invoices += 1
            await grow(self.store, self.invoices, user_id=user_id)

    async def write(self, random: Random, commits: int) -> None:
        """Commits of one to three events, in an order that chance chooses."""
        open_ = []
        for _ in range(commits):
            if open_ and random.random() < 0.5:
                invoice = open_.pop(random.randrange(len(open_)))
                after = payment if invoice.version == 1 else settlement
                paid = await record(self.store, invoice, after(invoice))
                if paid.open:
                    open_.append(paid)
            else:
                self.invoices += 1
                user_id = random.choice((ALICE, BOB))
                open_.append(await grow(self.store, self.invoices, user_id=user_id))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    assert made.outbox.statistics() == OutboxStatistics(followers=0, tail=0)
    assert made.hub.statistics().listeners == 0
    assert made.hub.statistics().listener_failures == 0


def seqs(events: list[Published]) -> list[int]:
    return [one.seq for one in events]


@pytest.mark.parametrize("seed", range(20))
async def test_readers_that_come_any_time_get_everything_once_and_in_order(seed, autojump_clock):
    """Replays while others write, tails that are too short, filters, leaving and coming back."""
    random = Random(seed)
    house = House(tail_events=random.choice((1, 5, 64, 8192)))
    wanted = [EVERYTHING, Filter(user_id=BOB), Filter(types=("payment.seen", "invoice.created"))]
    total: list[int] = []
    written = trio.Event()
    heard: dict[int, list[Published]] = {}

    async def read(name: int, filter_: Filter, start_seq: int) -> None:
        found = heard[name] = []
        cursor = start_seq
        while True:
            # A connection that breaks after some events; the reader resumes from its cursor.
            left = random.randint(1, 40)
            async with house.outbox.follow(cursor, filter_) as follower:
                async for batch in follower:
                    assert batch
                    found.extend(batch)
                    cursor = follower.seq
                    left -= 1
                    if not left:
                        break
                    await trio.sleep(random.random() / 100)
                    if total and cursor >= total[0]:
                        return
                    with trio.move_on_after(random.random() / 50):
                        await trio.sleep(random.random() / 20)
            if total and cursor >= total[0]:
                return

    async def write() -> None:
        for _ in range(20):
            await house.write(random, random.randint(1, 30))
            await trio.sleep(random.random() / 20)
        await house.create(user_id=BOB)
        total.append(await house.store.last_seq())
        written.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for name in range(12):
            await trio.sleep(random.random() / 20)
            nursery.start_soon(read, name, wanted[name % 3], 0)
        await written.wait()
        # Those who wait for an event that their filter does not let pass.
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    everything = await house.outbox.read(0, 1_000_000)
    assert seqs(everything) == [*range(1, total[0] + 1)]
    for name, found in heard.items():
        assert found == [one for one in everything if wanted[name % 3].matches(one)]


async def test_from_now_on_means_from_entering(house):
    await house.create(3)
    async with house.outbox.follow() as follower:
        await house.create(2)
        assert follower.seq == 3
        assert seqs(await anext(follower)) == [4, 5]
        assert follower.seq == 5
        assert await follower.take() == ()


async def test_the_place_goes_on_over_events_that_do_not_pass(house):
    async with house.outbox.follow(0, Filter(user_id=BOB)) as follower:
        await house.create(5, user_id=ALICE)
        assert await follower.take() == ()
        assert follower.seq == 5
        await house.create(user_id=BOB)
        assert seqs(await follower.take()) == [6]


async def test_who_waits_is_not_woken_by_what_others_do_and_is_not_behind_for_it(house):
    """Neither in looks at the tail nor in the bound of its lag."""
    looks = 0
    async with house.outbox.follow(0, Filter(user_id=BOB), max_lag=10) as follower:
        take = follower.take

        async def counted():
            nonlocal looks
            looks += 1
            return await take()

        follower.take = counted
        async with trio.open_nursery() as nursery:
            found: list[Published] = []

            async def read():
                found.extend(await anext(follower))

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert looks == 1
            for _ in range(100):
                await house.create(user_id=ALICE)
                await trio.testing.wait_all_tasks_blocked()
            assert (looks, found) == (1, [])
            await house.create(user_id=BOB)
        assert looks == 2
        assert seqs(found) == [101]
        assert follower.seq == 101


async def test_a_wait_that_ends_without_an_event_leaves_the_reader_at_the_newest(
    house, autojump_clock
):
    """As a heartbeat says: everything wanted up to there was given."""
    async with trio.open_nursery() as nursery, house.outbox.follow(0, Filter(user_id=BOB)) as one:
        nursery.start_soon(house.create, 7)
        with trio.move_on_after(5):
            await anext(one)
        assert one.seq == 7
        await house.create(user_id=BOB)
        assert seqs(await anext(one)) == [8]


async def test_those_who_wait_for_an_invoice_a_user_or_anything_hear_their_own(house):
    heard: dict[str, list[int]] = {"bob": [], "invoice": [], "all": []}
    await house.create(user_id=ALICE)
    (created,) = await house.outbox.read(0, 1)
    wanted = {
        "bob": Filter(user_id=BOB),
        "invoice": Filter(user_id=ALICE, invoice_id=created.invoice_id),
        "all": EVERYTHING,
    }

    async def read(name: str) -> None:
        async with house.outbox.follow(None, wanted[name]) as follower:
            async for batch in follower:
                heard[name] += seqs(batch)

    async with trio.open_nursery() as nursery:
        for name in wanted:
            nursery.start_soon(read, name)
        await trio.testing.wait_all_tasks_blocked()
        row = await house.store.invoice(created.invoice_id)
        for step in ("bob", "alice", "invoice"):
            if step == "invoice":
                await record(house.store, row.invoice, payment(row.invoice))
            else:
                await house.create(user_id=BOB if step == "bob" else ALICE)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert heard == {"bob": [2], "invoice": [4, 5], "all": [2, 3, 4, 5]}
    assert not house.outbox._bells


async def test_waiting_for_a_batch_can_be_cancelled_without_losing_one(house, autojump_clock):
    async with house.outbox.follow() as follower:
        with trio.move_on_after(1):
            await anext(follower)
        await house.create()
        assert seqs(await anext(follower)) == [1]


async def test_a_long_way_without_an_event_is_not_begun_anew_when_it_is_interrupted(
    house, monkeypatch, autojump_clock
):
    """Heartbeats interrupt a reader whose filter lets little pass; each look must bring him on."""
    monkeypatch.setattr("daemon.store.memory._STRETCH", 10)
    await house.create(95, user_id=ALICE)
    looks = 0
    read = house.store.published

    async def slowly(**asked):
        nonlocal looks
        looks += 1
        await trio.sleep(1)
        return await read(**asked)

    house.store.published = slowly
    async with house.outbox.follow(0, Filter(user_id=BOB)) as follower:
        places = []
        while follower.seq < 95:
            with trio.move_on_after(2.5):
                await anext(follower)
            places.append(follower.seq)
    assert places == [20, 40, 60, 80, 95]
    assert looks <= 15


async def test_a_follower_beyond_the_tail_reads_the_store():
    house = House(tail_events=4)
    async with house.outbox.follow(0) as slow, house.outbox.follow(0) as fast:
        for _ in range(30):
            await house.create()
            assert len(await anext(fast)) == 1
        assert house.outbox.statistics() == OutboxStatistics(followers=2, tail=4)
        assert seqs(await anext(slow)) == [*range(1, 31)]


async def test_pages_are_bounded_and_come_from_tail_and_store_alike(house, monkeypatch):
    monkeypatch.setattr("actors.outbox.PAGE_EVENTS", 7)
    async with house.outbox.follow(0) as early:
        await house.create(60)
        sizes = [len(await anext(early)) for _ in range(9)]
        assert sizes == [7] * 8 + [4]


async def test_a_slow_follower_is_ended_where_the_channel_has_a_bound(house):
    await house.create(20)
    async with house.outbox.follow(0, max_lag=10) as follower:
        assert len(await anext(follower)) == 20, "what was before is no lag"
        assert await follower.take() == ()
        await house.create(10)
        assert len(await anext(follower)) == 10
        await house.create(11)
        with pytest.raises(TooFarBehind, match="resume after 30") as caught:
            await anext(follower)
        assert caught.value.resume_seq == 30
    assert seqs(await house.outbox.read(30, 100)) == [*range(31, 42)]


async def test_a_listener_is_called_with_what_comes_until_it_stops(house):
    heard: list[Published] = []
    await house.create()
    async with house.outbox.follow():
        assert house.outbox.newest_seq == 1
        with house.outbox.listening(heard.extend):
            await house.create(2)
        await house.create()
        assert seqs(heard) == [2, 3]
        assert house.outbox.newest_seq == 4


async def test_a_place_only_goes_on(house):
    await house.create(5)
    async with house.outbox.follow(0) as follower:
        follower.went_on(3)
        follower.went_on(2)
        assert seqs(await follower.take()) == [4, 5]


async def test_what_is_not_published_yet_is_not_read(house):
    """The store commits in a thread of its own, and publishes a moment later."""
    await house.create(5)

    class Ahead(MemoryStore):
        async def last_seq(self) -> int:
            await trio.lowlevel.checkpoint()
            return 3

    ahead = Ahead()
    ahead.__dict__.update(house.store.__dict__)
    outbox = Outbox(ahead, house.hub)
    assert seqs(await outbox.read(0, 100)) == [1, 2, 3]
    page = await outbox.page(0, 100, Filter(types=("payment.seen",)))
    assert page == ([], 3)
    async with outbox.follow(0) as follower:
        assert seqs(await follower.take()) == [1, 2, 3]
        assert await follower.take() == ()


async def test_a_page_says_where_to_go_on(house):
    await house.create(3, user_id=ALICE)
    await house.create(2, user_id=BOB)
    await house.create(4, user_id=ALICE)
    page = await house.outbox.page(0, 1, Filter(user_id=BOB))
    assert (seqs(page.events), page.reached_seq) == ([4], 4)
    page = await house.outbox.page(4, 10, Filter(user_id=BOB))
    assert (seqs(page.events), page.reached_seq) == ([5], 9)
    assert await house.outbox.page(9, 10) == ([], 9)
    assert await house.outbox.page(-1, 0) == ([], 0)


async def test_cursors_are_sequence_numbers_or_event_ids_of_this_log(house):
    await house.create(3)
    outbox = house.outbox
    (event,) = await outbox.read(1, 1)
    assert event.id == f"{await outbox.log_id()}-2"
    for cursor in (2, "2", event.id):
        assert await outbox.parse_cursor(cursor) == 2
    for cursor in (0, -1, "-1"):
        assert await outbox.parse_cursor(cursor) == 0
    assert await outbox.parse_cursor(3) == 3


@pytest.mark.parametrize(
    ("cursor", "said"),
    [
        (4, "the cursor 4 is beyond the newest event 3"),
        (10**18, "is beyond the newest event 3"),
        (10**40, "neither a sequence number nor an event id"),
        (-2, "neither a sequence number nor an event id"),
        ("", "neither a sequence number nor an event id"),
        ("1e3", "neither a sequence number nor an event id"),
        ("٣", "neither a sequence number nor an event id"),
        ("2\n", "neither a sequence number nor an event id"),
        ("x" * 10_000, "neither a sequence number nor an event id"),
        ("zzzzzzzz-2", "neither a sequence number nor an event id"),
        ("{other}-2", "is of another database"),
        ("{log}-4", "is beyond the newest event 3"),
    ],
)
async def test_a_cursor_that_cannot_be_one_is_refused_with_what_to_do(house, cursor, said):
    await house.create(3)
    log_id = await house.outbox.log_id()
    if isinstance(cursor, str):
        other = f"{int(log_id, 16) ^ 1:08x}"
        cursor = cursor.replace("{other}", other).replace("{log}", log_id)
    refusal = await house.outbox.parse_cursor(cursor)
    assert isinstance(refusal, CursorRefused)
    assert said in refusal.reason
    assert any(word in refusal.reason for word in ("give the", "connect to", "read again"))
    assert len(refusal.cursor) <= 60


async def test_an_event_is_kept_without_the_buffer_of_its_encoder(house):
    committed: list[Committed] = []
    with house.hub.listening(committed.extend):
        await house.create()
    tracemalloc.start()
    try:
        kept = [published("0000000f", committed[0]) for _ in range(500)]
        each = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert each < len(kept[0].data) + 1_000  # the encoder's own would be 4 KB


class LateStore(MemoryStore):
    """One of several processes' store: what others have committed is published a little later."""

    def __init__(self, hub: EventHub) -> None:
        self.waiting = []
        super().__init__(self.waiting.extend)
        self._hub = hub

    async def last_seq(self) -> int:
        await trio.lowlevel.checkpoint()
        return self._hub.last_seq

    def publish(self, count: int) -> None:
        batch = self.waiting[:count]
        del self.waiting[:count]
        self._hub.publish(batch)


async def test_a_reader_who_was_told_elsewhere_what_comes_here_soon_goes_on_from_there():
    hub = EventHub(log=RecordingLog())
    store = LateStore(hub)
    outbox = Outbox(store, hub)
    for number in range(1, 6):
        await grow(store, number, user_id=ALICE)
    store.publish(1)
    assert await outbox.parse_cursor(3) == 3
    assert isinstance(await outbox.parse_cursor(6), CursorRefused)
    assert await outbox.page(3, 10) == ([], 3)
    async with outbox.follow(3) as follower:
        assert await follower.take() == ()
        store.publish(1)
        assert await follower.take() == ()
        store.publish(2)
        assert [event.seq for event in await follower.take()] == [4]
        store.publish(1)
        assert [event.seq for event in await follower.take()] == [5]
