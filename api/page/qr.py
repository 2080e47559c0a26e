"""QR codes (ISO/IEC 18004) as SVG that stands in the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import segno
from markupsafe import Markup

MASK = 2
"""Choosing the best of the eight takes four times as long, and readers take any."""
QUIET_ZONE = 4
"""Modules of light around the code, as the standard asks."""
_DARK = re.compile(rb"\x01+")


@lru_cache(maxsize=2048)
def qr_svg(text: str) -> Markup:
    """Dark on light in either colour scheme, for not every reader takes the inverse.

    Correction level M or better: screens have glare. The SVG has no size of its own.
    """
    code = segno.make_qr(text, error="m", mask=MASK)
    side = len(code.matrix) + 2 * QUIET_ZONE
    return Markup(
        '<svg viewBox="0 0 {0} {0}"><path fill="#fff" d="M0 0h{0}v{0}h-{0}z"/>'
        '<path stroke="#000" d="{1}"/></svg>'
    ).format(side, "".join(_lines(code.matrix)))


def _lines(matrix: Iterable[bytes | bytearray]) -> Iterator[str]:
    """A path of horizontal lines, one module thick: a step (to its middle) and a line each."""
    at_x, at_y, step = 0, -0.5, "M"
    for y, row in enumerate(matrix, QUIET_ZONE):
        for run in _DARK.finditer(row):
            x, length = run.start() + QUIET_ZONE, run.end() - run.start()
            yield f"{step}{x - at_x} {y - at_y:g}h{length}"
            at_x, at_y, step = x + length, y, "m"
