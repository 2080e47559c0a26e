"""One PostgreSQL database, written by several stores at a time: each stands for a process."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from uuid import UUID

import pytest
import trio
from sqlalchemy import Connection

from actors.core.invoice import Invoice
from actors.ports import CommitListener, Committed, PersistentError, TransientError, VersionConflict
from daemon.store import SharedStore, open_shared_store, open_store
from daemon.store.errors import InUseError
from tests.helpers.ledger import creation, grow, payment, record, seqs, settlement
from tests.helpers.log_chain import chain_of
from tests.helpers.postgres import PostgresServer
from tests.helpers.sessions import end_sessions, run
from tests.helpers.tcp_proxy import CuttingProxy
from tests.store.conftest import ignore


class Hearing:
    """One process: its store, and what its listener heard."""

    def __init__(self) -> None:
        self.heard: list[Committed] = []
        self.store: SharedStore

    async def upto(self, seq: int) -> list[Committed]:
        await self.store.follower.reached(seq)
        return self.heard


@asynccontextmanager
async def processes(url: str, count: int) -> AsyncIterator[list[Hearing]]:
    async with AsyncExitStack() as stack:
        opened = [Hearing() for _ in range(count)]
        for one in opened:
            store = open_shared_store(url, on_commit=one.heard.extend)
            one.store = await stack.enter_async_context(store)
        yield opened


async def life(store: SharedStore, number: int) -> None:
    """Five facts of one invoice."""
    invoice = await grow(store, number)
    invoice = await record(store, invoice, payment(invoice))
    await record(store, invoice, settlement(invoice))


def check_told(facts: Sequence[Committed]) -> None:
    """Every fact once, in order, each from the state that the one before it led to."""
    assert all(after == before + 1 for before, after in pairwise(seqs(facts)))
    states: dict[UUID, Invoice] = {}
    for fact in facts:
        assert fact.before == states.get(fact.after.terms.invoice_id)
        assert fact.after.version == (fact.before.version if fact.before else 0) + 1
        states[fact.after.terms.invoice_id] = fact.after


async def test_every_process_hears_of_every_fact_once_and_in_order(shared_url: str) -> None:
    async with processes(shared_url, 3) as opened:
        async with trio.open_nursery() as nursery:
            for number in range(1, 61):
                nursery.start_soon(life, opened[number % 3].store, number)
        assert await opened[0].store.tip() == await chain_of(opened[0].store)
        (last, _) = await opened[0].store.tip()
        assert last == 60 * 5
        for one in opened:
            heard = await one.upto(last)
            assert seqs(heard) == list(range(1, last + 1))
            check_told(heard)
            assert heard == opened[0].heard
            assert await one.store.last_seq() == last


async def test_an_append_returns_when_its_facts_were_heard(shared_url: str) -> None:
    async with processes(shared_url, 2) as (one, other):
        for number in range(1, 30):
            writer = (one, other)[number % 2]
            done = await writer.store.append(None, [creation(number)])
            assert not isinstance(done, VersionConflict)
            assert writer.heard[-1] == done[0]


async def test_facts_of_invoices_that_are_older_than_the_process(shared_url: str) -> None:
    async with processes(shared_url, 1) as (one,):
        created = await grow(one.store, 1)
        paid = await record(one.store, created, payment(created))
        async with processes(shared_url, 1) as (other,):
            settled = await record(one.store, paid, settlement(paid))
            (fact, *more) = await other.upto(one.store.follower.seq)
            assert fact.before == paid
            assert more[-1].after == settled
            assert other.heard == one.heard[3:]


async def test_who_has_an_old_state_is_refused(shared_url: str) -> None:
    async with processes(shared_url, 2) as (one, other):
        created = await grow(one.store, 1)
        await record(other.store, created, payment(created))
        conflict = VersionConflict(created.terms.invoice_id, 1)
        assert await one.store.append(created, payment(created)) == conflict
        assert await other.store.append(None, [creation(1)]) == VersionConflict(
            created.terms.invoice_id, 0
        )
        await one.upto(3)
        assert seqs(one.heard) == seqs(other.heard) == [1, 2, 3]


async def test_what_one_process_does_the_others_do_not_undo(shared_url: str) -> None:
    """Reading and writing in one transaction is safe against other processes."""
    async with processes(shared_url, 3) as opened:
        user_id, results, given = UUID(int=7), [], []

        async def add(one: Hearing) -> None:
            results.append(await one.store.add_user(user_id, at_ms=1))

        async def claim(one: Hearing, number: int) -> None:
            found = await one.store.claim(
                owner="shop",
                key="key",
                digest=b"digest",
                resource_id=UUID(int=number),
                at_ms=1,
                forgotten_before_ms=0,
            )
            claims.append(found.resource_id)

        claims: list[UUID] = []
        async with trio.open_nursery() as nursery:
            for number, one in enumerate(opened * 4):
                nursery.start_soon(add, one)
                nursery.start_soon(claim, one, number)
        assert results.count(None) == 1
        assert len(set(claims)) == 1
        run(
            shared_url,
            "INSERT INTO accounts"
            " (id, user_id, chain, key, current, created_at_ms, next_major, next_minor)"
            f" VALUES (7, '{user_id}', 'btc', 'k', true, 1, 0, 1)",
        )

        async def allocate(one: Hearing) -> None:
            given.extend([await one.store.allocate_index(7) for _ in range(20)])

        async with trio.open_nursery() as nursery:
            for one in opened * 2:
                nursery.start_soon(allocate, one)
        assert sorted(given) == [(0, minor) for minor in range(1, 121)]


# --- notifications and connections that are lost --------------------------------------------------


async def test_the_table_is_the_truth_when_no_notification_comes(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.store.shared_session.APPENDED", "what nobody listens to")
    async with processes(shared_url, 2) as (one, other):
        await life(one.store, 1)
        assert await other.upto(5) == one.heard


async def test_the_connection_that_listens_is_made_anew(shared_url: str) -> None:
    async with processes(shared_url, 2) as (one, other):
        listener = other.store.listener
        again = trio.Event()

        def told() -> None:
            if listener.connections > 1:
                again.set()

        with listener.telling("anything", told):
            end_sessions(shared_url, doing="LISTEN %")
            await again.wait()
        await life(one.store, 1)
        assert await other.upto(5) == one.heard


async def test_a_process_without_a_duty_outlives_its_connection(shared_url: str) -> None:
    async with processes(shared_url, 2) as (one, other):
        created = await grow(one.store, 1)
        end_sessions(shared_url, doing="COMMIT%")
        await record(other.store, created, payment(created))
        await grow(one.store, 2)
        assert seqs(await one.upto(4)) == seqs(await other.upto(4)) == [1, 2, 3, 4]
        assert await one.store.tip() == await chain_of(one.store)


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> AsyncIterator[CuttingProxy]:
    with CuttingProxy(("127.0.0.1", postgres_server.port)) as proxy:
        yield proxy


@pytest.fixture
def proxied_url(postgres_server: PostgresServer, shared_url: str, proxy: CuttingProxy) -> str:
    return shared_url.replace(f":{postgres_server.port}/", f":{proxy.port}/")


@pytest.mark.parametrize("arrived", [True, False], ids=["commit arrived", "commit lost"])
async def test_a_commit_whose_answer_is_lost_is_looked_up(
    shared_url: str, proxied_url: str, proxy: CuttingProxy, arrived: bool
) -> None:
    async with processes(shared_url, 1) as (other,), processes(proxied_url, 1) as (one,):
        created = await grow(one.store, 1)
        proxy.cut_at(b"COMMIT", forward=arrived)
        paid = await record(one.store, created, payment(created))
        assert proxy.cut.is_set()
        proxy.cut_at(b"COMMIT", forward=arrived)
        assert await one.store.add_user(UUID(int=5), at_ms=1) is None, "added by us, not found"
        assert proxy.cut.is_set()
        await record(other.store, paid, settlement(paid))
        assert await other.upto(5) == await one.upto(5)
        check_told(one.heard)
        assert await one.store.tip() == await chain_of(one.store)


@pytest.mark.parametrize("arrived", [True, False], ids=["commit arrived", "commit lost"])
async def test_a_commit_in_doubt_is_heard_of_wherever_it_turns_out_to_be_there(
    shared_url: str, proxied_url: str, proxy: CuttingProxy, arrived: bool
) -> None:
    async with processes(shared_url, 1) as (other,), AsyncExitStack() as stack:
        one = Hearing()
        one.store = await stack.enter_async_context(
            open_shared_store(proxied_url, on_commit=one.heard.extend, retry_s=0.1)
        )
        created = await grow(one.store, 1)
        proxy.cut_at(b"COMMIT", forward=arrived, then_refuse=True)
        with pytest.raises(TransientError, match="not known yet whether the write was recorded"):
            await one.store.append(created, payment(created))
        await grow(other.store, 2)
        proxy.allow()
        again = await one.store.append(created, payment(created))
        assert isinstance(again, VersionConflict) == arrived
        await grow(one.store, 3)
        assert await other.upto(5) == await one.upto(5)
        assert len(one.heard) == 5
        check_told(one.heard)


async def test_a_process_that_stops_in_its_turn_is_given_up(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose machine is frozen: the server ends its session, and the others go on."""
    monkeypatch.setattr("daemon.store.database.GIVEN_UP_AFTER_S", 0.3)
    stopped, resume = threading.Event(), threading.Event()

    def stop(_connection: Connection) -> None:
        if not stopped.is_set():
            stopped.set()
            resume.wait(60)

    async with processes(shared_url, 2) as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(one.store._do, stop)
        await trio.to_thread.run_sync(stopped.wait)
        await grow(other.store, 1)
        resume.set()
        await grow(one.store, 2)
        assert seqs(await other.upto(2)) == seqs(await one.upto(2)) == [1, 2]


async def test_a_database_that_was_replaced_is_noticed(shared_url: str) -> None:
    async with processes(shared_url, 1) as (one,):
        created = await grow(one.store, 1)
        run(shared_url, "UPDATE events SET hash = '\\x00'")
        end_sessions(shared_url, doing="COMMIT%")
        with pytest.raises(PersistentError, match=r"database\.url .*replaced by a copy; restart"):
            await record(one.store, created, payment(created))


async def idle(url: str, listener: CommitListener, *, number: int | None = None) -> None:
    """Create an invoice, if one is given, and wait for the store to break."""
    async with open_shared_store(url, on_commit=listener) as store:
        if number is not None:
            await grow(store, number)
        await trio.sleep_forever()


async def test_a_log_with_a_gap_is_not_followed(shared_url: str) -> None:
    async with processes(shared_url, 1) as (one,):
        await grow(one.store, 1)

    def strange(_facts: Sequence[Committed]) -> None:
        run(
            shared_url,
            "INSERT INTO events SELECT 4, gen_random_uuid(), 1, kind, at_ms, data, hash"
            " FROM events WHERE seq = 1; NOTIFY tallyd, 'log'",
        )

    with pytest.raises(PersistentError, match="after event 2 of its log comes 4"):
        await idle(shared_url, strange, number=2)


async def test_a_listener_that_fails_ends_the_block_with_its_failure(shared_url: str) -> None:
    def fail(_facts: Sequence[Committed]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await idle(shared_url, fail, number=1)
    async with processes(shared_url, 1) as (other,), trio.open_nursery() as nursery:
        failed = trio.Event()

        async def hear() -> None:
            with pytest.raises(ZeroDivisionError):
                await idle(shared_url, fail)
            failed.set()

        nursery.start_soon(hear)
        number = 2
        while not failed.is_set():
            await grow(other.store, number)
            number += 1
        assert await other.store.tip() == await chain_of(other.store)


# --- opening --------------------------------------------------------------------------------------


async def test_processes_that_start_together_make_the_tables_once(postgres_url: str) -> None:
    opened = []

    async def start() -> None:
        async with open_shared_store(postgres_url, on_commit=ignore) as store:
            opened.append(await store.log_id())

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(start)
    assert len(opened) == 4
    assert len(set(opened)) == 1


async def test_a_daemon_without_roles_and_one_in_roles_exclude_each_other(
    shared_url: str,
) -> None:
    async with open_shared_store(shared_url, on_commit=ignore):
        with pytest.raises(InUseError, match=r"database\.url .*in use by another tallyd"):
            async with open_store(shared_url, on_commit=ignore, busy_timeout_s=0.1):
                pass
    async with open_store(shared_url, on_commit=ignore):
        with pytest.raises(InUseError, match=r"in use by a tallyd that runs without --role"):
            async with open_shared_store(shared_url, on_commit=ignore, busy_timeout_s=0.1):
                pass


async def test_tables_are_not_changed_under_a_process_that_uses_them(shared_url: str) -> None:
    async with open_shared_store(shared_url, on_commit=ignore):
        run(shared_url, "UPDATE alembic_version SET version_num = '0007'")
        with pytest.raises(InUseError, match=r"brought up to date.*stop every process"):
            async with open_shared_store(shared_url, on_commit=ignore, busy_timeout_s=0.3):
                pass


async def test_a_newer_version_that_has_the_database_is_named(shared_url: str) -> None:
    async with open_shared_store(shared_url, on_commit=ignore):
        run(shared_url, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(PersistentError, match="was written by a newer tallyd"):
            async with open_shared_store(shared_url, on_commit=ignore):
                pass


async def test_a_file_cannot_be_shared(sqlite_url: str) -> None:
    with pytest.raises(PersistentError, match=r"database\.url .*can only share a PostgreSQL"):
        async with open_shared_store(sqlite_url, on_commit=ignore):
            pass
