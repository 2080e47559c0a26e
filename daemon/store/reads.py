"""What is read from the tables; each function runs in a worker thread, in one transaction."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from uuid import UUID

from sqlalchemy import Connection, Select, func, literal, select, tuple_

from actors.core.invoice import Invoice
from actors.ports import InvoiceQuery, InvoiceRow, LogEntry, Order
from daemon.store import rows
from daemon.store.schema import UuidBytes, destinations, events, invoices

_CHUNK = 2000
"""Rows fetched at a time where the whole may not fit twice."""


def invoice(connection: Connection, invoice_id: UUID) -> InvoiceRow | None:
    found = connection.execute(_invoices().where(invoices.c.id == invoice_id)).one_or_none()
    return None if found is None else _row(*found)


def find(connection: Connection, query: InvoiceQuery) -> tuple[InvoiceRow, ...]:
    return tuple(_row(*found) for found in connection.execute(_page(query)))


def _page(query: InvoiceQuery) -> Select[str, str, int]:
    position = invoices.c.created_at_ms if query.order is Order.CREATED else invoices.c.updated_seq
    page = _invoices().limit(query.limit)
    if query.user_id is not None:
        page = page.where(invoices.c.user_id == query.user_id)
    if query.assets:
        page = page.where(invoices.c.asset.in_(query.assets))
    if query.states:
        page = page.where(invoices.c.state.in_(query.states))
    if query.updated_since_ms is not None:
        # The clock may have jumped, so order of time is not order of seq; but nothing that matches
        # lies before the first that does, and both engines find that one in an index.
        recent = invoices.alias()
        first = select(func.min(recent.c.updated_seq)).where(
            recent.c.updated_at_ms >= query.updated_since_ms
        )
        page = page.where(
            invoices.c.updated_at_ms >= query.updated_since_ms,
            invoices.c.updated_seq >= first.scalar_subquery(),
        )
    if query.after is not None:
        here = tuple_(position, invoices.c.id)
        there = tuple_(literal(query.after[0]), literal(query.after[1], UuidBytes))
        page = page.where(here < there if query.descending else here > there)
    if query.descending:
        return page.order_by(position.desc(), invoices.c.id.desc())
    return page.order_by(position, invoices.c.id)


def live(connection: Connection, chain: str, tip_height: int) -> tuple[Invoice, ...]:
    found = connection.execution_options(yield_per=_CHUNK).execute(
        select(invoices.c.terms, invoices.c.snapshot).where(
            invoices.c.chain == chain, invoices.c.watched_until >= tip_height
        )
    )
    decode = rows.decode_invoice
    with _garbage_kept():
        return tuple([decode(terms, state) for part in found.partitions() for terms, state in part])


def all_destinations(connection: Connection, chain: str) -> tuple[tuple[bytes, UUID], ...]:
    found = connection.execution_options(yield_per=_CHUNK).execute(
        select(destinations.c.destination, destinations.c.invoice_id).where(
            destinations.c.chain == chain
        )
    )
    with _garbage_kept():
        return tuple([(row[0], row[1]) for part in found.partitions() for row in part])


def owners(connection: Connection, chain: str, wanted: Collection[bytes]) -> dict[bytes, UUID]:
    rest, found = iter(wanted), dict[bytes, UUID]()
    while part := list(islice(rest, _CHUNK)):
        named = select(destinations.c.destination, destinations.c.invoice_id).where(
            destinations.c.chain == chain, destinations.c.destination.in_(part)
        )
        found.update((row[0], row[1]) for row in connection.execute(named))
    return found


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Do not look for garbage while a great many objects are made that all stay: a third less time.

    Concerns the whole process, for a second or two. Of two at once the first to end turns it on.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def history(connection: Connection, invoice_id: UUID) -> tuple[LogEntry, ...]:
    return _entries(
        connection, _events().where(events.c.invoice_id == invoice_id).order_by(events.c.version)
    )


def read(connection: Connection, after_seq: int, limit: int) -> tuple[LogEntry, ...]:
    return _entries(
        connection, _events().where(events.c.seq > after_seq).order_by(events.c.seq).limit(limit)
    )


def _invoices() -> Select[str, str, int]:
    return select(invoices.c.terms, invoices.c.snapshot, invoices.c.updated_seq)


def _row(terms: str, snapshot: str, updated_seq: int) -> InvoiceRow:
    return InvoiceRow(rows.decode_invoice(terms, snapshot), updated_seq)


def _events() -> Select[int, UUID, int, str, str]:
    return select(events.c.seq, events.c.invoice_id, events.c.version, events.c.kind, events.c.data)


def _entries(
    connection: Connection, query: Select[int, UUID, int, str, str]
) -> tuple[LogEntry, ...]:
    return tuple(
        LogEntry(seq, invoice_id, version, rows.decode_event(kind, data))
        for seq, invoice_id, version, kind, data in connection.execute(query)
    )
