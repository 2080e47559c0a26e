"""What an order says of its invoice. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from actors.core.invoice import Invoice, State


class OrderStatus(IntEnum):
    """As the document numbers them."""

    PENDING = 0
    CONFIRMING = 1
    """Paid, at least in the mempool; not deep enough yet."""
    SUCCESSFUL = 2
    EXPIRED = 3
    CANCELED = 4

    @property
    def final(self) -> bool:
        return self not in (OrderStatus.PENDING, OrderStatus.CONFIRMING)


STATUSES: Mapping[State, OrderStatus] = MappingProxyType(
    {
        State.PENDING: OrderStatus.PENDING,
        State.SEEN: OrderStatus.CONFIRMING,
        State.SETTLED: OrderStatus.SUCCESSFUL,
        State.EXPIRED: OrderStatus.EXPIRED,
        State.CANCELLED: OrderStatus.CANCELED,
    }
)


def status_of(invoice: Invoice) -> OrderStatus:
    return STATUSES[invoice.state]


def confirmations_of(invoice: Invoice, tip_height: int | None) -> int:
    """The lowest depth among the payments that are needed to reach the target.

    Of the payments that count, the deepest ones are taken until they reach it. 0 while they do not,
    or while one of those is in no block; `tip_height` is the chain's, None when it is not known.

    While an order is CONFIRMING the number stays below `Invoice.confirmations`, and once it is
    SUCCESSFUL it is not, unless a reorg took something back: what settles may be more than depth
    below the tip (the chain's own word for final, more blocks for a payment that could be
    replaced), and a block is counted a moment before or after the facts that follow from it.
    """
    heights = [payment.height for payment in invoice.payments if payment.height is not None]
    tip = max([*heights, *([] if tip_height is None else [tip_height])], default=0)
    depths = sorted(
        ((one.confirmations(tip), one.amount_base) for one in invoice.credited()), reverse=True
    )
    reached_base, depth = 0, 0
    for depth, amount_base in depths:  # noqa: B007 - the last one's depth is the answer
        reached_base += amount_base
        if reached_base >= invoice.needed_base:
            break
    else:
        return 0
    if invoice.state is State.SEEN:
        return min(depth, max(0, invoice.confirmations - 1))
    if invoice.state is State.SETTLED and depth and not invoice.reversed:
        return max(depth, invoice.confirmations)
    return depth
