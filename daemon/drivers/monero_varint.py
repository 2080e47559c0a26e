"""Monero's varints: 7 bits a byte, lowest first, as monerod's `varint.h` takes them; pure.

Only the shortest form of a number below 2^64 is one. Reading answers None for anything else.
"""

from __future__ import annotations

import re
from functools import lru_cache

# The last byte is not zero unless it is the only one; a tenth byte can only be 1. The three forms
# exclude each other and atomic groups forbid going back, so a match that fails is linear.
VARINT_FORM = rb"(?>[\x00-\x7f]|[\x80-\xff]{1,8}[\x01-\x7f]|[\x80-\xff]{9}\x01)"
_ONE = re.compile(VARINT_FORM)
_MOST_BYTES = 10
_AT_ONCE = 64


def encode_varint(value: int) -> bytes:
    """The shortest form; `value` is not negative."""
    assert value >= 0, f"a varint is not negative: {value}"
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(blob: bytes, pos: int) -> tuple[int, int] | None:
    """The value at `pos` and where it ends."""
    match = _ONE.match(blob, pos)
    if match is None:
        return None
    value = 0
    for byte in reversed(match[0]):
        value = value << 7 | byte & 0x7F
    return value, match.end()


def end_of_varints(blob: bytes, pos: int, count: int) -> int | None:
    """Where `count` varints from `pos` on end; much faster than reading each."""
    while count:
        step = min(count, _AT_ONCE)
        match = _pattern_of(step).match(blob, pos)
        if match is None:
            return None
        pos = match.end()
        count -= step
    return pos


def varint_fault(blob: bytes, pos: int) -> str:
    """Why `read_varint` found none there, for people."""
    raw = blob[pos : pos + _MOST_BYTES]
    last = next((byte for byte in raw if byte < 0x80), None)
    if last == 0:
        return "not in its shortest form"
    if last is None and len(raw) < _MOST_BYTES:
        return f"cut off by the end at {len(blob)}"
    return "over 64 bits"


@lru_cache(maxsize=_AT_ONCE)
def _pattern_of(count: int) -> re.Pattern[bytes]:
    return re.compile(b"(?>%b{%d})" % (VARINT_FORM, count))
