"""PostgreSQL in trouble: restarts, lost connections, commits whose answer is lost."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
import trio
from sqlalchemy import create_engine, text

from actors.ports import Committed, PersistentError, TransientError, VersionConflict
from daemon.store import SqlStore, open_store
from tests.helpers.ledger import creation, grow, payment, record, seqs
from tests.helpers.log_chain import chain_of
from tests.helpers.postgres import PostgresServer
from tests.helpers.tcp_proxy import CuttingProxy
from tests.nodes.install import find, how_to_install
from tests.store.conftest import ignore


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that these tests may stop."""
    if find("postgres") is None:
        pytest.skip(how_to_install("postgres"))
    with PostgresServer() as server:
        yield server


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(("127.0.0.1", postgres_server.port)) as proxy:
        yield proxy


@pytest.fixture
def proxied_url(postgres_server: PostgresServer, postgres_url: str, proxy: CuttingProxy) -> str:
    return postgres_url.replace(f":{postgres_server.port}/", f":{proxy.port}/")


async def log_of(store: SqlStore) -> list[tuple[int, UUID, int]]:
    entries = await store.read(after_seq=0, limit=10_000)
    assert await store.tip() == await chain_of(store), "the chain went on as it should"
    return [(entry.seq, entry.invoice_id, entry.version) for entry in entries]


def told(facts: list[Committed]) -> list[tuple[int, UUID, int]]:
    return [(f.seq, f.after.terms.invoice_id, f.after.version) for f in facts]


async def test_appends_go_on_over_a_restart_of_the_server(own_server: PostgresServer) -> None:
    heard: list[Committed] = []
    url = own_server.create_database()
    enough = trio.Event()
    stop = False
    async with open_store(url, on_commit=heard.extend, retry_s=60) as store:

        async def write(number: int) -> None:
            while not stop:
                created = await grow(store, number)
                await record(store, created, payment(created))
                number += 10
                if len(heard) > 200:
                    enough.set()

        async with trio.open_nursery() as nursery:
            for number in range(1, 11):
                nursery.start_soon(write, number)
            await enough.wait()
            await trio.to_thread.run_sync(own_server.restart)
            before = len(heard)
            enough = trio.Event()
            while len(heard) <= before:
                await grow(store, 1_000_000 + before)
            stop = True
        assert seqs(heard) == list(range(1, len(heard) + 1))
        assert await log_of(store) == told(heard)


async def test_a_server_that_stays_away(own_server: PostgresServer) -> None:
    heard: list[Committed] = []
    url = own_server.create_database()
    async with open_store(url, on_commit=heard.extend, retry_s=0.2) as store:
        created = await grow(store, 1)
        await trio.to_thread.run_sync(own_server.stop)
        with pytest.raises(TransientError, match=r"database\.url .*the connection failed"):
            await record(store, created, payment(created))
        with pytest.raises(TransientError, match=r"database\.url"):
            await store.invoice(created.terms.invoice_id)
        await trio.to_thread.run_sync(own_server.start)
        assert await store.last_seq() == 1
        await record(store, created, payment(created))
        assert await log_of(store) == told(heard)
        assert len(heard) == 3


@pytest.mark.parametrize("arrived", [True, False], ids=["commit arrived", "commit lost"])
async def test_a_commit_whose_answer_is_lost_is_looked_up(
    proxied_url: str, proxy: CuttingProxy, arrived: bool
) -> None:
    heard: list[Committed] = []
    async with open_store(proxied_url, on_commit=heard.extend) as store:
        created = await grow(store, 1)
        proxy.cut_at(b"COMMIT", forward=arrived)
        paid = await store.append(created, payment(created))
        assert proxy.cut.is_set()
        assert not isinstance(paid, VersionConflict)
        assert seqs(paid) == [2, 3]
        proxy.cut_at(b"COMMIT", forward=arrived)
        assert await store.add_user(UUID(int=5), at_ms=1) is None, "added by us, not found"
        assert proxy.cut.is_set()
        await grow(store, 2)
        assert seqs(heard) == [1, 2, 3, 4]
        assert await log_of(store) == told(heard)


@pytest.mark.parametrize("arrived", [True, False], ids=["commit arrived", "commit lost"])
async def test_a_commit_in_doubt_is_published_when_it_turns_out_to_be_there(
    proxied_url: str, proxy: CuttingProxy, arrived: bool
) -> None:
    heard: list[Committed] = []
    async with open_store(proxied_url, on_commit=heard.extend, retry_s=0.1) as store:
        created = await grow(store, 1)
        proxy.cut_at(b"COMMIT", forward=arrived, then_refuse=True)
        with pytest.raises(TransientError, match="not known yet whether the write was recorded"):
            await store.append(created, payment(created))
        assert seqs(heard) == [1]
        proxy.allow()
        again = await store.append(created, payment(created))
        assert isinstance(again, VersionConflict) == arrived
        assert seqs(heard) == [1, 2, 3]
        await grow(store, 2)
        assert await log_of(store) == told(heard)


async def test_another_writer_during_our_absence_is_noticed(
    postgres_url: str, proxied_url: str, proxy: CuttingProxy
) -> None:
    heard: list[Committed] = []
    async with open_store(proxied_url, on_commit=heard.extend, retry_s=0.1) as store:
        created = await grow(store, 1)
        proxy.cut_at(b"INSERT", forward=False, then_refuse=True)
        with pytest.raises(TransientError):
            await grow(store, 2)
        async with open_store(postgres_url, on_commit=ignore) as usurper:
            await grow(usurper, 3)
            proxy.allow()
        for _ in range(2):
            with pytest.raises(PersistentError, match=r"database\.url.*another program wrote"):
                await record(store, created, payment(created))
        assert len(heard) == 1


async def test_ten_thousand_rows_in_one_go(postgres_url: str) -> None:
    sizes: list[int] = []
    async with open_store(postgres_url, on_commit=lambda facts: sizes.append(len(facts))) as store:
        async with trio.open_nursery() as nursery:
            for number in range(1, 2001):
                nursery.start_soon(store.append, None, [creation(number)])
        assert sum(sizes) == 2000
        assert len(await store.live("btc", tip_height=0)) == 2000


async def test_addresses_that_do_not_lead_to_a_database(postgres_url: str) -> None:
    async def refused(url: str, kind: type[Exception], complaint: str) -> None:
        with pytest.raises(kind, match=rf"database\.url .*{complaint}") as caught:
            async with open_store(url, on_commit=ignore):
                pass
        assert "geheim" not in str(caught.value)

    start, _, rest = postgres_url.partition("://")
    user, _, host = rest.partition("@")
    name = user.partition(":")[0]
    await refused(f"{start}://{name}:geheim@{host}", PersistentError, "password is refused")
    await refused(f"{postgres_url}_not", PersistentError, "no such database")
    await refused(f"{start}://{name}:geheim@127.0.0.1:1/x", TransientError, "connection failed")


async def test_every_commit_waits_for_the_disk(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    name = postgres_url.rpartition("/")[2]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    engine.dispose()
    async with open_store(postgres_url, on_commit=ignore) as store:
        found = await store._do(lambda c: c.scalar(text("SHOW synchronous_commit")))
    assert found == "on"
