"""How Payscrypt's REST answers look: the headers of every answer, errors, CORS, their document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from quart import Response

from api.errors import KINDS, Answer
from api.payscrypt import KINDS as OWN_KINDS
from api.payscrypt import code_of, invalid, percent_encoded, reworded
from api.rest.json_schema import array, text, whole, whole_object
from api.rest.operation import JSON, Door, Operation
from api.rest.problems import Problem

ROOTS = ("", "/payscrypt")
"""Where the paths are mounted."""
OWN_PREFIXES = tuple(f"{root}{path}/" for root in ROOTS for path in ("/apis/pg", "/payment/v1"))
PUBLIC_PATHS = ("/apis/pg/get_public_order", "/payment/v1/invoice/")
"""What a page of any site may ask."""
CODE, MESSAGE = "grpc-code", "grpc-message"
SHARED: Mapping[str, str] = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": f"{CODE}, {MESSAGE}",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
PREFLIGHT: Mapping[str, str] = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "content-type",
    "Access-Control-Max-Age": "86400",
}
ERROR_SCHEMA = "PayscryptError"
ERROR_SCHEMAS: Mapping[str, dict[str, Any]] = {
    ERROR_SCHEMA: whole_object(
        {
            "code": whole("The gRPC status, as in the header grpc-code.", 1),
            "message": text("What is wrong, as in the header grpc-message."),
            "details": array({}, "Always empty."),
        },
        "Why a call was refused.",
    )
}
_HEADERS = {
    CODE: {"description": "The gRPC status, in digits.", "schema": {"type": "string"}},
    MESSAGE: {"description": "Percent-encoded UTF-8.", "schema": {"type": "string"}},
}
_WITH_BODY = ("BODY_TIMEOUT", "BODY_TOO_LARGE", "NOT_JSON")
_ALWAYS = ("RATE_LIMITED", "STORE_UNAVAILABLE", "INTERNAL")


class PayscryptForm:
    """A `Form` of `api.rest.operation`."""

    def covers(self, path: str) -> bool:
        return path.startswith(OWN_PREFIXES)

    def refusal(self, found: Problem) -> Response:
        told = _reworded(found)
        code = code_of(told)
        message = told.detail
        document = {"code": code, "message": message, "details": []}
        made = Response(orjson.dumps(document), status=told.kind.http, content_type=JSON)
        for name, value in found.all_headers().items():
            if name != "Content-Type":
                made.headers[name] = value
        if told.kind.retry_after_s is not None:
            made.headers.setdefault("Retry-After", str(told.kind.retry_after_s))
        made.headers[CODE] = str(code)
        made.headers[MESSAGE] = percent_encoded(message)
        return made

    def finish(self, response: Response, *, method: str, path: str) -> None:
        response.headers.setdefault(CODE, "0")
        response.headers.setdefault(MESSAGE, "OK")
        if not is_public(path):
            return
        response.headers.update(SHARED)
        if method == "OPTIONS":
            response.headers.update(PREFLIGHT)

    def documented(self, one: Operation) -> dict[str, Any]:
        reasons = [*one.refusals, *_ALWAYS]
        if one.door is not Door.OPEN:
            reasons += ("INVALID_APIKEY", "SCOPE_MISSING")
        if one.body is not None:
            reasons += _WITH_BODY
        titles: dict[int, list[str]] = {}
        for reason in reasons:
            kind = OWN_KINDS.get(reason) or KINDS[reason]
            titles.setdefault(kind.http, []).append(kind.title)
        schema = {"$ref": f"#/components/schemas/{ERROR_SCHEMA}"}
        return {
            str(status): {
                "description": "; ".join(dict.fromkeys(said)),
                "headers": dict(_HEADERS),
                "content": {JSON: {"schema": schema}},
            }
            for status, said in sorted(titles.items())
        }


def is_public(path: str) -> bool:
    below = path.removeprefix("/payscrypt")
    return below.startswith(PUBLIC_PATHS)


def _reworded(found: Problem) -> Answer:
    if found.answer.kind is KINDS["INVALID_REQUEST"]:
        fault = found.faults[0]
        return invalid(fault.parameter or (fault.pointer or "").removeprefix("#/"))
    return reworded(found.answer)
