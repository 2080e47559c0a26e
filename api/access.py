"""Who may call what, on every wire: the table of RPCs, the refusals, and the caller at hand."""

from __future__ import annotations

from contextvars import ContextVar
from uuid import UUID

from actors.access import Caller
from actors.access_book import Scope
from actors.gate import TooMany, Unknown
from actors.idempotency import IdempotencyRefusal, KeyMalformed, KeyReused, StillAtWork
from api.errors import KINDS, Answer
from api.payscrypt import CREATE_ORDER, PUBLIC_ORDER

PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip")
"""Somebody else's request, handed on: that it comes from loopback then says nothing."""

RPC_SCOPES: dict[str, Scope] = {
    "/user.v1.UserService/RegisterUser": Scope.ADMIN,
    "/user.v1.UserService/UpdateCryptoKeys": Scope.ADMIN,
    "/user.v1.UserService/GetCryptoKeys": Scope.ADMIN,
    "/invoice.v1.InvoiceService/CreateInvoice": Scope.WRITE,
    "/invoice.v1.InvoiceService/GetInvoices": Scope.READ,
    "/invoice.v1.InvoiceService/InvoiceStatusStream": Scope.READ,
}
FOR_THE_WHOLE_DAEMON = frozenset({"/user.v1.UserService/RegisterUser"})
"""RPCs that a key restricted to one user cannot use."""
NEEDS_A_KEY: dict[str, Scope] = {CREATE_ORDER: Scope.WRITE}
"""RPCs that nobody calls without an API key, whatever the configuration allows on loopback; it is
shown as `apikey`, or as everywhere, and the store is asked for it each time."""
_OPEN = ("/grpc.health.v1.", PUBLIC_ORDER)
_REFLECTION = "/grpc.reflection."
_OWN = "/tally.v1."
_READING = ("Get", "List", "Watch", "Explain")
_WRITING = ("Create", "Cancel")

IN_PROCESS = Caller(actor="in-process", address="local", scopes=frozenset({Scope.ADMIN}))
"""Who calls a handler that no gate stands before: this program itself."""

_CALLER: ContextVar[Caller] = ContextVar("caller", default=IN_PROCESS)


def enter(caller: Caller) -> None:
    """Make it the caller of the running task, as `current_caller` tells."""
    _CALLER.set(caller)


def current_caller() -> Caller:
    """Who made the request that the running handler serves."""
    return _CALLER.get()


def sees(user_id: UUID) -> bool:
    """Whether this user exists for the current caller."""
    return _CALLER.get().sees(user_id)


def scope_of_rpc(path: str) -> Scope | None:
    """What a caller needs for the RPC at `/package.Service/Method`; None: nothing.

    An RPC that is not known here needs the most.
    """
    if path.startswith(_OPEN):
        return None
    if path.startswith(_REFLECTION):
        return Scope.READ
    if path.startswith(_OWN):
        method = path.rpartition("/")[2]
        if method.startswith(_READING):
            return Scope.READ
        return Scope.WRITE if method.startswith(_WRITING) else Scope.ADMIN
    return NEEDS_A_KEY.get(path) or RPC_SCOPES.get(path, Scope.ADMIN)


def refused(found: Unknown | TooMany) -> Answer:
    """The answer of the gate; the header or detail that says when to come again is the wire's."""
    if isinstance(found, TooMany):
        return Answer(
            KINDS["RATE_LIMITED"],
            f"Too many requests are made by {found.what}; come again in {found.retry_after_s} s.",
            "Too many requests.",
        )
    return Answer(
        KINDS["UNAUTHENTICATED"],
        f"The caller is not known: {found.reason}.",
        "The caller is not known.",
    )


def lacks(caller: Caller, scope: Scope) -> Answer:
    """The answer to a caller without the scope."""
    has = ", ".join(sorted(caller.scopes)) or "none"
    return Answer(
        KINDS["FORBIDDEN"],
        f"This needs the scope {scope}; {caller.actor} has {has}.",
        f"This needs the scope {scope}.",
        {"scope": scope.value},
    )


def restricted(caller: Caller) -> Answer:
    """The answer where a caller restricted to a user asks for what concerns them all."""
    return Answer(
        KINDS["FORBIDDEN"],
        f"{caller.actor} is restricted to one user, and this concerns the whole daemon.",
        "This concerns the whole daemon.",
    )


def repeated(refusal: IdempotencyRefusal) -> Answer:
    """The answer to an idempotency key that cannot be used so."""
    match refusal:
        case KeyReused():
            return Answer(
                KINDS["IDEMPOTENCY_KEY_REUSED"],
                f"The idempotency key {refusal.key!r} was used with another input.",
            )
        case StillAtWork():
            return Answer(
                KINDS["IDEMPOTENCY_KEY_AT_WORK"],
                f"The first request with the idempotency key {refusal.key!r} is not finished.",
            )
        case KeyMalformed():
            return Answer(KINDS["IDEMPOTENCY_KEY_REFUSED"], f"{refusal.reason}.".capitalize())
