"""Payscrypt's two calls for both wires: what they answer, and how they refuse.

The document leaves codes and texts to be defined: what stands here is what clients compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from api.errors import (
    ALREADY_EXISTS,
    FAILED_PRECONDITION,
    INTERNAL,
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    Answer,
    Kind,
)

SERVICE = "payscrypt.pg.PgApi"
CREATE_ORDER = f"/{SERVICE}/createOrder"
PUBLIC_ORDER = f"/{SERVICE}/getPublicOrderById"
APIKEY = "apikey"
"""The header, or metadata, that an API key is shown in."""

OK = 0
DEADLINE_EXCEEDED, NOT_FOUND, UNIMPLEMENTED, UNAVAILABLE = 4, 5, 12, 14
HTTP_OF: Mapping[int, int] = {
    OK: 200,
    1: 499,
    2: 500,
    INVALID_ARGUMENT: 400,
    DEADLINE_EXCEEDED: 504,
    NOT_FOUND: 404,
    ALREADY_EXISTS: 409,
    PERMISSION_DENIED: 403,
    RESOURCE_EXHAUSTED: 429,
    FAILED_PRECONDITION: 400,
    10: 409,
    11: 400,
    UNIMPLEMENTED: 501,
    INTERNAL: 500,
    UNAVAILABLE: 503,
    15: 500,
    UNAUTHENTICATED: 401,
}
"""gRPC status → HTTP status (google/rpc/code.proto)."""
CODE_OF_HTTP: Mapping[int, int] = {
    405: UNIMPLEMENTED,
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
    415: INVALID_ARGUMENT,
}
"""What only HTTP refuses keeps its HTTP status; this is the code beside it."""

INTERNAL_ERROR = "internal error"


def _kind(reason: str, grpc: int, text: str, *, retry_after_s: int | None = None) -> Kind:
    return Kind(reason, HTTP_OF[grpc], text, "See docs/payscrypt.md.", grpc, retry_after_s)


KINDS: Mapping[str, Kind] = {
    kind.reason: kind
    for kind in (
        _kind("INVALID_FIELD", INVALID_ARGUMENT, "invalid <field>"),
        _kind("UNSUPPORTED_ASSET", INVALID_ARGUMENT, "unsupported asset_name"),
        _kind("INVALID_APIKEY", UNAUTHENTICATED, "invalid apikey"),
        _kind("SCOPE_MISSING", PERMISSION_DENIED, "apikey lacks the scope write"),
        _kind("WALLET_NOT_FOUND", NOT_FOUND, "wallet not found"),
        _kind("ORDER_NOT_FOUND", NOT_FOUND, "order not found"),
        _kind("WALLET_HAS_NO_KEY", FAILED_PRECONDITION, "wallet has no key for asset"),
        _kind(
            "ORDER_ID_REUSED",
            ALREADY_EXISTS,
            "merchant_order_id already used with different parameters",
        ),
        _kind("RATE_LIMITED", RESOURCE_EXHAUSTED, "rate limit exceeded"),
        _kind("INTERNAL", INTERNAL, INTERNAL_ERROR),
        _kind("CHAIN_UNAVAILABLE", UNAVAILABLE, "chain backend unavailable", retry_after_s=30),
        _kind("STORE_UNAVAILABLE", UNAVAILABLE, "store unavailable", retry_after_s=1),
    )
}
"""The title of each is the exact text."""
_GENERAL: Mapping[str, str] = {
    "UNAUTHENTICATED": "INVALID_APIKEY",
    "FORBIDDEN": "SCOPE_MISSING",
    "RATE_LIMITED": "RATE_LIMITED",
    "STORE_UNAVAILABLE": "STORE_UNAVAILABLE",
    "OPERATOR_NEEDED": "INTERNAL",
    "BUG": "INTERNAL",
}
"""Reasons of `api.errors` → those here."""


def refused(reason: str) -> Answer:
    """A refusal with its exact text."""
    kind = KINDS[reason]
    return Answer(kind, kind.title)


def invalid(field: str) -> Answer:
    """The field as the client calls it."""
    return Answer(KINDS["INVALID_FIELD"], f"invalid {field}")


def reworded(told: Answer) -> Answer:
    """A refusal of any wire or of the gate, as this API says it.

    One that only HTTP has keeps its own words; `CODE_OF_HTTP` has its code.
    """
    if KINDS.get(told.kind.reason) is told.kind:
        return told
    if told.kind.reason == "MALFORMED_JSON":
        return invalid("body")
    found = _GENERAL.get(told.kind.reason)
    return told if found is None else refused(found)


def code_of(told: Answer) -> int:
    """The gRPC status of a reworded answer."""
    kind = told.kind
    if KINDS.get(kind.reason) is kind:
        return kind.grpc
    return CODE_OF_HTTP.get(kind.http) or next(
        (code for code, http in HTTP_OF.items() if http == kind.http and code > 2), INTERNAL
    )


def percent_encoded(text: str) -> str:
    """As the header grpc-message has it (grpc/doc/PROTOCOL-HTTP2.md)."""
    return quote(text, safe=_PRINTABLE)


_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
