"""Errors as problem documents, `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import orjson

from api.errors import KINDS, Answer

MEDIA_TYPE = "application/problem+json"
_IN_PATHS = "/:@!$&'()*+,;="
"""What stands for itself in a path, beside letters, digits and `-._~` (RFC 3986, 3.3)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request."""

    detail: str
    pointer: str | None = None
    """Where in the body, as a JSON pointer in a fragment (RFC 6901): `#/amount`."""
    parameter: str | None = None
    """Which query parameter or header."""

    def as_json(self) -> dict[str, str]:
        found = {"detail": self.detail, "pointer": self.pointer, "parameter": self.parameter}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(slots=True, eq=False)
class Problem(Exception):  # noqa: N818 - RFC 9457's own noun
    """Ends a request with a problem document."""

    answer: Answer
    faults: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return self.answer.kind.http

    def body(self, *, instance: str) -> bytes:
        """The document; `instance` is the path of the request, decoded."""
        kind = self.answer.kind
        document: dict[str, object] = {
            "type": f"/docs#{kind.slug}",
            "title": kind.title,
            "status": kind.http,
            "detail": self.answer.detail,
            "instance": quote(instance, safe=_IN_PATHS),
            "reason": kind.reason,
            "advice": kind.advice,
        }
        if self.answer.facts:
            document["facts"] = dict(self.answer.facts)
        if self.faults:
            document["errors"] = [fault.as_json() for fault in self.faults]
        return orjson.dumps(document)

    def all_headers(self) -> dict[str, str]:
        found = {"Content-Type": MEDIA_TYPE, **self.headers}
        if self.answer.kind.retry_after_s is not None:
            found["Retry-After"] = str(self.answer.kind.retry_after_s)
        return found


def problem(reason: str, detail: str, **headers: str) -> Problem:
    """A problem of a kind in the table; header names have `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Problem(Answer(KINDS[reason], detail), headers=named)


def invalid(faults: Sequence[Fault]) -> Problem:
    """All that is wrong with a request, at once."""
    count = len(faults)
    detail = faults[0].detail if count == 1 else f"{count} things are wrong; see errors."
    return Problem(Answer(KINDS["INVALID_REQUEST"], detail), tuple(faults))
