"""Payments: what came to an invoice's address, folded from the facts about each output.

An output may be *locked* by its sender: the chain does not let the payee move it before a height or
an instant. And two outputs may have the same *one-time key*: the chain lets only one of them ever
be spent, so only the first that stands counts (`counting`). Both are Monero's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from actors.core.chain_events import OutPoint, Removal
from actors.core.events import (
    PaymentDisconnected,
    PaymentDisplaced,
    PaymentIncluded,
    PaymentSeen,
    PaymentUnlocked,
)
from actors.core.policy import LATE, Applied

KEEP_DISPLACED = 32
"""Displaced payments kept in the state for explanations; the log has them all."""

PlacedEvent = (
    PaymentSeen | PaymentIncluded | PaymentDisconnected | PaymentDisplaced | PaymentUnlocked
)
"""The facts about an output that is a payment."""


class IllegalTransitionError(AssertionError):
    """An event was folded into a state that does not allow it: a bug or a damaged log."""


@dataclass(frozen=True, slots=True)
class Payment:
    """One output to the invoice's address, as the active chain and the mempool have it now."""

    outpoint: OutPoint
    amount_base: int
    asset: str
    first_seen_ms: int
    late: bool
    height: int | None = None
    """Its block's height; None while it is unconfirmed."""
    block_hash: bytes | None = None
    gone: Removal | None = None
    """Why it is neither in the mempool nor on the chain; None while it is."""
    gone_by: bytes | None = None
    spends: tuple[bytes, ...] = ()
    """Some of its transaction's conflict keys (see ChainTx.spends)."""
    one_time_key: bytes | None = None
    unlock_height: int | None = None
    """The tip at which its lock ends; None once it has ended, and without such a lock."""
    unlock_ms: int | None = None
    """The instant at which its lock ends; None once it has ended, and without such a lock."""
    replaceable: bool = False
    """Its transaction said that it may be replaced, and the policy asks for it."""
    accepted: bool = False
    """It is late, and the policy counts it all the same."""

    @property
    def unconfirmed(self) -> bool:
        return self.height is None and self.gone is None

    @property
    def contested(self) -> bool:
        """Whether it waits for a block to choose between it and a rival."""
        return self.gone is Removal.CONTESTED

    @property
    def locked(self) -> bool:
        return self.unlock_height is not None or self.unlock_ms is not None

    def confirmations(self, tip_height: int) -> int:
        """Mempool 0, tip 1; 0 also while our tip is still below the payment's block."""
        return 0 if self.height is None else max(0, tip_height - self.height + 1)

    def spendable_height(self, unlock_blocks: int) -> int | None:
        """The lowest tip at which the next block may spend it, as Chain.unlock_blocks has it.

        None while it is in no block, while it waits for an instant, and where nothing keeps it.
        """
        if self.height is None or self.unlock_ms is not None:
            return None
        if not unlock_blocks and self.unlock_height is None:
            return None
        return max(self.height + max(1, unlock_blocks) - 1, self.unlock_height or 0)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An output to the invoice's address that is no payment: nothing proves its amount."""

    outpoint: OutPoint
    asset: str
    reason: str


def counting(payments: Iterable[Payment], asset: str) -> Iterator[Payment]:
    """The payments of that asset that are there, without the duplicates."""
    keys: set[bytes] = set()
    for payment in payments:
        if payment.gone is not None or payment.asset != asset:
            continue
        if payment.one_time_key is not None:
            if payment.one_time_key in keys:
                continue
            keys.add(payment.one_time_key)
        yield payment


def fold_payment(payments: tuple[Payment, ...], event: PlacedEvent) -> tuple[Payment, ...]:
    """The payments after `event`, in the order in which they were first recorded.

    Raises IllegalTransitionError if it cannot follow.
    """
    known = next((p for p in payments if p.outpoint == event.outpoint), None)
    payment = _changed(known, event)
    if known is None:
        return (*payments, payment)
    return _bounded(tuple(payment if p is known else p for p in payments), newest=payment)


def _changed(known: Payment | None, event: PlacedEvent) -> Payment:
    match event:
        case PaymentSeen():
            if known is not None and known.gone is None:
                raise IllegalTransitionError(f"{event.outpoint} was there already")
            return _placed(event)
        case PaymentIncluded():
            if known is not None and known.height is not None:
                raise IllegalTransitionError(f"{event.outpoint} was in a block already")
            return _placed(event, height=event.height, block_hash=event.block_hash)
        case PaymentDisconnected():
            if known is None or known.height is None:
                raise IllegalTransitionError(f"{event.outpoint} was not in a block")
            return replace(known, height=None, block_hash=None)
        case PaymentDisplaced():
            if known is None or not (known.unconfirmed or known.contested):
                raise IllegalTransitionError(f"{event.outpoint} was not in the mempool")
            return replace(known, gone=event.reason, gone_by=event.by)
        case PaymentUnlocked():
            if known is None or known.gone is not None or not known.locked:
                raise IllegalTransitionError(f"{event.outpoint} was not locked")
            return replace(
                known,
                unlock_height=None,
                unlock_ms=None,
                late=known.late or event.late,
                accepted=_accepted_after(known, event),
            )
    assert_never(event)


def _placed(
    event: PaymentSeen | PaymentIncluded,
    *,
    height: int | None = None,
    block_hash: bytes | None = None,
) -> Payment:
    return Payment(
        event.outpoint,
        event.amount_base,
        event.asset,
        event.first_seen_ms,
        event.late,
        height=height,
        block_hash=block_hash,
        spends=event.spends,
        one_time_key=event.one_time_key,
        unlock_height=event.unlock_height,
        unlock_ms=event.unlock_ms,
        replaceable=event.replaceable,
        accepted=_accepts(event.policies),
    )


def _accepted_after(known: Payment, event: PaymentUnlocked) -> bool:
    """Money that is late twice, at its coming and at its unlocking, is accepted for both or not."""
    came = known.accepted or not known.late
    unlocked = _accepts(event.policies) or not event.late
    return (known.late or event.late) and came and unlocked


def _accepts(applied: tuple[Applied, ...]) -> bool:
    return any(one.name == LATE for one in applied)


def _bounded(payments: tuple[Payment, ...], *, newest: Payment) -> tuple[Payment, ...]:
    """A bound on what a stranger who replaces his payment for ever can make us keep."""
    gone = [p for p in payments if p.gone is not None]
    if len(gone) <= KEEP_DISPLACED:
        return payments
    # The newest may have been recorded first of all, and is what a person will ask about.
    forgotten = next(p for p in gone if p is not newest)
    return tuple(p for p in payments if p is not forgotten)
