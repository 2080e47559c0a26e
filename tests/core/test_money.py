from __future__ import annotations

import math
import sys
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.core.money import AmountError, format_decimal, from_double, parse_decimal, to_double

EXPONENTS = st.integers(0, 30)
AMOUNTS = st.integers(0, 10**80 - 1)


@pytest.mark.parametrize(
    ("text", "exponent", "amount_base"),
    [
        ("0", 8, 0),
        ("0.015", 8, 1_500_000),
        ("12", 8, 1_200_000_000),
        ("12", 0, 12),
        ("1.0", 0, 1),
        ("1.10", 1, 11),
        ("00.50", 1, 5),
        ("0.00000001", 8, 1),
        ("1.234567890000", 8, 123_456_789),
        ("9" * 80, 0, 10**80 - 1),
    ],
)
def test_a_plain_decimal_is_read_exactly(text, exponent, amount_base):
    assert parse_decimal(text, exponent) == amount_base


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1.",
        ".5",
        "1e3",
        "0x10",
        "1,5",
        "nan",
        "inf",
        "1\n",
        "1_0",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "9" * 81,
        "0." + "1" * 81,
    ],
)
def test_anything_but_a_plain_decimal_is_refused_by_name(text):
    with pytest.raises(AmountError, match="is not a plain decimal number"):
        parse_decimal(text, 30)


def test_an_endless_text_is_not_repeated_in_the_error():
    with pytest.raises(AmountError) as refused:
        parse_decimal("9" * 10_000, 8)
    assert len(str(refused.value)) < 200


def test_more_decimals_than_the_asset_has_are_refused_not_rounded():
    with pytest.raises(AmountError, match="more than the 8 decimals"):
        parse_decimal("0.123456789", 8)


@given(AMOUNTS, EXPONENTS)
def test_what_is_formatted_is_read_back(amount_base, exponent):
    text = format_decimal(amount_base, exponent)
    if len(text.partition(".")[0]) <= 80:
        assert parse_decimal(text, exponent) == amount_base
    assert Fraction(text) == Fraction(amount_base, 10**exponent)
    assert "." not in text or not text.endswith(("0", "."))


@given(st.integers(-(10**40), 10**40), EXPONENTS)
def test_a_difference_may_be_formatted_below_zero(amount_base, exponent):
    assert Fraction(format_decimal(amount_base, exponent)) == Fraction(amount_base, 10**exponent)


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False), EXPONENTS)
@example(5e-324, 18)
@example(5e-324, 0)
@example(sys.float_info.max, 30)
@example(1e308, 18)
@example(0.1, 8)
@example(0.1 + 0.2, 18)
@example(1e22, 0)
@example(2.0**53 + 2, 8)
@example(sys.float_info.min, 8)
def test_a_double_is_its_shortest_decimal_rounded_up(value, exponent):
    exact = Fraction(Decimal(repr(value))) * 10**exponent
    assert from_double(value, exponent) == math.ceil(exact)


@pytest.mark.parametrize(
    ("value", "exponent", "amount_base"),
    [
        (0.1, 8, 10_000_000),
        (0.29, 2, 29),
        (1.005, 2, 101),
        (0.000000011, 8, 2),
        (5e-324, 8, 1),
        (4.35, 2, 435),
        (0.0, 8, 0),
    ],
)
def test_rounding_up_never_asks_for_less_than_was_meant(value, exponent, amount_base):
    assert from_double(value, exponent) == amount_base


def test_negative_zero_is_nothing():
    assert from_double(-0.0, 8) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, -5e-324])
def test_what_is_no_amount_is_refused(value):
    with pytest.raises(AmountError, match="finite and not below 0"):
        from_double(value, 8)


@given(st.integers(0, 10**80), EXPONENTS)
def test_the_double_is_the_nearest(amount_base, exponent):
    # Fraction → float rounds once, to nearest even: an oracle that shares no code with ours.
    assert to_double(amount_base, exponent) == float(Fraction(amount_base, 10**exponent))


@given(
    st.floats(min_value=0, max_value=1e15, allow_nan=False).map(lambda value: round(value, 8)),
)
def test_a_double_that_the_asset_can_hold_survives_the_way_in_and_out(value):
    assert to_double(from_double(value, 8), 8) == value
