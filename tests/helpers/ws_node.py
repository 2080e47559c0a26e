"""A websocket server on Trio that answers JSON-RPC requests as a script tells it, well or badly."""

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
)

from tests.helpers.http_node import RpcFault


@dataclass
class Message:
    """One message of a client, and the connection to answer it on."""

    text: str
    peer: "Peer"

    @property
    def calls(self) -> list[dict[str, Any]]:
        parsed = json.loads(self.text)
        return parsed if isinstance(parsed, list) else [parsed]

    async def send(self, what: object) -> None:
        """Send `what`: text and bytes as they are, all else as JSON."""
        await self.peer.send(what)

    async def results(self, *results: Any) -> None:
        """Answer each call with its result, or with its error if that is a RpcFault."""
        answers = [
            {"jsonrpc": "2.0", "id": call["id"], "error": result.as_json()}
            if isinstance(result, RpcFault)
            else {"jsonrpc": "2.0", "id": call["id"], "result": result}
            for call, result in zip(self.calls, results, strict=True)
        ]
        await self.send(answers if self.text.startswith("[") else answers[0])


@dataclass
class Peer:
    """One client's connection."""

    socket: WebSocketConnection
    number: int
    headers: dict[str, str]
    path: str
    subscriptions: dict[str, str] = field(default_factory=dict)
    """Kind → id."""

    async def send(self, what: object) -> None:
        await self.socket.send_message(what if isinstance(what, str | bytes) else json.dumps(what))

    async def news(self, name: str, result: Any) -> None:
        params = {"subscription": name, "result": result}
        await self.send({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})

    async def cut(self) -> None:
        """Close the TCP connection without a farewell."""
        await self.socket._stream.aclose()


Behaviour = Callable[[Message], Awaitable[object]]
"""Answers one message; the connection is closed afterwards if it returns False."""


@dataclass
class WsNode:
    port: int
    messages: list[Message] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    refuse: int | None = None
    """Refuse connections with this HTTP status."""
    refuse_headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def methods(self) -> list[str]:
        return [call["method"] for message in self.messages for call in message.calls]

    async def push(self, kind: str, result: Any) -> None:
        """Send news to all who subscribed to `kind`."""
        for peer in self.peers:
            if kind in peer.subscriptions:
                await peer.news(peer.subscriptions[kind], result)


@asynccontextmanager
async def ws_node(behave: Behaviour, *, ssl_context: Any = None) -> AsyncIterator[WsNode]:
    """Serve `behave` on a loopback port until left."""
    async with trio.open_nursery() as nursery:
        node = WsNode(0)

        async def serve(request: WebSocketRequest) -> None:
            if node.refuse is not None:
                headers = list(node.refuse_headers)
                await request.reject(node.refuse, extra_headers=headers, body=b"not today")
                return
            headers = {name.decode().lower(): value.decode() for name, value in request.headers}
            socket = await request.accept()
            peer = Peer(socket, len(node.peers) + 1, headers, request.path)
            node.peers.append(peer)
            # The client may hang up while it is answered: that is what many tests are about.
            try:
                while True:
                    message = Message(str(await socket.get_message()), peer)
                    node.messages.append(message)
                    if await behave(message) is False:
                        break
            except ConnectionClosed:
                pass

        server = await nursery.start(
            partial(
                serve_websocket,
                serve,
                "127.0.0.1",
                0,
                ssl_context,
                handler_nursery=nursery,
                max_message_size=2**24,
            )
        )
        node.port = server.port
        yield node
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def rpc_ws_node(methods: Mapping[str, Any]) -> AsyncIterator[WsNode]:
    """A node that answers each method with a value, or with what a function of its params gives.

    Knows eth_subscribe (any kind, unless `methods` says otherwise) and eth_unsubscribe.
    """
    numbers = itertools.count(1)

    def result(message: Message, call: dict[str, Any]) -> Any:
        method, params = call["method"], call["params"]
        if method in methods:
            given = methods[method]
            return given(*params) if callable(given) else given
        subscriptions = message.peer.subscriptions
        if method == "eth_subscribe":
            return subscriptions.setdefault(params[0], hex(next(numbers)))
        if method == "eth_unsubscribe":
            kinds = [kind for kind, name in subscriptions.items() if name == params[0]]
            return bool([subscriptions.pop(kind) for kind in kinds])
        return RpcFault(-32601, "Method not found")

    async def behave(message: Message) -> None:
        await message.results(*(result(message, call) for call in message.calls))

    async with ws_node(behave) as node:
        yield node


@asynccontextmanager
async def raw_node(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """The port of a TCP server that does what `serve` does, and closes."""

    async def guarded(stream: trio.SocketStream) -> None:
        try:
            await serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_tcp, guarded, 0, host="127.0.0.1", handler_nursery=nursery)
        )
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
