"""A reader of server-sent events over a raw socket, and the house's HTTP server for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
import trio

from api.rest.app import create_app
from api.rest.edge import HttpLimits
from api.rest.serving import HttpServer
from tests.helpers.house import House


@dataclass(frozen=True)
class Sent:
    """One block of the stream, as its lines say."""

    id: str | None
    event: str | None
    data: Any
    comment: str | None
    retry: str | None

    @property
    def seq(self) -> int:
        return int((self.id or "").partition("-")[2])


class EventSource:
    """An HTTP/1.1 request whose answer is read block by block."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""
        self._text = b""
        self.head = ""

    async def ask(self, path: str, headers: dict[str, str]) -> None:
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.stream.send_all("\r\n".join([*lines, "", ""]).encode())
        self.head = (await self._until(b"\r\n\r\n")).decode()

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None

    async def document(self) -> Any:
        """The JSON body of an answer that is no stream."""
        length = int(self.header("content-length") or 0)
        while len(self._buffer) < length:
            self._buffer += await self._more()
        return orjson.loads(self._buffer[:length])

    async def chunk(self) -> bytes:
        """The next part of the body; empty at its end."""
        size = int(await self._until(b"\r\n"), 16)
        while len(self._buffer) < size + 2:
            self._buffer += await self._more()
        part, self._buffer = self._buffer[:size], self._buffer[size + 2 :]
        return part

    async def block(self) -> Sent | None:
        """The next block; None at the stream's end, which comes after a whole one."""
        while b"\n\n" not in self._text:
            part = await self.chunk()
            if not part:
                assert self._text == b"", "a stream ends after a whole block"
                return None
            self._text += part
        one, _, self._text = self._text.partition(b"\n\n")
        return _sent(one.decode())

    async def take(self, count: int) -> list[Sent]:
        """The next `count` events, over comments."""
        found: list[Sent] = []
        while len(found) < count:
            one = await self.block()
            assert one is not None, f"the stream ended after {len(found)} events"
            if one.event is not None:
                found.append(one)
        return found

    async def rest(self) -> list[Sent]:
        """All until the end."""
        found: list[Sent] = []
        while (one := await self.block()) is not None:
            found.append(one)
        return found

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._buffer += await self._more()
        found, _, self._buffer = self._buffer.partition(end)
        return found

    async def _more(self) -> bytes:
        data = await self.stream.receive_some(65_536)
        if not data:
            raise EOFError("the connection was closed")
        return bytes(data)


def _sent(block: str) -> Sent:
    fields: dict[str, str] = {}
    comment = None
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        if not name:
            comment = value.strip()
            continue
        fields[name] = value.removeprefix(" ")
    data = orjson.loads(fields["data"]) if "data" in fields else None
    return Sent(fields.get("id"), fields.get("event"), data, comment, fields.get("retry"))


class Http:
    """The house's REST API on a socket."""

    def __init__(self, server: HttpServer, port: int, shutdown: trio.Event) -> None:
        self.server = server
        self.port = port
        self.shutdown = shutdown

    @asynccontextmanager
    async def connection(self, *, small: bool = False) -> AsyncIterator[EventSource]:
        """`small`: the kernel takes little for a reader that reads nothing."""
        socket = trio.socket.socket()
        if small:
            socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await socket.connect(("127.0.0.1", self.port))
        stream = trio.SocketStream(socket)
        try:
            yield EventSource(stream)
        finally:
            await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def events(
        self, *, last: str | None = None, headers: dict[str, str] | None = None, **query: Any
    ) -> AsyncIterator[EventSource]:
        """An open stream."""
        given = {"Accept": "text/event-stream", **(headers or {})}
        if last is not None:
            given["Last-Event-ID"] = last
        async with self.connection() as source:
            await source.ask(f"/v1/events?{urlencode(query)}", given)
            yield source


@asynccontextmanager
async def http(house: House, *, limits: HttpLimits | None = None) -> AsyncIterator[Http]:
    """Serve for the length of the block."""
    server = HttpServer(create_app(house.edge(limits=limits)))
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
            await server.serve("127.0.0.1", 0, shutdown=shutdown, task_status=task_status)

        bound = await nursery.start(serve)
        try:
            yield Http(server, bound[0][1], shutdown)
        finally:
            shutdown.set()
