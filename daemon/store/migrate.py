"""Bring a database to the schema of this version, or say clearly why that cannot be.

Each migration runs in one transaction, DDL included (both engines can), so it is applied as a
whole or not at all. Alembic runs them, and is imported only for that: most starts and commands find
the schema as it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, column, inspect, select, table
from sqlalchemy.exc import DBAPIError

from actors.ports import PersistentError
from daemon.store.database import Database, open_database
from daemon.store.errors import display, explain, parse_url
from daemon.store.schema import metadata

_FOLDER = Path(__file__).parent / "migrations"
_HEAD = "head"
_VERSION = table("alembic_version", column("version_num"))
"""Alembic's own, of one row."""


def upgrade(url: str, revision: str = _HEAD) -> str:
    """Bring the database at `url` to `revision`; returns the revision it then has.

    Raises PersistentError (in use, newer, not ours) or TransientError; nothing is changed then.
    """
    return _with_writer(url, lambda connection: upgrade_connection(connection, revision)) or ""


def downgrade(url: str, revision: str) -> str | None:
    """Take migrations back to `revision`, or to `base` (no tables), with the data they held."""

    def down(connection: Connection) -> None:
        check(connection)
        with connection.begin():
            _alembic("downgrade", connection, revision)

    return _with_writer(url, down)


def current(url: str) -> str | None:
    """The revision of the database at `url`; None when it is empty. Takes no lock."""
    database = open_database(parse_url(url), busy_timeout_s=5.0, read_only=True)
    try:
        with database.readers.connect() as connection:
            return revision_of(connection)
    except DBAPIError as error:
        raise _failure(error, database) from error
    finally:
        database.close()


def head() -> str:
    """The newest revision that this version knows."""
    return max(revisions())


def revision_of(connection: Connection) -> str | None:
    """None when it is empty, or not a tallyd database."""
    found = _revisions_of(connection, set(inspect(connection).get_table_names()))
    return found[0] if found else None


def check(connection: Connection) -> None:
    """Raise PersistentError unless the database is empty or of a version known to this one."""
    where = f"database.url ({display(connection.engine.url)})"
    with connection.begin():
        tables = set(inspect(connection).get_table_names())
        heads = _revisions_of(connection, tables)
    tables.discard(_VERSION.name)
    if len(heads) > 1:
        raise PersistentError(f"{where} is half migrated (at {', '.join(heads)}); restore a backup")
    ours = tables & set(metadata.tables)
    if not heads and tables:
        what = "is half migrated (it has tables, but no version)" if ours else "is not a tallyd one"
        raise PersistentError(f"{where} {what}; restore a backup or name an empty database")
    if heads:
        if heads[0] not in revisions():
            raise PersistentError(
                f"{where} was written by a newer tallyd (schema {heads[0]}, this one knows"
                f" {head()}); run that version, or restore a backup of before its upgrade"
            )
        if not ours:
            raise PersistentError(
                f"{where} is half migrated (schema {heads[0]}, but no tables); restore a backup"
            )


def upgrade_connection(connection: Connection, revision: str = _HEAD) -> None:
    """As `upgrade`, on the connection that writes."""
    check(connection)
    with connection.begin():
        if revision_of(connection) != (head() if revision == _HEAD else revision):
            _alembic("upgrade", connection, revision)


def upgrade_within(connection: Connection, revision: str) -> None:
    """As `upgrade`, without a look at what is there, in the transaction that is open."""
    _alembic("upgrade", connection, revision)


def revisions() -> set[str]:
    """All that this version knows: four digits each, and the newest is the greatest."""
    return {file.stem[1:5] for file in _FOLDER.glob("versions/v[0-9]*.py")}


def require_head(connection: Connection) -> None:
    """Raise PersistentError unless the database has exactly the schema of this version."""
    check(connection)
    with connection.begin():
        found = revision_of(connection)
    if found != head():
        raise PersistentError(
            f"database.url ({display(connection.engine.url)}) has schema {found or 'none'}, but"
            f" {head()} is needed; run `tallyd migrate`"
        )


def _with_writer(url: str, action: Callable[[Connection], None]) -> str | None:
    database = open_database(parse_url(url), busy_timeout_s=5.0, read_only=False)
    try:
        with database.connect() as connection:
            action(connection)
            with connection.begin():
                return revision_of(connection)
    except DBAPIError as error:
        raise _failure(error, database) from error
    finally:
        database.close()


def _failure(error: DBAPIError, database: Database) -> Exception:
    return explain(error, database.url) or error


def _revisions_of(connection: Connection, tables: Container[str]) -> Sequence[str]:
    if _VERSION.name not in tables:
        return ()
    return connection.scalars(select(_VERSION.c.version_num)).all()


def _alembic(act: Literal["upgrade", "downgrade"], connection: Connection, revision: str) -> None:
    from alembic import command  # noqa: PLC0415 - slow, and seldom needed
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    getattr(command, act)(config, revision)
