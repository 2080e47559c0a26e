"""The trail of administrative acts: who did what, to what, when, and from where."""

from __future__ import annotations

from actors.access import Caller
from actors.access_book import AccessBook, Act
from actors.ports import WallClock

MAX_DETAIL = 1000
"""Characters; more is cut."""


class Audit:
    """Appends to the trail, in the caller's name."""

    def __init__(self, book: AccessBook, *, clock: WallClock) -> None:
        self._book = book
        self._clock = clock

    async def record(self, caller: Caller, act: str, *, target: str, detail: str = "") -> None:
        """Durable when it returns; to be called when the act itself has succeeded.

        `act` is noun.participle (`user.registered`, `webhook.removed`), `target` an id, `detail`
        for people and never a secret. Raises TransientError or PersistentError as the store does.
        """
        await self._book.record_act(
            Act(
                at_ms=self._clock.now_ms(),
                actor=caller.actor,
                address=caller.address,
                act=act,
                target=target,
                detail=detail[:MAX_DETAIL],
            )
        )
