"""How tally.v1 refuses: an exact gRPC status, ErrorInfo for programs, the fields that are wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from grpclib.const import Status

from actors.ports import PersistentError, TransientError
from api.convert import parse_uuid
from api.errors import KINDS, Answer, failure
from api.grpc.status import CallError

DOMAIN = "tally"
MAX_VIOLATIONS = 8
"""Told at once; all of them and the rest must fit into the trailers."""
MAX_DESCRIPTION = 300

# GoiPay's clients know two statuses; where the table of refusals speaks to them, we say more.
_EXACT: Mapping[str, Status] = {
    "USER_EXISTS": Status.ALREADY_EXISTS,
    "NO_SUCH_USER": Status.NOT_FOUND,
    "NO_SUCH_INVOICE": Status.NOT_FOUND,
    "NO_KEY": Status.FAILED_PRECONDITION,
    "UNKNOWN_ASSET": Status.INVALID_ARGUMENT,
    "ASSET_DISABLED": Status.UNAVAILABLE,
    "STORE_UNAVAILABLE": Status.UNAVAILABLE,
    "OPERATOR_NEEDED": Status.UNAVAILABLE,
}
_FIELDS: Mapping[str, str] = {
    "AMOUNT_REFUSED": "amount",
    "CURSOR_REFUSED": "start",
    "IDEMPOTENCY_KEY_REFUSED": "idempotency_key",
    "METADATA_REFUSED": "metadata",
    "POLICY_REFUSED": "policy",
    "UNKNOWN_ASSET": "asset",
}
"""Which field of the request is wrong, where the refusal says so."""

_DIGITS = re.compile(r"[0-9]{1,80}")


def refused(told: Answer) -> CallError:
    """The error of an answer."""
    reason = told.kind.reason
    field = _FIELDS.get(reason)
    return CallError(
        _EXACT.get(reason, Status(told.kind.grpc)),
        f"{told.detail} {told.kind.advice}",
        reason=reason,
        facts=told.facts,
        domain=DOMAIN,
        violations=[] if field is None else [(field, told.detail[:MAX_DESCRIPTION])],
    )


@contextmanager
def store_failures() -> Iterator[None]:
    """The world's failures as errors of the call."""
    try:
        yield
    except (TransientError, PersistentError) as error:
        raise refused(failure(error)) from error


class Violations:
    """Everything that is wrong with a request, told at once."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def add(self, field: str, description: str) -> None:
        self._found.append((field, description[:MAX_DESCRIPTION]))

    def uuid(self, field: str, text: str) -> UUID | None:
        found = parse_uuid(text)
        if found is None:
            said = "is missing" if not text else f"is no UUID: {text[:60]!r}"
            self.add(field, f"{said}; give 36 characters or 32 hexadecimal digits")
        return found

    def base_units(self, field: str, text: str) -> int:
        """0 where it cannot be read."""
        if _DIGITS.fullmatch(text):
            return int(text)
        self.add(field, f"must be a whole number of base units, in digits, not {text[:60]!r}")
        return 0

    def check(self) -> None:
        """Raise CallError if anything was wrong."""
        if not self._found:
            return
        told = "; ".join(f"{field} {description}" for field, description in self._found)
        raise CallError(
            Status.INVALID_ARGUMENT,
            f"{KINDS['INVALID_REQUEST'].title}: {told}.",
            reason="INVALID_REQUEST",
            domain=DOMAIN,
            violations=self._found[:MAX_VIOLATIONS],
        )
