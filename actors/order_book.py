"""What the store keeps of orders: one immutable row per order, which says which invoice it is.

Status and amounts are the invoice's alone. The row is written first and chooses the invoice's id:
an order whose invoice does not exist yet does not exist for readers, and who asks for it again
completes it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A merchant's order; never changes."""

    id: int
    """Public: random, from 1 to 2**53 - 1, so that it is exact in every language's numbers."""
    invoice_id: UUID
    user_id: UUID
    """The merchant."""
    wallet_id: int
    merchant_order_id: str
    """What the merchant calls it."""
    attempt: int
    """From 1: a merchant may use its number again after the order expired or was cancelled."""
    description: str
    """Public. Text as it was given, as are the next two: escape it where it is shown."""
    callback_url: str
    """An http(s) URL to which the customer is sent in the end; empty: nowhere."""
    merchant_name: str
    """Empty: the merchant's brand has the name."""
    created_at_ms: int


class OrderBook(Protocol):
    """Rows are added, never changed; each method may raise TransientError or PersistentError."""

    async def claim_order(self, order: Order) -> Order | None:
        """Add it, or return the one that was there first for (user, merchant_order_id, attempt).

        None: another order has the id or the invoice's id; choose others.
        """
        ...

    async def order(self, order_id: int) -> Order | None: ...

    async def order_of_invoice(self, invoice_id: UUID) -> Order | None: ...

    async def orders_of_invoices(self, invoice_ids: Collection[UUID]) -> tuple[Order, ...]:
        """Those of these invoices, any number of them, that are orders."""
        ...

    async def newest_order(self, user_id: UUID, merchant_order_id: str) -> Order | None:
        """The one of the highest attempt."""
        ...

    async def attempts(
        self, user_id: UUID, merchant_order_id: str, *, limit: int
    ) -> tuple[Order, ...]:
        """All of them, the highest attempt first."""
        ...
