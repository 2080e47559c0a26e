"""Messages on the wire: gRPC's length prefix, gzip, and the strict way from bytes to a message."""

import struct
import zlib
from typing import TypeVar

import betterproto2
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from api.grpc.status import CallError
from api.grpc.wire import MalformedError, check

PREFIX = struct.Struct(">BI")
ENCODINGS = ("identity", "gzip")
ACCEPT_ENCODING = ("grpc-accept-encoding", ",".join(ENCODINGS))
_M = TypeVar("_M", bound=betterproto2.Message)
_GZIP_WINDOW = 31  # zlib's number for a gzip header around the largest window


class Encoded:
    """A message encoded once and sent to any number of streams.

    Holds the length-prefixed bytes, and the compressed ones once somebody asked for them.
    Immutable to its users; cheap to share.
    """

    __slots__ = ("_gzipped", "frame", "message_type")

    def __init__(self, message_type: type[betterproto2.Message], body: bytes) -> None:
        self.message_type = message_type
        self.frame = PREFIX.pack(0, len(body)) + body
        self._gzipped: bytes | None = None

    @classmethod
    def of(cls, message: betterproto2.Message) -> "Encoded":
        """Encode a message."""
        return cls(type(message), bytes(message))

    @property
    def body_bytes(self) -> int:
        """Size of the message without prefix and compression."""
        return len(self.frame) - PREFIX.size

    @property
    def gzipped(self) -> bytes:
        """The length-prefixed bytes compressed, or uncompressed where that is no longer."""
        if self._gzipped is None:
            # Level 1: compression runs on the event loop, and a fast one loses little on text.
            packer = zlib.compressobj(level=1, wbits=_GZIP_WINDOW)
            packed = packer.compress(self.frame[PREFIX.size :]) + packer.flush()
            smaller = len(packed) < self.body_bytes
            self._gzipped = PREFIX.pack(1, len(packed)) + packed if smaller else self.frame
        return self._gzipped


def inflate(data: bytes, *, limit_bytes: int) -> bytes:
    """Decompress one gzip message without ever holding more than the limit.

    Raises GRPCError: RESOURCE_EXHAUSTED beyond the limit, INVALID_ARGUMENT for damaged data.
    """
    unpacker = zlib.decompressobj(wbits=_GZIP_WINDOW)
    try:
        plain = unpacker.decompress(data, limit_bytes + 1)
    except zlib.error:
        raise GRPCError(
            Status.INVALID_ARGUMENT, "The compressed message is damaged: it is not gzip."
        ) from None
    if len(plain) > limit_bytes:
        raise too_large(len(plain), limit_bytes, at_least=True)
    if not unpacker.eof or unpacker.unused_data:
        raise GRPCError(Status.INVALID_ARGUMENT, "The compressed message is not one gzip member.")
    return plain


def decode(data: bytes, message_type: type[_M]) -> _M:
    """Build a message from bytes that are wholly well-formed.

    Raises GRPCError INVALID_ARGUMENT saying what is wrong; see ``api.grpc.wire``.
    """
    try:
        check(data, message_type)
        return message_type.parse(data)
    except MalformedError as error:
        reason = str(error)
    except (ValueError, OverflowError) as error:
        # Well-formed, but outside of what the Python type can hold, such as a Timestamp of year 0.
        reason = str(error)
    raise CallError(
        Status.INVALID_ARGUMENT,
        f"The request is not a valid {message_type.__name__}: {reason}.",
        reason="MALFORMED_MESSAGE",
    )


def too_large(size_bytes: int, limit_bytes: int, *, at_least: bool = False) -> CallError:
    """The error for a message over the limit."""
    bound = "at least " if at_least else ""
    return CallError(
        Status.RESOURCE_EXHAUSTED,
        f"Message of {bound}{size_bytes} bytes exceeds the limit of {limit_bytes} bytes.",
        reason="MESSAGE_TOO_LARGE",
    )
