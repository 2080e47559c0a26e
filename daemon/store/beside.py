"""Short writes of the command line beside the daemon that has the database.

The lock that keeps a second daemon out guards the event log: its numbers, and the states that
follow from it. Tables that the daemon only reads again may be written by others, one short
transaction at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daemon.store import migrate
from daemon.store.database import open_database
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
    parsed = parse_url(url)
    _prepare(url)
    database = open_database(parsed, busy_timeout_s=BUSY_TIMEOUT_S, read_only=True)
    try:
        with database.connect_beside() as connection:
            migrate.require_head(connection)
            with connection.begin():
                return run(connection)
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
