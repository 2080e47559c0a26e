"""`/v1/webhooks`: endpoints, what was sent to them and what they still have to get."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar, get_args
from uuid import UUID

from actors.access_book import Scope
from actors.core.events import Event
from actors.core.outcomes import NoSuchUser
from actors.webhook_engine import PAUSED
from actors.webhook_signature import SecretRefusedError, parse_secret, secret_text
from actors.webhooks import (
    LONGEST_OVERLAP_S,
    OVERLAP_S,
    CannotRedeliver,
    NewWebhook,
    NoSuchWebhook,
    TooManyWebhooks,
    UrlRefused,
    WebhookRefusal,
)
from api.errors import KINDS, Answer, answer
from api.rest import fields
from api.rest.edge import Edge
from api.rest.fields import Field, Shape, UnfitError, nearest, shown
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Fault, Problem
from api.rest.webhook_views import answer_json, attempt_json, owed_json, webhook_json

PAGE = 50
MAX_PAGE = 500
_LAST = 2**63 - 1
_ONE = "/v1/webhooks/{webhook_id}"
_KNOWN = ("NO_SUCH_WEBHOOK", "INVALID_WEBHOOK_ID")
_INSTANT = {"type": "string", "format": "date-time"}

TYPES: tuple[str, ...] = (*sorted(one.kind for one in get_args(Event)), PAUSED)
"""Kinds of events that can be asked for."""

T = TypeVar("T")


class WebhookOperations:
    """Lets callers manage the endpoints of their users."""

    def __init__(self, edge: Edge) -> None:
        self._webhooks = edge.webhooks
        self._audit = edge.audit

    def operations(self) -> tuple[Operation, ...]:
        return (*self._managing(), *self._switching(), *self._looking())

    # --- what there is ----------------------------------------------------------------------------

    def _managing(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="addWebhook",
                method="POST",
                path="/v1/webhooks",
                tag="Webhooks",
                summary="Add an endpoint",
                about=(
                    "Events from now on are sent to `url` by POST, signed as Standard Webhooks has"
                    " it. The secret is in this answer and in no other."
                ),
                handle=self._add,
                needs=Scope.ADMIN,
                body=Shape((_URL, _USER, _TYPES, _FROM_START, _SECRET)),
                example={"url": "https://shop.example/hooks/tallyd", "types": ["invoice.settled"]},
                successes=(Success(201, "The endpoint, with its secret.", "NewWebhook"),),
                refusals=("WEBHOOK_URL_REFUSED", "TOO_MANY_WEBHOOKS", "NO_SUCH_USER"),
            ),
            Operation(
                id="listWebhooks",
                method="GET",
                path="/v1/webhooks",
                tag="Webhooks",
                summary="List endpoints",
                handle=self._list,
                needs=Scope.ADMIN,
                query=Shape(
                    (
                        Field(
                            "user_id",
                            fields.uuid,
                            {"type": "string", "format": "uuid"},
                            "Only this user's.",
                        ),
                    )
                ),
                successes=(Success(200, "All of them, by creation.", "Webhooks"),),
            ),
            self._of_one(
                "getWebhook",
                "GET",
                "",
                "Look at an endpoint",
                self._get,
                Success(200, "The endpoint, and how far it is.", "WebhookView"),
            ),
            self._of_one(
                "changeWebhook",
                "PATCH",
                "",
                "Change URL or kinds",
                self._patch,
                Success(200, "The endpoint.", "Webhook"),
                body=Shape((_optional(_URL), _TYPES)),
                example={"types": ["invoice.settled", "invoice.reversed"]},
                refusals=("WEBHOOK_URL_REFUSED",),
            ),
            self._of_one(
                "removeWebhook",
                "DELETE",
                "",
                "Remove an endpoint, with its log and what it has not got",
                self._remove,
                Success(204, "It is gone."),
            ),
        )

    def _switching(self) -> tuple[Operation, ...]:
        endpoint = Success(200, "The endpoint.", "Webhook")
        return (
            self._of_one(
                "pauseWebhook",
                "POST",
                "/pause",
                "Send nothing until it is resumed",
                self._pause,
                endpoint,
            ),
            self._of_one(
                "resumeWebhook",
                "POST",
                "/resume",
                "Go on",
                self._resume,
                endpoint,
                body=Shape((_FROM,)),
                example={"from": "cursor"},
            ),
            self._of_one(
                "rotateWebhookSecret",
                "POST",
                "/rotate",
                "Sign with a new secret, and for a while with the old one as well",
                self._rotate,
                Success(200, "The endpoint, with its new secret.", "NewWebhook"),
                body=Shape((_OVERLAP, _SECRET)),
                example={"overlap_s": OVERLAP_S},
            ),
            self._of_one(
                "testWebhook",
                "POST",
                "/test",
                "Send a made-up event of the kind `webhook.test`, once, paused or not",
                self._test,
                Success(200, "What the receiver answered.", "WebhookTest"),
            ),
            self._of_one(
                "redeliverWebhook",
                "POST",
                "/redeliver",
                "Send events again: one by its id, or what happened in a time",
                self._redeliver,
                Success(200, "How many will be sent again.", "Redelivery"),
                body=Shape((_EVENT, _SINCE, _UNTIL)),
                complete=_one_way,
                example={"since": "2026-11-20T00:00:00Z", "until": "2026-11-21T00:00:00Z"},
                refusals=("CANNOT_REDELIVER",),
            ),
        )

    def _looking(self) -> tuple[Operation, ...]:
        return (
            self._of_one(
                "listWebhookDeliveries",
                "GET",
                "/deliveries",
                "Read the log of attempts, the newest first",
                self._log,
                Success(200, "A page of attempts.", "WebhookAttempts"),
                query=Shape(
                    (
                        Field(
                            "before",
                            fields.whole_text(1, _LAST),
                            {"type": "integer", "minimum": 1},
                            "What `next` of the page before named.",
                        ),
                        _LIMIT,
                    )
                ),
            ),
            self._of_one(
                "listWebhookBacklog",
                "GET",
                "/backlog",
                "List events that wait for another attempt, or that were given up",
                self._backlog,
                Success(200, "Events, by sequence number.", "WebhookBacklog"),
                query=Shape((_STATE, _LIMIT)),
            ),
        )

    def _of_one(
        self,
        id_: str,
        method: str,
        path: str,
        summary: str,
        handle: Any,
        success: Success,
        **more: Any,
    ) -> Operation:
        """An operation on one endpoint."""
        refusals = (*_KNOWN, *more.pop("refusals", ()))
        return Operation(
            id=id_,
            method=method,
            path=f"{_ONE}{path}",
            tag="Webhooks",
            summary=summary,
            handle=handle,
            needs=Scope.ADMIN,
            successes=(success,),
            refusals=refusals,
            body_required=False,
            **more,
        )

    # --- handlers ---------------------------------------------------------------------------------

    async def _add(self, incoming: Incoming) -> Reply:
        body = incoming.body
        outcome = await self._webhooks.add(
            NewWebhook(
                url=body["url"],
                user_id=body.get("user_id", incoming.caller.user_id),
                types=body.get("types", ()),
                from_start=body.get("from_start", False),
            ),
            secret=body.get("secret"),
        )
        shown_once = _good(outcome)
        await self._record(incoming, "added", shown_once.endpoint.id, body["url"])
        document = webhook_json(shown_once.endpoint)
        return Reply(201, {**document, "secret": secret_text(shown_once.secret)})

    async def _list(self, incoming: Incoming) -> Reply:
        user_id = incoming.query.get("user_id", incoming.caller.user_id)
        found = await self._webhooks.find(user_id)
        return Reply(document={"items": [webhook_json(one) for one in found]})

    async def _get(self, incoming: Incoming) -> Reply:
        view = _good(await self._webhooks.look(await self._mine(incoming)))
        return Reply(
            document={
                **webhook_json(view.endpoint),
                "waiting": view.owing.waiting,
                "dead": view.owing.dead,
                "behind": view.behind,
            }
        )

    async def _patch(self, incoming: Incoming) -> Reply:
        webhook_id = await self._mine(incoming)
        url, types = incoming.body.get("url"), incoming.body.get("types")
        endpoint = _good(await self._webhooks.change(webhook_id, url=url, types=types))
        await self._record(incoming, "changed", webhook_id, ", ".join(incoming.body))
        return Reply(document=webhook_json(endpoint))

    async def _remove(self, incoming: Incoming) -> Reply:
        webhook_id = await self._mine(incoming)
        refusal = await self._webhooks.remove(webhook_id)
        if refusal is not None:
            _refuse(refusal)
        await self._record(incoming, "removed", webhook_id)
        return Reply(204)

    async def _pause(self, incoming: Incoming) -> Reply:
        webhook_id = await self._mine(incoming)
        endpoint = _good(await self._webhooks.pause(webhook_id))
        await self._record(incoming, "paused", webhook_id)
        return Reply(document=webhook_json(endpoint))

    async def _resume(self, incoming: Incoming) -> Reply:
        webhook_id = await self._mine(incoming)
        start = incoming.body.get("from", "cursor")
        endpoint = _good(await self._webhooks.resume(webhook_id, from_now=start == "now"))
        await self._record(incoming, "resumed", webhook_id, f"from {start}")
        return Reply(document=webhook_json(endpoint))

    async def _rotate(self, incoming: Incoming) -> Reply:
        webhook_id = await self._mine(incoming)
        overlap_s = incoming.body.get("overlap_s", OVERLAP_S)
        secret = incoming.body.get("secret")
        rotated = _good(await self._webhooks.rotate(webhook_id, overlap_s=overlap_s, secret=secret))
        await self._record(incoming, "rotated", webhook_id, f"both for {overlap_s} s")
        document = webhook_json(rotated.endpoint)
        return Reply(document={**document, "secret": secret_text(rotated.secret)})

    async def _test(self, incoming: Incoming) -> Reply:
        webhook_id = await self._mine(incoming)
        found = _good(await self._webhooks.test(webhook_id))
        await self._record(incoming, "tested", webhook_id, found.error or "delivered")
        return Reply(document=answer_json(found))

    async def _redeliver(self, incoming: Incoming) -> Reply:
        webhook_id = await self._mine(incoming)
        body = incoming.body
        if "event_id" in body:
            count = _good(await self._webhooks.redeliver_one(webhook_id, body["event_id"]))
            what = body["event_id"]
        else:
            count = _good(
                await self._webhooks.redeliver_range(
                    webhook_id, since_ms=body["since"], until_ms=body["until"]
                )
            )
            what = f"{count} events by time"
        await self._record(incoming, "redelivered", webhook_id, what)
        return Reply(document={"count": count})

    async def _log(self, incoming: Incoming) -> Reply:
        limit = incoming.query.get("limit", PAGE)
        found = _good(
            await self._webhooks.log(
                await self._mine(incoming), before=incoming.query.get("before"), limit=limit + 1
            )
        )
        page = found[:limit]
        return Reply(
            document={
                "items": [attempt_json(one) for one in page],
                "next": page[-1].id if len(found) > limit else None,
            }
        )

    async def _backlog(self, incoming: Incoming) -> Reply:
        found = _good(
            await self._webhooks.owed(
                await self._mine(incoming),
                dead=incoming.query.get("state", "waiting") == "dead",
                limit=incoming.query.get("limit", PAGE),
            )
        )
        return Reply(document={"items": [owed_json(one) for one in found]})

    async def _mine(self, incoming: Incoming) -> UUID:
        """The endpoint's id; for a caller restricted to a user no other user's exists."""
        webhook_id = incoming.ids["webhook_id"]
        only = incoming.caller.user_id
        if only is not None:
            view = _good(await self._webhooks.look(webhook_id))
            if view.endpoint.user_id != only:
                _refuse(NoSuchWebhook(webhook_id))
        return webhook_id

    async def _record(
        self, incoming: Incoming, act: str, webhook_id: UUID, detail: str = ""
    ) -> None:
        await self._audit.record(
            incoming.caller, f"webhook.{act}", target=str(webhook_id), detail=detail
        )


def _good(outcome: T | WebhookRefusal) -> T:
    """What was asked for; ends the request if it was refused."""
    if isinstance(outcome, WebhookRefusal):
        _refuse(outcome)
    return outcome


def _refuse(refusal: WebhookRefusal) -> NoReturn:
    match refusal:
        case NoSuchUser():
            raise Problem(answer(refusal))
        case NoSuchWebhook():
            told = Answer(KINDS["NO_SUCH_WEBHOOK"], f"There is no webhook {refusal.webhook_id}.")
            raise Problem(told)
        case UrlRefused():
            detail = f"The URL is refused: {refusal.reason}."
            faults = (Fault(detail, pointer="#/url"),)
            raise Problem(Answer(KINDS["WEBHOOK_URL_REFUSED"], detail), faults)
        case TooManyWebhooks():
            detail = f"There are {refusal.most} webhooks already, and no more are possible."
            raise Problem(Answer(KINDS["TOO_MANY_WEBHOOKS"], detail))
        case CannotRedeliver():
            detail = f"{refusal.reason[:1].upper()}{refusal.reason[1:]}."
            raise Problem(Answer(KINDS["CANNOT_REDELIVER"], detail))


# --- fields ---------------------------------------------------------------------------------------


def _types(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UnfitError(f"must be a list of kinds of events, not {shown(value)}")
    for one in value:
        if fields.text(one) not in TYPES:
            meant = nearest(one, TYPES)
            hint = f"; did you mean {meant!r}?" if meant else f"; known are {', '.join(TYPES)}"
            raise UnfitError(f"has the unknown kind {shown(one)}{hint}")
    return tuple(dict.fromkeys(value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UnfitError(f"must be true or false, not {shown(value)}")
    return value


def _secret(value: Any) -> bytes:
    try:
        return parse_secret(fields.text(value))
    except SecretRefusedError as error:
        raise UnfitError(str(error)) from None


def _one_way(body: dict[str, Any]) -> list[Fault]:
    given = set(body)
    if given in ({"event_id"}, {"since", "until"}):
        return []
    return [Fault("give either event_id, or both since and until", pointer="#")]


def _optional(field: Field) -> Field:
    return Field(field.name, field.read, field.schema, field.about, example=field.example)


_URL = Field(
    "url",
    fields.text,
    {"type": "string", "format": "uri", "maxLength": 2048},
    "Where to: https, on a public address, without user, password and fragment.",
    required=True,
)
_USER = Field(
    "user_id",
    fields.uuid,
    {"type": "string", "format": "uuid"},
    "Only this user's events; without it everybody's.",
)
_TYPES = Field(
    "types",
    _types,
    {"type": "array", "items": {"type": "string", "enum": list(TYPES)}},
    "Only these kinds of events; none means all.",
)
_FROM_START = Field(
    "from_start",
    _flag,
    {"type": "boolean", "default": False},
    "Begin with the oldest event there is, instead of with the next.",
)
_SECRET = Field(
    "secret",
    _secret,
    {"type": "string", "pattern": "^whsec_[A-Za-z0-9+/]+=*$"},
    "`whsec_` and 24 to 64 bytes in base64; made if it is left out, which is best.",
)
_FROM = Field(
    "from",
    fields.choice(("cursor", "now")),
    {"type": "string", "enum": ["cursor", "now"], "default": "cursor"},
    "`cursor`: with all that it has not got; `now`: with the next event, what waited is given up.",
)
_OVERLAP = Field(
    "overlap_s",
    fields.whole(0, LONGEST_OVERLAP_S),
    {"type": "integer", "minimum": 0, "maximum": LONGEST_OVERLAP_S, "default": OVERLAP_S},
    "For how many seconds both secrets sign.",
)
_EVENT = Field("event_id", fields.text, {"type": "string"}, "The event with this id, or seq.")
_SINCE = Field("since", fields.instant, _INSTANT, "What happened at or after this instant.")
_UNTIL = Field("until", fields.instant, _INSTANT, "And before this one.")
_STATE = Field(
    "state",
    fields.choice(("waiting", "dead")),
    {"type": "string", "enum": ["waiting", "dead"], "default": "waiting"},
    "What waits for another attempt, or what was given up.",
)
_LIMIT = Field(
    "limit",
    fields.whole_text(1, MAX_PAGE),
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
    "Entries on a page.",
)
