"""HTTP/2 frames written by hand (RFC 9113, section 6).

h2 reads everything and keeps the state; what this server sends most (HEADERS, DATA) and what h2
would take for the end of the connection (GOAWAY) is written here, because h2's own path costs
more per frame than the rest of a call.
"""

import struct

FRAME_BYTES = 16_384
"""Largest payload that every peer must accept."""

_DATA, _HEADERS, _RST_STREAM, _GOAWAY = 0x0, 0x1, 0x3, 0x7
_END_STREAM, _END_HEADERS = 0x1, 0x4
_TAIL = struct.Struct(">BBI")


def data_tail(stream_id: int) -> bytes:
    """All of a DATA frame's header but the three leading bytes of length."""
    return _TAIL.pack(_DATA, 0, stream_id)


def length(size_bytes: int) -> bytes:
    """The three leading bytes of a frame header."""
    return size_bytes.to_bytes(3, "big")


def headers(stream_id: int, block: bytes, *, end_stream: bool) -> bytes:
    """A HEADERS frame that holds the entire block.

    Raises ValueError for a block beyond one frame: answers stay far below it by their limits.
    """
    if len(block) > FRAME_BYTES:
        raise ValueError(f"response headers of {len(block)} bytes exceed one HTTP/2 frame")
    flags = _END_HEADERS | (_END_STREAM if end_stream else 0)
    return length(len(block)) + _TAIL.pack(_HEADERS, flags, stream_id) + block


def rst_stream(stream_id: int, error_code: int) -> bytes:
    """A RST_STREAM frame."""
    return length(4) + _TAIL.pack(_RST_STREAM, 0, stream_id) + error_code.to_bytes(4, "big")


def goaway(last_stream_id: int, error_code: int) -> bytes:
    """A GOAWAY frame on the connection's stream 0."""
    payload = last_stream_id.to_bytes(4, "big") + error_code.to_bytes(4, "big")
    return length(len(payload)) + _TAIL.pack(_GOAWAY, 0, 0) + payload
