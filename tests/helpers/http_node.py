"""An HTTP server on Trio that answers JSON-RPC requests as a script tells it, well or badly."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio


@dataclass
class Request:
    """One request, and the stream to answer it on."""

    body: bytes
    headers: Mapping[str, str]
    stream: trio.SocketStream
    connection: int
    target: str = "/"

    @property
    def calls(self) -> list[dict[str, Any]]:
        parsed = json.loads(self.body)
        return parsed if isinstance(parsed, list) else [parsed]

    @property
    def login(self) -> str:
        return base64.b64decode(self.headers.get("authorization", " ").split(" ")[1]).decode()

    async def answer(self, body: bytes, *, status: int = 200, length: int | None = None) -> None:
        size = len(body) if length is None else length
        head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {size}\r\n\r\n"
        await self.stream.send_all(head.encode() + body)

    async def results(self, results: list[Any]) -> None:
        """Answer each call with its result, or with its error if that is a RpcFault."""
        answers = [
            {"id": call["id"], "result": None, "error": result.as_json()}
            if isinstance(result, RpcFault)
            else {"id": call["id"], "result": result, "error": None}
            for call, result in zip(self.calls, results, strict=True)
        ]
        is_batch = self.body.lstrip().startswith(b"[")
        await self.answer(json.dumps(answers if is_batch else answers[0]).encode())


@dataclass(frozen=True)
class RpcFault:
    code: int
    message: str

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message}


Behaviour = Callable[[Request], Awaitable[object]]
"""Answers one request; the connection is closed afterwards if it returns False."""


@dataclass
class HttpNode:
    port: int
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def methods(self) -> list[str]:
        return [call["method"] for request in self.requests for call in request.calls]


@asynccontextmanager
async def http_node(behave: Behaviour) -> AsyncIterator[HttpNode]:
    """Serve `behave` on a loopback port until left."""
    async with trio.open_nursery() as nursery:
        node = HttpNode(0)

        async def serve(stream: trio.SocketStream) -> None:
            node.connections += 1
            number = node.connections
            # The client may hang up while it is answered: that is what many tests are about.
            try:
                while (request := await _read(stream, number)) is not None:
                    node.requests.append(request)
                    if await behave(request) is False:
                        break
            except trio.BrokenResourceError:
                pass

        listeners = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1", handler_nursery=nursery)
        )
        node.port = listeners[0].socket.getsockname()[1]
        yield node
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def rpc_node(methods: Mapping[str, Any]) -> AsyncIterator[HttpNode]:
    """A node that answers each method with a value, or with what a function of its params gives.

    Unknown methods are refused the way a node does.
    """

    def result(call: dict[str, Any]) -> Any:
        if call["method"] not in methods:
            return RpcFault(-32601, "Method not found")
        given = methods[call["method"]]
        return given(*call["params"]) if callable(given) else given

    async def behave(request: Request) -> None:
        await request.results([result(call) for call in request.calls])

    async with http_node(behave) as node:
        yield node


async def _read(stream: trio.SocketStream, connection: int) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = await stream.receive_some()
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += await stream.receive_some()
    return Request(body, headers, stream, connection, first.split(" ")[1])
