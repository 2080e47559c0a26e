"""The fields of bodies, queries and paths: how each is read, and what JSON Schema says of it.

One declaration serves both, so the OpenAPI document cannot say anything else than the code does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from api.convert import parse_instant, parse_uuid
from api.rest.problems import Fault

MAX_INTEGER = 2**63 - 1
MAX_BASE_DIGITS = 80
_BASE = re.compile(rf"[0-9]{{1,{MAX_BASE_DIGITS}}}")
_SHOWN = 60

Schema = dict[str, Any]


class UnfitError(ValueError):
    """A value cannot be used; the text goes on after the field's name: `must be a text`."""


@dataclass(frozen=True, slots=True)
class Field:
    """One named value."""

    name: str
    read: Callable[[Any], Any]
    """From the JSON value or the query's text to the core's value; raises UnfitError."""
    schema: Schema
    about: str
    required: bool = False
    example: object = None


@dataclass(frozen=True, slots=True)
class Shape:
    """A flat set of fields, and rules between them."""

    fields: tuple[Field, ...]
    one_of: tuple[tuple[str, ...], ...] = ()
    """Of each group exactly one is given."""
    names: Mapping[str, Field] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", {one.name: one for one in self.fields})

    def read(
        self, given: Mapping[str, Any], at: Callable[[str, str], Fault]
    ) -> tuple[dict[str, Any], list[Fault]]:
        """The values of the known fields, and everything that is wrong.

        `at(name, detail)` makes a fault. A JSON null counts as absent.
        """
        values: dict[str, Any] = {}
        faults = [at(name, _unknown(name, self.names)) for name in given if name not in self.names]
        present = {name for name, value in given.items() if value is not None}
        for one in self.fields:
            if one.name not in present:
                if one.required:
                    faults.append(at(one.name, f"{one.name} is missing"))
                continue
            try:
                values[one.name] = one.read(given[one.name])
            except UnfitError as error:
                faults.append(at(one.name, f"{one.name} {error}"))
        for group in self.one_of:
            count = len(present.intersection(group))
            if count != 1:
                names = " and ".join(group)
                said = "are given together" if count else "are both missing"
                faults.append(at(group[0], f"{names} {said}: give exactly one of them"))
        return values, faults

    def schema(self) -> Schema:
        """The JSON Schema of a body of this shape."""
        document: Schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {one.name: described(one) for one in self.fields},
        }
        if required := [one.name for one in self.fields if one.required]:
            document["required"] = required
        if self.one_of:
            document["allOf"] = [
                {"oneOf": [{"required": [name]} for name in group]} for group in self.one_of
            ]
        return document


def described(one: Field) -> Schema:
    """A field's schema with its description and example."""
    schema: Schema = {**one.schema, "description": one.about}
    if one.example is not None:
        schema["examples"] = [one.example]
    return schema


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that was probably meant."""
    folded = {one.lower(): one for one in known}
    close = get_close_matches(name.lower()[:_SHOWN], folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def shown(value: object) -> str:
    """A value as it may be repeated to whoever sent it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _unknown(name: str, known: Mapping[str, Field]) -> str:
    meant = nearest(name, known)
    if meant is not None:
        return f"{shown(name)} is not known here; did you mean {meant!r}?"
    listed = ", ".join(known) if known else "nothing"
    return f"{shown(name)} is not known here; known are: {listed}"


# --- readers --------------------------------------------------------------------------------------


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise UnfitError(f"must be a text, not {shown(value)}")
    return value


def uuid(value: Any) -> Any:
    found = parse_uuid(text(value))
    if found is None:
        raise UnfitError(f"must be a UUID (36 characters or 32 hex digits), not {shown(value)}")
    return found


def amount(value: Any) -> str:
    """A decimal text; what it is in base units depends on the asset."""
    if isinstance(value, float):
        raise UnfitError(
            f'must be a text such as "{value!r}", in quotation marks: a JSON number may lose digits'
            " of money on its way"
        )
    if isinstance(value, int) and not isinstance(value, bool):
        raise UnfitError(f'must be a text: write "{value}", in quotation marks')
    return text(value)


def base_units(value: Any) -> int:
    if isinstance(value, float):
        raise UnfitError(
            "must be a whole number of base units; write large ones as a text, in quotation marks"
        )
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _BASE.fullmatch(value):
        return int(value)
    raise UnfitError(
        f"must be a whole number of base units, at least 0, as a number or a text of at most"
        f" {MAX_BASE_DIGITS} digits, not {shown(value)}"
    )


def instant(value: Any) -> int:
    try:
        return parse_instant(text(value))
    except UnfitError:
        raise
    except ValueError as error:
        raise UnfitError(f"{error}, not {shown(value)}") from None


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A reader of JSON integers."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UnfitError(f"must be a whole number from {low} to {high}, not {shown(value)}")
        return value

    return read


def whole_text(low: int, high: int) -> Callable[[Any], int]:
    """A reader of integers in a query."""
    read_whole = whole(low, high)

    def read(value: Any) -> int:
        # int() would also take blanks, underscores and foreign digits, and any length.
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
            return read_whole(int(value))
        raise UnfitError(f"must be a whole number from {low} to {high}, not {shown(value)}")

    return read


def number_in_path(word: str) -> int | None:
    """A positive whole number as it stands in a path; None for anything else."""
    return int(word) if re.fullmatch(r"[1-9][0-9]{0,18}", word, re.ASCII) else None


def choice(known: Collection[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if text(value) in known:
            return str(value)
        meant = nearest(value, known)
        hint = f"; did you mean {meant!r}?" if meant else ""
        raise UnfitError(f"must be one of {', '.join(known)}, not {shown(value)}{hint}")

    return read


def listed(read_one: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Several values in one query parameter, separated by commas."""

    def read(value: Any) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(read_one(part) for part in text(value).split(",")))

    return read


def schema_of_choice(known: Sequence[str]) -> Schema:
    return {"type": "string", "enum": list(known)}
