"""One operation of the API: declared once, for the router, the checks and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

import orjson
from quart import Response, request
from werkzeug.datastructures import MultiDict

from actors.access import Caller
from actors.access_book import Scope
from api.access import IN_PROCESS
from api.convert import parse_uuid
from api.errors import Answer, invalid_invoice_id, invalid_user_id, invalid_webhook_id
from api.rest.fields import Shape
from api.rest.problems import Fault, Problem, invalid, problem
from api.rest.streaming import StreamedResponse, Work

JSON = "application/json"
NO_QUERY = Shape(())
Check = Callable[[Mapping[str, UUID], dict[str, Any], dict[str, Any]], Awaitable[None]]
"""Looks at ids, query and body of a caller who is restricted to one user; raises Problem, and puts
that user into the query as `user_id`."""


IDEMPOTENCY_HEADER: Mapping[str, str] = {
    "Idempotency-Key": "A text of your own, such as a UUID: a second request with the same key and"
    " the same body, within 24 hours, gives the same answer and makes nothing new."
}
IDEMPOTENCY_REFUSALS = (
    "IDEMPOTENCY_KEY_REUSED",
    "IDEMPOTENCY_KEY_AT_WORK",
    "IDEMPOTENCY_KEY_REFUSED",
)


_ID_NAMES: Mapping[str, Callable[[], Answer]] = {
    "user_id": invalid_user_id,
    "invoice_id": invalid_invoice_id,
    "webhook_id": invalid_webhook_id,
}
"""UUIDs in paths, and how others are refused."""


class Door(Enum):
    """Who is let in without a key."""

    KEY = "key"
    """Nobody, unless the configuration lets anonymous callers in on loopback."""
    NEAR = "near"
    """Whoever asks from loopback."""
    OPEN = "open"
    """Everybody."""
    STRANGERS = "strangers"
    """Everybody, and keys are not looked at."""
    FRESH_KEY = "fresh key"
    """Nobody, whatever the configuration; the store is asked for the key each time."""


class Form(Protocol):
    """How an API that others designed words what it refuses; ours are problem documents."""

    def covers(self, path: str) -> bool:
        """Whether what is answered at this path has the form, even where nothing is."""
        ...

    def refusal(self, found: Problem) -> Response: ...

    def finish(self, response: Response, *, method: str, path: str) -> None:
        """Add to any answer what all of them have."""
        ...

    def documented(self, one: Operation) -> dict[str, Any]:
        """The operation's refusals, as OpenAPI's `responses`."""
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request whose every part has been checked."""

    ids: Mapping[str, UUID]
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    caller: Caller = IN_PROCESS
    words: Mapping[str, str] = field(default_factory=dict)
    """What of the path is no id, as it was written."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response; `document` is what goes out as JSON unless `content` has the bytes already."""

    status: int = 200
    document: object = None
    content: bytes | None = None
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    work: Work | None = None
    """Sends the body part by part, instead of `document` and `content`."""


@dataclass(frozen=True, slots=True)
class Success:
    """A response as it is documented; `schema` names a component, None where it is no JSON."""

    status: int
    about: str
    schema: str | None = None
    media_type: str = JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method on a path; `{user_id}`, `{invoice_id}` and `{webhook_id}` are UUIDs.

    Other names in the path are `path_words`.
    """

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
    path_words: Mapping[str, str] = field(default_factory=dict)
    """Names and descriptions of what in the path is no id."""
    needs: Scope | None = None
    """What the caller's key must allow; None: to read for GET, to administer for the rest."""
    door: Door = Door.KEY
    shared: bool = False
    """It names no user and no invoice, but a key that is restricted to a user may use it all the
    same: it concerns no user, or the handler looks at `Incoming.caller` itself. Operations that
    name them in path, query or body are kept to that user without more."""

    form: Form | None = None
    """How it refuses; None: problem documents, with `refusals` of `api.errors`."""

    @property
    def scope(self) -> Scope:
        if self.needs is not None:
            return self.needs
        return Scope.READ if self.method == "GET" else Scope.ADMIN

    @property
    def concerns_a_user(self) -> bool:
        """Whether the request names the user, or invoice, that it is about."""
        shapes = (self.query, self.body)
        named = {one.name for shape in shapes if shape is not None for one in shape.fields}
        return bool(self.id_names) or "user_id" in named

    @property
    def id_names(self) -> tuple[str, ...]:
        return tuple(name for name in _ID_NAMES if f"{{{name}}}" in self.path)

    async def serve(
        self,
        path_values: Mapping[str, str],
        *,
        caller: Caller = IN_PROCESS,
        check: Check | None = None,
    ) -> Response:
        """Check the request, hand it on, and give the answer its form."""
        ids = {name: _id(name, path_values[name]) for name in self.id_names}
        words = {name: text for name, text in path_values.items() if name not in ids}
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
        if check is not None:
            await check(ids, query, body)
        return response_of(await self.handle(Incoming(ids, query, body, caller, words)))

    def _read_query(self) -> tuple[dict[str, Any], list[Fault]]:
        if self.query is None:
            return {}, []
        given: MultiDict[str, str] = request.args
        twice = [
            _in_query(name, f"{name} is given {len(values)} times; give it once")
            for name, values in given.lists()
            if len(values) > 1 and name in self.query.names
        ]
        values, faults = self.query.read(given.to_dict(), _in_query)
        return values, twice + faults


def idempotency_key() -> str | None:
    """The request's Idempotency-Key, without the quotes of a structured header."""
    key: str | None = request.headers.get("Idempotency-Key")
    if key is not None and len(key) > 1 and key.startswith('"') and key.endswith('"'):
        return key[1:-1]
    return key


def response_of(reply: Reply) -> Response:
    content = reply.content
    if content is None:
        content = b"" if reply.document is None else orjson.dumps(reply.document)
    kind = Response if reply.work is None else StreamedResponse
    made = kind(content, status=reply.status, content_type=reply.media_type)
    if reply.status in (204, 304):
        # No content, so no word on its type or length (RFC 9110, 8.6).
        del made.headers["Content-Type"]
        del made.headers["Content-Length"]
    if isinstance(made, StreamedResponse) and reply.work is not None:
        made.work = reply.work
        made.timeout = None
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
        raise Problem(_ID_NAMES[name]())
    return found


def _in_body(name: str, detail: str) -> Fault:
    escaped = name.replace("~", "~0").replace("/", "~1")
    return Fault(detail, pointer=f"#/{escaped}")


def _in_query(name: str, detail: str) -> Fault:
    return Fault(detail, parameter=name)
