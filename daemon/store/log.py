"""One batch of requests, written in one transaction.

First all at once, assuming that nothing is wrong: every invoice is at its expected version, every
row is acceptable. That costs one statement per table. If anything does not fit, the transaction is
rolled back and the batch is written again, request by request, each in a savepoint: so only the
culprit is refused, and the price is paid only then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from outcome import Error, Outcome, Value
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from actors.ports import VersionConflict
from actors.published import LogTip
from daemon.store import directory
from daemon.store.bulk import (
    DESTINATION_COLUMNS,
    EVENT_COLUMNS,
    INVOICE_COLUMNS,
    UPDATE_COLUMNS,
    Bulk,
    Flat,
)
from daemon.store.errors import ReuseError, explain
from daemon.store.log_chain import beginning, link
from daemon.store.log_names import log_names
from daemon.store.requests import Allocate, Append, Operation, Request, SaveCursor
from daemon.store.schema import events, invoices

assert INVOICE_COLUMNS[-6:] == UPDATE_COLUMNS[-6:]


@dataclass(slots=True)
class Written:
    """What one transaction did: an answer for each request, and the appends that it recorded."""

    batch: Sequence[Request]
    tip: LogTip
    """Where the log ends after it."""
    answers: dict[Request, Outcome[object]] = field(default_factory=dict)
    """Of all requests but the recorded appends."""
    appends: list[tuple[Append, int]] = field(default_factory=list)
    """With the sequence number of their first fact, in order."""
    took_s: float = 0.0


class DoubtError(Exception):
    """Something does not fit the batch as a whole: write it request by request."""


def write_together(
    connection: Connection, bulk: Bulk, batch: Sequence[Request], tip: LogTip
) -> Written:
    """Write the batch in bulk. Raises DoubtError, or what the database says, when it is not so."""
    written = Written(batch, tip)
    for requests, run in _units(batch):
        for request, result in zip(requests, run(connection), strict=True):
            written.answers[request] = Value(result)
    appends = [request for request in batch if isinstance(request, Append)]
    written.appends, written.tip = _append(connection, bulk, appends, tip)
    return written


def write_one_by_one(
    connection: Connection, bulk: Bulk, batch: Sequence[Request], tip: LogTip
) -> Written:
    """Write the batch with each request in a savepoint; raises only failures of the database."""
    written = Written(batch, tip)
    for requests, run in _units(batch):
        try:
            with connection.begin_nested():
                results = run(connection)
        except Exception as error:  # noqa: BLE001 - a boundary: the error goes to who asked for it
            _raise_if_general(error, connection)
            written.answers.update((request, Error(error)) for request in requests)
        else:
            written.answers.update(
                (request, Value(result)) for request, result in zip(requests, results, strict=True)
            )
    for append in (request for request in batch if isinstance(request, Append)):
        try:
            with connection.begin_nested():
                conflict = _conflict(connection, append)
                if conflict is None:
                    done, tip = _append(connection, bulk, [append], written.tip)
        except Exception as error:  # noqa: BLE001 - a boundary: the error goes to who asked for it
            _raise_if_general(error, connection)
            written.answers[append] = Error(_refused(append, error))
            continue
        if conflict is None:
            written.appends.extend(done)
            written.tip = tip
        else:
            written.answers[append] = Value(conflict)
    return written


def _units(
    batch: Sequence[Request],
) -> list[tuple[list[Request], Callable[[Connection], Sequence[object]]]]:
    """The work besides appends: requests that are done as one, in the order of the queue."""
    units: list[tuple[list[Request], Callable[[Connection], Sequence[object]]]] = []
    allocations: dict[int, list[Request]] = {}
    cursors: dict[str, list[SaveCursor]] = {}
    for request in batch:
        match request:
            case Operation():
                units.append(([request], partial(_run, request)))
            case Allocate():
                allocations.setdefault(request.account_id, []).append(request)
            case SaveCursor():
                cursors.setdefault(request.cursor.chain, []).append(request)
            case _:
                assert isinstance(request, Append)
    for account_id, asked in allocations.items():
        units.append((asked, partial(directory.allocate, account_id=account_id, count=len(asked))))
    units.extend(([*saved], partial(_save, saved)) for saved in cursors.values())
    return units


def _run(operation: Operation, connection: Connection) -> Sequence[object]:
    return (operation.run(connection),)


def _save(saved: Sequence[SaveCursor], connection: Connection) -> Sequence[object]:
    directory.save_cursor(connection, saved[-1].cursor)
    return (None,) * len(saved)


@dataclass(slots=True)
class _Change:
    """What the appends of a batch come to for one invoice."""

    first: Append
    last: Append
    last_seq: int


def _append(
    connection: Connection, bulk: Bulk, appends: Sequence[Append], tip: LogTip
) -> tuple[list[tuple[Append, int]], LogTip]:
    done: list[tuple[Append, int]] = []
    facts: Flat = []
    changes: dict[object, _Change] = {}
    last, newest = tip
    for append in appends:
        done.append((append, last + 1))
        key = append.key
        for fact, chained in zip(append.events, append.chained, strict=True):
            last += 1
            newest = link(newest, last, chained)
            facts += (last, key, *fact, newest)
        change = changes.get(key)
        if change is None:
            changes[key] = _Change(append, append, last)
        elif change.last.events[-1][0] != append.expected:
            raise DoubtError
        else:
            change.last = append
            change.last_seq = last
    if not facts:
        return done, tip
    bulk.insert(connection, "events", EVENT_COLUMNS, facts)
    created = [c for c in changes.values() if c.first.created is not None]
    if created:
        _insert(connection, bulk, created)
    updated: Flat = []
    for c in changes.values():
        if c.first.created is None:
            updated += (c.first.key, c.first.expected, *c.last.state, c.last_seq)
    expected = len(updated) // len(UPDATE_COLUMNS)
    if expected and bulk.update_invoices(connection, updated) != expected:
        raise DoubtError
    return done, LogTip(last, newest)


def _insert(connection: Connection, bulk: Bulk, created: Sequence[_Change]) -> None:
    new: Flat = []
    addresses: Flat = []
    for change in created:
        terms = change.first.steps[0].after.terms
        new += (*(change.first.created or ()), *change.last.state, change.last_seq)
        addresses += (terms.chain, terms.destination, change.first.key)
    bulk.insert(connection, "invoices", INVOICE_COLUMNS, new)
    bulk.insert(connection, "destinations", DESTINATION_COLUMNS, addresses)


def _conflict(connection: Connection, append: Append) -> VersionConflict | None:
    invoice_id = append.steps[0].after.terms.invoice_id
    stored = connection.scalar(select(invoices.c.version).where(invoices.c.id == invoice_id))
    return (
        None if (stored or 0) == append.expected else VersionConflict(invoice_id, append.expected)
    )


def _refused(append: Append, error: Exception) -> Exception:
    if not isinstance(error, IntegrityError):
        return error
    terms = append.steps[0].after.terms
    refused = ReuseError(
        f"invoice {terms.invoice_id} would reuse the address {terms.address} on {terms.chain}, or"
        f" index {terms.path} of account {terms.account_id}"
    )
    refused.__cause__ = error
    return refused


def _raise_if_general(error: Exception, connection: Connection) -> None:
    """A failure of the database concerns the whole batch, not the request it happened to hit."""
    if isinstance(error, DBAPIError) and explain(error, connection.engine.url) is not None:
        raise error


def last_seq(connection: Connection) -> int:
    return connection.scalar(select(func.coalesce(func.max(events.c.seq), 0))) or 0


def tip(connection: Connection) -> LogTip:
    """Where the log ends; where it will begin if it is empty."""
    newest = connection.execute(
        select(events.c.seq, events.c.hash).order_by(events.c.seq.desc()).limit(1)
    ).one_or_none()
    return beginning(log_names(connection).born) if newest is None else LogTip(*newest)


def tip_at(connection: Connection, seq: int) -> LogTip | None:
    """Where the log ended when `seq` was its newest event; None when there is no such event."""
    if seq == 0:
        return beginning(log_names(connection).born)
    found = connection.scalar(select(events.c.hash).where(events.c.seq == seq))
    return None if found is None else LogTip(seq, found)
