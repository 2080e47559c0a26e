"""Which facts are new: what a chain or a clock says, compared with an invoice's state. Pure.

The rules are those of `core.invoice`. `decide` finds payments first, then what follows for the
invoice, until nothing more follows. A duplicate input yields no fact, because the state already
says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from actors.core import applied
from actors.core.chain_events import Output, Removal
from actors.core.events import (
    DeadlineReached,
    Event,
    InvoiceCancelled,
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
    CancelAsked,
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
from actors.core.invoice import Invoice, State, evolve
from actors.core.payment import Payment
from actors.core.policy import Applied

KEEP_REFUSED = 16
"""Refused outputs recorded of one invoice: enough for an alarm, and a bound on what a stranger can
make us write."""
MAX_REASON = 200
"""Characters kept of why an output was refused."""
FAR_MS = 253_402_300_799_999
"""A lock may name any instant; one after the year 9999 is recorded as its end."""


def create(terms: Terms) -> InvoiceCreated:
    """The first fact of an invoice."""
    return InvoiceCreated(at_ms=terms.created_at_ms, terms=terms)


def decide(invoice: Invoice, happened: Input, *, more: bool = False) -> tuple[Event, ...]:
    """The facts that `happened` adds; empty when the state knows it all already.

    With `more`, other news of the same moment are decided next: a block may take one payment away
    and bring another, and the invoice does not expire in between.
    """
    draft = _Draft(invoice)
    at_ms = happened.at_ms
    tip_height: int | None = None
    final_height: int | None = None
    read_up_to_ms: int | None = None
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
            read_up_to_ms = at_ms
        case CancelAsked():
            if invoice.state is State.PENDING and not invoice.received_base:
                draft.record(InvoiceCancelled(at_ms))
        case _:
            assert_never(happened)
    deciding_height = tip_height if invoice.terms.finality is None else final_height
    _follow(draft, at_ms, deciding_height, read_up_to_ms, more=more)
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
    first_seen_ms, late, policies = _timing(
        draft.invoice, known, output.asset, seen.replaces, since_ms
    )
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
            replaceable=seen.replaceable and _minds_replacement(draft.invoice),
            policies=policies,
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
    first_seen_ms, late, policies = _timing(
        draft.invoice, known, output.asset, included.replaces, since_ms
    )
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
            replaceable=included.replaceable and _minds_replacement(draft.invoice),
            policies=policies,
        )
    )


def _minds_replacement(invoice: Invoice) -> bool:
    """Whether a signal for replacement is worth a record: only the policy makes it matter."""
    policy = invoice.terms.policy
    return policy is not None and policy.rbf_confirmations is not None


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
    late = invoice.unpaid or ended_ms > invoice.terms.expires_at_ms
    policies = applied.to_late_money(invoice, ended_ms) if late else ()
    draft.record(PaymentUnlocked(at_ms, payment.outpoint, late, policies))


def _refuse(draft: _Draft, refused: OutputsRefused) -> None:
    for output in refused.outputs:
        known = draft.invoice.refused
        if len(known) < KEEP_REFUSED and all(one.outpoint != output.outpoint for one in known):
            reason = output.reason[:MAX_REASON]
            draft.record(PaymentRefused(refused.at_ms, output.outpoint, output.asset, reason))


def _timing(
    invoice: Invoice, known: Payment | None, asset: str, replaces: tuple[bytes, ...], at_ms: int
) -> tuple[int, bool, tuple[Applied, ...]]:
    """When the money was first seen, whether that was too late, and by what it counts if it was.

    Money keeps the time of the payment it replaces, if that was of the same asset, and of its own
    earlier appearance. What comes (back) to an expired invoice is late; what was there all the time
    stays as it was judged.
    """
    if known is not None and known.gone is None:
        return _judged(invoice, known)
    earlier = [p for p in invoice.payments if p.outpoint.txid in replaces and p.asset == asset]
    if known is not None:
        earlier.append(known)
    if not earlier:
        # A header's time may be off by hours, but nobody pays to an address not yet given out.
        first_seen_ms = max(invoice.terms.created_at_ms, at_ms)
        late = invoice.unpaid or first_seen_ms > invoice.terms.expires_at_ms
        policies = applied.to_late_money(invoice, first_seen_ms) if late else ()
        return first_seen_ms, late, policies
    first = min(earlier, key=lambda p: (p.late, not p.accepted, p.first_seen_ms))
    if invoice.unpaid:
        return first.first_seen_ms, True, ()
    return _judged(invoice, first)


def _judged(invoice: Invoice, known: Payment) -> tuple[int, bool, tuple[Applied, ...]]:
    """As the money was judged when it came."""
    policies = applied.again(invoice) if known.accepted else ()
    return known.first_seen_ms, known.late, policies


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


def _follow(
    draft: _Draft,
    at_ms: int,
    tip_height: int | None,
    read_up_to_ms: int | None,
    *,
    more: bool,
) -> None:
    """Record what the payments now mean for the invoice, until nothing more follows."""
    while (event := _consequence(draft.invoice, at_ms, tip_height, read_up_to_ms)) is not None:
        if more and isinstance(event, InvoiceExpired):
            return
        draft.record(event)


def _consequence(
    invoice: Invoice, at_ms: int, tip_height: int | None, read_up_to_ms: int | None
) -> Event | None:
    covered = invoice.covered
    match invoice.state:
        case State.PENDING if covered:
            return InvoiceCovered(at_ms, invoice.credited_base, applied.to_cover(invoice))
        case State.PENDING if invoice.deadline_reached and _is_over(invoice, read_up_to_ms):
            return InvoiceExpired(at_ms, invoice.credited_base)
        case State.SEEN if not covered:
            return InvoiceUncovered(at_ms, invoice.credited_base)
        case State.SEEN if invoice.confirmed_base(tip_height) >= invoice.needed_base:
            return _settled(invoice, at_ms, tip_height)
        case State.SETTLED if not covered and not invoice.reversed:
            return SettlementReversed(at_ms, invoice.credited_base)
        case State.SETTLED if covered and invoice.reversed:
            return SettlementRestored(at_ms, invoice.credited_base, applied.to_cover(invoice))
    return None


def _is_over(invoice: Invoice, read_up_to_ms: int | None) -> bool:
    """Whether no more money can count, once the deadline has passed.

    While late money is accepted, only having read the chain up to the end of that time says so: our
    own clock may be far ahead of the blocks that are being read.
    """
    closes_at_ms = invoice.closes_at_ms
    if closes_at_ms == invoice.terms.expires_at_ms:
        return True
    return read_up_to_ms is not None and read_up_to_ms >= closes_at_ms


def _settled(invoice: Invoice, at_ms: int, tip_height: int | None) -> InvoiceSettled:
    needs_blocks = any(invoice.depth_of(payment) for payment in invoice.credited())
    return InvoiceSettled(
        at_ms,
        invoice.confirmed_base(tip_height),
        tip_height if needs_blocks else None,
        applied.to_settle(invoice, tip_height),
    )
