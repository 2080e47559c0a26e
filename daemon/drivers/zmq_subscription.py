"""A ZMQ subscription on Trio: one SUB socket and its monitor. What the frames mean, drivers know.

pyzmq's own event loop support is asyncio; here the socket's file descriptor is awaited. It is
edge-triggered: after a wake-up everything must be read until the socket has no more.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Self

import trio
import zmq

MESSAGE_LIMIT_BYTES = 8 * 1024 * 1024
"""No transaction is larger than a block; more is not from a node."""
_QUEUE_MESSAGES = 20_000
_READ_AT_ONCE = 500
_PING_EVERY_MS = 2_000
_PING_TIMEOUT_MS = 6_000
_RETRY_MS = 100
_RETRY_MOST_MS = 5_000
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
_MONITOR_EVENT = struct.Struct("=HI")


class BadMessageError(Exception):
    """A message of another shape than a node's notifications have."""


class BadAddressError(Exception):
    """ZMQ cannot connect to an address of this form; the text names it."""


class FrameSubscription:
    """A subscription to `topics` (prefixes of first frames) at `addresses`; a context manager.

    Lost connections are made again by ZMQ itself; what was published meanwhile is lost, and
    `is_live` tells. Entering raises BadAddressError.
    """

    def __init__(self, *, topics: Iterable[str], addresses: Collection[str]) -> None:
        self._topics = frozenset(topics)
        self._addresses = frozenset(addresses)
        self._connected: set[str] = set()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._monitor = self._socket.get_monitor_socket(_EVENTS)
        self._configure()

    def _configure(self) -> None:
        socket = self._socket
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.RCVHWM, _QUEUE_MESSAGES)
        socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_LIMIT_BYTES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _PING_EVERY_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _PING_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, _RETRY_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RETRY_MOST_MS)
        for topic in self._topics:
            socket.setsockopt(zmq.SUBSCRIBE, topic.encode("ascii"))

    def __enter__(self) -> Self:
        for address in self._addresses:
            try:
                self._socket.connect(address)
            except zmq.ZMQError as error:
                self._close()
                raise BadAddressError(f"{address} ({error.strerror})") from None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()

    @property
    def is_live(self) -> bool:
        """Whether every endpoint is connected now."""
        return len(self._connected) == len(self._addresses)

    async def wait(self) -> None:
        """Until there may be a notification; read all with `drain_frames` before waiting again."""
        await trio.lowlevel.wait_readable(_descriptor(self._socket))

    def drain_frames(self) -> tuple[list[list[bytes]], bool]:
        """The messages that have arrived, and whether more may be there already."""
        messages: list[list[bytes]] = []
        while len(messages) < _READ_AT_ONCE:
            frames = _receive(self._socket)
            if frames is None:
                return messages, False
            messages.append(frames)
        return messages, True

    async def wait_monitor(self) -> None:
        """Until `is_live` may have changed; call `drain_monitor` before waiting again."""
        await trio.lowlevel.wait_readable(_descriptor(self._monitor))

    def drain_monitor(self) -> list[str]:
        """Follow the connections; returns the addresses that were lost, one per loss."""
        lost: list[str] = []
        while (frames := _receive(self._monitor)) is not None:
            # Read by hand: zmq.utils.monitor would import asyncio.
            event, _ = _MONITOR_EVENT.unpack(frames[0])
            address = frames[1].decode("ascii", "replace")
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._connected.add(address)
            elif address in self._connected:
                self._connected.discard(address)
                lost.append(address)
        return lost


def _receive(socket: zmq.Socket[bytes]) -> list[bytes] | None:
    try:
        return socket.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None


def _descriptor(socket: zmq.Socket[bytes]) -> int:
    descriptor = socket.getsockopt(zmq.FD)
    assert isinstance(descriptor, int), "libzmq gives a number"
    return descriptor
