"""`tallyd audit --log`: does the stored log follow from itself, and the stored states from it?

Everything is read in one transaction, so a daemon may go on writing, and in pages, so a log may be
of any length. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select, text, tuple_

from actors.core.codec import CodecError
from actors.core.invoice import Invoice, evolve
from actors.core.payment import IllegalTransitionError
from actors.published import LogTip
from daemon.store import log, rows
from daemon.store.beside import reading_beside
from daemon.store.log_names import log_names
from daemon.store.log_walk import BrokenError, rows_of_events, walk
from daemon.store.schema import destinations, events, invoices

PAGE_EVENTS = 5000
PAGE_INVOICES = 500
MAX_FINDINGS = 20
"""More are counted and not listed: after so many, one does not read on."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is looked at, how far, and of how much."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    """`file`, `chain`, `anchor`, `versions`, `state`, `destination`."""
    what: str
    """In words."""
    seq: int | None = None
    invoice_id: UUID | None = None


@dataclass(slots=True)
class LogReport:
    log_id: str
    tip: LogTip
    """The newest event, as it is stored."""
    events: int = 0
    """Links that hold."""
    invoices: int = 0
    """Whose history was folded."""
    findings: list[Finding] = field(default_factory=list)
    """The first come first; at most MAX_FINDINGS."""
    count: int = 0

    @property
    def clean(self) -> bool:
        return self.count == 0

    def add(self, finding: Finding) -> None:
        self.count += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


def audit_log(url: str, *, anchor: LogTip | None, progress: OnProgress) -> LogReport:
    """Look at the whole log of the database at `url`, beside a running daemon or not.

    Raises PersistentError or TransientError when that cannot be done.
    """
    with reading_beside(url) as connection:
        return _look(connection, anchor, progress)


def _look(connection: Connection, anchor: LogTip | None, progress: OnProgress) -> LogReport:
    report = LogReport(log_names(connection).current, log.tip(connection))
    if connection.dialect.name == "sqlite":
        progress("pages", 0, 0)
        found = connection.execute(text("PRAGMA quick_check(1)")).scalar()
        if found != "ok":
            report.add(Finding("file", f"the database file is damaged: {found}"))
            return report
    _chain(connection, report, anchor, progress)
    _states(connection, report, progress)
    _strays(connection, report)
    return report


# --- the chain ------------------------------------------------------------------------------------


def _chain(
    connection: Connection, report: LogReport, anchor: LogTip | None, progress: OnProgress
) -> None:
    begin = log.tip_at(connection, 0)
    assert begin is not None
    tip = begin
    try:
        while page := _page(connection, tip.seq, anchor):
            tip = walk(tip, page)
            report.events = tip.seq
            progress("chain", tip.seq, report.tip.seq)
            if anchor is not None and tip.seq == anchor.seq and tip != anchor:
                report.add(Finding("anchor", _other(anchor, tip), anchor.seq))
    except BrokenError as error:
        report.add(Finding("chain", error.found.what, error.found.seq))
        return
    if anchor is None:
        return
    if anchor.seq > tip.seq:
        report.add(Finding("anchor", _missing(anchor, tip), tip.seq + 1))
    elif anchor.seq == 0 and anchor != begin:
        report.add(Finding("anchor", _other(anchor, begin), 0))


def _page(connection: Connection, after: int, anchor: LogTip | None) -> Sequence[Any]:
    """The next rows; a page ends where the anchor is."""
    query = rows_of_events(after)
    if anchor is not None and after < anchor.seq:
        query = query.where(events.c.seq <= anchor.seq)
    return connection.execute(query.limit(PAGE_EVENTS)).fetchall()


def _other(anchor: LogTip, found: LogTip) -> str:
    return (
        f"event {anchor.seq} has the hash {found.hash.hex()}, not that of the anchor: the history"
        " up to it was written anew, or the anchor is of another database"
    )


def _missing(anchor: LogTip, found: LogTip) -> str:
    return (
        f"the log ends with event {found.seq}, before the anchor's {anchor.seq}: its newest events"
        " were removed, or this is an older copy"
    )


# --- the states -----------------------------------------------------------------------------------


def _states(connection: Connection, report: LogReport, progress: OnProgress) -> None:
    count = connection.scalar(select(func.count()).select_from(invoices)) or 0
    after: UUID | None = None
    while True:
        query = select(invoices).order_by(invoices.c.id).limit(PAGE_INVOICES)
        if after is not None:
            query = query.where(invoices.c.id > after)
        page = connection.execute(query).fetchall()
        # Past the last invoice there may be the facts of one that is not there.
        last = page[-1].id if len(page) == PAGE_INVOICES else None
        histories = _histories(connection, after, last)
        places: dict[tuple[str, bytes], UUID] = {}
        for row in page:
            stored = _state(report, row, histories.pop(row.id, []))
            if stored is not None:
                places[stored.terms.chain, stored.terms.destination] = row.id
        for invoice_id, history in histories.items():
            what = f"invoice {invoice_id} has events, from {history[0].seq} on, but is not stored"
            report.add(Finding("state", what, history[0].seq, invoice_id))
        _destinations(connection, report, places)
        report.invoices += len(page)
        progress("states", report.invoices, count)
        if last is None:
            return
        after = last


def _histories(
    connection: Connection, after: UUID | None, last: UUID | None
) -> dict[UUID, list[Any]]:
    query = select(events).order_by(events.c.invoice_id, events.c.version)
    if after is not None:
        query = query.where(events.c.invoice_id > after)
    if last is not None:
        query = query.where(events.c.invoice_id <= last)
    found = connection.execute(query)
    return {key: list(group) for key, group in groupby(found, lambda row: row.invoice_id)}


def _state(report: LogReport, row: Any, history: list[Any]) -> Invoice | None:
    """Compare a stored invoice with the fold of its events; returns it if it can be read."""

    def add(kind: str, what: str, seq: int | None = None) -> None:
        report.add(Finding(kind, f"invoice {row.id}: {what}", seq, row.id))

    if not history:
        add("state", "it is stored, but the log has no event of it")
        return None
    for wanted, fact in enumerate(history, 1):
        if fact.version != wanted:
            add("versions", f"its version {wanted} is missing before event {fact.seq}", fact.seq)
            return None
    folded: Invoice | None = None
    fact = history[0]
    try:
        for fact in history:
            event = rows.decode_event(fact.kind, fact.data)
            if event.at_ms != fact.at_ms:
                add("state", f"event {fact.seq} bears two instants", fact.seq)
                return None
            folded = evolve(folded, event)
        assert folded is not None
        state = dict(zip(rows.STATE_COLUMNS, rows.state_columns(folded), strict=True))
        # The usual case needs not be read: to write is quicker.
        same = state["snapshot"] == row.snapshot and rows.encode_terms(folded.terms) == row.terms
        stored = folded if same else rows.decode_invoice(row.terms, row.snapshot)
    except (CodecError, IllegalTransitionError) as error:
        add("state", f"event {fact.seq} or the state after it makes no sense: {error}", fact.seq)
        return None
    if folded == stored:
        # By what it means: an older version may have written the same in other words.
        state["snapshot"] = row.snapshot
    for name, should, is_ in _differences(row, folded, stored, state, history[-1].seq):
        add("state", f"its {name} is {is_!r}, but the log says {should!r}", history[-1].seq)
    return stored


def _differences(
    row: Any, folded: Invoice, stored: Invoice, state: dict[str, object], last_seq: int
) -> Iterator[tuple[str, object, object]]:
    """Column, what it should hold, what it holds; the column that says most comes first."""
    terms = folded.terms
    should = {
        **state,
        **dict(
            zip(
                rows.TERMS_COLUMNS,
                rows.terms_columns(terms.invoice_id, terms.user_id, terms, row.terms),
                strict=True,
            )
        ),
        "updated_seq": last_seq,
        "terms": row.terms if terms == stored.terms else "other terms",
    }
    for name, value in should.items():
        if getattr(row, name) != value:
            yield name, value, getattr(row, name)


def _destinations(
    connection: Connection, report: LogReport, wanted: dict[tuple[str, bytes], UUID]
) -> None:
    """Compare where payments are looked for with what the invoices say."""
    if not wanted:
        return
    place = tuple_(destinations.c.chain, destinations.c.destination)
    query = select(destinations).where(place.in_(list(wanted)))
    found = {(one.chain, one.destination): one.invoice_id for one in connection.execute(query)}
    for at, invoice_id in wanted.items():
        owner = found.get(at)
        if owner != invoice_id:
            lost = "is not watched for" if owner is None else f"is watched for invoice {owner}"
            what = f"invoice {invoice_id}: its address on {at[0]} {lost}"
            report.add(Finding("destination", what, None, invoice_id))


def _strays(connection: Connection, report: LogReport) -> None:
    """Addresses that are watched for no invoice, or twice for one."""
    known = select(invoices.c.id).where(invoices.c.id == destinations.c.invoice_id).exists()
    stray = connection.execute(select(destinations).where(~known).limit(1)).one_or_none()
    if stray is not None:
        what = f"an address on {stray.chain} is watched for invoice {stray.invoice_id}, which"
        report.add(Finding("destination", f"{what} is not stored", None, stray.invoice_id))
        return
    double = connection.execute(
        select(destinations.c.invoice_id)
        .group_by(destinations.c.invoice_id)
        .having(func.count() > 1)
        .limit(1)
    ).scalar()
    if double is not None:
        what = f"invoice {double} has more than one address that is watched for it"
        report.add(Finding("destination", what, None, double))
