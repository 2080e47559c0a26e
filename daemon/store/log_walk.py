"""Walking along the stored log and looking at its links, in whole or at its end."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, select, type_coerce
from sqlalchemy.types import NullType

from actors.ports import PersistentError
from actors.published import LogTip
from daemon.store import log
from daemon.store.errors import display
from daemon.store.log_chain import link, row_bytes
from daemon.store.schema import events

AT_START = 1000
"""Links that are looked at whenever the store is opened to be written."""

PAGE = 5000

Row = Sequence[Any]
"""seq, invoice id as the driver gives it, version, kind, at_ms, data, hash."""


@dataclass(frozen=True, slots=True)
class Break:
    """The first place at which the log is not what was written."""

    seq: int
    what: str


class BrokenError(Exception):
    """A link does not hold; `found` says where."""

    def __init__(self, found: Break) -> None:
        super().__init__(found.what)
        self.found = found


def rows_of_events(after: int) -> Select[Any]:
    """Each Row after a place in the log, in order; from the beginning, those before it as well.

    Ids are as the driver gives them: that is quicker by a third.
    """
    found = select(
        events.c.seq,
        type_coerce(events.c.invoice_id, NullType()),
        events.c.version,
        events.c.kind,
        events.c.at_ms,
        events.c.data,
        events.c.hash,
    ).order_by(events.c.seq)
    return found.where(events.c.seq > after) if after > 0 else found


def page_of_events(connection: Connection, after: int) -> Sequence[Row]:
    """The next rows of the log; empty at its end."""
    return connection.execute(rows_of_events(after).limit(PAGE)).fetchall()


def walk(before: LogTip, rows: Iterable[Row]) -> LogTip:
    """The place after `rows`, which follow `before`. Raises BrokenError at the first bad one."""
    last, newest = before
    for seq, key, version, kind, at_ms, data, stored in rows:
        if seq != last + 1:
            raise BrokenError(Break(last + 1, _gap(last + 1, seq)))
        try:
            chained = row_bytes(
                invoice_id=key if type(key) is bytes else key.bytes,
                version=version,
                kind=kind,
                at_ms=at_ms,
                data=data,
            )
        except (TypeError, AttributeError, struct.error, UnicodeEncodeError):
            raise BrokenError(Break(seq, f"event {seq} cannot be read: it was damaged")) from None
        newest = link(newest, seq, chained)
        if newest != stored:
            raise BrokenError(Break(seq, _changed(seq)))
        last = seq
    return LogTip(last, newest)


def _gap(wanted: int, found: int) -> str:
    if found < wanted:
        return f"there is an event numbered {found}: numbers begin with 1"
    upto = "" if found == wanted + 1 else f" to {found - 1}"
    return f"event {wanted}{upto} is missing: it was removed"


def _changed(seq: int) -> str:
    return (
        f"event {seq} does not follow from the one before: it was changed, put in, or follows one"
        " that was removed"
    )


def _walk_end(connection: Connection) -> None:
    after = max(0, log.last_seq(connection) - AT_START)
    before = log.tip_at(connection, after)
    if before is None:
        raise BrokenError(Break(after, _gap(after, after + 1)))
    walk(before, connection.execute(rows_of_events(after)).fetchall())


def verify_end(connection: Connection) -> None:
    """Look at the newest links, within a transaction. Raises PersistentError if one is broken."""
    try:
        _walk_end(connection)
    except BrokenError as error:
        raise PersistentError(
            f"database.url ({display(connection.engine.url)}): {error}. The database was written to"
            " by something else than tallyd, or its disk is failing; nothing was changed. Look at"
            " the whole of it with `tallyd audit --log`, and restore a backup (`tallyd restore`)"
        ) from error
