"""A fact as the outside world gets it: the same event, id and sequence number on every channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID


class Published(NamedTuple):
    """One recorded fact. A tuple, because replays make them by the hundred thousand."""

    id: str
    """`<log>-<seq>`: what a reader de-duplicates by, never the same in two databases."""
    seq: int
    """Position in the log of the whole daemon: strictly growing, without gaps, from 1."""
    type: str
    """The fact's kind, `payment.seen`."""
    at_ms: int
    """When it happened, Unix milliseconds."""
    invoice_id: UUID
    user_id: UUID
    version: int
    """Position in the invoice's own history, from 1."""
    asset: str
    """The invoice's asset."""
    data: bytes
    """The fact's other fields: a JSON object in UTF-8, as `/v1/invoices/{id}/events` shows it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a reader wants; the parts are joined by AND, what is not given lets all pass."""

    user_id: UUID | None = None
    invoice_id: UUID | None = None
    types: tuple[str, ...] = ()

    def matches(self, event: Published) -> bool:
        return (
            (self.invoice_id is None or event.invoice_id == self.invoice_id)
            and (self.user_id is None or event.user_id == self.user_id)
            and (not self.types or event.type in self.types)
        )


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class LogNames:
    """The ids of a log. A restored one goes on under a new id, as what comes next is other events
    than those that came after the backup; an event keeps the id that it was recorded with.
    """

    current: str
    earlier: tuple[tuple[str, int], ...] = ()
    """Each earlier id with the last sequence number that bears it, the oldest first."""

    @property
    def born(self) -> str:
        """The first id: what the hash chain begins with."""
        return self.earlier[0][0] if self.earlier else self.current

    def of(self, seq: int) -> str:
        """The id that event `seq` bears."""
        return next((log_id for log_id, until in self.earlier if seq <= until), self.current)

    def until(self, log_id: str) -> int | None:
        """The last sequence number of an earlier id; None for any other id."""
        return dict(self.earlier).get(log_id)


class LogTip(NamedTuple):
    """The newest event's place in the log, and its link of the hash chain (store.log_chain)."""

    seq: int
    """0 in an empty log."""
    hash: bytes
    """32 bytes, bound to every event up to this one."""

    def __str__(self) -> str:
        """As an anchor: what a person notes down and gives back to `tallyd audit --log`."""
        return f"{self.seq}:{self.hash.hex()}"


class PublishedPage(NamedTuple):
    """A stretch of the log through a filter."""

    events: list[Published]
    """Oldest first."""
    reached_seq: int
    """Everything wanted up to here is in `events`: the cursor to go on from."""
