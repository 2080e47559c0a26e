"""Opening and closing a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from actors.ports import CommitListener
from actors.published import LogTip
from daemon.store import migrate
from daemon.store.breakage import Breakage
from daemon.store.database import Database, open_database
from daemon.store.errors import explain, parse_url
from daemon.store.session import Session, prepare
from daemon.store.sql import SqlStore
from daemon.store.writer import Writer

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another program's lock."""

RETRY_S = 5.0
"""How long a transaction is tried again while the server is away."""


@asynccontextmanager
async def open_store(
    url: str,
    *,
    on_commit: CommitListener,
    migrations: bool = True,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    retry_s: float = RETRY_S,
) -> AsyncIterator[SqlStore]:
    """The store at `url` (`sqlite:////path` or `postgresql://…`), ours alone until the block ends.

    An empty database is given its tables and an older one is brought up to date; with
    `migrations=False` anything but the newest schema is refused. Leaving the block writes what is
    queued, answers everybody who waits and ends the writer's thread, cancelled or not.

    Should the listener fail, which it must not, the block is cancelled and the failure raised here.

    Raises PersistentError or TransientError, naming `database.url`: it is in use by another daemon,
    newer than this version, half migrated, not ours, damaged, unreachable.
    """
    database, connection, tip = await trio.to_thread.run_sync(
        _open, parse_url(url), busy_timeout_s, migrations
    )
    breakage = Breakage()
    writer = Writer(Session(database, retry_s=retry_s), on_commit, breakage)
    writer.start(connection, tip)
    try:
        with breakage.scope:
            yield SqlStore(database, writer)
    finally:
        await writer.aclose()
        database.close()
    if breakage.error is not None:
        raise breakage.error


@asynccontextmanager
async def read_store(url: str) -> AsyncIterator[SqlStore]:
    """The store at `url` for reading only, beside the daemon that has it; writes are assertions."""
    database = await trio.to_thread.run_sync(_open_to_read, parse_url(url))
    try:
        yield SqlStore(database, None)
    finally:
        database.close()


def _open(
    url: URL,
    busy_timeout_s: float,
    migrations: bool,  # noqa: FBT001 - called by a thread, by place
) -> tuple[Database, Connection, LogTip]:
    database = open_database(url, busy_timeout_s=busy_timeout_s, read_only=False)
    try:
        connection = database.connect()
        try:
            (migrate.upgrade_connection if migrations else migrate.require_head)(connection)
            return database, connection, prepare(connection)
        except BaseException:
            connection.close()
            raise
    except BaseException as error:
        database.close()
        _raise_explained(error, url)
        raise


def _open_to_read(url: URL) -> Database:
    database = open_database(url, busy_timeout_s=BUSY_TIMEOUT_S, read_only=True)
    try:
        with database.readers.connect() as connection:
            migrate.require_head(connection)
    except BaseException as error:
        database.close()
        _raise_explained(error, url)
        raise
    return database


def _raise_explained(error: BaseException, url: URL) -> None:
    failure = explain(error, url) if isinstance(error, DBAPIError) else None
    if failure is not None:
        raise failure from error
