"""Reads QR codes off screenshots with ZXing, which shares nothing with what draws them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import zxingcpp

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 6: 4}
"""By PNG's colour type: grey, red-green-blue, and that with opacity."""


def read_qr(png: bytes) -> list[str]:
    """What the QR codes on a picture say."""
    width, height, pixels = grey(png)
    image = memoryview(pixels).cast("B", shape=[height, width])
    found = zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormat.QRCode)
    return [one.text for one in found]


def grey(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and brightness of each pixel, row by row; of PNGs as Page.screenshot has them.

    8 bits a channel, not interlaced (ISO/IEC 15948); the green of a pixel is its brightness.
    """
    assert png.startswith(_SIGNATURE), "that is no PNG"
    parts = dict[bytes, bytes]()
    for kind, content in _chunks(png):
        parts[kind] = parts.get(kind, b"") + content
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert (depth, interlaced) == (8, 0), "browsers write 8 bits a channel, row by row"
    channels = _CHANNELS[colour]
    rows = _rows(zlib.decompress(parts[b"IDAT"]), width * channels)
    return width, height, b"".join(row[min(1, channels - 1) :: channels] for row in rows)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += size + 12


def _rows(data: bytes, stride: int) -> Iterator[bytes]:
    """Undo the filter, which is "none" or "up" in pictures that are written for speed."""
    low, high = int("7f" * stride, 16), int("80" * stride, 16)
    above = 0
    for at in range(0, len(data), stride + 1):
        kind, row = data[at], int.from_bytes(data[at + 1 : at + 1 + stride], "little")
        assert kind in (0, 2), "only pictures that are written for speed can be read"
        if kind:
            # All bytes of the row at once, each modulo 256.
            row = ((row & low) + (above & low)) ^ ((row ^ above) & high)
        yield row.to_bytes(stride, "little")
        above = row
