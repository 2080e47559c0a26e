"""The statements of an append, many rows at a time, in each engine's quickest form.

SQLite: `VALUES` lists in a few lengths. The driver lets go of the interpreter lock around
each step of a statement, and with executemany a step is one row: a writer beside a busy event loop
then waits up to a switch interval (5 ms) per row. PostgreSQL: one `unnest` per table and batch, so
the statement is the same whatever the number of rows and a batch costs one round trip per table.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import repeat
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Connection

from daemon.store.rows import STATE_COLUMNS, TERMS_COLUMNS

Flat = list[Any]
"""The values of many rows, one row after the other: neither engine wants them row by row."""

EVENT_COLUMNS = ("seq", "invoice_id", "version", "kind", "at_ms", "data", "hash")
DESTINATION_COLUMNS = ("chain", "destination", "invoice_id")
INVOICE_COLUMNS = (*TERMS_COLUMNS, *STATE_COLUMNS, "updated_seq")
UPDATE_COLUMNS = ("id", "expected_version", *STATE_COLUMNS, "updated_seq")


class Bulk(Protocol):
    def key(self, id_: UUID) -> bytes | UUID:
        """The id as the driver takes it."""
        ...

    def insert(
        self, connection: Connection, table: str, columns: tuple[str, ...], rows: Flat
    ) -> None: ...

    def update_invoices(self, connection: Connection, rows: Flat) -> int:
        """UPDATE_COLUMNS of each row; how many were at their expected version and are changed."""
        ...


class SqliteBulk:
    # Each statement is run by executemany with one set of parameters: unlike execute, it does not
    # give up the interpreter lock once more to ask for the last row id.

    def key(self, id_: UUID) -> bytes:
        return id_.bytes

    def insert(
        self, connection: Connection, table: str, columns: tuple[str, ...], rows: Flat
    ) -> None:
        for count, values in parts(rows, len(columns)):
            connection.exec_driver_sql(_sqlite_insert(table, columns, count), [values])

    def update_invoices(self, connection: Connection, rows: Flat) -> int:
        changed = 0
        for count, values in parts(rows, len(UPDATE_COLUMNS)):
            changed += connection.exec_driver_sql(_sqlite_update(count), [values]).rowcount
        return changed


class PostgresBulk:
    def key(self, id_: UUID) -> UUID:
        return id_

    def insert(
        self, connection: Connection, table: str, columns: tuple[str, ...], rows: Flat
    ) -> None:
        statement = _postgres_insert(table, columns)
        connection.exec_driver_sql(statement, arrays(rows, columns))

    def update_invoices(self, connection: Connection, rows: Flat) -> int:
        values = arrays(rows, UPDATE_COLUMNS)
        return connection.exec_driver_sql(_postgres_update(), values).rowcount


_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Rows in one statement. Few lengths, so that the driver keeps every statement ready: to prepare
one costs more than to run it. 17 columns of 1024 stay below 32766 parameters, SQLite's limit."""


def parts(rows: Flat, width: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Rows of `width` values in as a rule two parts, the last filled up with rows of NULLs.

    Two, because after each the interpreter lock has to be won back. 625 rows are 512 and 128.
    """
    at = 0
    left = len(rows) // width
    while left:
        longest_below = _LENGTHS[bisect_right(_LENGTHS, left) - 1]
        last = at > 0 and left <= _LENGTHS[-1]
        length = _LENGTHS[bisect_left(_LENGTHS, left)] if last else longest_below
        part = rows[at * width : (at + length) * width]
        yield length, (*part, *repeat(None, length * width - len(part)))
        at += length
        left = max(0, left - length)


def arrays(rows: Flat, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Each column as a PostgreSQL array literal (its manual, 8.15.6); no value is None.

    The driver's own way from a list takes ten times longer than the server for all the rest.
    """
    return tuple(
        f"{{{','.join(_ELEMENT[_TYPES.get(name, 'bigint')](rows[at :: len(columns)]))}}}"
        for at, name in enumerate(columns)
    )


def _quoted(values: Flat) -> list[str]:
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return [f'"{value}"' for value in escaped]


_ELEMENT: dict[str, Callable[[Flat], Iterable[str]]] = {
    "bigint": lambda values: map(str, values),
    "uuid": lambda values: [value.hex for value in values],
    "bytea": lambda values: [f'"\\\\x{value.hex()}"' for value in values],
    "text": _quoted,
}


@cache
def _sqlite_values(columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    return f"VALUES {','.join([row] * rows)}"


@cache
def _sqlite_insert(table: str, columns: tuple[str, ...], rows: int) -> str:
    names = ", ".join(columns)
    values = _sqlite_values(len(columns), rows)
    rows_given = f"SELECT * FROM ({values}) WHERE column1 IS NOT NULL"  # noqa: S608 - our own names
    return f"INSERT INTO {table} ({names}) {rows_given}"


@cache
def _sqlite_update(rows: int) -> str:
    changes = _assignments({name: f"column{n}" for n, name in enumerate(UPDATE_COLUMNS, 1)})
    values = _sqlite_values(len(UPDATE_COLUMNS), rows)
    return (
        f"UPDATE invoices SET {changes} FROM ({values}) AS new"  # noqa: S608 - our own names
        " WHERE invoices.id = new.column1 AND invoices.version = new.column2"
    )


def _assignments(sources: dict[str, str]) -> str:
    return ", ".join(f"{name} = new.{sources[name]}" for name in UPDATE_COLUMNS[2:])


_TYPES = {
    "id": "uuid",
    "user_id": "uuid",
    "invoice_id": "uuid",
    **dict.fromkeys(("destination", "hash"), "bytea"),
    **dict.fromkeys(("chain", "network", "asset", "terms", "state", "snapshot"), "text"),
    **dict.fromkeys(("kind", "data"), "text"),
}


def _unnest(columns: tuple[str, ...]) -> str:
    return ", ".join(f"%s::{_TYPES.get(name, 'bigint')}[]" for name in columns)


@cache
def _postgres_insert(table: str, columns: tuple[str, ...]) -> str:
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) SELECT * FROM unnest({_unnest(columns)})"  # noqa: S608 - our own names


@cache
def _postgres_update() -> str:
    names = ", ".join(UPDATE_COLUMNS)
    changes = _assignments({name: name for name in UPDATE_COLUMNS})
    return (
        f"UPDATE invoices SET {changes} FROM unnest({_unnest(UPDATE_COLUMNS)}) AS new({names})"  # noqa: S608 - our own names
        " WHERE invoices.id = new.id AND invoices.version = new.expected_version"
    )
