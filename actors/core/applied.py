"""Which policies made the difference: what an event names that had not come without them. Pure.

See `core.policy`; an invoice without a policy never names one.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors.core.invoice import Invoice
from actors.core.payment import Payment
from actors.core.policy import BAND, LATE, REPLACEABLE, TOLERANCE, Applied, Policy

NONE: tuple[Applied, ...] = ()


def to_late_money(invoice: Invoice, since_ms: int) -> tuple[Applied, ...]:
    """By what money is credited that came (or was unlocked) after the deadline, at `since_ms`."""
    policy = invoice.terms.policy
    if policy is None or not policy.accept_late_s or invoice.unpaid:
        return NONE
    return (_late(policy),) if since_ms <= invoice.closes_at_ms else NONE


def again(invoice: Invoice) -> tuple[Applied, ...]:
    """By what late money counts that was accepted once: it stays so, whatever happened since."""
    policy = invoice.terms.policy
    return NONE if policy is None else (_late(policy),)


def to_cover(invoice: Invoice) -> tuple[Applied, ...]:
    """By what the credited money covers the invoice."""
    policy = invoice.terms.policy
    if policy is None:
        return NONE
    return tuple(_reaching(invoice, policy, invoice.credited()))


def to_settle(invoice: Invoice, tip_height: int | None) -> tuple[Applied, ...]:
    """By what the money that is deep enough settles it, and by what it had to be so deep."""
    policy = invoice.terms.policy
    if policy is None:
        return NONE
    confirmed = tuple(invoice.confirmed(tip_height))
    applied = [*_reaching(invoice, policy, confirmed)]
    band = invoice.band()
    if band is not None:
        numbers = (("from_base", band.from_base), ("confirmations", band.confirmations))
        applied.append(Applied(BAND, numbers))
    depths = [invoice.depth_of(payment) for payment in confirmed]
    if (deepest := max(depths, default=0)) > invoice.required_depth:
        applied.append(Applied(REPLACEABLE, (("confirmations", deepest),)))
    return tuple(applied)


def _reaching(invoice: Invoice, policy: Policy, money: Iterable[Payment]) -> Iterable[Applied]:
    """By what this money reaches the amount."""
    total_base = in_time_base = 0
    for payment in money:
        total_base += payment.amount_base
        in_time_base += 0 if payment.late else payment.amount_base
    missing_base = invoice.terms.required_base - total_base
    if missing_base > 0:
        allowed_base = policy.tolerance(invoice.terms.required_base)
        numbers = (("missing_base", missing_base), ("tolerance_base", allowed_base))
        yield Applied(TOLERANCE, numbers)
    if in_time_base < invoice.needed_base:
        yield _late(policy)


def _late(policy: Policy) -> Applied:
    return Applied(LATE, (("accept_late_s", policy.accept_late_s),))
