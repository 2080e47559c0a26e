"""The log as readers get it, on every store: the same events whatever the way through them."""

from __future__ import annotations

from random import Random
from uuid import UUID

import orjson
import pytest

from actors.core.codec import event_to_json
from actors.event_hub import EventHub
from actors.outbox import EVERYTHING, Filter, Outbox, Published
from actors.ports import PersistentError, Store
from daemon.store import open_store, read_store
from daemon.store import outbox as outbox_table
from daemon.store.schema import meta
from tests.helpers.ledger import grow, payment, record, settlement
from tests.helpers.recording_log import RecordingLog

ALICE, BOB = UUID(int=1001), UUID(int=1002)


async def fill(store: Store, *, invoices: int) -> None:
    """Invoices of two users, some of them paid, their facts mingled."""
    random = Random(7)
    open_ = [
        await grow(store, number, user_id=random.choice((ALICE, BOB)))
        for number in range(1, invoices + 1)
    ]
    random.shuffle(open_)
    for created in open_[: invoices // 2]:
        paid = await record(store, created, payment(created))
        await record(store, paid, settlement(paid))


async def walk(store: Store, wanted: Filter, *, limit: int) -> list[Published]:
    """Everything through the filter, page by page."""
    found: list[Published] = []
    reached = 0
    last_seq = await store.last_seq()
    while reached < last_seq:
        page = await store.published(after_seq=reached, limit=limit, wanted=wanted)
        assert page.reached_seq > reached
        assert len(page.events) <= limit
        assert all(reached < one.seq <= page.reached_seq for one in page.events)
        found += page.events
        reached = page.reached_seq
    return found


async def test_an_event_is_the_fact_with_its_invoice_beside_it(store):
    await fill(store, invoices=6)
    log_id = await store.log_id()
    assert len(log_id) == 8
    assert int(log_id, 16) >= 0
    events = await walk(store, EVERYTHING, limit=1000)
    entries = await store.read(after_seq=0, limit=1000)
    assert [one.seq for one in events] == [one.seq for one in entries]
    for event, entry in zip(events, entries, strict=True):
        data = event_to_json(entry.event)
        row = await store.invoice(entry.invoice_id)
        assert event.at_ms == data.pop("at_ms")
        assert event.data == orjson.dumps(data)
        assert event == Published(
            f"{log_id}-{entry.seq}",
            entry.seq,
            entry.event.kind,
            entry.event.at_ms,
            entry.invoice_id,
            row.invoice.terms.user_id,
            entry.version,
            row.invoice.terms.asset,
            event.data,
        )


WANTED = {
    "everything": EVERYTHING,
    "a user": Filter(user_id=ALICE),
    "nobody": Filter(user_id=UUID(int=5)),
    "an invoice": Filter(invoice_id=UUID(int=2 << 64 | 2)),
    "another's invoice": Filter(invoice_id=UUID(int=2 << 64 | 2), user_id=UUID(int=5)),
    "types": Filter(types=("invoice.settled", "payment.seen")),
    "a user's types": Filter(user_id=BOB, types=("invoice.created",)),
}


@pytest.mark.parametrize("few", [0, 3, 500], ids=lambda few: f"few={few}")
@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
async def test_every_filter_lets_pass_the_same_whatever_the_page_and_the_way(
    store, wanted, few, monkeypatch
):
    monkeypatch.setattr(outbox_table, "FEW", few)
    monkeypatch.setattr(outbox_table, "STRETCH", 5)
    monkeypatch.setattr("daemon.store.memory._STRETCH", 5)
    await fill(store, invoices=9)
    everything = await walk(store, EVERYTHING, limit=1000)
    for limit in (1, 4, 1000):
        assert await walk(store, wanted, limit=limit) == [
            one for one in everything if wanted.matches(one)
        ]


async def test_nothing_is_beyond_the_end(store):
    await fill(store, invoices=2)
    last_seq = await store.last_seq()
    for wanted in WANTED.values():
        page = await store.published(after_seq=last_seq, limit=10, wanted=wanted)
        assert page == ([], last_seq)


async def test_what_the_hub_tells_is_what_the_store_gives(open_again):
    hub = EventHub(log=RecordingLog())
    async with open_again(hub.publish) as store:
        outbox = Outbox(store, hub)
        live: list[Published] = []
        async with outbox.follow():
            with outbox.listening(live.extend):
                await fill(store, invoices=5)
        assert live == await outbox.read(0, 1000)


async def test_the_log_keeps_its_id(sql_url):
    async with open_store(sql_url, on_commit=lambda _: None) as store:
        first = await store.log_id()
        async with read_store(sql_url) as reader:
            assert await reader.log_id() == first
    async with open_store(sql_url, on_commit=lambda _: None) as store:
        assert await store.log_id() == first


async def test_a_database_that_was_never_named_says_what_to_do(tmp_path):
    url = f"sqlite:///{tmp_path / 'tally.db'}"
    async with open_store(url, on_commit=lambda _: None) as store:
        await store._do(lambda connection: connection.execute(meta.delete()))
        async with read_store(url) as reader:
            with pytest.raises(PersistentError, match="start the daemon once"):
                await reader.log_id()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ('{"at_ms":17,"height":3}', b'{"height":3}'),
        ('{"at_ms":17}', b"{}"),
        ('{"height":3,"at_ms":17}', b'{"height":3}'),
        ('{"height":3}', b'{"height":3}'),
    ],
)
def test_the_instant_is_taken_out_wherever_it_stands(stored, expected):
    assert outbox_table.without_instant(stored) == expected
