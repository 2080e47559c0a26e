"""Following the log that several processes write: every fact once, in order, from the table.

What this process has recorded itself is told at once where it follows what was told last; where
others came in between, the table gives it in its place. A notification only wakes: the table is the
truth, and sequence order is commit order there (store.shared_session), so whoever has seen event n
has seen all before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

import trio
from sqlalchemy import Connection, select

from actors.core.invoice import Invoice, evolve
from actors.ports import CommitListener, Committed, LogEntry, PersistentError, TransientError
from daemon.logging import get_logger
from daemon.store import reads, rows
from daemon.store.listener import POLL_S, Bell
from daemon.store.schema import events

PAGE = 500
"""Facts read, and told, at a time."""

KEPT = 5000
"""Invoices whose last told state is remembered; that of others is folded anew when they change."""

T = TypeVar("T")
_log = get_logger("store")


class Read(Protocol):
    def __call__(self, query: Callable[[Connection], T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class FollowerStatistics:
    seq: int
    """Of the last fact that was told."""
    at_once: int
    """Facts of this process that were told without a look at the table."""
    from_table: int


class Follower:
    """Tells `listener` of every fact after `seq`. Belongs to the Trio thread."""

    def __init__(self, read: Read, listener: CommitListener, *, seq: int) -> None:
        self._read = read
        self._listener = listener
        self._seq = seq
        self._states: OrderedDict[UUID, Invoice] = OrderedDict()
        """Of invoices, after the last fact that was told."""
        self._bell = Bell()
        self._told = trio.lowlevel.ParkingLot()
        self._at_once = 0
        self._from_table = 0

    @property
    def seq(self) -> int:
        """Of the last fact that the listener has been told of."""
        return self._seq

    def wake(self) -> None:
        """There may be something to read."""
        self._bell.ring()

    def committed(self, facts: Sequence[Committed]) -> None:
        """This process has recorded `facts`, in one transaction."""
        if facts[0].seq == self._seq + 1:
            self._at_once += len(facts)
            self._tell(facts)
        else:
            self.wake()

    async def reached(self, seq: int) -> None:
        """Until the listener has been told of event `seq`, and of all before it."""
        while self._seq < seq:
            await self._told.park()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read what others have written until cancelled; failures of reading are waited out.

        Raises PersistentError when the log cannot be read by this version, or is another one.
        """
        task_status.started()
        while True:
            try:
                found = await self._read(self._page)
            except TransientError as error:
                _log.warning("cannot follow the event log", error=str(error))
                await trio.sleep(POLL_S)
                continue
            # Meanwhile facts of our own may have been told.
            news = [fact for fact in found if fact.seq > self._seq]
            if news:
                self._from_table += len(news)
                self._tell(news)
            if len(found) < PAGE:
                await self._bell.wait()

    def statistics(self) -> FollowerStatistics:
        return FollowerStatistics(self._seq, self._at_once, self._from_table)

    def _tell(self, facts: Sequence[Committed]) -> None:
        for fact in facts:
            assert fact.seq == self._seq + 1, "the log is told without a gap"
            self._seq = fact.seq
            invoice_id = fact.after.terms.invoice_id
            self._states[invoice_id] = fact.after
            self._states.move_to_end(invoice_id)
        while len(self._states) > KEPT:
            self._states.popitem(last=False)
        self._listener(facts)
        self._told.unpark_all()

    # --- on a reader's thread ---------------------------------------------------------------------

    def _page(self, connection: Connection) -> list[Committed]:
        """The facts after those that were told, with the states before and after them."""
        after_seq = self._seq
        entries = reads.read(connection, after_seq, PAGE)
        _check_numbers(entries, after_seq)
        firsts: dict[UUID, int] = {}
        for entry in entries:
            firsts.setdefault(entry.invoice_id, entry.version)
        states: dict[UUID, Invoice] = {}
        unknown: set[UUID] = set()
        for invoice_id, version in firsts.items():
            # The loop goes on while we read: what it remembers may be newer than this page.
            known = self._states.get(invoice_id)
            if known is not None and known.version == version - 1:
                states[invoice_id] = known
            elif version > 1:
                unknown.add(invoice_id)
        states |= _folded(connection, unknown, upto_seq=after_seq)
        found = []
        for entry in entries:
            before = states.get(entry.invoice_id)
            after = evolve(before, entry.event)
            states[entry.invoice_id] = after
            found.append(Committed(entry.seq, before, entry.event, after))
        return found


def _check_numbers(entries: Sequence[LogEntry], after_seq: int) -> None:
    for expected, entry in enumerate(entries, after_seq + 1):
        if entry.seq != expected:
            raise PersistentError(
                f"database.url: after event {expected - 1} of its log comes {entry.seq}: something"
                " else than tallyd has written to it; look at all of it with `tallyd audit --log`,"
                " and restore a backup (`tallyd restore`)"
            )


def _folded(
    connection: Connection, invoice_ids: set[UUID], *, upto_seq: int
) -> dict[UUID, Invoice]:
    """The invoices as they were after event `upto_seq`."""
    if not invoice_ids:
        return {}
    history = connection.execute(
        select(events.c.invoice_id, events.c.kind, events.c.data)
        .where(events.c.invoice_id.in_(invoice_ids), events.c.seq <= upto_seq)
        .order_by(events.c.seq)
    )
    states: dict[UUID, Invoice] = {}
    for invoice_id, kind, data in history:
        states[invoice_id] = evolve(states.get(invoice_id), rows.decode_event(kind, data))
    return states
