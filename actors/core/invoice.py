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
5. SETTLED and EXPIRED are final. Later money is recorded and flagged (overpaid, late); money that
   leaves a settled invoice raises an alarm (SettlementReversed), and the state stays.
6. An output of nothing is no payment: tokens can be "transferred" to anybody, zero at a time. Nor
   is one that proves no amount (refused): it is recorded as an alarm, once.

Theory of operation
-------------------
`core.decision.decide` compares an input with the state and returns the facts that are new. `evolve`
folds one fact into the state; for invoice events it looks up TRANSITIONS, and a missing key *is*
the illegal transition. Folding the stored events gives the live state, always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from actors.core.chain_events import OutPoint
from actors.core.events import (
    DeadlineReached,
    Event,
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
        return max(1, self.terms.required_base)

    @property
    def received_base(self) -> int:
        """All money of the invoice's asset in mempool and active chain, late and locked too."""
        return sum(p.amount_base for p in self._present())

    @property
    def credited_base(self) -> int:
        """The part of `received_base` that came in time and is not locked."""
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

    def _credited(self) -> Iterable[Payment]:
        return (p for p in self._present() if not (p.late or p.locked))


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
