"""A small synchronous client of toncenter's streaming API: one websocket connection.

It shares no code with the daemon's, so that a mistake there cannot hide itself here.
"""

import collections
import contextlib
import itertools
import json
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, Request, TextMessage

PATIENCE_S = 20.0


class StreamClosedError(Exception):
    """The server ended or refused the connection: with a close code or an HTTP status, or 0."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the connection has ended ({code})")
        self.code = code


class TonStream:
    """One connection; not thread-safe. Raises StreamClosedError from whatever waits."""

    def __init__(self, port: int, *, headers: Mapping[str, str] | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._numbers = itertools.count(1)
        self._answers: dict[str | None, dict[str, Any]] = {}
        self._partial = ""
        self._is_open = False
        self.events: collections.deque[dict[str, Any]] = collections.deque()
        """What was pushed and not taken yet."""
        extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        target = "/api/streaming/v2/ws"
        request = Request(host=f"127.0.0.1:{port}", target=target, extra_headers=extra)
        self._socket.sendall(self._protocol.send(request))
        try:
            while not self._is_open:
                self._receive()
        except StreamClosedError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def call(self, operation: str, **more: Any) -> dict[str, Any]:
        """Return the answer: ``{"id": …, "status": …}`` or ``{"id": …, "error": …}``."""
        number = str(next(self._numbers))
        self.send(json.dumps({"id": number, "operation": operation, **more}))
        return self._answer(number)

    def send(self, text: str) -> None:
        """Send one message as it is."""
        self._socket.sendall(self._protocol.send(TextMessage(text)))

    def answer(self) -> dict[str, Any]:
        """Return the answer to what had no id."""
        return self._answer(None)

    def subscribe(self, addresses: Sequence[str], *, min_finality: str = "finalized") -> None:
        """Replace the subscription by the transactions of these accounts."""
        told = self.call(
            "subscribe", types=["transactions"], addresses=list(addresses),
            min_finality=min_finality,
        )  # fmt: skip
        assert told.get("status") == "subscribed", told

    def next(self) -> dict[str, Any]:
        """Return the next event; waits for it."""
        while not self.events:
            self._receive()
        return self.events.popleft()

    def wait_closed(self) -> int:
        """Return the code that the server ends the connection with, 0 if it says none."""
        with contextlib.suppress(ConnectionResetError):
            try:
                while True:
                    self._receive()
            except StreamClosedError as closed:
                return closed.code
        return 0

    def _answer(self, number: str | None) -> dict[str, Any]:
        while number not in self._answers:
            self._receive()
        return self._answers.pop(number)

    def _receive(self) -> None:
        received = self._socket.recv(65536)
        if not received:
            raise StreamClosedError(0)
        self._protocol.receive_data(received)
        for event in self._protocol.events():
            if isinstance(event, AcceptConnection):
                self._is_open = True
            elif isinstance(event, RejectConnection):
                raise StreamClosedError(event.status_code)
            elif isinstance(event, CloseConnection):
                raise StreamClosedError(event.code)
            elif isinstance(event, TextMessage):
                self._partial += event.data
                if event.message_finished:
                    self._take(json.loads(self._partial))
                    self._partial = ""

    def _take(self, message: dict[str, Any]) -> None:
        if "type" in message:
            self.events.append(message)
        else:
            self._answers[message.get("id")] = message
