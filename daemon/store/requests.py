"""What callers ask of the writer: one object per write, encoded by the caller before it is queued.

Encoding on the caller's side keeps a broken invoice its caller's problem, and spreads the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

import trio
from sqlalchemy import Connection

from actors.core.events import InvoiceCreated
from actors.core.invoice import Invoice
from actors.ports import ChainCursor, Step
from daemon.store import rows
from daemon.store.log_chain import row_bytes


def check_steps(before: Invoice | None, steps: Sequence[Step]) -> None:
    """Assert that `steps` continue `before` without a gap: anything else is a bug of the caller."""
    assert steps, "an append records at least one fact"
    assert isinstance(steps[0].event, InvoiceCreated) == (before is None), "creation comes first"
    terms = (before or steps[0].after).terms
    version = before.version if before else 0
    for step in steps:
        version += 1
        after = step.after
        assert after.version == version, f"version {after.version} follows {version - 1}"
        assert after.terms is terms or after.terms == terms, "terms never change"


class Request:
    """A write, and the task that waits for it: None once it was cancelled or has its answer."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None


class Append(Request):
    """The facts of one invoice and the state after them, encoded."""

    __slots__ = ("before", "chained", "created", "events", "expected", "key", "state", "steps")

    def __init__(
        self,
        before: Invoice | None,
        steps: Sequence[Step],
        key: Callable[[UUID], bytes | UUID],
    ) -> None:
        super().__init__()
        check_steps(before, steps)
        after = steps[-1].after
        terms = after.terms
        self.before = before
        self.steps = steps
        self.key = key(terms.invoice_id)
        self.expected = before.version if before else 0
        self.state = rows.state_columns(after)
        self.created: tuple[object, ...] | None = None
        self.events: list[tuple[int, str, int, str]] = []
        self.chained: list[bytes] = []
        """What each event's link covers of its row."""
        for step in steps:
            event = step.event
            if isinstance(event, InvoiceCreated):
                data, encoded = rows.encode_creation(event)
                self.created = rows.terms_columns(self.key, key(terms.user_id), terms, encoded)
            else:
                data = rows.encode_event(event)
            version, kind, at_ms = step.after.version, event.kind, event.at_ms
            self.events.append((version, kind, at_ms, data))
            self.chained.append(
                row_bytes(
                    invoice_id=terms.invoice_id.bytes,
                    version=version,
                    kind=kind,
                    at_ms=at_ms,
                    data=data,
                )
            )


class Allocate(Request):
    """The next index of an account; those of one account are allocated together."""

    __slots__ = ("account_id",)

    def __init__(self, account_id: int) -> None:
        super().__init__()
        self.account_id = account_id


class SaveCursor(Request):
    """Only the newest cursor of a chain in a batch is written."""

    __slots__ = ("cursor",)

    def __init__(self, cursor: ChainCursor) -> None:
        super().__init__()
        self.cursor = cursor


class Operation(Request):
    """Any other write: called with the transaction's connection, perhaps twice, once committed."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[Connection], object]) -> None:
        super().__init__()
        self.run = run
