"""The requests of one call, from DATA payloads to whole messages."""

from collections import deque
from collections.abc import Callable

import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from api.grpc.codec import PREFIX, inflate, too_large


class Inbox:
    """Collects one call's length-prefixed messages.

    Bounded: the peer's flow-control credit returns at once while a message is incomplete, which
    the message limit bounds, and otherwise only when the handler takes messages. ``credit`` is
    called with the bytes to return.
    """

    __slots__ = (
        "_arrival",
        "_credit",
        "_gzip",
        "_limit_bytes",
        "_messages",
        "_owed_bytes",
        "_partial",
        "ended",
        "held_bytes",
    )

    def __init__(self, *, limit_bytes: int, gzip: bool, credit: Callable[[int], None]) -> None:
        self._limit_bytes = limit_bytes
        self._gzip = gzip
        self._credit = credit
        self._messages: deque[tuple[int, bytes]] = deque()
        self._partial = bytearray()
        self._owed_bytes = 0
        self._arrival: trio.Event | None = None
        self.ended = False
        self.held_bytes = 0

    @property
    def waiting(self) -> int:
        """Whole messages that no handler has taken."""
        return len(self._messages)

    def feed(self, data: bytes, *, credit_bytes: int) -> None:
        """Add the payload of one DATA frame that cost the peer so much flow-control credit.

        Raises GRPCError for a message over the limit, as soon as its length is known, and for a
        compressed one in a call that announced no compression.
        """
        self.held_bytes += len(data)
        source: bytes | bytearray = data
        if self._partial:
            self._partial += data
            source = self._partial
        position, end = 0, len(source)
        while end - position >= PREFIX.size:
            flag, size = PREFIX.unpack_from(source, position)
            self._check_prefix(flag, size)
            stop = position + PREFIX.size + size
            if stop > end:
                break
            self._messages.append((flag, bytes(source[position + PREFIX.size : stop])))
            position = stop
        if source is self._partial:
            del self._partial[:position]
        elif position < end:
            self._partial += data[position:]
        self._owed_bytes += credit_bytes
        if not self._messages:
            self._pay()
        self._notify()

    def end(self) -> None:
        """The peer has sent all of its requests. Raises GRPCError when it stopped midway."""
        self.ended = True
        self._notify()
        if self._partial:
            raise GRPCError(Status.INVALID_ARGUMENT, "The request ends inside a message.")

    async def take(self) -> bytes | None:
        """The next message, decompressed; None after the last one.

        Raises GRPCError for a damaged or too large compressed message. A cancelled take loses
        nothing.
        """
        await self._until(lambda: bool(self._messages))
        if not self._messages:
            return None
        flag, data = self._messages.popleft()
        self.held_bytes -= len(data) + PREFIX.size
        if not self._messages:
            self._pay()
        return inflate(data, limit_bytes=self._limit_bytes) if flag else data

    async def take_only(self) -> bytes:
        """The one message of a unary request, once the peer has ended its side.

        Raises GRPCError UNIMPLEMENTED for another number of messages (grpc/doc/statuscodes.md),
        and as ``take`` does.
        """
        await self._until(lambda: len(self._messages) > 1)
        if len(self._messages) != 1:
            raise GRPCError(Status.UNIMPLEMENTED, "The method takes exactly one request message.")
        message = await self.take()
        assert message is not None
        return message

    def discard(self) -> None:
        """Drop what is held: the call is over."""
        self._messages.clear()
        self._partial.clear()
        self.held_bytes = 0
        self._pay()

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not self.ended and not ready():
            if self._arrival is None:
                self._arrival = trio.Event()
            await self._arrival.wait()

    def _notify(self) -> None:
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None

    def _pay(self) -> None:
        if self._owed_bytes:
            owed, self._owed_bytes = self._owed_bytes, 0
            self._credit(owed)

    def _check_prefix(self, flag: int, size_bytes: int) -> None:
        if flag > 1:
            raise GRPCError(
                Status.INVALID_ARGUMENT, f"The message prefix has flag {flag}, not 0 or 1."
            )
        if size_bytes > self._limit_bytes:
            raise too_large(size_bytes, self._limit_bytes)
        if flag and not self._gzip:
            raise GRPCError(
                Status.INTERNAL, "A message is compressed but the call names no grpc-encoding."
            )
