"""What the command line does with a database that a daemon has: short writes, and reading it all.

The lock that keeps a second daemon out guards the event log: its numbers, and the states that
follow from it. Tables that the daemon only reads again may be written by others, one short
transaction at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daemon.store import migrate
from daemon.store.database import Database, open_database
from daemon.store.errors import explain, parse_url

T = TypeVar("T")

BUSY_TIMEOUT_S = 10.0
"""How long we wait for the daemon's transaction."""


def write_beside(url: str, run: Callable[[Connection], T]) -> T:
    """Call `run` in a transaction of its own, whether a daemon runs or not; it must not touch
    events, invoices, users, cursors or what follows from them.

    A database that no daemon has is made, or brought up to date, first. Raises TransientError or
    PersistentError naming `database.url`; nothing is written then.
    """
    parse_url(url)
    _prepare(url)
    with _opened(url) as database, database.connect_beside() as connection:
        migrate.require_head(connection)
        with connection.begin():
            return run(connection)


@contextmanager
def reading_beside(url: str) -> Iterator[Connection]:
    """A block in which all reads see the database as it was at one moment, whoever writes to it.

    Raises TransientError or PersistentError naming `database.url`.
    """
    with _opened(url) as database, database.readers.connect() as connection:
        migrate.require_head(connection)
        with connection.begin():
            yield connection


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    """The database, its failures put into words."""
    parsed = parse_url(url)
    database = open_database(parsed, busy_timeout_s=BUSY_TIMEOUT_S, read_only=True)
    try:
        yield database
    except DBAPIError as error:
        failure = explain(error, parsed)
        if failure is None:
            raise
        raise failure from error
    finally:
        database.close()


def _prepare(url: str) -> None:
    file = parse_url(url).database if url.startswith("sqlite:") else None
    missing = file is not None and not Path(file).exists()
    if missing or migrate.current(url) != migrate.head():
        migrate.upgrade(url)
