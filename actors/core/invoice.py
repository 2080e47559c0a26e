"""The invoice: states, transition table, `decide` and `evolve`. Pure: no clock, no IO, no chance.

The rules
---------
1. Money counts for an invoice (is *credited*) when it is of the invoice's asset, was first seen by
   the deadline, and is in the mempool or on the active chain.
2. Credited money that reaches the required amount *covers* the invoice: PENDING becomes SEEN. When
   a reorg, replacement or eviction takes it away, SEEN falls back to PENDING.
3. Credited money at the required depth that reaches the amount *settles* it: SEEN becomes SETTLED.
4. At the deadline a PENDING invoice expires. A covered one is protected: it waits for its
   confirmations, and expires only if it is uncovered after the deadline.
5. SETTLED and EXPIRED are final. Later money is recorded and flagged (overpaid, late); money that
   leaves a settled invoice raises an alarm (SettlementReversed), and the state stays.
6. An output of nothing is no payment: tokens can be "transferred" to anybody, zero at a time.

Theory of operation
-------------------
`decide` compares an input with the state and returns the facts that are new, payments first, then
what follows for the invoice. `evolve` folds one fact into the state; for invoice events it looks up
TRANSITIONS, and a missing key *is* the illegal transition. A duplicate input yields no fact,
because the state already says so. Folding the stored events gives the live state, always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import assert_never

from actors.core.chain_events import OutPoint, Output, Removal
from actors.core.chain_view import BlockRef
from actors.core.events import (
    DeadlineReached,
    Event,
    InvoiceCovered,
    InvoiceCreated,
    InvoiceExpired,
    InvoiceSettled,
    InvoiceUncovered,
    PaymentDisconnected,
    PaymentDisplaced,
    PaymentIncluded,
    PaymentSeen,
    SettlementRestored,
    SettlementReversed,
    Terms,
)
from actors.core.inputs import (
    KEPT_SPENDS,
    ChainShortened,
    DeadlinePassed,
    HeightFinal,
    HeightTaken,
    Input,
    TipReached,
    TxIncluded,
    TxRemoved,
    TxSeen,
)

KEEP_DISPLACED = 32
"""Displaced payments kept in the state for explanations; the log has them all."""


_Transition = (
    InvoiceCovered
    | InvoiceUncovered
    | InvoiceSettled
    | DeadlineReached
    | InvoiceExpired
    | SettlementReversed
    | SettlementRestored
)


class State(Enum):
    PENDING = "pending"
    SEEN = "seen"
    SETTLED = "settled"
    EXPIRED = "expired"


TRANSITIONS: Mapping[State, Mapping[type[_Transition], State]] = MappingProxyType(
    {
        State.PENDING: {
            InvoiceCovered: State.SEEN,
            DeadlineReached: State.PENDING,
            InvoiceExpired: State.EXPIRED,
        },
        State.SEEN: {
            InvoiceUncovered: State.PENDING,
            DeadlineReached: State.SEEN,
            InvoiceSettled: State.SETTLED,
        },
        State.SETTLED: {
            SettlementReversed: State.SETTLED,
            SettlementRestored: State.SETTLED,
        },
        State.EXPIRED: {},
    }
)


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

    @property
    def unconfirmed(self) -> bool:
        return self.height is None and self.gone is None

    def confirmations(self, tip_height: int) -> int:
        """Mempool 0, tip 1; 0 also while our tip is still below the payment's block."""
        return 0 if self.height is None else max(0, tip_height - self.height + 1)


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice's state: the fold of its events."""

    terms: Terms
    state: State = State.PENDING
    version: int = 1
    """How many events were folded."""
    payments: tuple[Payment, ...] = ()
    """In the order in which they were first recorded."""
    deadline_reached: bool = False
    reversed: bool = False
    settled_at_ms: int | None = None
    updated_at_ms: int = 0

    @property
    def needed_base(self) -> int:
        """What covers the invoice: an open amount is covered by any money at all."""
        return max(1, self.terms.required_base)

    @property
    def received_base(self) -> int:
        """All money of the invoice's asset in mempool and active chain, late money too."""
        return sum(p.amount_base for p in self._present())

    @property
    def credited_base(self) -> int:
        """The part of `received_base` that came in time."""
        return sum(p.amount_base for p in self._credited())

    @property
    def covered(self) -> bool:
        return self.credited_base >= self.needed_base

    @property
    def open(self) -> bool:
        return self.state in (State.PENDING, State.SEEN)

    @property
    def underpaid(self) -> bool:
        return 0 < self.received_base < self.terms.required_base

    @property
    def overpaid(self) -> bool:
        return 0 < self.terms.required_base < self.received_base

    @property
    def late(self) -> bool:
        return any(p.late for p in self._present())

    @property
    def txid(self) -> bytes | None:
        """The newest transaction that counts; None before any money came."""
        newest = [*self._present(), *self._credited()][-1:]
        return newest[0].outpoint.txid if newest else None

    @property
    def required_depth(self) -> int:
        """Depth at which a payment counts as final: below the tip, or below the final height."""
        return self.terms.confirmations if self.terms.finality is None else 1

    def confirmed_base(self, tip_height: int | None) -> int:
        """Credited money at the required depth; with no tip, only 0-confirmation terms have any.

        Under a finality policy `tip_height` is the final height.
        """
        depth = self.required_depth
        if depth == 0:
            return self.credited_base
        if tip_height is None:
            return 0
        return sum(p.amount_base for p in self._credited() if p.confirmations(tip_height) >= depth)

    def wake_height(self) -> int | None:
        """The lowest tip at which `TipReached` would settle this invoice; None if no tip would.

        Under a finality policy, the lowest final height at which `HeightFinal` would.
        """
        if self.state is not State.SEEN or self.required_depth == 0:
            return None
        total = 0
        confirmed = [p for p in self._credited() if p.height is not None]
        for payment in sorted(confirmed, key=lambda p: p.height or 0):
            total += payment.amount_base
            if total >= self.needed_base:
                return (payment.height or 0) + self.required_depth - 1
        return None

    def watched_until(self) -> int | None:
        """The tip height up to which this invoice must stay in memory; None: without end.

        An open invoice, or one with unconfirmed money, has no end; -1 when nothing is left to see.
        """
        if self.open or any(p.unconfirmed for p in self.payments):
            return None
        heights = [p.height for p in self.payments if p.height is not None]
        return max(heights) + self.terms.watch_depth - 1 if heights else -1

    def find(self, outpoint: OutPoint) -> Payment | None:
        return next((p for p in self.payments if p.outpoint == outpoint), None)

    def _present(self) -> Iterable[Payment]:
        return (p for p in self.payments if p.gone is None and p.asset == self.terms.asset)

    def _credited(self) -> Iterable[Payment]:
        return (p for p in self._present() if not p.late)


# --- evolve: fold one fact ------------------------------------------------------------------------


def evolve(invoice: Invoice | None, event: Event) -> Invoice:
    """The state after `event`. Raises IllegalTransitionError, changing nothing, if it cannot be."""
    if isinstance(event, InvoiceCreated):
        if invoice is not None:
            raise IllegalTransitionError(f"invoice {event.terms.invoice_id} is created twice")
        return Invoice(terms=event.terms, updated_at_ms=event.at_ms)
    if invoice is None:
        raise IllegalTransitionError(f"{event.kind} comes before the invoice's creation")
    if isinstance(event, PaymentSeen | PaymentIncluded | PaymentDisconnected | PaymentDisplaced):
        changed = replace(invoice, payments=_fold_payment(invoice, event))
    else:
        changed = _fold_transition(invoice, event)
    return replace(changed, version=invoice.version + 1, updated_at_ms=event.at_ms)


def fold(events: Iterable[Event]) -> Invoice:
    """The state after all `events` of one invoice, its creation first."""
    state: Invoice | None = None
    for event in events:
        state = evolve(state, event)
    assert state is not None, "an invoice has at least its creation"
    return state


def _fold_transition(invoice: Invoice, event: _Transition) -> Invoice:
    state = TRANSITIONS[invoice.state].get(type(event))
    if state is None:
        raise IllegalTransitionError(f"{event.kind} cannot follow state {invoice.state.value}")
    return replace(
        invoice,
        state=state,
        deadline_reached=invoice.deadline_reached or isinstance(event, DeadlineReached),
        settled_at_ms=event.at_ms if isinstance(event, InvoiceSettled) else invoice.settled_at_ms,
        reversed=(invoice.reversed or isinstance(event, SettlementReversed))
        and not isinstance(event, SettlementRestored),
    )


def _fold_payment(
    invoice: Invoice,
    event: PaymentSeen | PaymentIncluded | PaymentDisconnected | PaymentDisplaced,
) -> tuple[Payment, ...]:
    known = invoice.find(event.outpoint)
    match event:
        case PaymentSeen():
            if known is not None and known.gone is None:
                raise IllegalTransitionError(f"{event.outpoint} was there already")
            payment = Payment(
                event.outpoint,
                event.amount_base,
                event.asset,
                event.first_seen_ms,
                event.late,
                spends=event.spends,
            )
        case PaymentIncluded():
            if known is not None and known.height is not None:
                raise IllegalTransitionError(f"{event.outpoint} was in a block already")
            payment = Payment(
                event.outpoint,
                event.amount_base,
                event.asset,
                event.first_seen_ms,
                event.late,
                height=event.height,
                block_hash=event.block_hash,
                spends=event.spends,
            )
        case PaymentDisconnected():
            if known is None or known.height is None:
                raise IllegalTransitionError(f"{event.outpoint} was not in a block")
            payment = replace(known, height=None, block_hash=None)
        case PaymentDisplaced():
            if known is None or not known.unconfirmed:
                raise IllegalTransitionError(f"{event.outpoint} was not in the mempool")
            payment = replace(known, gone=event.reason, gone_by=event.by)
        case _:
            assert_never(event)
    if known is None:
        return (*invoice.payments, payment)
    payments = tuple(payment if p is known else p for p in invoice.payments)
    return _bounded(payments, newest=payment)


def _bounded(payments: tuple[Payment, ...], *, newest: Payment) -> tuple[Payment, ...]:
    """A bound on what a stranger who replaces his payment for ever can make us keep."""
    gone = [p for p in payments if p.gone is not None]
    if len(gone) <= KEEP_DISPLACED:
        return payments
    # The newest may have been recorded first of all, and is what a person will ask about.
    forgotten = next(p for p in gone if p is not newest)
    return tuple(p for p in payments if p is not forgotten)


# --- decide: which facts are new ------------------------------------------------------------------


def create(terms: Terms) -> InvoiceCreated:
    """The first fact of an invoice."""
    return InvoiceCreated(at_ms=terms.created_at_ms, terms=terms)


def decide(invoice: Invoice, happened: Input) -> tuple[Event, ...]:
    """The facts that `happened` adds; empty when the state knows it all already."""
    draft = _Draft(invoice)
    tip_height: int | None = None
    final_height: int | None = None
    match happened:
        case TxSeen():
            for output in _paying(happened.outputs):
                _see(draft, output, happened)
            _displace(draft, happened.replaces, Removal.REPLACED, happened.txid, happened.at_ms)
        case TxIncluded():
            for output in _paying(happened.outputs):
                _include(draft, output, happened)
            # Two that exclude each other are not in one chain: the loser's block is a stale one.
            _disconnect(
                draft, lambda p, _: p.outpoint.txid in happened.replaces, at_ms=happened.at_ms
            )
            _displace(draft, happened.replaces, Removal.DOUBLE_SPENT, happened.txid, happened.at_ms)
            _displace(draft, (happened.txid,), Removal.FAILED, None, happened.at_ms)
            tip_height = happened.block.height
        case TxRemoved():
            _displace(draft, (happened.txid,), happened.reason, happened.by, happened.at_ms)
        case ChainShortened():
            _disconnect(draft, lambda _, at: at > happened.height, at_ms=happened.at_ms)
            tip_height = happened.height
        case HeightTaken():
            _disconnect(
                draft,
                lambda p, at: at == happened.height and p.block_hash != happened.block_hash,
                at_ms=happened.at_ms,
            )
        case TipReached():
            tip_height = happened.height
        case HeightFinal():
            final_height = happened.height
        case DeadlinePassed():
            due = happened.at_ms >= invoice.terms.expires_at_ms
            if due and invoice.open and not invoice.deadline_reached:
                draft.record(DeadlineReached(happened.at_ms))
        case _:
            assert_never(happened)
    _follow(draft, happened.at_ms, tip_height if invoice.terms.finality is None else final_height)
    return tuple(draft.events)


class _Draft:
    """The facts found so far and the state they lead to."""

    __slots__ = ("events", "invoice")

    def __init__(self, invoice: Invoice) -> None:
        self.invoice = invoice
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.invoice = evolve(self.invoice, event)
        self.events.append(event)


def _paying(outputs: Iterable[Output]) -> Iterable[Output]:
    return (output for output in outputs if output.amount_base > 0)


def _see(draft: _Draft, output: Output, seen: TxSeen) -> None:
    known = draft.invoice.find(output.outpoint)
    if known is not None and known.gone is None:
        return
    since_ms = seen.at_ms if seen.known_since_ms is None else min(seen.at_ms, seen.known_since_ms)
    first_seen_ms, late = _timing(draft.invoice, known, seen.replaces, since_ms)
    draft.record(
        PaymentSeen(
            at_ms=seen.at_ms,
            outpoint=output.outpoint,
            amount_base=output.amount_base,
            asset=output.asset,
            first_seen_ms=first_seen_ms,
            late=late,
            spends=seen.spends[:KEPT_SPENDS],
        )
    )


def _include(draft: _Draft, output: Output, included: TxIncluded) -> None:
    block = included.block
    known = draft.invoice.find(output.outpoint)
    if known is not None and known.block_hash == block.hash:
        return
    if known is not None and known.height is not None and known.block_hash is not None:
        draft.record(
            PaymentDisconnected(included.at_ms, known.outpoint, known.height, known.block_hash)
        )
    first_seen_ms, late = _timing(
        draft.invoice, known, included.replaces, _first_known_ms(block, included.at_ms)
    )
    draft.record(
        PaymentIncluded(
            at_ms=included.at_ms,
            outpoint=output.outpoint,
            amount_base=output.amount_base,
            asset=output.asset,
            first_seen_ms=first_seen_ms,
            late=late,
            height=block.height,
            block_hash=block.hash,
            spends=included.spends[:KEPT_SPENDS],
        )
    )


def _first_known_ms(block: BlockRef, at_ms: int) -> int:
    """After downtime a block is read long after it was mined: its header's time decides then."""
    return min(at_ms, block.time_s * 1000)


def _timing(
    invoice: Invoice, known: Payment | None, replaces: tuple[bytes, ...], at_ms: int
) -> tuple[int, bool]:
    """When the money was first seen, and whether that was too late.

    Money keeps the time of the payment it replaces and of its own earlier appearance. What comes
    (back) to an expired invoice is late; what was there all the time stays as it was judged.
    """
    if known is not None and known.gone is None:
        return known.first_seen_ms, known.late
    earlier = [p for p in invoice.payments if p.outpoint.txid in replaces]
    if known is not None:
        earlier.append(known)
    if not earlier:
        # A header's time may be off by hours, but nobody pays to an address not yet given out.
        first_seen_ms = max(invoice.terms.created_at_ms, at_ms)
        late = invoice.state is State.EXPIRED or first_seen_ms > invoice.terms.expires_at_ms
        return first_seen_ms, late
    first = min(earlier, key=lambda p: (p.late, p.first_seen_ms))
    return first.first_seen_ms, invoice.state is State.EXPIRED or first.late


def _displace(
    draft: _Draft, txids: tuple[bytes, ...], reason: Removal, by: bytes | None, at_ms: int
) -> None:
    for payment in draft.invoice.payments:
        if payment.outpoint.txid in txids and payment.unconfirmed:
            draft.record(PaymentDisplaced(at_ms, payment.outpoint, reason, by))


def _disconnect(draft: _Draft, stale: Callable[[Payment, int], bool], *, at_ms: int) -> None:
    """Take the payments whose block (of that height) is stale out of it."""
    for payment in draft.invoice.payments:
        height, block_hash = payment.height, payment.block_hash
        if height is not None and block_hash is not None and stale(payment, height):
            draft.record(PaymentDisconnected(at_ms, payment.outpoint, height, block_hash))


def _follow(draft: _Draft, at_ms: int, tip_height: int | None) -> None:
    """Record what the payments now mean for the invoice, until nothing more follows."""
    while (event := _consequence(draft.invoice, at_ms, tip_height)) is not None:
        draft.record(event)


def _consequence(invoice: Invoice, at_ms: int, tip_height: int | None) -> Event | None:
    covered = invoice.covered
    match invoice.state:
        case State.PENDING if covered:
            return InvoiceCovered(at_ms, invoice.credited_base)
        case State.PENDING if invoice.deadline_reached:
            return InvoiceExpired(at_ms, invoice.credited_base)
        case State.SEEN if not covered:
            return InvoiceUncovered(at_ms, invoice.credited_base)
        case State.SEEN if invoice.confirmed_base(tip_height) >= invoice.needed_base:
            counted = tip_height if invoice.required_depth else None
            return InvoiceSettled(at_ms, invoice.confirmed_base(tip_height), counted)
        case State.SETTLED if not covered and not invoice.reversed:
            return SettlementReversed(at_ms, invoice.credited_base)
        case State.SETTLED if covered and invoice.reversed:
            return SettlementRestored(at_ms, invoice.credited_base)
    return None
