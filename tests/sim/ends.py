"""Where a simulated process ends: its side of a connection, and what it sends webhooks with."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any
from uuid import UUID

import trio

from actors.webhook_sending import Sender
from tests.sim.disk import KilledError, ProcessStore


class Line(trio.abc.HalfCloseableStream):
    """The daemon's end of a gRPC connection: memory."""

    def __init__(self, stream: trio.StapledStream) -> None:
        self._stream = stream
        self._closed = False

    async def send_all(self, data: bytes) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        self._stream.send_stream.close()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def hang_up(self) -> None:
        self.close()

    def close(self) -> None:
        """Both directions, now."""
        self._closed = True
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


class SocketLine(trio.abc.HalfCloseableStream):
    """The daemon's end of an HTTP connection: half of a socket pair, for HTTP asks the kernel.

    What is sent is there at once, so the virtual clock cannot run ahead of it.
    """

    def __init__(self, ours: trio.socket.SocketType) -> None:
        self._stream = trio.SocketStream(ours)
        self.socket = _Loopback(ours)

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def hang_up(self) -> None:
        """Both directions, now, whichever task is running."""
        with suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._stream.socket.close()

    def setsockopt(self, *_option: object) -> None:
        """What is said of TCP does not concern it."""


class _Loopback:
    """Half of a socket pair that says it is a TCP connection on this machine."""

    family = socket.AF_INET

    def __init__(self, ours: trio.socket.SocketType) -> None:
        self._ours = ours

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ours, name)

    def fileno(self) -> int:
        return self._ours.fileno()

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    getsockname = getpeername


class LivingSender:
    """A process that is dead sends nothing, and hears no answer."""

    def __init__(self, sender: Sender, store: ProcessStore) -> None:
        self._sender = sender
        self._store = store

    async def post(self, *given: Any) -> Any:
        self._check()
        answer = await self._sender.post(*given)
        self._check()
        return answer

    async def forget(self, endpoint_id: UUID) -> None:
        self._check()
        await self._sender.forget(endpoint_id)

    def _check(self) -> None:
        if self._store.dead:
            raise KilledError
