"""Invoices by number, and what may happen to them, for tests of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from actors.core.decision import create, decide
from actors.core.inputs import Input, TipReached
from actors.core.invoice import Invoice, evolve
from actors.ports import Committed, Step, Store, VersionConflict
from tests.helpers.invoices import CREATED_MS, EXPIRES_MS, block, included, seen, terms


def creation(number: int, **changes: Any) -> Step:
    """The first step of invoice `number`, which has an address and an index of its own."""
    wanted = {
        "invoice_id": UUID(int=number << 64 | number),
        "destination": number.to_bytes(22, "big"),
        "address": f"bcrt1q{number:034x}",
        "path": (0, number),
        "created_at_ms": CREATED_MS + number,
        "expires_at_ms": EXPIRES_MS + number,
        **changes,
    }
    event = create(terms(**wanted))
    return Step(event, evolve(None, event))


def steps(invoice: Invoice, *inputs: Input) -> tuple[Step, ...]:
    """What the inputs add to the invoice."""
    found = []
    for happened in inputs:
        for event in decide(invoice, happened):
            invoice = evolve(invoice, event)
            found.append(Step(event, invoice))
    return tuple(found)


def payment(invoice: Invoice, *, at_ms: int = CREATED_MS + 60_000) -> tuple[Step, ...]:
    """The full amount arrives in the mempool: two facts."""
    name = f"pay {invoice.terms.invoice_id}"
    return steps(invoice, seen(name, invoice.terms.required_base, at_ms=at_ms))


def settlement(invoice: Invoice, *, height: int = 10) -> tuple[Step, ...]:
    """The full amount is included, and the confirmations it needs follow."""
    name = f"pay {invoice.terms.invoice_id}"
    at_ms = CREATED_MS + 120_000
    return steps(
        invoice,
        included(name, invoice.terms.required_base, into=block(height), at_ms=at_ms),
        TipReached(height + invoice.terms.confirmations - 1, at_ms + 1),
    )


async def record(store: Store, before: Invoice | None, new: Sequence[Step]) -> Invoice:
    """Append; the state after it."""
    done = await store.append(before, new)
    assert not isinstance(done, VersionConflict), done
    return done[-1].after


async def grow(store: Store, number: int, **changes: Any) -> Invoice:
    """Create invoice `number`."""
    return await record(store, None, [creation(number, **changes)])


def seqs(facts: Sequence[Committed]) -> list[int]:
    return [fact.seq for fact in facts]
