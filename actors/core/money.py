"""Money is an integer in base units; text and doubles are converted here alone, exactly."""

from __future__ import annotations

import math
import re
from decimal import ROUND_CEILING, Context, Decimal

_DECIMAL = re.compile(r"(?P<whole>[0-9]{1,80})(?:\.(?P<fraction>[0-9]{1,80}))?")
# 309 digits before the point is what a double can hold; 30 more for the largest exponent.
_WIDE = Context(prec=1200, rounding=ROUND_CEILING)


class AmountError(ValueError):
    """The amount cannot be taken as money; the text says why, for a person."""


def parse_decimal(text: str, exponent: int) -> int:
    """Base units of a plain decimal such as `0.015` or `12`: no sign, blank, exponent or rounding.

    Raises AmountError when the text has another form or more decimals than `exponent`.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise AmountError(f"{text[:80]!r} is not a plain decimal number such as '0.015'")
    fraction = match["fraction"] or ""
    if len(fraction.rstrip("0")) > exponent:
        raise AmountError(
            f"{text!r} has more than the {exponent} decimals of this asset; round it first"
        )
    return int(match["whole"] + fraction[:exponent].ljust(exponent, "0"))


def format_decimal(amount_base: int, exponent: int) -> str:
    """The shortest plain decimal equal to `amount_base`: no trailing zeros, no exponent."""
    sign = "-" if amount_base < 0 else ""
    digits = str(abs(amount_base)).rjust(exponent + 1, "0")
    whole, fraction = (
        (digits[:-exponent], digits[-exponent:].rstrip("0")) if exponent else (digits, "")
    )
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def from_double(value: float, exponent: int) -> int:
    """Base units of a double read as its shortest decimal, rounded up to the next base unit.

    Rounding up never asks for less than was meant. Negative zero is 0. Raises AmountError for
    NaN, infinities and negative values.
    """
    if not math.isfinite(value) or value < 0:
        raise AmountError(f"{value!r} is not an amount: it must be finite and not below 0")
    scaled = Decimal(repr(value)).scaleb(exponent, _WIDE)
    return int(scaled.to_integral_value(rounding=ROUND_CEILING, context=_WIDE))


def to_double(amount_base: int, exponent: int) -> float:
    """The double nearest to the amount (int true division rounds once, correctly)."""
    nearest: float = amount_base / 10**exponent
    return nearest
