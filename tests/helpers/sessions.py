"""What an administrator does to a PostgreSQL database by hand: statements, and ending sessions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_engine, text

from daemon.store.shared_session import TURN

HOLDERS = (
    " FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
    " WHERE datname = current_database() AND locktype = 'advisory' AND granted"
    f" AND mode = 'ExclusiveLock' AND objid <> {TURN & 0xFFFFFFFF}"
)
"""Locks of duties, one row each."""


def run(url: str, statement: str) -> Any:
    """Run the statement in a session and transaction of its own; its first value, if any."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            done = connection.execute(text(statement))
            return done.scalar() if done.returns_rows else None
    finally:
        engine.dispose()


def end_sessions(url: str, *, doing: str) -> None:
    """End the sessions whose last statement was like `doing`."""
    run(
        url,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        f" AND query LIKE '{doing}'",
    )


def end_holders(url: str) -> int:
    """End the sessions that hold a duty; returns how many there were."""
    return int(run(url, f"SELECT count(pg_terminate_backend(pid)) {HOLDERS}"))


def holders(url: str) -> int:
    """How many duties are held."""
    return int(run(url, f"SELECT count(*) {HOLDERS}"))
