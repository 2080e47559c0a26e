"""QR codes (ISO/IEC 18004) as SVG that stands in the page."""

from __future__ import annotations

from functools import lru_cache

import segno
from markupsafe import Markup

MASK = 2
"""Choosing the best of the eight takes four times as long, and readers take any."""
QUIET_ZONE = 4
"""Modules of light around the code, as the standard asks."""


@lru_cache(maxsize=512)
def qr_svg(text: str) -> Markup:
    """Dark on light in either colour scheme, for not every reader takes the inverse.

    Correction level M or better: screens have glare. The SVG has no size of its own.
    """
    code = segno.make_qr(text, error="m", mask=MASK)
    svg = code.svg_inline(
        omitsize=True,
        border=QUIET_ZONE,
        dark="#000",
        light="#fff",
        svgclass=None,
        lineclass=None,
    )
    # Our own text is in it as modules alone.
    return Markup(svg)  # noqa: S704
