"""SQLite in trouble: a clear error that names the setting, nothing half recorded, and on again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
import trio
import trio.testing
from sqlalchemy import Connection

from actors.ports import Committed, PersistentError, PublicKey, TransientError
from daemon.store import SqlStore, open_store, read_store
from tests.helpers.ledger import creation, grow, payment, record
from tests.store.conftest import ignore


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the same file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def execute(store: SqlStore, statement: str) -> None:
    """On the writer's own connection."""

    def run(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    await store._do(run)


async def test_facts_are_durable_before_the_listener_hears_of_them(
    sqlite_url: str, path: Path
) -> None:
    missing = []

    def listen(facts: list[Committed]) -> None:
        with closing(sqlite3.connect(path)) as elsewhere:
            for fact in facts:
                row = elsewhere.execute(
                    "SELECT invoices.version FROM invoices"
                    " JOIN events ON invoices.id = events.invoice_id WHERE seq = ?",
                    (fact.seq,),
                ).fetchone()
                if row is None or row[0] < fact.after.version:
                    missing.append(fact)

    async with open_store(sqlite_url, on_commit=listen) as store, trio.open_nursery() as nursery:
        for number in range(1, 101):
            nursery.start_soon(grow, store, number)
    assert not missing


async def test_a_lock_held_by_another_program(
    sqlite_url: str, path: Path, request: pytest.FixtureRequest
) -> None:
    heard: list[Committed] = []
    async with open_store(sqlite_url, on_commit=heard.extend, busy_timeout_s=0.05) as store:
        created = await grow(store, 1)
        other: sqlite3.Connection = request.getfixturevalue("other")
        other.execute("BEGIN IMMEDIATE")
        failures = []

        async def try_in_vain(number: int) -> None:
            try:
                await grow(store, number)
            except TransientError as error:
                failures.append(str(error))

        async with trio.open_nursery() as nursery:
            for number in range(2, 12):
                nursery.start_soon(try_in_vain, number)
        assert len(failures) == 10
        assert "database.url" in failures[0]
        assert str(path) in failures[0]
        assert "locked by another program; nothing was recorded" in failures[0]
        with pytest.raises(TransientError, match="locked"):
            await store.add_user(UUID(int=1), at_ms=1)
        assert await store.last_seq() == 1
        assert await store.has_user(UUID(int=1)) is False, "reading goes on"
        other.execute("ROLLBACK")
        await record(store, created, payment(created))
        assert await store.add_user(UUID(int=1), at_ms=1) is None
        assert [fact.seq for fact in heard] == [1, 2, 3]


async def test_a_short_lock_is_waited_for(sqlite_url: str, request: pytest.FixtureRequest) -> None:
    async with open_store(sqlite_url, on_commit=ignore) as store:
        other: sqlite3.Connection = request.getfixturevalue("other")
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(grow, store, 1)
            await trio.testing.wait_all_tasks_blocked()
            other.execute("ROLLBACK")
        assert await store.last_seq() == 1


async def test_a_full_disk(sqlite_url: str) -> None:
    heard: list[Committed] = []
    async with open_store(sqlite_url, on_commit=heard.extend) as store:
        await execute(store, "PRAGMA max_page_count = 1")  # what it has, and not a page more
        failures = []

        async def grow_or_fail(number: int) -> None:
            try:
                await grow(store, number)
            except TransientError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for number in range(1, 201):
                nursery.start_soon(grow_or_fail, number)
        assert failures
        assert "disk is full; nothing was recorded; free some space" in str(failures[0])
        assert "database.url" in str(failures[0])
        assert isinstance(failures[0].__cause__, Exception)
        recorded = await store.last_seq()
        assert recorded == len(heard)
        await execute(store, "PRAGMA max_page_count = 1000000")
        await grow(store, 1001)
        entries = await store.read(after_seq=0, limit=1000)
        assert [entry.seq for entry in entries] == list(range(1, recorded + 2))


async def test_a_second_daemon_is_refused(sqlite_url: str, path: Path) -> None:
    async with open_store(sqlite_url, on_commit=ignore) as store:
        with pytest.raises(PersistentError, match=r"database\.url.* in use by another tallyd"):
            async with open_store(sqlite_url, on_commit=ignore):
                pass
        assert await grow(store, 1)
    async with open_store(sqlite_url, on_commit=ignore) as store:
        assert await store.last_seq() == 1


async def test_reading_beside_the_daemon(sqlite_url: str) -> None:
    with pytest.raises(PersistentError, match="there is no file"):
        async with read_store(sqlite_url):
            pass
    async with open_store(sqlite_url, on_commit=ignore) as store:
        created = await grow(store, 1)
        async with read_store(sqlite_url) as reader:
            assert await reader.last_seq() == 1
            row = await reader.invoice(created.terms.invoice_id)
            assert row is not None
            assert row.invoice == created
            await record(store, created, payment(created))
            assert len(await reader.history(created.terms.invoice_id)) == 3
            with pytest.raises(AssertionError, match="reading only"):
                await reader.append(None, [creation(2)])
            assert reader.statistics().commits == 0


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nonsense", "not a database address"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://root:geheim@localhost/x", "'mysql', which is not known"),
        ("sqlite:////no/such/folder/tally.db", "folder /no/such/folder does not exist"),
    ],
)
async def test_addresses_that_cannot_be_used(url: str, complaint: str) -> None:
    with pytest.raises(PersistentError, match=complaint) as caught:
        async with open_store(url, on_commit=ignore):
            pass
    assert "database.url" in str(caught.value)
    assert "geheim" not in str(caught.value)


async def test_a_file_that_is_no_database(sqlite_url: str, path: Path) -> None:
    await trio.Path(path).write_bytes(b"Dear diary, today " * 500)
    with pytest.raises(PersistentError, match=r"database\.url.*no SQLite database"):
        async with open_store(sqlite_url, on_commit=ignore):
            pass
    assert (await trio.Path(path).read_bytes()).startswith(b"Dear diary")


async def test_a_damaged_row_is_reported_not_guessed(
    sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    async with open_store(sqlite_url, on_commit=ignore) as store:
        created = await grow(store, 1)
        other: sqlite3.Connection = request.getfixturevalue("other")
        for snapshot in ("{", "[]", '{"state": "vanished"}'):
            other.execute("UPDATE invoices SET snapshot = ?", (snapshot,))
            with pytest.raises(PersistentError, match="what this version cannot read"):
                await store.live("btc", tip_height=0)
        other.execute("UPDATE events SET kind = 'payment.teleported'")
        with pytest.raises(PersistentError, match=r"database\.url.*payment\.teleported"):
            await store.history(created.terms.invoice_id)


async def test_one_callers_bug_is_his_alone(sqlite_url: str) -> None:
    """A value that no database takes, a write that fails: the others of the batch commit."""
    outcomes: dict[int, object] = {}
    async with open_store(sqlite_url, on_commit=ignore) as store:

        async def attempt(number: int) -> None:
            try:
                if number == 5:
                    await store.append(None, [creation(number, account_id=2**63)])
                elif number == 6:
                    await execute(store, "INSERT INTO nowhere VALUES (1)")
                elif number == 7:
                    await store.set_keys(UUID(int=1), [PublicKey("btc", None, "")], at_ms=1)  # type: ignore[arg-type]
                else:
                    await grow(store, number)
            except Exception as error:  # noqa: BLE001 - the test looks at what came
                outcomes[number] = error

        await store.add_user(UUID(int=1), at_ms=1)
        async with trio.open_nursery() as nursery:
            for number in range(1, 11):
                nursery.start_soon(attempt, number)
        assert sorted(outcomes) == [5, 6, 7]
        assert isinstance(outcomes[5], OverflowError)
        assert await store.last_seq() == 7
        assert len(await store.live("btc", tip_height=0)) == 7


async def test_closing_answers_everybody(sqlite_url: str) -> None:
    heard: list[Committed] = []
    recorded = []

    async def append(number: int) -> None:
        recorded.append(await grow(store, number))

    async with (
        trio.open_nursery() as nursery,
        open_store(sqlite_url, on_commit=heard.extend) as store,
    ):
        for number in range(1, 101):
            nursery.start_soon(append, number)
        await trio.testing.wait_all_tasks_blocked()
    assert len(recorded) == len(heard) == 100
    with pytest.raises(TransientError, match="closing"):
        await grow(store, 101)


async def test_closing_while_cancelled_commits_what_was_queued(sqlite_url: str) -> None:
    heard: list[Committed] = []
    with trio.CancelScope() as scope:
        async with (
            open_store(sqlite_url, on_commit=heard.extend) as store,
            trio.open_nursery() as nursery,
        ):
            for number in range(1, 51):
                nursery.start_soon(grow, store, number)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    async with open_store(sqlite_url, on_commit=ignore) as store:
        assert await store.last_seq() == len(heard) == 50


async def test_a_full_queue_makes_callers_wait(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.store.writer.MAX_QUEUED", 8)
    monkeypatch.setattr("daemon.store.writer.MAX_BATCH", 3)
    most = 0
    sizes: list[int] = []
    async with open_store(sqlite_url, on_commit=lambda facts: sizes.append(len(facts))) as store:

        async def append(number: int) -> None:
            nonlocal most
            await grow(store, number)
            most = max(most, store.statistics().queued)

        async with trio.open_nursery() as nursery:
            for number in range(1, 101):
                nursery.start_soon(append, number)
        assert store.statistics().queued == 0
        assert store.statistics().events == 100
    assert most <= 8
    assert max(sizes) <= 3
    assert sum(sizes) == 100


async def test_a_listener_that_fails_ends_the_block_with_its_failure(sqlite_url: str) -> None:
    def listen(facts: list[Committed]) -> None:
        if facts[-1].seq >= 3:
            raise RuntimeError("a bug in the hub")

    async def use() -> None:
        async with open_store(sqlite_url, on_commit=listen) as store:
            for number in range(1, 10):
                await grow(store, number)

    with pytest.raises(RuntimeError, match="a bug in the hub"):
        await use()
    async with open_store(sqlite_url, on_commit=ignore) as store:
        assert await store.last_seq() == 3, "committed all the same"
