"""The hash chain of the event log: how it is made, that it goes on, and that damage shows."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from actors.ports import PersistentError, Store
from actors.published import LogTip
from daemon.store import MemoryStore, log_chain, log_walk, migrate, open_store
from daemon.store.errors import parse_url
from daemon.store.log_chain import beginning, link, row_bytes
from tests.helpers.ledger import creation, grow, payment, record, settlement
from tests.helpers.log_chain import chain_of
from tests.store.conftest import Opener, ignore

ID = UUID(int=7)


def on(url: str, statement: str, **values: Any) -> Sequence[Any]:
    engine = create_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.fetchall() if result.returns_rows else ()
    finally:
        engine.dispose()


async def live(store: Store, number: int) -> None:
    invoice = await grow(store, number)
    invoice = await record(store, invoice, payment(invoice))
    await record(store, invoice, settlement(invoice))


def test_the_first_links_are_what_they_always_were():
    """Known values: another preimage would make every stored chain look broken."""
    start = beginning("0123abcd")
    assert start.hash.hex() == sha256(b"tallyd event log 1\n0123abcd").hexdigest()
    row = row_bytes(invoice_id=ID.bytes, version=1, kind="payment.seen", at_ms=-5, data='{"ä":1}')
    assert row == (
        bytes(15) + b"\x07" + bytes(7) + b"\x01" + b"\xff" * 7 + b"\xfb" + bytes(3) + b"\x0c"
        b"payment.seen" + '{"ä":1}'.encode()
    )  # fmt: skip
    first = link(start.hash, 1, row)
    assert first == sha256(start.hash + bytes(7) + b"\x01" + row).digest()
    assert str(LogTip(1, first)) == f"1:{first.hex()}"


FIELDS = st.tuples(
    st.uuids(), st.integers(0, 3), st.text(max_size=4), st.integers(-2, 2), st.text(max_size=4)
)


@given(FIELDS, FIELDS)
def test_no_two_rows_have_the_same_preimage(one: tuple[Any, ...], other: tuple[Any, ...]):
    def packed(fields: tuple[Any, ...]) -> bytes:
        key, version, kind, at_ms, data = fields
        return row_bytes(invoice_id=key.bytes, version=version, kind=kind, at_ms=at_ms, data=data)

    assert (packed(one) == packed(other)) == (one == other)


def test_what_moves_from_one_text_to_the_next_shows():
    def packed(kind: str, data: str) -> bytes:
        return row_bytes(invoice_id=ID.bytes, version=1, kind=kind, at_ms=1, data=data)

    assert packed("ab", "c") != packed("a", "bc")


async def test_every_store_makes_the_same_chain(open_again: Opener):
    async with open_again() as store:
        assert await store.tip() == beginning(await store.log_id())
        await live(store, 1)
        assert await store.tip() == await chain_of(store)
    async with open_again() as store:
        await live(store, 2)
        assert await store.tip() == await chain_of(store)
        assert (await store.tip()).seq == await store.last_seq()


async def test_the_chain_goes_on_whatever_is_written_together(sql_url: str):
    async with open_store(sql_url, on_commit=ignore) as store:
        async with trio.open_nursery() as nursery:
            for number in range(1, 60):
                nursery.start_soon(live, store, number)
        assert store.statistics().commits < 177, "some were written together"
        assert await store.tip() == await chain_of(store)


async def test_the_chain_goes_on_after_a_write_that_was_refused(sql_url: str):
    async with open_store(sql_url, on_commit=ignore) as store:
        created = await grow(store, 1)

        async def twice() -> None:
            await store.append(created, payment(created))

        async with trio.open_nursery() as nursery:  # the second is a conflict: one by one
            nursery.start_soon(twice)
            nursery.start_soon(twice)
            nursery.start_soon(live, store, 2)
        with pytest.raises(AssertionError, match="reuse"):
            await grow(store, 3, path=(0, 1))
        await live(store, 4)
        assert await store.tip() == await chain_of(store)


async def test_old_logs_get_their_links(
    sql_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async with open_store(sql_url, on_commit=ignore) as store:
        for number in range(1, 6):
            await live(store, number)
        chained = await store.tip()
    migrate.downgrade(sql_url, "0006")
    assert "hash" not in on(sql_url, "SELECT * FROM events LIMIT 1")[0]._fields
    monkeypatch.setattr(log_chain, "BATCH", 7)
    monkeypatch.setattr(log_chain, "TOLD_EVERY", 10)
    capsys.readouterr()
    async with open_store(sql_url, on_commit=ignore) as store:
        assert await store.tip() == chained
    told = capsys.readouterr().err
    assert 'event="chaining the event log" events=14 of=25' in told
    assert f'event="event log chained" events=25 newest={chained}' in told
    async with open_store(sql_url, on_commit=ignore) as store:
        await live(store, 9)
        assert await store.tip() == await chain_of(store)


async def test_a_log_without_a_name_is_named_before_it_is_chained(sql_url: str):
    async with open_store(sql_url, on_commit=ignore) as store:
        await live(store, 1)
    migrate.downgrade(sql_url, "0006")
    on(sql_url, "DELETE FROM meta WHERE key = 'log_id'")
    async with open_store(sql_url, on_commit=ignore) as store:
        assert await store.tip() == await chain_of(store)


DAMAGE = {
    "changed": ("UPDATE events SET data = replace(data, '1', '2') WHERE seq = 4", 4),
    "another instant": ("UPDATE events SET at_ms = at_ms + 1 WHERE seq = 2", 2),
    "another kind": ("UPDATE events SET kind = 'payment.seen' WHERE seq = 1", 1),
    "another invoice": ("UPDATE events SET version = version + 40 WHERE seq = 3", 3),
    "another link": (("UPDATE events SET hash = prev.hash FROM events AS prev"
                     " WHERE events.seq = 5 AND prev.seq = 4"), 5),
    "removed": ("DELETE FROM events WHERE seq = 3", 3),
    "the first removed": ("DELETE FROM events WHERE seq = 1", 1),
    "renamed": ("UPDATE meta SET value = 'ffffffff' WHERE key = 'log_id'", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
async def test_damage_near_the_end_is_refused_at_the_start(sql_url: str, name: str):
    statement, place = DAMAGE[name]
    async with open_store(sql_url, on_commit=ignore) as store:
        for number in (1, 2):
            await live(store, number)
    on(sql_url, statement)
    before = on(sql_url, "SELECT * FROM events ORDER BY seq")
    with pytest.raises(PersistentError, match=rf"database.url .*event {place} ") as caught:
        async with open_store(sql_url, on_commit=ignore):
            pass
    assert "tallyd audit --log" in str(caught.value)
    assert "tallyd restore" in str(caught.value)
    assert on(sql_url, "SELECT * FROM events ORDER BY seq") == before


async def test_only_the_end_is_looked_at_when_the_daemon_starts(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
):
    async with open_store(sql_url, on_commit=ignore) as store:
        for number in (1, 2):
            await live(store, number)
    on(sql_url, "UPDATE events SET data = replace(data, '1', '2') WHERE seq = 4")
    monkeypatch.setattr(log_walk, "AT_START", 5)
    async with open_store(sql_url, on_commit=ignore) as store:
        assert await store.last_seq() == 10
    on(sql_url, "DELETE FROM events WHERE seq = 5")
    with pytest.raises(PersistentError, match="event 5 is missing: it was removed"):
        async with open_store(sql_url, on_commit=ignore):
            pass


async def test_a_row_that_cannot_be_read_is_named(sqlite_url: str):
    async with open_store(sqlite_url, on_commit=ignore) as store:
        await live(store, 1)
    on(sqlite_url, "UPDATE events SET data = x'ff00' WHERE seq = 2")
    with pytest.raises(PersistentError, match="event 2 cannot be read"):
        async with open_store(sqlite_url, on_commit=ignore):
            pass


async def test_memory_and_sql_agree_on_the_links(sqlite_url: str):
    """The same log id and facts: the same chain, so it can be compared across engines."""
    memory = MemoryStore()
    async with open_store(sqlite_url, on_commit=ignore) as store:
        memory._log_id = await store.log_id()
        memory._tip = beginning(memory._log_id)
        for one in (store, memory):
            await record(one, None, [creation(1)])
        assert await store.tip() == await memory.tip()
