"""What may be a logo, by its content: real pictures of one pixel, and what is made of them."""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.logo import MAX_BYTES, MAX_SIDE, LogoError, logo_type

GIF = b64decode("R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
WEBP = b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")
LOSSLESS = b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int = 1, height: int = 1, more: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (width + 1) * height if width * height < 100 else b"")
    body = chunk(b"IHDR", header) + more + chunk(b"IDAT", pixels) + chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg(width: int = 1, height: int = 1, *, marker: int = 0xC0) -> bytes:
    """Of a picture the frame: what a decoder needs beside it is left out."""
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    segments = [(0xE0, b"JFIF\0"), (marker, frame), (0xDA, b"\x01\x01\0\0\x3f\0")]
    joined = b"".join(
        b"\xff" + bytes([name]) + struct.pack(">H", len(body) + 2) + body for name, body in segments
    )
    return b"\xff\xd8\xff" + joined + b"\x12\x34\xff\xd9"


def extended(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    parts = ((b"VP8X", b"\0\0\0\0" + size), *chunks)
    body = b"".join(n + struct.pack("<I", len(b)) + b + b"\0" * (len(b) % 2) for n, b in parts)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


KNOWN = {
    "image/png": [png(), png(MAX_SIDE, MAX_SIDE)],
    "image/jpeg": [jpeg(), jpeg(marker=0xC2), jpeg(300, MAX_SIDE)],
    "image/gif": [GIF, GIF.replace(b"89a", b"87a")],
    "image/webp": [WEBP, LOSSLESS, extended(MAX_SIDE, 3, (b"VP8 ", b"odd"))],
}


@pytest.mark.parametrize(
    ("media_type", "data"), [(kind, one) for kind, all_ in KNOWN.items() for one in all_]
)
def test_a_picture_is_told_by_its_content(media_type, data):
    assert logo_type(data) == media_type


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no picture"),
        (b"GIF90a" + GIF[6:], "no picture"),
        (b"%PDF-1.7", "no picture"),
        (SVG, "SVG"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html>", "SVG or HTML"),
        (b"\xff\xfe<\0s\0v\0g\0", "SVG"),
        (png(MAX_SIDE + 1), "2049 x 1 pixels"),
        (png(0), "0 x 1 pixels"),
        (jpeg(65_535, 65_535), "65535 x 65535"),
        (extended(2**24, 1), "16777216 x 1"),
        (png(more=chunk(b"acTL", b"\0" * 8)), "moves"),
        (extended(1, 1, (b"ANIM", b"\0" * 6)), "moves"),
        (GIF[:-1] + GIF[GIF.index(b",") :], "moves"),
        (png() + b"<script>", "something follows"),
        (GIF + b"\0", "something follows"),
        (WEBP + b"\0", "something follows"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT"), "without a size"),
        (GIF[: GIF.index(b",")] + b";", "shows nothing"),
        (GIF[: GIF.index(b",")] + b"?;", "a block is unknown"),
        (b"RIFF\x04\0\0\0WEBP", "has no size"),
        (b"\xff\xd8\xff\xd9", "has no size"),
        (b"\xff\xd8\xff\xda\0\x02", "has no size"),
        (b"\xff\xd8\xff\xe0\0\x02?", "marker is missing"),
        (jpeg()[:-2], "ends too soon"),
        (png() + b"\0" * MAX_BYTES, "at most 32768"),
    ],
)
def test_what_is_none_is_refused_in_words(data, says):
    with pytest.raises(LogoError, match=says):
        logo_type(data)


@pytest.mark.parametrize("data", [one for all_ in KNOWN.values() for one in all_])
def test_what_was_cut_off_is_refused(data):
    for length in range(len(data)):
        with pytest.raises(LogoError):
            logo_type(data[:length])


@given(st.sampled_from([b"", *(all_[0] for all_ in KNOWN.values())]), st.binary(max_size=80))
@example(b"\xff\xd8", b"\xff" * 50)
@example(b"\xff\xd8\xff\xe0", b"\0\0" * 20)
def test_nothing_is_answered_but_a_type_or_a_refusal(start, rest):
    for data in (start + rest, start[: len(start) // 2] + rest):
        try:
            assert logo_type(data) in KNOWN
        except LogoError:
            continue
