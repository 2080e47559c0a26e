"""tally.v1's Event and WatchInvoicesResponse, written by hand: replays send them by the million.

A test holds the bytes equal to those of the generated classes and of Google's own runtime.
Source: protobuf.dev/programming-guides/encoding; proto/tally/v1/tally.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from uuid import UUID

from actors.published import Published
from api.grpc.codec import Encoded
from proto.tally.v1 import WatchInvoicesResponse

MESSAGE_BYTES = 15 * 1024
"""Events in one response: it then fits a frame of HTTP/2 and is not worth compressing. One event
that is larger makes a response of its own."""

# Field number and wire type, as they stand before each field.
_ID, _SEQ, _TYPE, _AT, _INVOICE_ID = b"\x0a", b"\x10", b"\x1a", b"\x22", b"\x2a"
_USER_ID, _VERSION, _ASSET, _DATA = b"\x32", b"\x38", b"\x42", b"\x4a"
_SECONDS, _NANOS = b"\x08", b"\x10"  # of a Timestamp
_EVENTS, _POSITION = b"\x0a", b"\x10"


def encode_event(event: Published) -> bytes:
    """An Event message."""
    event_id, seq, kind, at_ms, invoice_id, user_id, version, asset, data = event
    seconds, ms = divmod(at_ms, 1000)
    at = (_SECONDS + varint(seconds) if seconds else b"") + _nanos(ms)
    id_text = event_id.encode()
    return b"".join(
        (
            _ID,
            varint(len(id_text)),
            id_text,
            _SEQ + varint(seq) if seq else b"",
            _text(_TYPE, kind),
            _AT,
            varint(len(at)),
            at,
            _uuid(_INVOICE_ID, invoice_id),
            _uuid(_USER_ID, user_id),
            _VERSION + varint(version) if version else b"",
            _text(_ASSET, asset),
            _DATA,
            varint(len(data)),
            data,
        )
    )


class EventFrames:
    """Responses of events, each event encoded once for all who follow."""

    def __init__(self, *, kept: int = 16_384) -> None:
        """`kept` encoded events are remembered."""
        self._kept = kept
        self._encoded: dict[int, bytes] = {}
        self._heartbeat = _response(b"", 0)
        self._heartbeat_seq = 0

    def heartbeat(self, seq: int) -> Encoded:
        """A response without events, made once for all who stand there."""
        if seq != self._heartbeat_seq:
            self._heartbeat, self._heartbeat_seq = _response(b"", seq), seq
        return self._heartbeat

    def responses(self, events: Iterable[Published], seq: int, *, keep: bool) -> Iterator[Encoded]:
        """Responses with all of the events, in order; the last one says `seq`.

        `keep` remembers the encoded events: for those that many will ask for.
        """
        parts: list[bytes] = []
        size = 0
        last_seq = 0
        for event in events:
            encoded = self._of(event, keep=keep)
            if parts and size + len(encoded) > MESSAGE_BYTES:
                yield _response(b"".join(parts), last_seq)
                parts, size = [], 0
            parts += (_EVENTS, varint(len(encoded)), encoded)
            size += len(encoded) + 3
            last_seq = event.seq
        yield _response(b"".join(parts), seq)

    def _of(self, event: Published, *, keep: bool) -> bytes:
        found = self._encoded.get(event.seq)
        if found is None:
            found = encode_event(event)
            if keep:
                if len(self._encoded) >= self._kept:
                    self._encoded.clear()
                self._encoded[event.seq] = found
        return found


def varint(value: int) -> bytes:
    """Base 128, the least significant group first; negative numbers in ten bytes."""
    if 0 <= value < 0x4000:
        return _SMALL[value]
    value &= 0xFFFF_FFFF_FFFF_FFFF
    return _LOW[value & 0x3FFF] + varint(value >> 14)


def _two_groups(value: int, more: int) -> bytes:
    return bytes((value & 0x7F | 0x80, value >> 7 | more))


_SMALL = [*(bytes((value,)) for value in range(0x80))]
_SMALL += [_two_groups(value, 0) for value in range(0x80, 0x4000)]
"""Numbers of one or two groups."""
_LOW = [_two_groups(value, 0x80) for value in range(0x4000)]
"""The first two groups of those that have more."""


def _number(tag: bytes, value: int) -> bytes:
    return tag + varint(value) if value else b""


@lru_cache(maxsize=1000)
def _nanos(ms: int) -> bytes:
    return _number(_NANOS, ms * 1_000_000)


@lru_cache(maxsize=1024)
def _text(tag: bytes, value: str) -> bytes:
    content = value.encode()
    return tag + varint(len(content)) + content if content else b""


@lru_cache(maxsize=4096)
def _uuid(tag: bytes, value: UUID) -> bytes:
    return tag + b"\x24" + str(value).encode()


def _response(events: bytes, seq: int) -> Encoded:
    return Encoded(WatchInvoicesResponse, events + _number(_POSITION, seq))
