"""What the store keeps of webhooks: endpoints, what is still owed to them, and a log of attempts.

There is no row for an event that an endpoint has taken, nor for one that it has not been offered
yet: a cursor into the event log stands for all of them. Rows are kept only for what failed, for
what waits behind it, and for what somebody wants sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from actors.core.webhook import Health

MOST_OWED = 10_000
"""Rows that an endpoint may have waiting; its cursor stands still meanwhile."""


class Form(StrEnum):
    """What an endpoint is sent, and how it looks; its receiver is written for it, so it stays."""

    STANDARD = "standard"
    """Every event, as every other channel has it."""
    PAYSCRYPT = "payscrypt"
    """The changes of orders' statuses, as Payscrypt has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Somebody's URL that events are sent to."""

    id: UUID
    user_id: UUID | None
    """Whose events; None: everybody's."""
    url: str
    types: tuple[str, ...]
    """Kinds of events; empty: all."""
    form: Form = Form.STANDARD
    secret: bytes = field(repr=False)
    """What signs, sealed."""
    old_secret: bytes | None = field(default=None, repr=False)
    """The one before, sealed, which signs as well until `old_until_ms`."""
    old_until_ms: int | None = None
    created_at_ms: int
    cursor: int
    """Every event up to this sequence number was taken, is not wanted, or has a row."""
    health: Health = field(default_factory=Health)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """An event that an endpoint has not taken."""

    seq: int
    """Of the event; below 0 for a notice, which is not in the log."""
    lane: UUID
    """The invoice: what has the same is sent in the order of `seq`, one after the other."""
    at_ms: int
    """When the event happened."""
    attempts: int = 0
    first_at_ms: int | None = None
    """The first attempt."""
    next_at_ms: int = 0
    """The next attempt; what waits behind another of its lane waits for that one first."""
    dead: bool = False
    """Given up: sent again only on demand."""
    error: str | None = None
    """How the last attempt failed, for people."""
    notice: bytes | None = None
    """The body of what is not an event of the log."""


class Outcome(StrEnum):
    DELIVERED = "delivered"
    FAILED = "failed"
    """It will be tried again."""
    DEAD = "dead"
    """It failed, and was the last attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to an endpoint, and what came of it."""

    event_id: str
    type: str
    seq: int | None
    """None: not an event of the log."""
    invoice_id: UUID | None
    number: int
    """From 1."""
    at_ms: int
    latency_ms: int
    status: int | None
    """HTTP; None: there was no answer."""
    error: str | None
    """What was wrong, for people; None if nothing was."""
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """An attempt with its position in the log of attempts, growing."""

    id: int
    attempt: Attempt


@dataclass(slots=True)
class Progress:
    """What has happened to an endpoint's events since it was last recorded."""

    attempts: list[Attempt] = field(default_factory=list)
    owed: dict[int, Owed] = field(default_factory=dict)
    """Rows that are new or changed, by sequence number."""
    settled: set[int] = field(default_factory=set)
    """Rows that are there no more."""

    def __bool__(self) -> bool:
        return bool(self.attempts or self.owed or self.settled)


@dataclass(frozen=True, slots=True)
class Owing:
    """How much an endpoint is owed."""

    waiting: int
    dead: int


class WebhookBook(Protocol):
    """Each method is one transaction; each may raise TransientError or PersistentError."""

    async def add_endpoint(self, endpoint: Endpoint, *, most: int) -> bool:
        """Add it; False, and nothing is added, if there are `most` already."""
        ...

    async def endpoint(self, endpoint_id: UUID) -> Endpoint | None: ...

    async def endpoints(self, user_id: UUID | None = None) -> tuple[Endpoint, ...]:
        """Every endpoint, or those of one user, by creation."""
        ...

    async def change_endpoint(self, endpoint: Endpoint) -> bool:
        """Store all but id, user, form and creation; False if it is not there any more."""
        ...

    async def remove_endpoint(self, endpoint_id: UUID) -> bool:
        """Remove it with its rows and its log; False if it is not there."""
        ...

    async def record(
        self, endpoint_id: UUID, progress: Progress, *, cursor: int, health: Health
    ) -> None:
        """Record what has happened and move the cursor, all or nothing; silent if it is gone."""
        ...

    async def owed(self, endpoint_id: UUID, *, dead: bool, limit: int) -> tuple[Owed, ...]:
        """Rows that wait, or that are dead, by sequence number."""
        ...

    async def owing(self, endpoint_id: UUID) -> Owing: ...

    async def owe(self, endpoint_id: UUID, rows: Sequence[Owed]) -> None:
        """Add rows, or put them in the place of those of the same number."""
        ...

    async def bury(self, endpoint_id: UUID, *, error: str) -> int:
        """Give up everything that waits, for the reason `error`; returns how many."""
        ...

    async def matching(
        self,
        *,
        user_id: UUID | None,
        types: tuple[str, ...],
        since_ms: int,
        until_ms: int,
        up_to_seq: int,
        limit: int,
    ) -> tuple[tuple[int, UUID, int], ...]:
        """(seq, invoice, at_ms) of wanted events that happened in [since, until), by seq."""
        ...

    async def log_attempts(self, endpoint_id: UUID, attempts: Sequence[Attempt]) -> None:
        """Log attempts that change nothing else."""
        ...

    async def attempts(
        self, endpoint_id: UUID, *, before: int | None, limit: int
    ) -> tuple[LoggedAttempt, ...]:
        """The newest attempts first, those with an id below `before`."""
        ...

    async def forget_attempts(self, endpoint_id: UUID, *, before_ms: int, keep: int) -> int:
        """Forget attempts and dead rows older than that, and attempts beyond `keep`.

        Returns how many attempts were forgotten.
        """
        ...
