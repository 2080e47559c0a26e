"""What a Monero node publishes over ZMQ, as tests see it. Blocking."""

import json
from types import TracebackType
from typing import Any, NamedTuple, Self

import zmq

from tests.helpers.monerod import MoneroNode

TOPICS = ("json-minimal-chain_main", "json-full-txpool_add")


class Message(NamedTuple):
    """One notification: a single frame, ``topic:json``."""

    topic: str
    body: Any


class MoneroTap:
    """Subscribes to a node; a context manager that is ready when it is entered.

    A subscription takes effect some time after it was asked for, so entering it mines blocks until
    one is heard of.
    """

    _LIMIT_MS = 20_000

    def __init__(self, node: MoneroNode, topics: tuple[str, ...] = TOPICS) -> None:
        assert "json-minimal-chain_main" in topics, "it is what marks the end of what came"
        self._node = node
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        for topic in topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._socket.connect(node.zmq_endpoint)

    def until_marker(self) -> list[Message]:
        """Mine a block, and return what came before the message that tells of it."""
        (marker,) = self._node.mine()
        messages: list[Message] = []
        while (message := self._receive(self._LIMIT_MS)) is not None:
            if message.topic == TOPICS[0] and message.body["ids"] == [marker]:
                return messages
            messages.append(message)
        raise AssertionError(f"block {marker} was not heard of after {messages}")

    def __enter__(self) -> Self:
        while True:
            (marker,) = self._node.mine()
            while (message := self._receive(200)) is not None:
                if message.topic == TOPICS[0] and message.body["ids"] == [marker]:
                    return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._context.term()

    def _receive(self, timeout_ms: int) -> Message | None:
        if not self._socket.poll(timeout_ms):
            return None
        (frame,) = self._socket.recv_multipart()
        topic, _, body = frame.partition(b":")
        return Message(topic.decode(), json.loads(body))
