"""The forms of webhooks: which events an endpoint is sent, in which bytes, with which headers.

`standard` is every event, as every other channel has it. `payscrypt` is for shops that know orders:
a request for each change of an order's status, and for nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from actors.core.invoice import TRANSITIONS, State
from actors.order_book import OrderBook
from actors.published import Published
from actors.webhook_signature import headers

MOST_REMEMBERED = 10_000
"""Invoices of which it is remembered whether they are orders, and which."""

ORDER_KINDS: Mapping[str, State] = MappingProxyType(
    {
        event.kind: after
        for before, row in TRANSITIONS.items()
        for event, after in row.items()
        if after is not before
    }
)
"""The kinds of events that change an invoice's state, with the state after them. No other event
changes an order's status: no late money, and no alarm about what was settled."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a receiver knows an order by."""

    order_id: int
    wallet_id: int
    merchant_order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a request's headers vouch for."""

    event_id: str
    body: bytes
    secret: bytes
    """The endpoint's newest one."""


class Composer(Protocol):
    """One form. What awaits may raise TransientError or PersistentError, as the store does."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """All that can be sent in this form; empty: every kind, and notices."""
        ...

    async def concerned(self, invoice_ids: Collection[UUID], /) -> Collection[UUID]:
        """Those of which endpoints of this form are sent events at all."""
        ...

    async def chosen(self, events: Sequence[Published], /) -> Sequence[Published]:
        """Those that an endpoint of this form is sent, in their order."""
        ...

    async def body(self, event: Published, /) -> bytes | None:
        """None: endpoints of this form are not sent this event."""
        ...

    def headers(self, signed: Signed, /) -> Mapping[str, str]:
        """Those beside the ones that every webhook has."""
        ...


class StandardForm:
    """Every event, in the bytes that `encode` gives it."""

    kinds: tuple[str, ...] = ()

    def __init__(self, encode: Callable[[Published], bytes]) -> None:
        self._encode = encode

    async def concerned(self, invoice_ids: Collection[UUID], /) -> Collection[UUID]:
        return invoice_ids

    async def chosen(self, events: Sequence[Published], /) -> Sequence[Published]:
        return events

    async def body(self, event: Published, /) -> bytes | None:
        return self._encode(event)

    def headers(self, _signed: Signed, /) -> Mapping[str, str]:
        return {}


class OrderForm:
    """The changes of orders' statuses; what happens to other invoices is passed over.

    Whether an invoice is an order never changes once it has an event: the order's row is written
    before the invoice, and stays. So what was found is remembered, `most` invoices of it.
    """

    kinds: tuple[str, ...] = tuple(ORDER_KINDS)

    def __init__(
        self,
        orders: OrderBook,
        encode: Callable[[Reference, State], bytes],
        *,
        most: int = MOST_REMEMBERED,
    ) -> None:
        """`encode` gives the bytes of an order that came into a state."""
        self._orders = orders
        self._encode = encode
        self._most = most
        self._memory: OrderedDict[UUID, Reference | None] = OrderedDict()

    @property
    def remembered(self) -> int:
        """Invoices in memory."""
        return len(self._memory)

    async def concerned(self, invoice_ids: Collection[UUID], /) -> Collection[UUID]:
        found = await self._references(invoice_ids)
        return {one for one, reference in found.items() if reference is not None}

    async def chosen(self, events: Sequence[Published], /) -> Sequence[Published]:
        changes = [one for one in events if one.type in ORDER_KINDS]
        orders = await self.concerned([one.invoice_id for one in changes])
        return [one for one in changes if one.invoice_id in orders]

    async def body(self, event: Published, /) -> bytes | None:
        state = ORDER_KINDS.get(event.type)
        if state is None:
            return None
        reference = (await self._references([event.invoice_id]))[event.invoice_id]
        return None if reference is None else self._encode(reference, state)

    def headers(self, signed: Signed, /) -> Mapping[str, str]:
        digest = hmac.new(signed.secret, signed.body, hashlib.sha256)
        return {"X-Delivery-Id": signed.event_id, "X-Payscrypt-Signature": digest.hexdigest()}

    async def _references(self, invoice_ids: Collection[UUID]) -> dict[UUID, Reference | None]:
        """Of each invoice, None where it is no order."""
        memory = self._memory
        found = {one: memory[one] for one in invoice_ids if one in memory}
        new = {one: None for one in invoice_ids if one not in found}
        for one in found:
            memory.move_to_end(one)
        if new:
            found |= new
            for order in await self._orders.orders_of_invoices(new):
                reference = Reference(order.id, order.wallet_id, order.merchant_order_id)
                found[order.invoice_id] = reference
            memory.update((one, found[one]) for one in new)
            while len(memory) > self._most:
                memory.popitem(last=False)
        return found


def request_headers(
    composer: Composer,
    secrets: tuple[bytes, ...],
    *,
    event_id: str,
    at_ms: int,
    body: bytes,
    user_agent: str,
) -> dict[str, str]:
    """All headers of a request that is made at this instant; the newest secret comes first."""
    return {
        "Content-Type": "application/json",
        "User-Agent": user_agent,
        **headers(secrets, event_id=event_id, at_s=at_ms // 1000, body=body),
        **composer.headers(Signed(event_id=event_id, body=body, secret=secrets[0])),
    }
