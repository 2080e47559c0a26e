"""Responses that are sent part by part, for as long as the reader takes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import trio
from quart_trio.wrappers import TrioResponse

STALL_S = 30.0
"""A reader that takes nothing for so long is gone."""

SendPart = Callable[[bytes], Awaitable[None]]
"""Sends a part of the body; returns when the reader, or the kernel, has taken it."""
Work = Callable[[SendPart], Awaitable[None]]
"""Sends the whole body; cancelled when the reader goes."""


async def _no_connection() -> None:
    """There is none in tests that call the application itself."""
    await trio.lowlevel.checkpoint()


HANG_UP: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("hang_up", default=_no_connection)
"""Closes the connection that the running request came by, whatever is being sent on it."""


class StreamedResponse(TrioResponse):
    """A response whose body is made while it is sent."""

    work: Work

    async def send_body(self, send: Any) -> None:
        """Do the work on an ASGI connection whose response has begun.

        What is given to the kernel cannot be taken back by cancelling, so a reader that takes
        nothing is noticed from beside, and its connection closed.
        """
        began_s: list[float] = []

        async def send_part(part: bytes) -> None:
            began_s.append(trio.current_time())
            await send({"type": "http.response.body", "body": part, "more_body": True})
            began_s.clear()
            await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_mind, began_s)
            await self.work(send_part)
            nursery.cancel_scope.cancel()


async def _mind(began_s: list[float]) -> None:
    while True:
        await trio.sleep(STALL_S / 4)
        if began_s and trio.current_time() - began_s[0] >= STALL_S:
            await HANG_UP.get()()
