"""Reads QR codes back out of pages: draws the SVG's own path, and lets zxing look at it."""

from __future__ import annotations

import re

import zxingcpp

PIXELS = 4
_STEP = re.compile(r"([Mmh])(-?\d+(?:\.\d+)?)(?: (-?\d+(?:\.\d+)?))?")


def qr_texts(svg: str) -> list[str]:
    """What the codes in the drawing say."""
    side, dark = drawn(svg)
    width = side * PIXELS
    image = bytearray(b"\xff" * (width * width))
    for x, y in dark:
        for row in range(y * PIXELS, (y + 1) * PIXELS):
            at = row * width + x * PIXELS
            image[at : at + PIXELS] = bytes(PIXELS)
    found = zxingcpp.read_barcodes(memoryview(image).cast("B", (width, width)))
    return [one.text for one in found]


def drawn(svg: str) -> tuple[int, set[tuple[int, int]]]:
    """The side in modules, and the dark ones (column, row)."""
    box = re.search(r'viewBox="0 0 (\d+) (\d+)"', svg)
    assert box is not None, "a size"
    assert box[1] == box[2], "a square"
    path = re.search(r'stroke="#000"[^>]* d="([^"]+)"', svg)
    assert path, "a dark path"
    x, y = 0, 0.0
    dark: set[tuple[int, int]] = set()
    for kind, first, second in _STEP.findall(path[1]):
        if kind == "h":
            dark |= {(at, int(y)) for at in range(x, x + int(first))}
            x += int(first)
        else:
            moved = kind == "m"
            x = (x if moved else 0) + int(first)
            y = (y if moved else 0) + float(second)
    return int(box[1]), dark
