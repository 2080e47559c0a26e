"""One operation of the API: declared once, for the router, the checks and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from quart import Response, request
from werkzeug.datastructures import MultiDict

from api.convert import parse_uuid
from api.errors import invalid_invoice_id, invalid_user_id
from api.rest.fields import Shape
from api.rest.problems import Fault, Problem, invalid, problem

JSON = "application/json"
NO_QUERY = Shape(())


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request whose every part has been checked."""

    ids: Mapping[str, UUID]
    query: Mapping[str, Any]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A response; `document` is what goes out as JSON unless `content` has the bytes already."""

    status: int = 200
    document: object = None
    content: bytes | None = None
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Success:
    """A response as it is documented; `schema` names a component, None where it is no JSON."""

    status: int
    about: str
    schema: str | None = None
    media_type: str = JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method on a path; `{user_id}` and `{invoice_id}` in the path are UUIDs."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    about: str = ""
    handle: Callable[[Incoming], Awaitable[Reply]]
    successes: tuple[Success, ...]
    refusals: tuple[str, ...] = ()
    """Reason codes of `api.errors` that this operation may answer with, beside the general ones."""
    query: Shape | None = NO_QUERY
    """None: the query is not looked at (probes add what they like)."""
    request_headers: Mapping[str, str] = field(default_factory=dict)
    """Names and descriptions of request headers that matter."""
    body: Shape | None = None
    body_required: bool = True
    complete: Callable[[dict[str, Any]], list[Fault]] | None = None
    """Looks at the body's values together and may add to them; says what is wrong. Asked also when
    some fields were refused and are absent, so that everything is told at once."""
    example: object = None

    @property
    def id_names(self) -> tuple[str, ...]:
        return tuple(name for name in ("user_id", "invoice_id") if f"{{{name}}}" in self.path)

    async def serve(self, **path_values: str) -> Response:
        """Check the request, hand it on, and give the answer its form."""
        ids = {name: _id(name, value) for name, value in path_values.items()}
        query, faults = self._read_query()
        body: dict[str, Any] = {}
        if self.body is not None:
            document = await _document(required=self.body_required)
            body, wrong = self.body.read(document, _in_body)
            faults += wrong
            if self.complete is not None:
                faults += self.complete(body)
        if faults:
            raise invalid(faults)
        return response_of(await self.handle(Incoming(ids, query, body)))

    def _read_query(self) -> tuple[dict[str, Any], list[Fault]]:
        if self.query is None:
            return {}, []
        given: MultiDict[str, str] = request.args
        twice = [
            _in_query(name, f"{name} is given {len(values)} times; give it once")
            for name, values in given.lists()
            if len(values) > 1
        ]
        values, faults = self.query.read(given.to_dict(), _in_query)
        return values, twice + faults


def response_of(reply: Reply) -> Response:
    content = reply.content
    if content is None:
        content = b"" if reply.document is None else orjson.dumps(reply.document)
    made = Response(content, status=reply.status, content_type=reply.media_type)
    if reply.status in (204, 304):
        # No content, so no word on its type or length (RFC 9110, 8.6).
        del made.headers["Content-Type"]
        del made.headers["Content-Length"]
    for name, value in reply.headers.items():
        made.headers[name] = value
    return made


async def _document(*, required: bool) -> dict[str, Any]:
    """The JSON object in the body; an empty body is an empty object where none is required."""
    data = await request.get_data()
    assert isinstance(data, bytes)
    if not data and not required:
        return {}
    if request.mimetype != JSON:
        said = request.mimetype or "nothing"
        raise problem(
            "NOT_JSON", f"The Content-Type header must say {JSON}; it says {said}.", Accept=JSON
        )
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise problem("MALFORMED_JSON", f"The body is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise problem("MALFORMED_JSON", "The body must be a JSON object, in braces.")
    return found


def _id(name: str, value: str) -> UUID:
    found = parse_uuid(value)
    if found is None:
        raise Problem(invalid_user_id() if name == "user_id" else invalid_invoice_id())
    return found


def _in_body(name: str, detail: str) -> Fault:
    escaped = name.replace("~", "~0").replace("/", "~1")
    return Fault(detail, pointer=f"#/{escaped}")


def _in_query(name: str, detail: str) -> Fault:
    return Fault(detail, parameter=name)
