"""Damage, drawn from dice: bytes, texts and JSON documents with a few things in them changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

EDGES = (0, 1, 2, 3, 0x0A, 0x20, 0x7F, 0x80, 0xFC, 0xFD, 0xFE, 0xFF)
NUMBERS = (
    0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1,
    2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**256 - 1, 2**256, -(2**63), 10**30,
)  # fmt: skip
WORDS = (
    "", " ", "0", "-1", "0x", "0x0", "0x" + "f" * 64, "00" * 32, "ff" * 32, "null", "NaN", "1e999",
    "1.5", "١٢٣", "\u0000", "\ud800", "\u202e", "é", "%00", "../..", "true", "OK", "latest",
    "x" * 5000, "9" * 400,
)  # fmt: skip
JUNK: tuple[Any, ...] = (
    None, True, False, 1.5, -0.0, 1e300, float("inf"), float("nan"), [], {}, [[]], [None], [{}],
    {"": None}, *NUMBERS, *WORDS,
)  # fmt: skip
_MOST = 1 << 20
"""Bytes of a mutated input: damage is found in small ones."""


def mutated(dice: Random, data: bytes, *, others: Sequence[bytes] = ()) -> bytes:
    """The bytes with one to six changes; `others` is what pieces may be taken from."""
    found = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
        _change(dice, found, others)
    return bytes(found[:_MOST])


def _change(dice: Random, data: bytearray, others: Sequence[bytes]) -> None:
    size = len(data)
    # What decides is often near the front: counts, kinds, versions.
    at = dice.randrange(min(size, dice.choice((8, 64, 1024, _MOST))) or 1)
    length = min(dice.choice((1, 1, 2, 4, 8, 32, 200)), max(size - at, 0))
    match dice.randrange(10):
        case 0 | 1 if size:
            data[at] ^= 1 << dice.randrange(8)
        case 2 | 3 if size:
            data[at] = dice.choice((*EDGES, dice.randrange(256)))
        case 4:
            data[at:at] = dice.randbytes(dice.choice((1, 2, 4, 9, 40)))
        case 5:
            del data[at : at + length]
        case 6:
            data[at:at] = bytes(data[at : at + length]) * dice.choice((1, 1, 2, 50))
        case 7:
            number = dice.choice(NUMBERS) % 2**64
            width = dice.choice((1, 2, 4, 8))
            order = dice.choice(("little", "big"))
            data[at : at + width] = (number % 256**width).to_bytes(width, order)
        case 8 if others:
            other = dice.choice(others)
            start = dice.randrange(len(other) or 1)
            data[at : at + length] = other[start : start + dice.choice((4, 32, 300))]
        case _:
            del data[dice.randrange(size or 1) :]


def mutated_text(dice: Random, text: str, *, others: Sequence[str] = ()) -> str:
    """The text with one to three changes."""
    for _ in range(dice.choice((1, 1, 2, 3))):
        at = dice.randrange(len(text) + 1)
        length = dice.choice((1, 1, 2, 8))
        match dice.randrange(7):
            case 0:
                text = text[:at] + text[at + length :]
            case 1:
                text = text[:at] + text[at : at + length] * dice.choice((2, 3, 100)) + text[at:]
            case 2:
                text = (
                    text[:at] + dice.choice("0fFgz9.-_:/?#[]@!$&'()*+,;=% \t\n\"\\{}é") + text[at:]
                )
            case 3:
                text = text[:at] + dice.choice(WORDS) + text[at + length :]
            case 4 if others:
                other = dice.choice(others)
                text = text[:at] + other[dice.randrange(len(other) or 1) :]
            case 5:
                text = text[:at] + text[at:].swapcase()
            case _:
                text = (
                    text[:at]
                    + chr(dice.choice((dice.randrange(128), 0x7FF, 0xFFFD)))
                    + text[at + 1 :]
                )
    return text[:_MOST]


def mutated_json(dice: Random, value: Any, *, others: Sequence[Any] = ()) -> Any:
    """A copy of the document with one to four things in it changed, at any depth."""
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        value = _changed(dice, value, others)
    return value


def _changed(dice: Random, value: Any, others: Sequence[Any]) -> Any:  # noqa: PLR0911 - one way out per kind of value
    if isinstance(value, dict) and value and dice.random() < 0.92:
        return _changed_object(dice, value, others)
    if isinstance(value, list) and value and dice.random() < 0.92:
        return _changed_list(dice, value, others)
    if isinstance(value, str) and dice.random() < 0.6:
        return mutated_text(dice, value)
    if isinstance(value, bool):
        return dice.choice((not value, None, "true", 1))
    if isinstance(value, int) and dice.random() < 0.6:
        return dice.choice(
            (value + 1, value - 1, -value, str(value), hex(value), value * 2, float(value % 2**53))
        )
    match dice.randrange(8):
        case 0 if others:
            return dice.choice(others)
        case 1:
            return [value]
        case 2:
            return {"x": value}
        case 3:
            return nested(dice.choice((5, 40, 600)))
        case _:
            return dice.choice(JUNK)


def _changed_object(dice: Random, value: dict[str, Any], others: Sequence[Any]) -> Any:
    name = dice.choice(list(value))
    match dice.randrange(12):
        case 0:
            return {key: each for key, each in value.items() if key != name}
        case 1:
            return {
                (mutated_text(dice, key) if key == name else key): each
                for key, each in value.items()
            }
        case 2:
            return {**value, dice.choice(WORDS): dice.choice(JUNK)}
        case 3:
            return {**value, name: value[dice.choice(list(value))]}
        case _:
            return {**value, name: _changed(dice, value[name], others)}


def _changed_list(dice: Random, value: list[Any], others: Sequence[Any]) -> Any:
    at = dice.randrange(len(value))
    match dice.randrange(12):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return [*value[:at], *[value[at]] * dice.choice((2, 2, 30)), *value[at + 1 :]]
        case 2:
            return value[::-1]
        case 3:
            return [*value, dice.choice(JUNK)]
        case _:
            return [*value[:at], _changed(dice, value[at], others), *value[at + 1 :]]


def nested(depth: int) -> Any:
    """Lists and objects in each other."""
    value: Any = None
    for level in range(depth):
        value = [value] if level % 2 else {"x": value}
    return value


def as_json(value: Any) -> bytes:
    """Also what JSON has no form for: NaN, lone surrogates, whole numbers of any size."""
    return json.dumps(value).encode()
