"""What a Bitcoin node publishes over ZMQ, as tests see it. Blocking."""

import hashlib
import struct
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

import zmq

from tests.helpers.bitcoind import BitcoinNode


class Message(NamedTuple):
    """One notification: ``number`` counts up per topic, from 0 at the node's start."""

    topic: str
    body: bytes
    number: int

    @property
    def hash(self) -> str:
        """The block hash or txid that a hash or sequence message begins with, as RPC writes it."""
        return self.body[:32].hex()

    @property
    def header_hash(self) -> str:
        """The hash of the block that a rawblock message holds."""
        once = hashlib.sha256(self.body[:80]).digest()
        return hashlib.sha256(once).digest()[::-1].hex()

    @property
    def label(self) -> str:
        """Of a sequence message: A(dded), R(emoved), C(onnected), D(isconnected)."""
        return chr(self.body[32])

    @property
    def mempool_sequence(self) -> int:
        """Of a sequence message labelled A or R."""
        return int(struct.unpack("<Q", self.body[33:41])[0])


class ZmqTap:
    """Subscribes to all topics of a node; a context manager that is ready when it is entered.

    A subscription takes effect some time after it was asked for, so entering it mines empty blocks
    until one is heard of. The node publishes a block's messages in one order, `rawblock` last.
    """

    _LIMIT_MS = 20_000

    def __init__(self, node: BitcoinNode) -> None:
        self._node = node
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(node.zmq_endpoint)

    def until(self, is_last: Callable[[Message], bool]) -> list[Message]:
        """Return the messages up to and with the first for which ``is_last`` is true."""
        messages: list[Message] = []
        while True:
            message = self._receive(self._LIMIT_MS)
            assert message is not None, f"nothing more came after {messages}"
            messages.append(message)
            if is_last(message):
                return messages

    def resubscribed(self) -> list[Message]:
        """Mine empty blocks until one is heard of; returns what came, up to its `rawblock`.

        ZMQ connects again by itself some time after the node was restarted.
        """
        messages: list[Message] = []
        while True:
            marker = self._node.mine_empty()[0]
            while (message := self._receive(200)) is not None:
                messages.append(message)
                if message.topic == "rawblock" and message.header_hash == marker:
                    return messages

    def __enter__(self) -> Self:
        self.resubscribed()
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
        topic, body, number = self._socket.recv_multipart()
        return Message(topic.decode(), body, int(struct.unpack("<I", number)[0]))
