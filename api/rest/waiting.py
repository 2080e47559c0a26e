"""Long-polls: wait until an invoice looks different, the time is up, or the daemon stops."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import trio

from api.rest.edge import Edge
from api.rest.problems import problem
from api.rest.views import View, Views

LOOK_AT_TIP_S = 1.0
"""A growing chain changes confirmations without a fact of the invoice; it is looked at so often."""


class WaitingRoom:
    """Where long-polls wait; bounded, and emptied when the daemon stops."""

    def __init__(self, edge: Edge, views: Views) -> None:
        self._hub = edge.hub
        self._limit = edge.limits.waiting
        self._views = views
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
        *,
        known: Callable[[View], bool],
        wait_s: float,
    ) -> View | None:
        """The first view that is not `known`; None when the time is up before there is one.

        Raises Problem when too many wait already.
        """
        if self._closed:
            return None
        if len(self._waiting) >= self._limit:
            raise problem(
                "TOO_MANY_WAITING", f"{self._limit} requests are waiting, which is the limit."
            )
        scope = trio.move_on_after(wait_s)
        self._waiting.add(scope)
        try:
            with scope:
                while True:
                    # The bell first, then the look: a change in between rings it.
                    with self._hub.bell(invoice_id) as bell:
                        view = await self._views.look(invoice_id)
                        if not known(view):
                            return view
                        await self._bell_or_tip(bell, view)
        finally:
            self._waiting.discard(scope)
        return None

    async def _bell_or_tip(self, bell: trio.Event, view: View) -> None:
        if all(one.height is None for one in view.invoice.payments):
            await bell.wait()
            return
        chain_id = view.invoice.terms.chain
        while not bell.is_set() and self._views.tip_height(chain_id) == view.tip_height:
            with trio.move_on_after(LOOK_AT_TIP_S):
                await bell.wait()
