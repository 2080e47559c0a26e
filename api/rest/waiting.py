"""Long-polls: wait until an invoice looks different, the time is up, or the daemon stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import trio

from actors.core.invoice import Invoice
from api.rest.edge import Edge
from api.rest.problems import problem

LOOK_AT_TIP_S = 1.0
"""A growing chain changes confirmations without a fact of the invoice; it is looked at so often."""


@dataclass(frozen=True, slots=True)
class View:
    """An invoice as it looked at one moment."""

    invoice: Invoice
    tip_height: int | None
    """What its confirmations were counted from."""
    content: bytes
    etag: str


class WaitingRoom:
    """Where long-polls wait; bounded, and emptied when the daemon stops."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._waiting: set[trio.CancelScope] = set()
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """End every wait now, and every later one at once."""
        self._closed = True
        for scope in self._waiting:
            scope.cancel()

    async def different(
        self,
        invoice_id: UUID,
        look: Callable[[], Awaitable[View]],
        *,
        known: Callable[[View], bool],
        wait_s: float,
    ) -> View | None:
        """The first view that is not `known`; None when the time is up before there is one.

        Raises Problem when too many wait already.
        """
        if self._closed:
            return None
        limit = self._edge.limits.waiting
        if len(self._waiting) >= limit:
            raise problem("TOO_MANY_WAITING", f"{limit} requests are waiting, which is the limit.")
        scope = trio.move_on_after(wait_s)
        self._waiting.add(scope)
        try:
            with scope:
                while True:
                    # The bell first, then the look: a change in between rings it.
                    with self._edge.hub.bell(invoice_id) as bell:
                        view = await look()
                        if not known(view):
                            return view
                        await self._bell_or_tip(bell, view)
        finally:
            self._waiting.discard(scope)
        return None

    def tip_height(self, chain_id: str) -> int | None:
        """The height from which confirmations count; None where the chain is not followed."""
        health = self._edge.invoicing.health(chain_id)
        return health.tip.height if health and health.tip else None

    async def _bell_or_tip(self, bell: trio.Event, view: View) -> None:
        if all(one.height is None for one in view.invoice.payments):
            await bell.wait()
            return
        chain_id = view.invoice.terms.chain
        while not bell.is_set() and self.tip_height(chain_id) == view.tip_height:
            with trio.move_on_after(LOOK_AT_TIP_S):
                await bell.wait()
