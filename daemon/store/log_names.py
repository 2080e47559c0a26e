"""The log's ids in the database: the one it has, and those it had before it was restored."""

from __future__ import annotations

import secrets

import orjson
from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert as postgres_upsert
from sqlalchemy.dialects.sqlite import insert as sqlite_upsert

from actors.ports import PersistentError
from actors.published import LogNames
from daemon.store.schema import meta

_LOG_ID = "log_id"
_EARLIER = "log_earlier_ids"
"""JSON: pairs of an id and the last sequence number that bears it, the oldest first."""


def name_log(connection: Connection) -> None:
    """Choose the database's log id, unless it has one."""
    if read_meta(connection, _LOG_ID) is None:
        write_meta(connection, _LOG_ID, secrets.token_hex(4))


def log_names(connection: Connection) -> LogNames:
    """Raises PersistentError where no daemon has ever named the log."""
    found = read_meta(connection, _LOG_ID)
    if found is None:
        raise PersistentError(
            "database.url: the database was never opened by a tallyd of this version, so its events"
            " have no ids yet; start the daemon once"
        )
    earlier = read_meta(connection, _EARLIER)
    pairs = [] if earlier is None else orjson.loads(earlier)
    return LogNames(found, tuple((log_id, until) for log_id, until in pairs))


def rename_log(connection: Connection, *, last_seq: int) -> LogNames:
    """Give the log a new id from the event after `last_seq` on; those up to it keep theirs."""
    old = log_names(connection)
    new = LogNames(secrets.token_hex(4), (*old.earlier, (old.current, last_seq)))
    write_meta(connection, _LOG_ID, new.current)
    write_meta(connection, _EARLIER, orjson.dumps(new.earlier).decode())
    return new


def read_meta(connection: Connection, key: str) -> str | None:
    found: str | None = connection.scalar(select(meta.c.value).where(meta.c.key == key))
    return found


def write_meta(connection: Connection, key: str, value: str) -> None:
    upsert = postgres_upsert if connection.dialect.name == "postgresql" else sqlite_upsert
    connection.execute(
        upsert(meta)
        .values(key=key, value=value)
        .on_conflict_do_update(index_elements=[meta.c.key], set_={"value": value})
    )
