"""The invoice: its states, the transition table, and `evolve`. Pure: no clock, no IO, no chance.

The rules
---------
1. Money counts for an invoice (is *credited*) when it is of the invoice's asset, was first seen by
   the deadline, and is in the mempool or on the active chain. Locked money does not count while its
   lock holds, and is late when it ends after the deadline. Of two outputs that cannot both be spent
   (see Output.one_time_key) the one recorded first counts while it is there.
2. Credited money that reaches the required amount *covers* the invoice: PENDING becomes SEEN. When
   a reorg, replacement or eviction takes it away, SEEN falls back to PENDING.
3. Credited money at the required depth that reaches the amount *settles* it: SEEN becomes SETTLED.
4. At the deadline a PENDING invoice expires. A covered one is protected: it waits for its
   confirmations, and expires only if it is uncovered after the deadline.
5. SETTLED, EXPIRED and CANCELLED are final. Later money is recorded and flagged (overpaid, late);
   money that leaves a settled invoice raises an alarm (SettlementReversed), and the state stays.
   Only a PENDING invoice to which nothing was paid can be cancelled.
6. An output of nothing is no payment: tokens can be "transferred" to anybody, zero at a time. Nor
   is one that proves no amount (refused): it is recorded as an alarm, once.
7. A policy (see `core.policy`) may let less than the amount cover the invoice, ask for other
   depths, and have late money credited for some time after the deadline: then a PENDING invoice
   expires when that time is over.

Theory of operation
-------------------
`core.decision.decide` compares an input with the state and returns the facts that are new. `evolve`
folds one fact into the state; for invoice events it looks up TRANSITIONS, and a missing key *is*
the illegal transition. Folding the stored events gives the live state, always.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from actors.core.chain_events import OutPoint
from actors.core.events import (
    DeadlineReached,
    Event,
    InvoiceCancelled,
    InvoiceCovered,
    InvoiceCreated,
    InvoiceExpired,
    InvoiceSettled,
    InvoiceUncovered,
    PaymentRefused,
    SettlementRestored,
    SettlementReversed,
    Terms,
)
from actors.core.payment import (
    IllegalTransitionError,
    Payment,
    PlacedEvent,
    Refusal,
    counting,
    fold_payment,
)
from actors.core.policy import Band

_Transition = (
    InvoiceCovered
    | InvoiceUncovered
    | InvoiceSettled
    | DeadlineReached
    | InvoiceExpired
    | InvoiceCancelled
    | SettlementReversed
    | SettlementRestored
)


class State(Enum):
    PENDING = "pending"
    SEEN = "seen"
    SETTLED = "settled"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


TRANSITIONS: Mapping[State, Mapping[type[_Transition], State]] = MappingProxyType(
    {
        State.PENDING: {
            InvoiceCovered: State.SEEN,
            DeadlineReached: State.PENDING,
            InvoiceExpired: State.EXPIRED,
            InvoiceCancelled: State.CANCELLED,
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
        State.CANCELLED: {},
    }
)


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
    refused: tuple[Refusal, ...] = ()
    """ALARM: outputs to the address that are no payments; the first KEEP_REFUSED of them."""

    @property
    def needed_base(self) -> int:
        """What covers the invoice: an open amount is covered by any money at all."""
        required_base, policy = self.terms.required_base, self.terms.policy
        if policy is not None:
            required_base -= policy.tolerance(required_base)
        return max(1, required_base)

    @property
    def received_base(self) -> int:
        """All money of the invoice's asset in mempool and active chain, late and locked too."""
        return sum(p.amount_base for p in self._present())

    @property
    def credited_base(self) -> int:
        """The part of `received_base` that came in time (or is accepted late) and is not locked."""
        return sum(p.amount_base for p in self.credited())

    @property
    def covered(self) -> bool:
        return self.credited_base >= self.needed_base

    @property
    def open(self) -> bool:
        return self.state in (State.PENDING, State.SEEN)

    @property
    def unpaid(self) -> bool:
        """Whether it ended without being paid: what comes now is late, whatever it was before."""
        return self.state in (State.EXPIRED, State.CANCELLED)

    @property
    def closes_at_ms(self) -> int:
        """When a PENDING invoice expires: the deadline, and the time in which late money counts."""
        policy = self.terms.policy
        return self.terms.expires_at_ms + (0 if policy is None else policy.late_ms)

    def due_ms(self) -> int | None:
        """The next instant at which `TimeReached` would change the invoice's own standing."""
        if not self.open or (self.deadline_reached and self.state is State.SEEN):
            return None
        return self.closes_at_ms if self.deadline_reached else self.terms.expires_at_ms

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
        newest = [*self._present(), *self.credited()][-1:]
        return newest[0].outpoint.txid if newest else None

    @property
    def confirmations(self) -> int:
        """The number asked for, as the policy's bands have it."""
        terms, band = self.terms, self.band()
        return terms.confirmations if band is None else band.confirmations

    def band(self) -> Band | None:
        """The policy's band that decides; None without one, and where the chain says `final`."""
        terms = self.terms
        if terms.policy is None or terms.finality is not None:
            return None
        return terms.policy.band(terms.required_base or self.credited_base)

    @property
    def required_depth(self) -> int:
        """Depth at which a payment counts as final: below the tip, or below the final height."""
        terms = self.terms
        if terms.finality is not None:
            return 1
        return terms.confirmations if terms.policy is None else self.confirmations

    def depth_of(self, payment: Payment) -> int:
        """`required_depth` for this payment: one that may be replaced may need more."""
        return self._depth(payment, self.required_depth)

    def _depth(self, payment: Payment, depth: int) -> int:
        policy = self.terms.policy
        if not payment.replaceable or policy is None or policy.rbf_confirmations is None:
            return depth
        return max(depth, policy.rbf_confirmations)

    def confirmed_base(self, tip_height: int | None) -> int:
        """Credited money at the required depth; with no tip, only what needs no block.

        Under a finality policy `tip_height` is the final height.
        """
        return sum(p.amount_base for p in self.confirmed(tip_height))

    def confirmed(self, tip_height: int | None) -> Iterator[Payment]:
        """The payments of `confirmed_base`."""
        required = self.required_depth
        if tip_height is None and required:
            return
        # Spelt out here and in `wake_height`: this is asked at every step of every invoice.
        for payment in self.credited():
            depth = self._depth(payment, required) if payment.replaceable else required
            have = 0 if tip_height is None else payment.confirmations(tip_height)
            if have >= depth:
                yield payment

    def wake_height(self) -> int | None:
        """The lowest tip at which `TipReached` would settle this invoice; None if no tip would.

        Under a finality policy, the lowest final height at which `HeightFinal` would.
        """
        if self.state is not State.SEEN:
            return None
        total, required = 0, self.required_depth
        placed: list[tuple[int, int]] = []
        for payment in self.credited():
            depth = self._depth(payment, required) if payment.replaceable else required
            if depth == 0:
                total += payment.amount_base
            elif payment.height is not None:
                placed.append((payment.height + depth - 1, payment.amount_base))
        for height, amount_base in sorted(placed):
            total += amount_base
            if total >= self.needed_base:
                return height
        return None

    def watched_until(self) -> int | None:
        """The tip height up to which this invoice must stay in memory; None: without end.

        An open invoice, or one with money that is unconfirmed, contested or locked until some
        instant, has no end; -1 when nothing is left to see.
        """
        if self.open or any(p.unconfirmed or p.contested for p in self.payments):
            return None
        if self.unlock_ms() is not None:
            return None
        depth = self.terms.watch_depth - 1
        placed = [(p, p.height) for p in self.payments if p.height is not None]
        return max((max(at + depth, p.unlock_height or 0) for p, at in placed), default=-1)

    def unlock_height(self) -> int | None:
        """The lowest tip at which `TipReached` would unlock a payment; None if no tip would."""
        heights = (p.unlock_height for p in self.payments if p.gone is None)
        return min((height for height in heights if height is not None), default=None)

    def unlock_ms(self) -> int | None:
        """The first instant at which `TimeReached` would unlock a payment; None if none would."""
        instants = (p.unlock_ms for p in self.payments if p.gone is None)
        return min((at_ms for at_ms in instants if at_ms is not None), default=None)

    def duplicates(self) -> frozenset[OutPoint]:
        """Payments that are there and count for nothing, for another one has their key."""
        counted = {p.outpoint for p in self._present()}
        return frozenset(
            p.outpoint
            for p in self.payments
            if p.gone is None and p.asset == self.terms.asset and p.outpoint not in counted
        )

    def find(self, outpoint: OutPoint) -> Payment | None:
        return next((p for p in self.payments if p.outpoint == outpoint), None)

    def _present(self) -> Iterable[Payment]:
        return counting(self.payments, self.terms.asset)

    def credited(self) -> Iterable[Payment]:
        """The payments of `credited_base`."""
        return (p for p in self._present() if not (p.late and not p.accepted) and not p.locked)


# --- evolve: fold one fact ------------------------------------------------------------------------


def evolve(invoice: Invoice | None, event: Event) -> Invoice:
    """The state after `event`. Raises IllegalTransitionError, changing nothing, if it cannot be."""
    if isinstance(event, InvoiceCreated):
        if invoice is not None:
            raise IllegalTransitionError(f"invoice {event.terms.invoice_id} is created twice")
        return Invoice(terms=event.terms, updated_at_ms=event.at_ms)
    if invoice is None:
        raise IllegalTransitionError(f"{event.kind} comes before the invoice's creation")
    if isinstance(event, PlacedEvent):
        changed = replace(invoice, payments=fold_payment(invoice.payments, event))
    elif isinstance(event, PaymentRefused):
        refusal = Refusal(event.outpoint, event.asset, event.reason)
        changed = replace(invoice, refused=(*invoice.refused, refusal))
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
