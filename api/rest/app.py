"""The Quart-Trio application: routes, errors, headers. Everything it needs comes in an Edge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import orjson
import trio
from quart import Response, current_app, has_request_context, request, websocket
from quart.utils import encode_headers
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from actors.ports import PersistentError, TransientError
from api.errors import KINDS, Answer, failure
from api.rest.audit import AuditTrail
from api.rest.brands import Brands
from api.rest.chains import Chains
from api.rest.docs import docs_page
from api.rest.edge import Edge
from api.rest.event_room import EventRoom
from api.rest.events import Events
from api.rest.guard import Guard
from api.rest.history import History
from api.rest.invoices import Invoices
from api.rest.keys import Keys
from api.rest.listing import Listing
from api.rest.openapi import openapi_document
from api.rest.operation import JSON, Form, Operation
from api.rest.orders import OrderOperations
from api.rest.pay import Pay
from api.rest.pay_live import PayLive
from api.rest.payscrypt import Payscrypt
from api.rest.policies import Policies
from api.rest.problems import Problem, problem
from api.rest.proxies import Proxies
from api.rest.service import Service
from api.rest.streaming import Body, Line, StreamedResponse, send_through
from api.rest.users import Users
from api.rest.views import Views
from api.rest.waiting import WaitingRoom
from api.rest.wallets import WalletOperations
from api.rest.webhooks import WebhookOperations

_HEADERS = {
    # Balances and addresses belong in no cache; ETags work for clients that keep them themselves.
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REASONS = {
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "BODY_TIMEOUT",
    413: "BODY_TOO_LARGE",
    415: "NOT_JSON",
}


SEND_WITHIN_S = 60.0
NO_PATH = " "
"""Nothing is there."""
HTTP_1 = ("1.0", "1.1")
"""Versions in which a connection has one response at a time."""


class _Connection(TrioASGIHTTPConnection):
    """One request, whose answer is sent to its end.

    Hypercorn reports the request's end as a disconnect while it still closes the connection in this
    very call; the disconnect would cancel that and leave the connection open for ever.
    """

    async def _send_response(self, send: Any, response: Any) -> None:
        if isinstance(response, StreamedResponse):
            await self._send_streamed(send, response)
            return
        with trio.move_on_after(SEND_WITHIN_S, shield=True):
            await super()._send_response(send, response)

    async def _send_streamed(self, send: Any, response: StreamedResponse) -> None:
        version, line = self.scope["http_version"], Line.of(self.scope)
        own_line = line if version in HTTP_1 else None
        if own_line is not None:
            response.headers["Connection"] = "close"
        headers = encode_headers(response.headers)
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers}
        )
        if self.scope["method"] != "HEAD":
            if own_line is not None:
                await own_line.hand_over(Body(response.work, chunked=version == "1.1"))
            await send_through(response.work, send, line)
        with trio.move_on_after(SEND_WITHIN_S, shield=True):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class RestApp(QuartTrio):
    """The application, and the way to end its long-polls and streams."""

    asgi_http_class = _Connection
    edge: Edge
    room: WaitingRoom
    event_room: EventRoom
    live: PayLive
    forms: tuple[Form, ...]
    """Those of APIs that others designed."""

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            scope["path"] = _origin_form(scope["path"])
        await super().asgi_app(scope, receive, send)

    def form_of(self, path: str) -> Form | None:
        return next((one for one in self.forms if one.covers(path)), None)

    def end_waits(self) -> None:
        """Answer what waits, and end what streams."""
        self.room.close()
        self.event_room.close()
        self.live.room.close()

    async def keep_up(self) -> None:
        """What goes on beside the requests, until cancelled."""
        await self.live.pages.run()

    def log_exception(self, exception_info: object) -> None:
        """Nothing: `_unexpected` has logged it, once and in our form."""


def create_app(edge: Edge) -> RestApp:
    """An application that serves `edge`; not running yet, see `api.rest.serving`."""
    app = RestApp("api.rest", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = edge.limits.body_bytes
    app.config["BODY_TIMEOUT"] = edge.limits.body_timeout_s
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = True
    app.edge = edge
    views = Views(edge.invoicing)
    app.room = WaitingRoom(edge, views)
    app.event_room = EventRoom(streams=edge.limits.streams, waiting=edge.limits.waiting)
    pay = Pay(edge)
    app.live = PayLive(edge, pay=pay)
    operations = [
        *Users(edge).operations(),
        *Policies(edge).operations(),
        *Invoices(edge, views=views, room=app.room).operations(),
        *Listing(edge, views=views).operations(),
        *History(edge, views=views).operations(),
        *Events(edge, room=app.event_room).operations(),
        *Chains(edge).operations(),
        *Service(edge).operations(),
        *WebhookOperations(edge).operations(),
        *Brands(edge).operations(),
        *WalletOperations(edge).operations(),
        *OrderOperations(edge, views=views).operations(),
        *Keys(edge).operations(),
        *AuditTrail(edge.access_book).operations(),
        *Payscrypt(edge).operations(),
        *pay.operations(),
        *app.live.operations(),
    ]
    app.forms = tuple({one.form for one in operations if one.form is not None})
    guard = Guard(edge.gate, edge.invoicing, Proxies(edge.trusted_proxies))
    for one in operations:
        app.add_url_rule(_rule(one), one.id, guard.before(one), methods=[one.method])
    _add_documents(app, operations, version=edge.version)
    app.register_error_handler(Problem, _problem)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(TransientError, _world_failed(edge))
    app.register_error_handler(PersistentError, _world_failed(edge))
    app.register_error_handler(Exception, _unexpected(edge))
    app.after_request(_with_headers(app))
    return app


def _rule(one: Operation) -> str:
    return one.path.replace("{", "<").replace("}", ">")


def _add_documents(app: RestApp, operations: list[Operation], *, version: str) -> None:
    document = openapi_document(operations, version=version)
    openapi = orjson.dumps(document, option=orjson.OPT_INDENT_2)
    page = docs_page(document)

    async def serve_openapi() -> Response:
        return Response(openapi, content_type=JSON)

    async def serve_docs() -> Response:
        made = Response(page.content, content_type="text/html; charset=utf-8")
        made.headers["Content-Security-Policy"] = page.security_policy
        return made

    app.add_url_rule("/openapi.json", "openapi", serve_openapi)
    app.add_url_rule("/docs", "docs", serve_docs)


def _with_headers(app: RestApp) -> Callable[[Response], Awaitable[Response]]:
    async def finish(response: Response) -> Response:
        form = app.form_of(request.path)
        if form is not None:
            form.finish(response, method=request.method, path=request.path)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return finish


async def _problem(error: Problem) -> Response:
    return _response(error)


async def _http_error(error: HTTPException) -> Response:
    """What the router or the body reader refuses."""
    if isinstance(error, RequestRedirect):
        return Response(status=error.code, headers={"Location": error.new_url})
    detail = error.description or error.name
    match error.code:
        case 404:
            detail = f"There is nothing at {_path()}."
        case 405:
            detail = f"{request.path} does not take {request.method}."
        case 413:
            detail = "The body is larger than this API takes."
    found = problem(_REASONS.get(error.code or 400, "BAD_REQUEST"), detail)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        found.headers = {"Allow": ", ".join(sorted(error.valid_methods))}
    return _response(found)


def _world_failed(
    edge: Edge,
) -> Callable[[TransientError | PersistentError], Awaitable[Response]]:
    async def handle(error: TransientError | PersistentError) -> Response:
        edge.log.warning("a request failed", path=request.path, reason=str(error))
        return _response(Problem(failure(error)))

    return handle


def _unexpected(edge: Edge) -> Callable[[Exception], Awaitable[Response]]:
    """The boundary around one request: a bug ends it alone."""

    async def handle(error: Exception) -> Response:
        edge.log.error("a request crashed", path=request.path, error=repr(error), exc_info=error)
        return _response(Problem(Answer(KINDS["BUG"], "The daemon's log has the details.")))

    return handle


def _origin_form(target: str) -> str:
    """The path of a request's target, which may be a URL (RFC 9112, 3.2), or none at all."""
    if target.startswith("/"):
        return target
    try:
        return urlsplit(target).path or "/"
    except ValueError:
        return NO_PATH


def _path() -> str:
    """Also of one who asks for a websocket, of which there is none here."""
    return request.path if has_request_context() else websocket.path


def _response(found: Problem) -> Response:
    app = current_app
    path = _path()
    form = app.form_of(path) if isinstance(app, RestApp) else None
    if form is not None:
        return form.refusal(found)
    made = Response(found.body(instance=path), status=found.status)
    for name, value in found.all_headers().items():
        made.headers[name] = value
    return made
