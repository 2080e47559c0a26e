"""Each contract test runs on every store; `tallies` opens the one at hand, again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from actors.ports import CommitListener, Committed, Store
from daemon.store import MemoryStore, open_store

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
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url = str(request.getfixturevalue(name))

    def open_sql(on_commit: CommitListener = ignore) -> AbstractAsyncContextManager[Store]:
        return open_store(url, on_commit=on_commit)

    return open_sql


@pytest.fixture
async def store(open_again: Opener) -> AsyncIterator[Store]:
    async with open_again() as opened:
        yield opened
