"""Small synchronous JSON-RPC clients for EVM nodes: HTTP and websocket.

For tests and the demo: they share no code with the daemon's client, so that a mistake there cannot
hide itself here.
"""

import collections
import http.client
import itertools
import json
import socket
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

PATIENCE_S = 20.0


class RpcError(Exception):
    """The node answered with an error object (JSON-RPC 2.0, EIP-1474)."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code
        self.message = message
        self.data = data


class EvmRpc:
    """Calls one node over HTTP. Thread-safe: every call has a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def post(self, body: Any, *, timeout_s: float = 60.0) -> tuple[int, bytes]:
        """Send bytes as they are, or anything else as JSON; returns HTTP status and answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("POST", "/", content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def call(self, method: str, *params: Any, timeout_s: float = 60.0) -> Any:
        """Return the result; raises RpcError."""
        _, body = self.post(_request(0, method, params), timeout_s=timeout_s)
        return _result(json.loads(body))

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Return the results in the order of ``calls``; the first error is raised."""
        requests = [_request(number, *call) for number, call in enumerate(calls)]
        answers = json.loads(self.post(requests)[1])
        return [_result(answer) for answer in sorted(answers, key=lambda answer: answer["id"])]


class EvmSocket:
    """One websocket connection: calls, and what the node pushes meanwhile. Not thread-safe."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._numbers = itertools.count(1)
        self._answers: dict[int, Any] = {}
        self._partial: list[str] = []
        self.pushed: dict[str, collections.deque[Any]] = collections.defaultdict(collections.deque)
        """By subscription, what has arrived and was not taken yet."""
        self.frame_sizes: list[int] = []
        """Characters of each frame received."""
        self.messages: list[str] = []
        """Every message received, as it came."""
        self._is_open = False
        request = Request(host=f"127.0.0.1:{port}", target="/")
        self._socket.sendall(self._protocol.send(request))
        self._until(lambda: self._is_open, "the handshake is done")

    def call(self, method: str, *params: Any) -> Any:
        """Return the result; raises RpcError."""
        number = next(self._numbers)
        self.send(json.dumps(_request(number, method, params)))
        self._until(lambda: number in self._answers, f"{method} is answered")
        return _result(self._answers.pop(number))

    def send(self, text: str) -> None:
        """Send one message as it is."""
        self._socket.sendall(self._protocol.send(TextMessage(text)))

    def subscribe(self, *params: Any) -> str:
        """Return the id of a new subscription: ``subscribe("logs", {…})``."""
        return str(self.call("eth_subscribe", *params))

    def next(self, subscription: str) -> Any:
        """Return the next result pushed for a subscription; waits for it."""
        queue = self.pushed[subscription]
        self._until(lambda: bool(queue), "something is pushed")
        return queue.popleft()

    def take(self, subscription: str, count: int) -> list[Any]:
        """Return the next ``count`` results pushed for a subscription; waits for them."""
        return [self.next(subscription) for _ in range(count)]

    def take_until(self, subscription: str, ready: Callable[[Any], bool]) -> list[Any]:
        """Return what is pushed for a subscription up to the first for which ``ready`` is true."""
        taken = [self.next(subscription)]
        while not ready(taken[-1]):
            taken.append(self.next(subscription))
        return taken

    def wait_message(self, ready: Callable[[str], bool]) -> str:
        """Return the first message for which ``ready`` is true; waits for it."""

        def found() -> list[str]:
            return [message for message in self.messages if ready(message)]

        self._until(lambda: bool(found()), "the message comes")
        return found()[0]

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {PATIENCE_S:g} s in vain until {what}")
            chunk = self._socket.recv(65536)
            # None tells the protocol that the peer closed the connection.
            self._protocol.receive_data(chunk or None)
            self._handle_events()

    def _handle_events(self) -> None:
        for event in self._protocol.events():
            if isinstance(event, AcceptConnection):
                self._is_open = True
            elif isinstance(event, TextMessage):
                self._partial.append(event.data)
                if event.frame_finished:
                    self.frame_sizes.append(sum(map(len, self._partial)))
                if event.message_finished:
                    self._receive("".join(self._partial))
                    self._partial.clear()
            elif isinstance(event, Ping):
                self._socket.sendall(self._protocol.send(event.response()))
            elif isinstance(event, CloseConnection):
                raise ConnectionError(f"the node closed the websocket: {event.code} {event.reason}")

    def _receive(self, text: str) -> None:
        self.messages.append(text)
        message = json.loads(text)
        if isinstance(message, dict) and message.get("method") == "eth_subscription":
            self.pushed[message["params"]["subscription"]].append(message["params"]["result"])
        elif isinstance(message, dict) and isinstance(message.get("id"), int):
            self._answers[message["id"]] = message


def _request(number: int, method: str, params: Sequence[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def _result(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        error = answer["error"]
        raise RpcError(error["code"], error["message"], error.get("data"))
    return answer["result"]
