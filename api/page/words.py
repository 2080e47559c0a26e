"""The page's languages: sentences, numbers and instants, from `words/*.toml`.

A sentence is a `Phrase`: its key and the values in it, still without a language. In HTML every
value stands in a `<bdi>`, so that an address or a name cannot turn the text around it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from markupsafe import Markup, escape

from actors.core.money import format_decimal
from api.convert import instant

LANGUAGES = ("en", "de", "es", "zh", "ar")
FALLBACK = "en"
NARROW_SPACE = "\u202f"
"""Between groups of digits: it can be taken for no decimal separator, in any language."""

_FIRST_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
_MAX_ACCEPTED = 500
_RANGE = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,40})?(?:;q=([01](?:\.[0-9]{0,3})?))?")
# What orders or overrides the direction of text, and what no text is made of. Joiners stay: names
# and emoji are spelt with them.
_UNSEEMLY = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u061c"
    "\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A sentence that has yet to be said in a language."""

    key: str
    values: tuple[tuple[str, str], ...] = ()


def phrase(key: str, **values: str) -> Phrase:
    return Phrase(key, tuple(values.items()))


class Words:
    """One language."""

    def __init__(self, code: str, data: Mapping[str, Any]) -> None:
        self.code = code
        self.name: str = data["name"]
        self.direction: str = data["direction"]
        self.decimal: str = data["decimal"]
        self.sentences: Mapping[str, str] = MappingProxyType(dict(data["words"]))
        self._instant: str = data["instant"]
        self._months: list[str] = data["months"]

    def html(self, said: Phrase) -> Markup:
        """The sentence, with each value escaped and isolated."""
        values = {name: Markup("<bdi>{}</bdi>").format(value) for name, value in said.values}
        return escape(self.sentences[said.key]).format(**values)

    def text(self, said: Phrase) -> str:
        """The sentence as plain text; values are isolated where their direction may be another."""
        values = {name: self._isolated(value) for name, value in said.values}
        return self.sentences[said.key].format(**values)

    def _isolated(self, value: str) -> str:
        if self.direction == "ltr" and not _RIGHT_TO_LEFT.search(value):
            return value
        return f"{_FIRST_ISOLATE}{value}{_POP_ISOLATE}"

    def number(self, amount_base: int, exponent: int) -> str:
        """The exact decimal, without trailing zeros: `0,5`, `12 345.678`.

        From five digits on the whole part is grouped. Digits are the Western ones everywhere.
        """
        whole, _, fraction = format_decimal(amount_base, exponent).partition(".")
        if len(whole) > 4:
            first = len(whole) % 3
            groups = [whole[:first]] if first else []
            groups += [whole[at : at + 3] for at in range(first, len(whole), 3)]
            whole = NARROW_SPACE.join(groups)
        return f"{whole}{self.decimal}{fraction}" if fraction else whole

    def instant(self, at_ms: int) -> str:
        """Day and minute in UTC."""
        at = instant(at_ms)
        return self._instant.format(
            day=at.day, month=self._months[at.month - 1], year=at.year, time=f"{at:%H:%M}"
        )


@cache
def words(code: str) -> Words:
    """The language of one of LANGUAGES."""
    assert code in LANGUAGES
    data = files("api.page").joinpath("words", f"{code}.toml").read_text(encoding="utf-8")
    return Words(code, tomllib.loads(data))


def choose_language(asked: str | None, accepted: str | None) -> str:
    """The language to answer in: of `?lang=` if it is one of ours, else of Accept-Language.

    Accept-Language (RFC 9110, 12.5.4) counts by its first subtags alone; what is not understood in
    it counts for nothing.
    """
    if asked in LANGUAGES:
        return asked
    best, best_weight = FALLBACK, 0.0
    for one in (accepted or "")[:_MAX_ACCEPTED].replace(" ", "").split(","):
        match = _RANGE.fullmatch(one)
        if match is None or match[1].lower() not in LANGUAGES:
            continue
        weight = float(match[2] or "1")
        if weight > best_weight:
            best, best_weight = match[1].lower(), weight
    return best


def seemly(text: str, limit: int) -> str:
    """A stranger's text on one line, without characters that steer, and not longer than that."""
    cut = text[: 4 * limit]
    shown = " ".join(_UNSEEMLY.sub("", cut).split())
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
