"""Writing a backup: one consistent view of the database, while a daemon goes on writing to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import IO, Any

from sqlalchemy import Boolean, Column, Connection, LargeBinary, Table, Text, func, select
from sqlalchemy import type_coerce as as_type
from sqlalchemy.types import NullType

from daemon.store import log, migrate
from daemon.store.backup_file import BackupWriter, Header, TableShape
from daemon.store.beside import reading_beside
from daemon.store.log_names import log_names
from daemon.store.log_walk import Break, BrokenError, walk
from daemon.store.schema import PASSING, UuidBytes, metadata

PAGE = 2000

OnProgress = Callable[[str, int, int], None]


def back_up(
    url: str, stream: IO[bytes], *, now_ms: int, progress: OnProgress
) -> tuple[Header, Break | None]:
    """Write a backup of the database at `url`; returns what it holds, and where the log's hash
    chain is broken, if it is.

    Raises PersistentError or TransientError for the database, OSError for the stream.
    """
    with reading_beside(url) as connection:
        return _write(connection, stream, now_ms, progress)


def _write(
    connection: Connection, stream: IO[bytes], now_ms: int, progress: OnProgress
) -> tuple[Header, Break | None]:
    tables = [table for table in metadata.sorted_tables if table not in PASSING]
    tip = log.tip(connection)
    header = Header(
        version=version("tallyd"),
        made_at_ms=now_ms,
        schema=migrate.revision_of(connection) or "",
        log_id=log_names(connection).current,
        seq=tip.seq,
        hash=tip.hash.hex(),
        tables=tuple(_shape(connection, table) for table in tables),
    )
    writer = BackupWriter(stream, header)
    chain = _Chain(connection)
    done = 0
    for table in tables:
        writer.table(table.name)
        encoders = [_encoder(column) for column in table.columns]
        for page in _pages(connection, table):
            if table.name == "events":
                chain.follow(page)
            writer.rows([_row(row, encoders) for row in page])
            done += len(page)
            progress("backup", done, header.rows)
    writer.close()
    return header, chain.broken


class _Chain:
    """Looks at the links of what passes."""

    def __init__(self, connection: Connection) -> None:
        tip = log.tip_at(connection, 0)
        assert tip is not None
        self._tip = tip
        self.broken: Break | None = None

    def follow(self, rows: Sequence[Any]) -> None:
        if self.broken is not None:
            return
        try:
            self._tip = walk(self._tip, rows)
        except BrokenError as error:
            self.broken = error.found


def _shape(connection: Connection, table: Table) -> TableShape:
    count = connection.scalar(select(func.count()).select_from(table)) or 0
    return TableShape(table.name, tuple((one.name, _kind(one)) for one in table.columns), count)


def _kind(column: Column[Any]) -> str:
    match column.type:
        case UuidBytes():
            return "uuid"
        case LargeBinary():
            return "bytes"
        case Text():
            return "text"
        case Boolean():
            return "boolean"
        case _:
            return "integer"


def _pages(connection: Connection, table: Table) -> Iterator[Sequence[Any]]:
    """The rows in the order of the primary key, ids as the driver gives them."""
    columns = [
        as_type(one, NullType()).label(one.name) if isinstance(one.type, UuidBytes) else one
        for one in table.columns
    ]
    query = select(*columns).order_by(*table.primary_key.columns)
    found = connection.execution_options(yield_per=PAGE).execute(query)
    yield from found.partitions()


def _row(row: Sequence[Any], encoders: Sequence[Callable[[Any], Any] | None]) -> list[Any]:
    return [
        value if encode is None or value is None else encode(value)
        for value, encode in zip(row, encoders, strict=True)
    ]


def _encoder(column: Column[Any]) -> Callable[[Any], Any] | None:
    match _kind(column):
        case "uuid":
            return lambda value: value.hex() if isinstance(value, bytes) else value.hex
        case "bytes":
            return lambda value: bytes(value).hex()
        case _:
            return None
