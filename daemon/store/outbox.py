"""The log as it is published: read in long strides, each in a worker thread and one transaction."""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Select, func, select, type_coerce
from sqlalchemy.types import NullType

from actors.published import EVERYTHING, Filter, LogNames, Published, PublishedPage
from daemon.store.schema import events, invoices

STRETCH = 20_000
"""Facts looked at in one read, where many may have to be passed over."""
FEW = 500
"""Invoices whose facts are found faster one by one than by walking along the log."""

_AT = '{"at_ms":'


def published(
    connection: Connection, names: LogNames, after_seq: int, limit: int, wanted: Filter
) -> PublishedPage:
    """The next events through the filter; see `actors.ports.EventLog.published`."""
    after_seq = max(0, after_seq)
    if wanted == EVERYTHING:
        return _along(connection, names, after_seq, limit, wanted)
    of = _invoices(connection, after_seq, wanted)
    if of is None:
        return _along(connection, names, after_seq, limit, wanted)
    end_seq = connection.scalar(select(func.max(events.c.seq))) or 0
    query = _events().where(events.c.invoice_id.in_(of))
    if wanted.types:
        query = query.where(events.c.kind.in_(wanted.types))
    # The additions keep both engines from walking along the log by its primary key.
    seq = events.c.seq + 0
    query = query.where(seq > after_seq).order_by(seq).limit(limit)
    found = _read(connection, names, query) if of else []
    reached = found[-1].seq if len(found) == limit else max(after_seq, end_seq)
    return PublishedPage(found, reached)


def _along(
    connection: Connection, names: LogNames, after_seq: int, limit: int, wanted: Filter
) -> PublishedPage:
    """Walk along the log, over a stretch of it at most."""
    query = _events().where(events.c.seq > after_seq)
    if wanted == EVERYTHING:
        found = _read(connection, names, query.order_by(events.c.seq).limit(limit))
        return PublishedPage(found, found[-1].seq if found else after_seq)
    end_seq = min(
        after_seq + STRETCH, connection.scalar(select(func.max(events.c.seq))) or after_seq
    )
    query = query.where(events.c.seq <= end_seq)
    if wanted.user_id is not None:
        query = query.where(invoices.c.user_id == wanted.user_id)
    if wanted.invoice_id is not None:
        query = query.where(events.c.invoice_id == wanted.invoice_id)
    if wanted.types:
        query = query.where(events.c.kind.in_(wanted.types))
    found = _read(connection, names, query.order_by(events.c.seq).limit(limit))
    return PublishedPage(found, found[-1].seq if len(found) == limit else max(after_seq, end_seq))


def _invoices(connection: Connection, after_seq: int, wanted: Filter) -> list[UUID] | None:
    """The invoices that the filter lets pass and that have facts after the cursor, if few."""
    if wanted.invoice_id is None and wanted.user_id is None:
        return None
    query = select(invoices.c.id).where(invoices.c.updated_seq > after_seq).limit(FEW + 1)
    if wanted.invoice_id is not None:
        query = query.where(invoices.c.id == wanted.invoice_id)
    if wanted.user_id is not None:
        query = query.where(invoices.c.user_id == wanted.user_id)
    found = list(connection.scalars(query))
    return found if len(found) <= FEW else None


def _events() -> Select[Any]:
    """Ids as the driver gives them: making UUIDs of bytes is for those that are new."""
    return select(
        events.c.seq,
        type_coerce(events.c.invoice_id, NullType()),
        events.c.version,
        events.c.kind,
        events.c.at_ms,
        events.c.data,
        type_coerce(invoices.c.user_id, NullType()),
        invoices.c.asset,
    ).join(invoices, invoices.c.id == events.c.invoice_id)


def _read(connection: Connection, names: LogNames, query: Select[Any]) -> list[Published]:
    # All at once: row by row the driver would give up the interpreter lock for each.
    rows = connection.execute(query).fetchall()
    log_id = names.current
    name = names.of if names.earlier else lambda _seq: log_id
    return [
        Published(
            f"{name(seq)}-{seq}",
            seq,
            kind,
            at_ms,
            _uuid(invoice_id),
            _uuid(user_id),
            version,
            asset,
            without_instant(data),
        )
        for seq, invoice_id, version, kind, at_ms, data, user_id, asset in rows
    ]


@lru_cache(maxsize=16_384)
def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(bytes=bytes(value))


def without_instant(data: str) -> bytes:
    """The stored fact without `at_ms`, which is published beside it.

    It is the first field of every fact as this version writes them, so JSON need not be read.
    """
    if data.startswith(_AT):
        comma = data.find(",")
        if comma > 0:
            return b"{" + data[comma + 1 :].encode()
        return b"{}"
    fields = orjson.loads(data)
    fields.pop("at_ms", None)
    return orjson.dumps(fields)
