"""The invoice: states, transition table, `decide` and `evolve`. Pure: no clock, no IO, no chance.

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
    PaymentRefused,
    PaymentSeen,
    PaymentUnlocked,
    SettlementRestored,
    SettlementReversed,
    Terms,
)
from actors.core.inputs import (
    KEPT_SPENDS,
    ChainShortened,
    HeightFinal,
    HeightTaken,
    Input,
    OutputsRefused,
    TimeReached,
    TipReached,
    TxIncluded,
    TxRemoved,
    TxSeen,
)
from actors.core.payment import (
    IllegalTransitionError,
    Payment,
    PlacedEvent,
    Refusal,
    counting,
    fold_payment,
)

KEEP_REFUSED = 16
"""Refused outputs recorded of one invoice: enough for an alarm, and a bound on what a stranger can
make us write."""
MAX_REASON = 200
"""Characters kept of why an output was refused."""
FAR_MS = 253_402_300_799_999
"""A lock may name any instant; one after the year 9999 is recorded as its end."""


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


# --- decide: which facts are new ------------------------------------------------------------------


def create(terms: Terms) -> InvoiceCreated:
    """The first fact of an invoice."""
    return InvoiceCreated(at_ms=terms.created_at_ms, terms=terms)


def decide(invoice: Invoice, happened: Input) -> tuple[Event, ...]:
    """The facts that `happened` adds; empty when the state knows it all already."""
    draft = _Draft(invoice)
    at_ms = happened.at_ms
    tip_height: int | None = None
    final_height: int | None = None
    match happened:
        case TxSeen():
            _see(draft, happened)
        case TxIncluded():
            _include(draft, happened)
            tip_height = happened.block.height
        case OutputsRefused():
            _refuse(draft, happened)
        case TxRemoved():
            _displace(draft, (happened.txid,), happened.reason, happened.by, at_ms)
        case ChainShortened():
            _disconnect(draft, lambda _, at: at > happened.height, at_ms=at_ms)
            tip_height = happened.height
        case HeightTaken():
            _disconnect(
                draft,
                lambda p, at: at == happened.height and p.block_hash != happened.block_hash,
                at_ms=at_ms,
            )
        case TipReached():
            _reach_height(draft, happened)
            tip_height = happened.height
        case HeightFinal():
            final_height = happened.height
        case TimeReached():
            _reach_time(draft, at_ms)
        case _:
            assert_never(happened)
    _follow(draft, at_ms, tip_height if invoice.terms.finality is None else final_height)
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


def _see(draft: _Draft, seen: TxSeen) -> None:
    for output in _paying(seen.outputs):
        _see_output(draft, output, seen)
    _displace(draft, seen.replaces, Removal.REPLACED, seen.txid, seen.at_ms)


def _see_output(draft: _Draft, output: Output, seen: TxSeen) -> None:
    known = draft.invoice.find(output.outpoint)
    if known is not None and known.gone is None:
        return
    since_ms = seen.at_ms if seen.known_since_ms is None else min(seen.at_ms, seen.known_since_ms)
    first_seen_ms, late = _timing(draft.invoice, known, seen.replaces, since_ms)
    unlock_height, unlock_ms = _lock(known, output, tip_height=seen.tip_height, at_ms=since_ms)
    draft.record(
        PaymentSeen(
            at_ms=seen.at_ms,
            outpoint=output.outpoint,
            amount_base=output.amount_base,
            asset=output.asset,
            first_seen_ms=first_seen_ms,
            late=late,
            spends=seen.spends[:KEPT_SPENDS],
            one_time_key=output.one_time_key,
            unlock_height=unlock_height,
            unlock_ms=unlock_ms,
        )
    )


def _include(draft: _Draft, included: TxIncluded) -> None:
    for output in _paying(included.outputs):
        _include_output(draft, output, included)
    # Two that exclude each other are not in one chain: the loser's block is a stale one.
    _disconnect(draft, lambda p, _: p.outpoint.txid in included.replaces, at_ms=included.at_ms)
    _displace(draft, included.replaces, Removal.DOUBLE_SPENT, included.txid, included.at_ms)
    _displace(draft, (included.txid,), Removal.FAILED, None, included.at_ms)


def _include_output(draft: _Draft, output: Output, included: TxIncluded) -> None:
    block = included.block
    known = draft.invoice.find(output.outpoint)
    if known is not None and known.block_hash == block.hash:
        return
    if known is not None and known.height is not None and known.block_hash is not None:
        draft.record(
            PaymentDisconnected(included.at_ms, known.outpoint, known.height, known.block_hash)
        )
    since_ms = _by_header(block.time_s * 1000, included.at_ms)
    first_seen_ms, late = _timing(draft.invoice, known, included.replaces, since_ms)
    unlock_height, unlock_ms = _lock(known, output, tip_height=block.height, at_ms=since_ms)
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
            one_time_key=output.one_time_key,
            unlock_height=unlock_height,
            unlock_ms=unlock_ms,
        )
    )


def _by_header(mined_ms: int | None, at_ms: int) -> int:
    """After downtime a block is read long after it was mined: its header's time decides then."""
    return at_ms if mined_ms is None else min(at_ms, mined_ms)


def _lock(
    known: Payment | None, output: Output, *, tip_height: int | None, at_ms: int
) -> tuple[int | None, int | None]:
    """The height and the instant of a lock that still holds.

    What stands stays locked or unlocked as it is, whatever blocks come and go around it: only
    `TipReached` and `TimeReached` end a lock, and say whether that was too late.
    """
    if known is not None and known.gone is None:
        return known.unlock_height, known.unlock_ms
    height, unlock_ms = output.unlock_height, output.unlock_ms
    if height is not None and tip_height is not None and height <= tip_height:
        height = None
    if unlock_ms is not None:
        unlock_ms = None if unlock_ms <= at_ms else min(unlock_ms, FAR_MS)
    return height, unlock_ms


def _reach_height(draft: _Draft, reached: TipReached) -> None:
    """End the locks that end by this tip."""
    ended_ms = _by_header(reached.mined_ms, reached.at_ms)
    for payment in draft.invoice.payments:
        ends = payment.unlock_height
        if payment.gone is None and ends is not None and ends <= reached.height:
            _unlock(draft, payment, ended_ms, at_ms=reached.at_ms)


def _reach_time(draft: _Draft, at_ms: int) -> None:
    """End the locks and the time to pay that end by `at_ms`."""
    for payment in draft.invoice.payments:
        ends = payment.unlock_ms
        if payment.gone is None and ends is not None and ends <= at_ms:
            _unlock(draft, payment, ends, at_ms=at_ms)
    invoice = draft.invoice
    if at_ms >= invoice.terms.expires_at_ms and invoice.open and not invoice.deadline_reached:
        draft.record(DeadlineReached(at_ms))


def _unlock(draft: _Draft, payment: Payment, ended_ms: int, *, at_ms: int) -> None:
    invoice = draft.invoice
    late = invoice.state is State.EXPIRED or ended_ms > invoice.terms.expires_at_ms
    draft.record(PaymentUnlocked(at_ms, payment.outpoint, late))


def _refuse(draft: _Draft, refused: OutputsRefused) -> None:
    for output in refused.outputs:
        known = draft.invoice.refused
        if len(known) < KEEP_REFUSED and all(one.outpoint != output.outpoint for one in known):
            reason = output.reason[:MAX_REASON]
            draft.record(PaymentRefused(refused.at_ms, output.outpoint, output.asset, reason))


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
        # A contested one is already gone; what became of it is said once more.
        waits = payment.unconfirmed or (payment.contested and reason is not Removal.CONTESTED)
        if payment.outpoint.txid in txids and waits:
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
