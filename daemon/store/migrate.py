"""Bring a database to the schema of this version, or say clearly why that cannot be.

Each migration runs in one transaction, DDL included (both engines can), so it is applied as a
whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

from actors.ports import PersistentError
from daemon.store.database import Database, open_database
from daemon.store.errors import display, explain, parse_url
from daemon.store.schema import metadata

_FOLDER = Path(__file__).parent / "migrations"


def upgrade(url: str, revision: str = "head") -> str:
    """Bring the database at `url` to `revision`; returns the revision it then has.

    Raises PersistentError (in use, newer, not ours) or TransientError; nothing is changed then.
    """
    return _with_writer(url, lambda connection: upgrade_connection(connection, revision)) or ""


def downgrade(url: str, revision: str) -> str | None:
    """Take migrations back to `revision`, or to `base` (no tables), with the data they held."""

    def down(connection: Connection) -> None:
        check(connection)
        with connection.begin():
            command.downgrade(_config(connection), revision)

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
    found = ScriptDirectory(str(_FOLDER)).get_current_head()
    assert found is not None
    return found


def revision_of(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def check(connection: Connection) -> None:
    """Raise PersistentError unless the database is empty or of a version known to this one."""
    where = f"database.url ({display(connection.engine.url)})"
    with connection.begin():
        heads = MigrationContext.configure(connection).get_current_heads()
        tables = set(inspect(connection).get_table_names()) - {"alembic_version"}
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


def upgrade_connection(connection: Connection, revision: str = "head") -> None:
    """As `upgrade`, on the connection that writes."""
    check(connection)
    with connection.begin():
        command.upgrade(_config(connection), revision)


def upgrade_within(connection: Connection, revision: str) -> None:
    """As `upgrade`, without a look at what is there, in the transaction that is open."""
    command.upgrade(_config(connection), revision)


def revisions() -> set[str]:
    """All that this version knows."""
    return {script.revision for script in ScriptDirectory(str(_FOLDER)).walk_revisions()}


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


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
