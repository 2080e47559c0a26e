"""Which pictures may stand on a payment page: judged by what they are, not by what they are called.

Pixels only. SVG is refused on purpose: it is a document that may hold scripts, links and style
sheets, it would be served from the address where customers pay, and to take those things out of it
is a race that is lost with the next browser. A 32 KB PNG or WebP shows any logo.

Sources: PNG (ISO/IEC 15948) and APNG, JPEG (ITU-T T.81, annex B), GIF89a, WebP (RFC 9649).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_BYTES = 32 * 1024
MAX_SIDE = 2048
"""Pixels. A few kilobytes can claim to be a picture that fills a telephone's memory."""

_PNG = b"\x89PNG\r\n\x1a\n"
_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG's markers of a frame, which have the size."""
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG's markers without a length."""


class LogoError(ValueError):
    """The bytes cannot be a logo; the text goes on after the field's name: `is no picture …`."""


class _Picture(NamedTuple):
    width: int
    height: int
    frames: int = 1


def logo_type(data: bytes) -> str:
    """The media type of the picture. Raises LogoError if it cannot be a logo."""
    if len(data) > MAX_BYTES:
        raise LogoError(f"has {len(data)} bytes; at most {MAX_BYTES} (32 KB) are possible")
    media_type, read = _kind(data)
    try:
        found = read(data)
    except IndexError:
        raise LogoError(f"is a damaged {media_type}: it ends too soon") from None
    if found.frames > 1:
        raise LogoError(
            "moves, and nobody could stop it on the page: give a picture that stands still"
        )
    if not (0 < found.width <= MAX_SIDE and 0 < found.height <= MAX_SIDE):
        raise LogoError(
            f"measures {found.width} x {found.height} pixels; 1 to {MAX_SIDE} are possible"
        )
    return media_type


def _kind(data: bytes) -> tuple[str, Callable[[bytes], _Picture]]:
    if data.startswith(_PNG):
        return "image/png", _png
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg", _jpeg
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif", _gif
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp", _webp
    if data.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n").startswith(b"<"):
        raise LogoError(
            "is SVG or HTML, which can hold programs: give the picture as PNG, JPEG, WebP or GIF"
        )
    raise LogoError("is no picture that is known here: give PNG, JPEG, WebP or GIF")


def _png(data: bytes) -> _Picture:
    size: _Picture | None = None
    frames, at = 1, len(_PNG)
    while True:
        length, name = _big(data, at, 4), _part(data, at + 4, 4)
        body = _part(data, at + 8, length)
        at += 12 + length
        _part(data, at - 4, 4)
        if size is None:
            if name != b"IHDR" or length != 13:
                raise LogoError("is a damaged image/png: it begins without a size")
            size = _Picture(_big(body, 0, 4), _big(body, 4, 4))
        elif name == b"acTL":
            frames = max(2, frames)
        elif name == b"IEND":
            _ends(data, at, "image/png")
            return size._replace(frames=frames)


def _jpeg(data: bytes) -> _Picture:
    size: _Picture | None = None
    at = 2
    while True:
        while _byte(data, at) == 0xFF and _byte(data, at + 1) == 0xFF:
            at += 1
        if _byte(data, at) != 0xFF:
            raise LogoError("is a damaged image/jpeg: a marker is missing")
        marker, at = _byte(data, at + 1), at + 2
        if marker in _BARE:
            continue
        if marker == 0xD9 or (marker == 0xDA and size is None):
            raise LogoError("is a damaged image/jpeg: it has no size")
        if marker == 0xDA:
            if data.rfind(b"\xff\xd9", at) < 0:
                raise LogoError("is a damaged image/jpeg: it ends too soon")
            assert size is not None
            return size
        length = _big(data, at, 2)
        body = _part(data, at + 2, max(0, length - 2))
        if marker in _SOF:
            size = _Picture(height=_big(body, 1, 2), width=_big(body, 3, 2))
        at += max(2, length)


def _gif(data: bytes) -> _Picture:
    width, height, at, frames = _little(data, 6, 2), _little(data, 8, 2), 13, 0
    at += _colours(_byte(data, 10))
    while True:
        mark = _byte(data, at)
        if mark == 0x3B:
            _ends(data, at + 1, "image/gif")
            if not frames:
                raise LogoError("is a damaged image/gif: it shows nothing")
            return _Picture(width, height, frames)
        if mark == 0x2C:
            frames += 1
            at += 10 + _colours(_byte(data, at + 9)) + 1
        elif mark == 0x21:
            at += 2
        else:
            raise LogoError("is a damaged image/gif: a block is unknown")
        while length := _byte(data, at):
            at += 1 + length
        at += 1


def _webp(data: bytes) -> _Picture:
    end = 8 + _little(data, 4, 4)
    _part(data, 0, end)
    _ends(data, end, "image/webp")
    size: _Picture | None = None
    for name, body in _riff_chunks(data[:end]):
        if name in (b"ANIM", b"ANMF"):
            return _Picture(1, 1, 2)
        if size is not None:
            continue
        if name == b"VP8X":
            size = _Picture(1 + _little(body, 4, 3), 1 + _little(body, 7, 3))
        elif name == b"VP8L" and _byte(body, 0) == 0x2F:
            bits = _little(body, 1, 4)
            size = _Picture(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        elif name == b"VP8 " and _part(body, 3, 3) == b"\x9d\x01\x2a":
            size = _Picture(_little(body, 6, 2) & 0x3FFF, _little(body, 8, 2) & 0x3FFF)
    if size is None:
        raise LogoError("is a damaged image/webp: it has no size")
    return size


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at < len(data):
        length = _little(data, at + 4, 4)
        yield _part(data, at, 4), _part(data, at + 8, length)
        at += 8 + length + length % 2


def _colours(flags: int) -> int:
    """Bytes of GIF's colour table, of which the flags tell."""
    return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0


def _ends(data: bytes, at: int, media_type: str) -> None:
    if len(data) != at:
        raise LogoError(f"is a damaged {media_type}: something follows after its end")


def _part(data: bytes, at: int, length: int) -> bytes:
    """Raises IndexError where there are fewer."""
    if at + length > len(data):
        raise IndexError(at)
    return data[at : at + length]


def _byte(data: bytes, at: int) -> int:
    return _part(data, at, 1)[0]


def _big(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(_part(data, at, length), "big")


def _little(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(_part(data, at, length), "little")
