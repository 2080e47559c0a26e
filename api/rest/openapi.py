"""The OpenAPI 3.1 document, made of the operations that the router serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.errors import KINDS
from api.payscrypt import APIKEY
from api.rest.fields import described
from api.rest.operation import JSON, Door, Operation
from api.rest.problems import MEDIA_TYPE
from api.rest.schemas import SCHEMAS, ref

Json = dict[str, Any]

ABOUT = """\
tallyd watches chains for payments to the addresses of invoices; it never has a private key.

**Money** is given twice: as an exact decimal text in units of the asset, and in base units
(satoshi, wei) in a field whose name ends in `_base`. Both are texts; no number of money is a float.

**Instants** are RFC 3339 in UTC.

**Access**: send `Authorization: Bearer` and an API key. `x-scope` of an operation is
what the key must allow. On the daemon's own machine it may be configured to need none.

**Errors** are problem documents (RFC 9457) with a `reason` for
programs, and list everything that is wrong with a request at once.

**Polling is cheap**: send `If-None-Match` with the ETag that you have, and `?wait=30` to be
answered when something changes.
"""
_TAGS = {
    "Users": "Merchants or tenants, and their watch-only keys.",
    "Invoices": "Create, read, wait, list.",
    "Webhooks": "Events sent to URLs of yours.",
    "Wallets": "Keys and assets from which a merchant's orders are paid.",
    "Orders": "What shops asked for.",
    "Keys": "API keys: who may call this.",
    "Events": "Everything that happens, in one order, from any point on.",
    "Payscrypt": "Orders of a shop: another API's two calls.",
    "Payment page": "What a merchant's customer sees.",
    "Chains": "What can be asked for, and how the chains are.",
    "Service": "For whoever runs the daemon.",
}
_SECURITY: dict[Door, list[Json]] = {
    Door.OPEN: [],
    Door.STRANGERS: [],
    Door.FRESH_KEY: [{"apikey": []}, {"key": []}],
}
_WITH_BODY = ("INVALID_REQUEST", "MALFORMED_JSON", "BODY_TOO_LARGE", "BODY_TIMEOUT", "NOT_JSON")
_STORING = ("Users", "Invoices", "Wallets", "Orders", "Webhooks", "Keys")
_ALWAYS = ("STORE_UNAVAILABLE", "OPERATOR_NEEDED", "BUG")


def openapi_document(operations: Sequence[Operation], *, version: str) -> Json:
    """The whole document, as plain JSON values."""
    paths: dict[str, Json] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tallyd REST API",
            "version": version,
            "summary": "Users, keys and invoices of a watch-only payment daemon.",
            "description": ABOUT,
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, as `tallyd access add` makes it.",
                },
                "apikey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": APIKEY,
                    "description": "The same key, for Payscrypt's calls.",
                },
            },
        },
    }


def refusals_of(one: Operation) -> list[str]:
    """Every reason code that the operation may answer with."""
    found = list(one.refusals)
    if one.body is not None:
        found += _WITH_BODY
    if one.query is not None:
        found.append("INVALID_REQUEST")
    if one.door is not Door.OPEN:
        found += ("UNAUTHENTICATED", "FORBIDDEN")
    found.append("RATE_LIMITED")
    if one.tag in _STORING:
        found += _ALWAYS
    return list(dict.fromkeys(found))


def _operation(one: Operation) -> Json:
    document: Json = {
        "operationId": one.id,
        "tags": [one.tag],
        "summary": one.summary,
        "parameters": _parameters(one),
        "responses": _responses(one),
        "security": _SECURITY.get(one.door, [{"key": []}, {}]),
    }
    if one.door not in (Door.OPEN, Door.STRANGERS):
        document["x-scope"] = one.scope.value
    if one.about:
        document["description"] = one.about
    if one.body is not None:
        content: Json = {"schema": one.body.schema()}
        if one.example is not None:
            content["example"] = one.example
        document["requestBody"] = {"required": one.body_required, "content": {JSON: content}}
    return document


def _parameters(one: Operation) -> list[Json]:
    found: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"The {name.removesuffix('_id')}'s id.",
            "schema": {"type": "string", "format": "uuid"},
        }
        for name in one.id_names
    ]
    for name, about in one.path_words.items():
        found.append(
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": about,
                "schema": {"type": "string"},
            }
        )
    for field in one.query.fields if one.query else ():
        schema = described(field)
        about = schema.pop("description")
        found.append({"name": field.name, "in": "query", "description": about, "schema": schema})
    for name, about in one.request_headers.items():
        found.append(
            {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}
        )
    return found


def _responses(one: Operation) -> Json:
    responses: Json = {}
    for success in one.successes:
        response = responses.setdefault(str(success.status), {})
        # One status may have several media types.
        response["description"] = " ".join((response.get("description", ""), success.about)).strip()
        content = response.setdefault("content", {})
        if success.schema is not None:
            content[success.media_type] = {"schema": ref(success.schema)}
        elif success.media_type != JSON:
            content[success.media_type] = {"schema": {"type": "string"}}
        if not content:
            del response["content"]
        if success.status in (200, 201, 304) and success.schema in ("Invoice", None):
            response["headers"] = {
                "ETag": {"description": "Of this representation.", "schema": {"type": "string"}}
            }
    if one.form is not None:
        return {**responses, **one.form.documented(one)}
    by_status: dict[int, list[str]] = {}
    for reason in refusals_of(one):
        by_status.setdefault(KINDS[reason].http, []).append(reason)
    for status, reasons in sorted(by_status.items()):
        titles = "; ".join(f"{KINDS[reason].title} (`{reason}`)" for reason in reasons)
        responses[str(status)] = {
            "description": titles,
            "content": {MEDIA_TYPE: {"schema": ref("Problem")}},
        }
    return responses
