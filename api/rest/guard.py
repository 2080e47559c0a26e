"""What stands before every operation: the gate, the scope, and the user whom a key is bound to."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import trio
from quart import Response, request

from actors.access import Caller
from actors.core.outcomes import NoSuchInvoice, NoSuchUser
from actors.gate import Gate, Knock, TooMany, Unknown
from actors.invoicing import Invoicing
from api.access import PROXY_HEADERS, enter, lacks, refused, restricted
from api.errors import answer
from api.payscrypt import APIKEY
from api.rest.operation import Door, Operation
from api.rest.problems import Problem
from api.rest.proxies import Proxies
from api.rest.streaming import SendPart, StreamedResponse, Work


class Guard:
    """Lets requests through to the operations they may use."""

    def __init__(self, gate: Gate, invoicing: Invoicing, proxies: Proxies) -> None:
        self._gate = gate
        self._proxies = proxies
        self._invoicing = invoicing

    def before(self, one: Operation) -> Callable[..., Awaitable[Response]]:
        """The operation, behind the guard."""

        async def serve(**path_values: str) -> Response:
            caller = await self._caller(one)
            enter(caller)
            if one.door not in (Door.OPEN, Door.STRANGERS) and not caller.may(one.scope):
                raise Problem(lacks(caller, one.scope))
            check = None
            if caller.user_id is not None:
                if not (one.concerns_a_user or one.shared):
                    raise Problem(restricted(caller))
                check = self._check_of(caller.user_id)
            response = await one.serve(path_values, caller=caller, check=check)
            if caller.key is not None and isinstance(response, StreamedResponse):
                response.work = self._while_let_stay(caller, response.work)
            return response

        return serve

    def _while_let_stay(self, caller: Caller, work: Work) -> Work:
        """The work, ended with the key that it was asked for with."""

        async def bounded(send: SendPart) -> None:
            with trio.CancelScope() as scope, self._gate.staying(caller, scope.cancel):
                await work(send)

        return bounded

    async def _caller(self, one: Operation) -> Caller:
        knock = self._knock()
        if one.door is Door.FRESH_KEY:
            found = await self._gate.admit_by_key(_with_apikey(knock))
        else:
            found = self._without_key(one, knock) or self._gate.admit(knock)
        if isinstance(found, Caller):
            return found
        raise _refusal(found)

    def _knock(self) -> Knock:
        host, port = request.scope.get("client") or ("", 0)
        return Knock(
            address=self._proxies.client(str(host), port, request.headers),
            authorization=request.headers.get("Authorization"),
            direct=_direct(),
        )

    def _without_key(self, one: Operation, knock: Knock) -> Caller | TooMany | None:
        """Who may come in without one; None: a key decides."""
        if one.door is Door.STRANGERS:
            return self._gate.admit_stranger(knock)
        if one.door is Door.KEY or knock.authorization is not None:
            return None
        stranger = self._gate.admit_stranger(knock)
        if isinstance(stranger, TooMany) or one.door is Door.OPEN or stranger.may(one.scope):
            return stranger
        return None

    def _check_of(
        self, user_id: UUID
    ) -> Callable[[Mapping[str, UUID], dict[str, Any], dict[str, Any]], Awaitable[None]]:
        """Keeps a request within one user: nobody else exists for it."""

        async def check(
            ids: Mapping[str, UUID], query: dict[str, Any], body: dict[str, Any]
        ) -> None:
            for values in (ids, query, body):
                if values.get("user_id", user_id) != user_id:
                    raise Problem(answer(NoSuchUser(values["user_id"])))
            for values in (ids, query):
                invoice_id = values.get("invoice_id")
                if invoice_id is None:
                    continue
                row = await self._invoicing.invoice(invoice_id)
                if isinstance(row, NoSuchInvoice) or row.invoice.terms.user_id != user_id:
                    raise Problem(answer(NoSuchInvoice(invoice_id)))
            query["user_id"] = user_id

        return check


def _refusal(found: Unknown | TooMany) -> Problem:
    if isinstance(found, TooMany):
        return Problem(refused(found), headers={"Retry-After": str(found.retry_after_s)})
    return Problem(refused(found), headers={"WWW-Authenticate": 'Bearer realm="tallyd"'})


def _with_apikey(knock: Knock) -> Knock:
    """The key may be in a header of its own; then `Authorization` is somebody else's."""
    given = request.headers.get(APIKEY)
    return knock if given is None else replace(knock, authorization=f"Bearer {given}")


def _direct() -> bool:
    """Whether the request is what it looks like: from a program on this machine.

    Not if a proxy says that it hands it on; nor if a browser was led here by a page of another
    site, whose name was made to point at this machine (DNS rebinding).
    """
    headers = request.headers
    if any(name in headers for name in PROXY_HEADERS):
        return False
    origin = headers.get("Origin")
    if origin is not None and not _local_name(_host_in(origin)):
        return False
    return _local_name(_host_in(f"//{headers.get('Host', '')}"))


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _local_name(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
