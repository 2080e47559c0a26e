"""Each contract test runs on every store; `tallies` opens the one at hand, again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from actors.ports import CommitListener, Committed, Store
from daemon.store import MemoryStore, migrate, open_shared_store, open_store
from tests.helpers.postgres import PostgresServer

Opener = Callable[..., AbstractAsyncContextManager[Store]]


def ignore(_facts: Sequence[Committed]) -> None:
    """A listener for tests that look at the store alone."""


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tally.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def sql_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty database, on both engines."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture(scope="session")
def database_with_tables(postgres_server: PostgresServer) -> str:
    """One to be copied: to make the tables takes longer than most tests."""
    url = postgres_server.create_database()
    migrate.upgrade(url)
    return url


@pytest.fixture
def shared_url(postgres_server: PostgresServer, database_with_tables: str) -> Iterator[str]:
    """The address of a PostgreSQL database that has its tables, and nothing in them."""
    url = postgres_server.create_database(like=database_with_tables)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def open_again(request: pytest.FixtureRequest) -> Opener:
    """Opens one and the same store each time it is called."""
    if request.param == "memory":
        store = MemoryStore()

        @asynccontextmanager
        async def reopen(on_commit: CommitListener = ignore) -> AsyncIterator[Store]:
            store._on_commit = on_commit
            yield store

        return reopen
    name = {"sqlite": "sqlite_url", "shared": "shared_url"}.get(request.param, "postgres_url")
    url = str(request.getfixturevalue(name))
    opener = open_shared_store if request.param == "shared" else open_store

    def open_sql(on_commit: CommitListener = ignore) -> AbstractAsyncContextManager[Store]:
        return opener(url, on_commit=on_commit)

    return open_sql


@pytest.fixture
async def store(open_again: Opener) -> AsyncIterator[Store]:
    async with open_again() as opened:
        yield opened
