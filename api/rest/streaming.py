"""Responses that are sent part by part, for as long as the reader takes them.

Such a response outlives what made it: once its head is sent, the connection is taken from Hypercorn
and Quart, whose tasks, parsers and buffers go, and nothing is left but a socket and the task that
sends. Only HTTP/2, where a connection has other streams, keeps them.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio
from quart_trio.wrappers import TrioResponse

STALL_S = 30.0
"""A reader that takes nothing for so long is gone."""
LAST_CHUNK = b"0\r\n\r\n"

SendPart = Callable[[bytes], Awaitable[None]]
"""Sends a part of the body; returns when the reader, or the kernel, has taken it."""
Work = Callable[[SendPart], Awaitable[None]]
"""Sends the whole body; cancelled when the reader goes."""


class StreamedResponse(TrioResponse):
    """A response whose body is made while it is sent."""

    work: Work


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a response whose head is sent."""

    work: Work
    chunked: bool
    """In chunks, which tell its end (RFC 9112, 7.1); without them only the connection's end does.
    """


class Line:
    """The connection that a request came by, as it stands in the request's ASGI scope."""

    NAME = "tally.line"

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.talking = trio.CancelScope()
        """The serving of requests."""
        self.body: Body | None = None
        """What is to be sent after that."""
        self.resting = False
        """Nothing is asked at present."""

    @property
    def kept(self) -> bool:
        """Whether the connection is still needed when requests are served no more."""
        return self.resting or self.body is not None

    @staticmethod
    def of(scope: Any) -> Line | None:
        """None in tests that call the application itself."""
        found = scope.get("state", {}).get(Line.NAME)
        assert found is None or isinstance(found, Line)
        return found

    async def hang_up(self) -> None:
        """Close the connection, whatever is being sent on it."""
        await trio.aclose_forcefully(self._stream)

    async def hand_over(self, body: Body) -> None:
        """Have it sent when the request is over, which is at once: this does not return."""
        self.body = body
        self.talking.cancel()
        await trio.sleep_forever()


async def send_body(stream: trio.SocketStream, body: Body) -> None:
    """Do the body's work on a connection that serves nothing else any more.

    Returns when it is done, or the reader is gone or takes nothing for STALL_S. The connection has
    to be closed then.
    """
    # Who vanished without a word is noticed when it acknowledges nothing.
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_S * 1000))
    whole = True

    async def send_part(part: bytes) -> None:
        nonlocal whole
        whole = False
        with trio.fail_after(STALL_S):
            await stream.send_all(b"%x\r\n%b\r\n" % (len(part), part) if body.chunked else part)
        whole = True

    try:
        await body.work(send_part)
        # After a part that was cut off by cancelling, the end would look like more of it.
        if whole and body.chunked:
            with trio.fail_after(STALL_S):
                await stream.send_all(LAST_CHUNK)
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        return


async def send_through(work: Work, send: Any, line: Line | None) -> None:
    """Do the work on an ASGI connection whose response has begun.

    What is given to Hypercorn cannot be taken back by cancelling, so a reader that takes nothing is
    noticed from beside, and its connection closed.
    """
    began_s: list[float] = []

    async def send_part(part: bytes) -> None:
        began_s.append(trio.current_time())
        await send({"type": "http.response.body", "body": part, "more_body": True})
        began_s.clear()
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        if line is not None:
            nursery.start_soon(_mind, began_s, line)
        await work(send_part)
        nursery.cancel_scope.cancel()


async def _mind(began_s: list[float], line: Line) -> None:
    while True:
        await trio.sleep(STALL_S / 4)
        if began_s and trio.current_time() - began_s[0] >= STALL_S:
            await line.hang_up()
