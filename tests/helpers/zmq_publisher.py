"""A ZMQ publisher that says what a test tells it to; knows when it is subscribed to."""

from types import TracebackType
from typing import Self

import trio
import zmq


class ZmqPublisher:
    """Publishes the way a node does: topic, body and a counter per topic. A context manager.

    Without ``port`` it takes any that is free.
    """

    def __init__(self, *, port: int | None = None) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.RCVTIMEO, 20_000)
        if port is None:
            port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        else:
            self._socket.bind(f"tcp://127.0.0.1:{port}")
        self.port = port
        self._counters: dict[str, int] = {}

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave, with all connections. May be called again."""
        self._socket.close(linger=0)
        self._context.term()

    async def subscribed(self, count: int) -> set[str]:
        """Wait for `count` subscriptions; returns their topics."""

        def wait() -> set[str]:
            topics: set[str] = set()
            while len(topics) < count:
                message = self._socket.recv()
                if message[:1] == b"\x01":  # 0 is the end of a subscription
                    topics.add(message[1:].decode())
            return topics

        return await trio.to_thread.run_sync(wait)

    def publish(self, topic: str, body: bytes) -> None:
        number = self._counters.get(topic, 0)
        self._counters[topic] = number + 1
        self._socket.send_multipart([topic.encode(), body, number.to_bytes(4, "little")])

    def skip(self, topic: str, count: int = 1) -> None:
        """Count messages that nobody gets."""
        self._counters[topic] = self._counters.get(topic, 0) + count

    def publish_raw(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)
