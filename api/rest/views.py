"""An invoice as it looks at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from actors.core.invoice import Invoice
from actors.core.outcomes import NoSuchInvoice
from actors.invoicing import Invoicing
from api.errors import answer
from api.rest.problems import Problem
from api.rest.represent import encode, invoice_json


@dataclass(frozen=True, slots=True)
class View:
    """An invoice, and the bytes that represent it."""

    invoice: Invoice
    tip_height: int | None
    """The chain's tip at that moment: confirmations follow from it."""
    content: bytes
    etag: str


class Views:
    """Looks at invoices."""

    def __init__(self, invoicing: Invoicing) -> None:
        self._invoicing = invoicing

    async def look(self, invoice_id: UUID) -> View:
        """The invoice as it is now. Raises Problem when there is none."""
        row = await self._invoicing.invoice(invoice_id)
        if isinstance(row, NoSuchInvoice):
            raise Problem(answer(row))
        return self.of(row.invoice)

    def of(self, invoice: Invoice) -> View:
        content, etag = encode(self.document(invoice))
        return View(invoice, self.tip_height(invoice.terms.chain), content, etag)

    def document(self, invoice: Invoice) -> dict[str, Any]:
        health = self._invoicing.health(invoice.terms.chain)
        return invoice_json(invoice, self._invoicing.catalogue, health)

    def tip_height(self, chain_id: str) -> int | None:
        """The tip of the chain; None where it is not followed."""
        health = self._invoicing.health(chain_id)
        return health.tip.height if health and health.tip else None
