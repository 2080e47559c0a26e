"""What a payer must know beside the status: money that does not count, or a chain that is away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from actors.chain_supervisor import ChainHealth, ChainState
from actors.core.chain_events import OutPoint
from actors.core.invoice import Invoice, State
from actors.core.payment import Payment
from api.page.money_words import MoneyWords
from api.page.words import Phrase, phrase

MAX_NOTES = 5
"""A stranger can make any number of payments; the newest are told."""
BEHIND_MS = 120_000
"""A chain that is being read, and was known completely so long ago, is as good as current."""


@dataclass(frozen=True, slots=True)
class Note:
    kind: str
    """`info`, `warning` or `alarm`."""
    phrase: Phrase


def notes_on(
    invoice: Invoice, money: MoneyWords, health: ChainHealth | None, *, now_ms: int
) -> tuple[Note, ...]:
    """The notes, those on the whole before those on single payments."""
    return tuple(_all(invoice, money, health, now_ms))


def _all(
    invoice: Invoice, money: MoneyWords, health: ChainHealth | None, now_ms: int
) -> Iterator[Note]:
    if (invoice.open or invoice.reversed) and _away(health, now_ms):
        yield Note("warning", phrase("note_chain_away", chain=money.chain))
    if invoice.overpaid and not invoice.unpaid:
        extra_base = invoice.received_base - invoice.terms.required_base
        yield Note("info", phrase("note_overpaid", extra=money.amount(extra_base)))
    if invoice.refused:
        yield Note("alarm", phrase("note_refused"))
    duplicates = invoice.duplicates()
    found = (_on(one, invoice, money, duplicates) for one in reversed(invoice.payments))
    yield from reversed([*islice((note for note in found if note is not None), MAX_NOTES)])


def _on(
    payment: Payment, invoice: Invoice, money: MoneyWords, duplicates: frozenset[OutPoint]
) -> Note | None:
    """What is to be said of one payment; None of a plain one."""
    amount = money.amount(payment.amount_base, payment.asset)
    if payment.gone is not None:
        # Where enough is there all the same, as after a replacement with a higher fee, it is
        # nobody's business any more.
        quiet = invoice.covered or (invoice.state is State.SETTLED and not invoice.reversed)
        if quiet or payment.asset != invoice.terms.asset:
            return None
        return Note("warning", phrase(f"note_{payment.gone.value}", amount=amount))
    if payment.asset != invoice.terms.asset:
        return Note("alarm", phrase("note_wrong_asset", amount=amount, asset=money.asset))
    if payment.outpoint in duplicates:
        return Note("warning", phrase("note_duplicate", amount=amount))
    if payment.locked:
        return Note("warning", phrase("note_locked", amount=amount))
    if payment.late:
        if payment.accepted:
            return Note("info", phrase("note_late_accepted", amount=amount))
        return Note("warning", phrase("note_late", amount=amount))
    return None


def _away(health: ChainHealth | None, now_ms: int) -> bool:
    """Whether new money may be on the chain without our knowing."""
    if health is None:
        return True
    if health.state is ChainState.CATCHING_UP:
        return health.as_of_ms is None or now_ms - health.as_of_ms >= BEHIND_MS
    return health.state is not ChainState.CURRENT


def trouble_changes_at_ms(health: ChainHealth | None) -> int | None:
    """When a chain that is being read starts to count as away, if it stays as it is."""
    if health is None or health.state is not ChainState.CATCHING_UP or health.as_of_ms is None:
        return None
    return health.as_of_ms + BEHIND_MS
