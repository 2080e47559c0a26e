"""What the websocket's two halves say when they fail; sessions are tested in test_jsonrpc_ws.py."""

import socket
import struct
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed
from wsproto.utilities import LocalProtocolError

from actors.ports import TransientError
from daemon.drivers import websocket
from daemon.drivers.jsonrpc_http import ConnectionLostError, GarbledError, TooLargeError, parse_url
from daemon.drivers.jsonrpc_ws import JsonRpcWs
from daemon.drivers.subscription import Subscription
from daemon.drivers.websocket import WS_PORTS, WebSocket, run_websocket
from tests.helpers.ws_node import Message, ws_node


class Closing:
    """A connection that is closed, for a reason."""

    def __init__(self, code: int | None, words: str | None = None) -> None:
        self._reason = None
        if code is not None:
            self._reason = type("Reason", (), {"code": code, "reason": words})()

    async def send_message(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionClosed(self._reason)

    get_message = ping = send_message


def stream_pair() -> tuple[Any, Any]:
    ours, theirs = trio.testing.memory_stream_pair()
    return websocket._Stream(ours, ours), theirs  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "words", "family", "text"),
    [
        (None, None, GarbledError, "it breaks the websocket protocol"),
        (1000, None, ConnectionLostError, r"closed the connection \(code 1000\)"),
        (1001, "bye", ConnectionLostError, r"closed the connection \(code 1001, 'bye'\)"),
        (1002, "bad", GarbledError, r"it breaks the websocket protocol \(bad\)"),
        (1006, None, ConnectionLostError, "closed the connection"),
        (1009, "too big for me", ConnectionLostError, "code 1009, 'too big for me'"),
        (1009, "Exceeded maximum message size: 5 bytes", TooLargeError, "more than that"),
    ],
)
async def test_why_it_closed(
    code: int | None, words: str | None, family: type[Exception], text: str
) -> None:
    stream, _ = stream_pair()
    connection: Any = Closing(code, words)
    socket = WebSocket(stream, connection)
    for ask in (lambda: socket.send("x"), socket.receive, socket.ping):
        with pytest.raises(family, match=text):
            await ask()


async def test_a_stream_remembers_its_end() -> None:
    stream, theirs = stream_pair()
    ends: list[str] = []
    stream.on_end = lambda: ends.append(stream.ended)
    await stream.wait_send_all_might_not_block()
    await stream.send_all(b"hello")
    assert await theirs.receive_some() == b"hello"
    await theirs.send_all(b"hi")
    assert await stream.receive_some() == b"hi"
    assert stream.bytes_received == 2
    await theirs.aclose()
    assert await stream.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"more")
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    assert set(ends) == {"closed the connection"}


async def test_a_handshake_has_an_end() -> None:
    stream, theirs = stream_pair()
    await theirs.send_all(b"x" * 64 * 1024)
    await stream.receive_some()
    await theirs.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    assert stream.ended == "sends without end"
    assert isinstance(stream.refusal(), GarbledError)


async def test_a_library_that_stumbles_over_the_peer() -> None:
    stream, _ = stream_pair()
    group = ExceptionGroup("", [LocalProtocolError("x"), ExceptionGroup("", [KeyError("bug")])])
    assert isinstance(websocket._most_telling(group, stream), KeyError)
    only = ExceptionGroup("", [LocalProtocolError("x")])
    assert str(websocket._most_telling(only, stream)) == "no websocket handshake"
    stream.is_established = True
    assert str(websocket._most_telling(only, stream)) == "it breaks the websocket protocol"


async def test_a_reset_is_told_as_one() -> None:
    async def behave(message: Message) -> None:
        tcp = message.peer.socket._stream.socket
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        tcp.close()

    async with ws_node(behave) as node:
        client = JsonRpcWs(node.url, setting="coin.eth")
        with pytest.raises(TransientError, match="reset the connection"):
            await client.call("x")


async def test_what_the_talk_raises_passes() -> None:
    async def behave(message: Message) -> None:
        pass

    async def talk(_socket: WebSocket) -> None:
        raise KeyError("mine")

    async with ws_node(behave) as node:
        address, _, _ = parse_url(node.url, ports=WS_PORTS)
        with pytest.raises(KeyError, match="mine"):
            await run_websocket(address, talk, authorization=None, max_message_bytes=10)


async def test_cancelling_closes() -> None:
    async def behave(message: Message) -> None:
        pass

    async def talk(_socket: WebSocket) -> None:
        scope.cancel()
        await trio.sleep_forever()

    async with ws_node(behave) as node:
        address, _, _ = parse_url(node.url, ports=WS_PORTS)
        with trio.CancelScope() as scope:
            await run_websocket(address, talk, authorization=None, max_message_bytes=10)
        assert scope.cancelled_caught


async def test_a_subscription_that_failed_takes_nothing_more() -> None:
    subscription = Subscription(limit=2)
    subscription.put(1)
    subscription.fail(lambda: TransientError("first"))
    subscription.fail(lambda: TransientError("second"))
    subscription.put(2)
    assert await anext(subscription) == 1
    for _ in range(2):
        with pytest.raises(TransientError, match="first"):
            await anext(subscription)
