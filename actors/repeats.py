"""Requests with an idempotency key, the same for every wire: done once, answered the same twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from uuid import UUID

import trio

from actors.access import Caller
from actors.access_book import Claim
from actors.core.invoice import Invoice, fold
from actors.core.outcomes import InvoiceRefusal, UserExists
from actors.idempotency import Idempotency, IdempotencyRefusal
from actors.invoicing import Invoicing, NewInvoice

FINISH_WITHIN_S = 30.0
"""A request that began is finished even if its caller leaves, but not for ever."""


class Repeats:
    """`Invoicing` with idempotency keys; without a key everything is done anew."""

    def __init__(self, invoicing: Invoicing, idempotency: Idempotency) -> None:
        self._invoicing = invoicing
        self._idempotency = idempotency

    async def create_invoice(
        self, wanted: NewInvoice, *, caller: Caller, key: str | None
    ) -> Invoice | InvoiceRefusal | IdempotencyRefusal:
        """As `Invoicing.create_invoice`; a repetition gives the invoice as it was created.

        A refusal is not kept: the same request may succeed later, with the same key.
        """
        if key is None:
            return await self._invoicing.create_invoice(wanted)
        given = {one.name: normal(getattr(wanted, one.name)) for one in fields(wanted)}
        with _finishing():
            async with self._idempotency.once(
                owner=owner_of(caller), key=key, operation="create invoice", given=given
            ) as claim:
                if not isinstance(claim, Claim):
                    return claim
                if not claim.fresh:
                    made = await self._made(claim.resource_id)
                    if made is not None:
                        return made
                return await self._invoicing.create_invoice(wanted, invoice_id=claim.resource_id)
        raise AssertionError("the block returns")  # pragma: no cover

    async def register_user(
        self, user_id: UUID | None, *, caller: Caller, key: str | None
    ) -> UUID | UserExists | IdempotencyRefusal:
        """As `Invoicing.register_user`; a repetition gives the same id."""
        if key is None:
            return await self._invoicing.register_user(user_id)
        with _finishing():
            async with self._idempotency.once(
                owner=owner_of(caller),
                key=key,
                operation="register user",
                given={"id": user_id},
                resource_id=user_id,
            ) as claim:
                if not isinstance(claim, Claim):
                    return claim
                outcome = await self._invoicing.register_user(claim.resource_id)
                if isinstance(outcome, UserExists) and not claim.fresh:
                    return claim.resource_id
                return outcome
        raise AssertionError("the block returns")  # pragma: no cover

    async def _made(self, invoice_id: UUID) -> Invoice | None:
        """The invoice as it was when it was created, so that the answer is the same for ever."""
        history = await self._invoicing.history(invoice_id)
        return fold([history[0].event]) if history else None


def owner_of(caller: Caller) -> str:
    """Whose keys these are: one user's, or those of all who see every user.

    Not the API key's: a client that was given a new one must not make everything twice.
    """
    return "" if caller.user_id is None else str(caller.user_id)


def normal(value: object) -> object:
    """The same for two mappings with the same entries."""
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value


@contextmanager
def _finishing() -> Iterator[None]:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + FINISH_WITHIN_S):
        yield
