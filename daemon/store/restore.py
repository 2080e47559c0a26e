"""Reading a backup into an empty database, as a whole or not at all.

The file is read twice: once to see that it is whole, then into one transaction that makes the
tables as they were, fills them, and brings them to this version's schema. What follows is another
history than the one after the backup, and this is how it is kept apart:

- the log goes on under a new id, so the ids of new events are never those of lost ones;
- addresses may have been given out after the backup, to invoices that are lost. Every account's
  index leaps ahead, and accounts that are made later begin as far ahead, because one of the same
  key may have existed: so no such address is given to another invoice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from actors.access_book import Act
from actors.ports import PersistentError
from actors.published import LogNames
from daemon.store import access, directory, log, migrate
from daemon.store.backup_file import BackupFile, Header
from daemon.store.database import open_database
from daemon.store.errors import display, explain, parse_url
from daemon.store.log_names import log_names, rename_log, write_meta
from daemon.store.log_walk import BrokenError, page_of_events, walk
from daemon.store.schema import UuidBytes
from daemon.store.session import MARK

SKIP_INDICES = 1000
"""How far indices leap by default; more than a shop gives out between two backups."""
MAX_SKIP = 1_000_000_000
BATCH = 1000
_HALF = 1 << 63
"""Of what 64 bits hold: the databases' largest integer is one less."""
BUSY_TIMEOUT_S = 5.0

OnProgress = Callable[[str, int, int], None]

_TYPES: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "integer": sa.BigInteger,
    "text": sa.Text,
    "bytes": sa.LargeBinary,
    "uuid": UuidBytes,
    "boolean": sa.Boolean,
}
_WRITTEN: dict[str, type] = {
    "integer": int, "text": str, "bytes": str, "uuid": str, "boolean": bool,
}  # fmt: skip
"""What stands in the file for a value of each kind."""
_DECODERS: dict[str, Callable[[Any], Any]] = {"bytes": bytes.fromhex, "uuid": UUID}


@dataclass(frozen=True, slots=True)
class Restored:
    header: Header
    names: LogNames
    """The log's ids: what it was called, and what it is called now."""


def restore(path: Path, url: str, *, skip_indices: int, act: Act, progress: OnProgress) -> Restored:
    """Fill the empty database at `url` from the backup; `act` is for the audit trail.

    Raises PersistentError or TransientError, and then nothing was written: the file is not whole,
    not a backup, of a newer version; the database is not empty, in use, cannot be written.
    """
    backup = BackupFile(path)
    if backup.header.schema not in migrate.revisions():
        raise PersistentError(
            f"{path} was written by a newer tallyd ({backup.header.version}, schema"
            f" {backup.header.schema}; this one knows {migrate.head()}); nothing was written."
            " Restore it with that version"
        )
    parsed = parse_url(url)
    file = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
    _look_first(url, file)
    backup.verify(lambda done, of: progress("checking", done, of))
    is_new = file is not None and not file.exists()
    database = open_database(parsed, busy_timeout_s=BUSY_TIMEOUT_S, read_only=False)
    try:
        with database.connect() as connection:
            filling = _Filling(connection, backup, progress)
            with connection.begin():
                restored = filling.run(skip_indices, act)
            is_new = False
            return restored
    except DBAPIError as error:
        failure = explain(error, parsed)
        if failure is None:
            raise
        raise failure from error
    finally:
        if is_new and file is not None:
            _remove(file)
        database.close()


def _look_first(url: str, file: Path | None) -> None:
    """Refuse a database that holds anything, before it is opened to be written."""
    if file is not None and not file.exists():
        log_of_old = file.with_name(f"{file.name}-wal")
        if log_of_old.exists() and log_of_old.stat().st_size:
            raise PersistentError(
                f"database.url: {file} does not exist, but {log_of_old} does: it holds the last"
                " changes of a database that was moved or removed; nothing was written. Move it to"
                " where that database is now"
            )
        return
    parsed = parse_url(url)
    database = open_database(parsed, busy_timeout_s=BUSY_TIMEOUT_S, read_only=True)
    try:
        with database.readers.connect() as connection:
            _require_empty(connection)
    except DBAPIError as error:
        failure = explain(error, parsed)
        if failure is None:
            raise
        if file is None:
            raise failure from error
        raise PersistentError(f"{failure}: {_elsewhere(file)}") from error
    finally:
        database.close()


def _require_empty(connection: Connection) -> None:
    tables = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
    if tables:
        url = connection.engine.url
        file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
        raise PersistentError(
            f"database.url ({display(url)}) is not empty: a backup is restored only into an empty"
            f" database, and nothing is ever overwritten; {_elsewhere(file)}"
        )


def _elsewhere(file: Path | None) -> str:
    if file is None:
        return "create a new database and name that"
    return f"stop tallyd and move {file}, {file}-wal and {file}-shm away, or name another file"


def _remove(file: Path) -> None:
    """What a restore that failed has made, and nothing else: the file was not there before."""
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        with suppress(FileNotFoundError):
            file.with_name(name).unlink()


class _Filling:
    """One restore, within its transaction."""

    def __init__(self, connection: Connection, backup: BackupFile, progress: OnProgress) -> None:
        self._connection = connection
        self._backup = backup
        self._header = backup.header
        self._progress = progress
        self._done = 0

    def run(self, skip_indices: int, act: Act) -> Restored:
        connection, header = self._connection, self._header
        _require_empty(connection)
        migrate.upgrade_within(connection, header.schema)
        # What a migration has put into the tables of an empty database.
        connection.execute(sa.table("meta").delete())
        for table, rows in self._tables():
            self._fill(table, rows)
        if self._done != header.rows:
            raise self._backup.refused("does not hold what its header says")
        migrate.upgrade_within(connection, "head")
        self._check_log()
        names = rename_log(connection, last_seq=header.seq)
        write_meta(connection, MARK, "")
        directory.skip_indices(connection, skip_indices)
        if connection.dialect.name == "postgresql":
            _advance_sequences(connection)
        access.record_act(connection, act)
        return Restored(header, names)

    def _tables(self) -> Iterator[tuple[str, Iterator[list[Any]]]]:
        """Each table with its rows, which are to be read before the next table."""
        lines = self._backup.lines()
        upcoming: list[str] = []

        def rows() -> Iterator[list[Any]]:
            for line in lines:
                if isinstance(line, dict):
                    upcoming.append(str(line.get("table")))
                    return
                yield line

        if any(True for _ in rows()):
            raise self._backup.refused("has rows before its first table")
        while upcoming:
            yield upcoming.pop(), rows()

    def _fill(self, name: str, rows: Iterator[list[Any]]) -> None:
        shape = next((one for one in self._header.tables if one.name == name), None)
        inspector = sa.inspect(self._connection)
        if shape is None or not inspector.has_table(name):
            raise self._backup.refused(
                f"holds a table {name!r} that schema {self._header.schema} does not have"
            )
        known = {one["name"] for one in inspector.get_columns(name)}
        if {column for column, _ in shape.columns} != known or not {
            kind for _, kind in shape.columns
        } <= _TYPES.keys():
            raise self._backup.refused(
                f"holds other columns of {name} than schema {self._header.schema} has"
            )
        table = sa.table(
            name, *(sa.column(column, _TYPES[kind]()) for column, kind in shape.columns)
        )
        names = [column for column, _ in shape.columns]
        kinds = [kind for _, kind in shape.columns]
        for batch in _batches(rows):
            decoded = self._decode(batch, kinds)
            try:
                self._connection.execute(
                    table.insert(), [dict(zip(names, row, strict=True)) for row in decoded]
                )
            except (IntegrityError, DataError) as error:
                # Only the first line: PostgreSQL's others repeat the row.
                why = str(error.orig).partition("\n")[0]
                raise self._backup.refused(
                    f"holds a row that the table {name} does not take ({why})"
                ) from error
            self._done += len(batch)
            self._progress("restore", self._done, self._header.rows)

    def _decode(self, batch: Sequence[Sequence[Any]], kinds: Sequence[str]) -> list[list[Any]]:
        try:
            return [
                [_decoded(value, kind) for value, kind in zip(row, kinds, strict=True)]
                for row in batch
            ]
        except (ValueError, TypeError) as error:
            raise self._backup.refused(f"holds a row that cannot be read ({error})") from error

    def _check_log(self) -> None:
        tip = log.tip_at(self._connection, 0)
        assert tip is not None
        try:
            while page := page_of_events(self._connection, tip.seq):
                tip = walk(tip, page)
                self._progress("chain", tip.seq, self._header.seq)
        except BrokenError as error:
            raise self._backup.refused(
                f"holds a log whose hash chain is broken: {error.found.what}"
            ) from error
        if tip != self._header.tip or log_names(self._connection).current != self._header.log_id:
            raise self._backup.refused("holds another log than its header says")


def _decoded(value: Any, kind: str) -> Any:
    """Raises ValueError for what is not written as this kind is."""
    if value is None:
        return None
    if not isinstance(value, _WRITTEN[kind]) or isinstance(value, bool) != (kind == "boolean"):
        raise ValueError(f"a value is no {kind}")
    if isinstance(value, int) and not -_HALF <= value < _HALF:
        raise ValueError("a number is too large")
    decode = _DECODERS.get(kind)
    return value if decode is None else decode(value)


def _batches(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    batch: list[list[Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _advance_sequences(connection: Connection) -> None:
    """PostgreSQL counts ids beside the table; rows that bring theirs do not move its counter."""
    inspector = sa.inspect(connection)
    for name in inspector.get_table_names():
        for column in inspector.get_columns(name):
            sequence = connection.scalar(
                sa.select(sa.func.pg_get_serial_sequence(name, column["name"]))
            )
            if sequence is None:
                continue
            highest = connection.scalar(
                sa.select(sa.func.max(sa.column(column["name"]))).select_from(sa.table(name))
            )
            if highest is not None:
                connection.execute(sa.select(sa.func.setval(sequence, highest)))
