"""A client's end of a connection: gRPC over HTTP/2, and HTTP/1.1, both over memory streams.

Every failure of the connection is `Gone`; a refusal is `Refused`. Each line belongs to one task.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h2.exceptions
import orjson
import trio

from tests.helpers.grpc_raw import RawClient, prefixed
from tests.sim.process import Gone, Process

PATIENCE_S = 25.0
"""Without an answer for so long, a client hangs up."""


class Refused(Exception):  # noqa: N818 - an answer, not an error of anybody's
    """The daemon answered, and the answer is no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except (
        trio.BrokenResourceError,
        trio.ClosedResourceError,
        h2.exceptions.ProtocolError,
    ) as error:
        raise Gone from error


class GrpcLine:
    """Calls one after the other, or one stream."""

    def __init__(self, process: Process, *, window_bytes: int | None = None) -> None:
        self._stream = process.connect_grpc()
        self.raw = RawClient(self._stream, window_bytes=window_bytes)
        self._started = False

    async def call(self, path: str, request: Any, answer: Any) -> Any:
        """A unary call; Gone after PATIENCE_S."""
        with trio.move_on_after(PATIENCE_S), _losing():
            stream_id = await self._open(path, request)
            found = self.raw.answers[stream_id]
            while not found.ended:
                await self._step()
                if found.reset is not None:
                    raise Gone
            del self.raw.answers[stream_id]
            if found.status != 0:
                raise Refused(-1 if found.status is None else found.status, found.text)
            return answer.parse(found.messages[0])
        self.close()
        raise Gone

    async def stream(self, path: str, request: Any) -> None:
        """Open a stream; `message` takes from it."""
        with _losing():
            self._open_stream = self.raw.answers[await self._open(path, request)]

    async def opened(self) -> None:
        """Wait for the stream's headers: what comes after them is heard."""
        with _losing():
            while not self._open_stream.headers:
                await self._step()

    async def message(self) -> bytes:
        """The next message of the stream. Refused when it ended."""
        found = self._open_stream
        with _losing():
            while True:
                if len(found.data) >= 5:
                    _, size = struct.unpack(">BI", found.data[:5])
                    if len(found.data) >= 5 + size:
                        message = bytes(found.data[5 : 5 + size])
                        del found.data[: 5 + size]
                        return message
                if found.ended or found.reset is not None:
                    raise Refused(-1 if found.status is None else found.status, found.text)
                await self._step()

    def close(self) -> None:
        """Vanish."""
        self._stream.send_stream.close()
        self._stream.receive_stream.close()

    async def _open(self, path: str, request: Any) -> int:
        if not self._started:
            self._started = True
            await self.raw.start()
        return await self.raw.open(path, body=prefixed(bytes(request)))

    async def _step(self) -> None:
        if self.raw.closed:
            raise Gone
        await self.raw.step()
        self.raw.events.clear()


class HttpLine:
    """Requests one after the other, or one stream of server-sent events."""

    def __init__(self, process: Process) -> None:
        self._stream = process.connect_http()
        self._buffer = b""

    async def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and document; Gone after PATIENCE_S."""
        with trio.move_on_after(PATIENCE_S), _losing():
            status, given = await self._ask(method, path, body, headers)
            length = int(given.get("content-length", "0"))
            while len(self._buffer) < length:
                await self._more()
            found, self._buffer = self._buffer[:length], self._buffer[length:]
            return status, orjson.loads(found) if found else None
        self.close()
        raise Gone

    async def stream(self, path: str, **headers: str) -> int:
        """Open a stream, if the status is 200; `block` takes from it."""
        self._text = b""
        with trio.move_on_after(PATIENCE_S), _losing():
            return (await self._ask("GET", path, None, headers))[0]
        self.close()
        raise Gone

    async def block(self) -> dict[str, str]:
        """The next block's fields. Gone at the end."""
        with _losing():
            while b"\n\n" not in self._text:
                size = int(await self._until(b"\r\n"), 16)
                while len(self._buffer) < size + 2:
                    await self._more()
                if size == 0:
                    raise Gone
                self._text += self._buffer[:size]
                self._buffer = self._buffer[size + 2 :]
        one, _, self._text = self._text.partition(b"\n\n")
        pairs = (line.partition(":") for line in one.decode().split("\n"))
        return {name: value.strip() for name, _, value in pairs if name}

    def close(self) -> None:
        self._stream.socket.close()

    async def _ask(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, dict[str, str]]:
        content = b"" if body is None else orjson.dumps(body)
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        await self._stream.send_all("\r\n".join([*lines, "", ""]).encode() + content)
        head = (await self._until(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(":") for line in head[1:])
        given = {name.lower(): value.strip() for name, _, value in pairs}
        return int(head[0].split()[1]), given

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            await self._more()
        found, _, self._buffer = self._buffer.partition(end)
        return found

    async def _more(self) -> None:
        data = await self._stream.receive_some(65_536)
        if not data:
            raise Gone
        self._buffer += data
