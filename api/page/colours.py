"""A merchant's colour, made readable: contrast as WCAG 2.2 computes it (relative luminance)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

TEXT_CONTRAST = 4.5
"""Success criterion 1.4.3, level AA."""
LIGHT, DARK = "#ffffff", "#14171c"
"""The page's backgrounds in both colour schemes; style.css has them too."""
DEFAULT = "#1f5fd0"

_HEX = re.compile(r"#[0-9a-f]{6}")
_STEPS = 100

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Palette:
    """What the style sheet takes; every pair that is shown together has TEXT_CONTRAST."""

    brand: str
    """Behind the text of buttons."""
    on_brand: str
    """That text: black or white."""
    accent_light: str
    """Text and lines on the light background: the brand's colour, darkened as far as needed."""
    accent_dark: str
    """The same on the dark one, lightened."""

    def css(self) -> str:
        """Custom properties for style.css."""
        return (
            f":root{{--brand:{self.brand};--on-brand:{self.on_brand};--accent:{self.accent_light}}}"
            "@media(prefers-color-scheme:dark){"
            f":root{{--accent:{self.accent_dark}}}}}"
        )


@lru_cache(maxsize=256)
def palette(colour: str | None) -> Palette:
    """The palette of a `#rrggbb`; of our own colour for None and for what is no such text."""
    brand = (colour or "").lower()
    if not _HEX.fullmatch(brand):
        brand = DEFAULT
    on_brand = max("#ffffff", "#000000", key=lambda text: contrast(text, brand))
    return Palette(
        brand, on_brand, _readable(brand, LIGHT, "#000000"), _readable(brand, DARK, "#ffffff")
    )


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _readable(colour: str, background: str, towards: str) -> str:
    """The colour, mixed with as little of `towards` as makes it readable."""
    for step in range(_STEPS):
        mixed = _mixed(colour, towards, step)
        if contrast(mixed, background) >= TEXT_CONTRAST:
            return mixed
    return towards


def _mixed(colour: str, towards: str, step: int) -> str:
    pairs = zip(_rgb(colour), _rgb(towards), strict=True)
    return "#" + "".join(f"{(a * (_STEPS - step) + b * step) // _STEPS:02x}" for a, b in pairs)


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(value / 255) for value in _rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(value: float) -> float:
    if value <= 0.04045:
        return value / 12.92
    linear: float = ((value + 0.055) / 1.055) ** 2.4
    return linear


def _rgb(colour: str) -> Rgb:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
