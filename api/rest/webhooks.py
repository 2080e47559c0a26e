"""`/v1/webhooks`: endpoints, what was sent to them and what they still have to get."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar
from uuid import UUID

from actors.access_book import Scope
from actors.core.outcomes import NoSuchUser
from actors.webhook_book import Form
from actors.webhook_signature import secret_text
from actors.webhooks import (
    OVERLAP_S,
    CannotRedeliver,
    KindsRefused,
    NewWebhook,
    NoSuchWebhook,
    TooManyWebhooks,
    UrlRefused,
    WebhookRefusal,
)
from api.errors import KINDS, Answer, answer
from api.rest.edge import Edge
from api.rest.fields import Shape
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Fault, Problem
from api.rest.webhook_fields import (
    BEFORE,
    EVENT,
    FORM,
    FROM,
    FROM_START,
    LIMIT,
    ONE_USER,
    OVERLAP,
    PAGE,
    SECRET,
    SINCE,
    STATE,
    TYPES,
    UNTIL,
    URL,
    USER,
    one_way,
    optional,
)
from api.rest.webhook_views import answer_json, attempt_json, owed_json, webhook_json

_ONE = "/v1/webhooks/{webhook_id}"
_KNOWN = ("NO_SUCH_WEBHOOK", "INVALID_WEBHOOK_ID")

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
                    " it. The secret is in this answer and in no other. In the form `payscrypt`,"
                    " changes of orders' statuses are sent, each as a WebhookOrder."
                ),
                handle=self._add,
                needs=Scope.ADMIN,
                body=Shape((URL, USER, FORM, TYPES, FROM_START, SECRET)),
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
                query=Shape((ONE_USER,)),
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
                body=Shape((optional(URL), TYPES)),
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
                body=Shape((FROM,)),
                example={"from": "cursor"},
            ),
            self._of_one(
                "rotateWebhookSecret",
                "POST",
                "/rotate",
                "Sign with a new secret, and for a while with the old one as well",
                self._rotate,
                Success(200, "The endpoint, with its new secret.", "NewWebhook"),
                body=Shape((OVERLAP, SECRET)),
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
                body=Shape((EVENT, SINCE, UNTIL)),
                complete=one_way,
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
                query=Shape((BEFORE, LIMIT)),
            ),
            self._of_one(
                "listWebhookBacklog",
                "GET",
                "/backlog",
                "List events that wait for another attempt, or that were given up",
                self._backlog,
                Success(200, "Events, by sequence number.", "WebhookBacklog"),
                query=Shape((STATE, LIMIT)),
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
                form=body.get("form", Form.STANDARD),
                from_start=body.get("from_start", False),
            ),
            secret=body.get("secret"),
        )
        shown_once = _good(outcome)
        endpoint = shown_once.endpoint
        await self._record(
            incoming, "added", endpoint.id, f"{endpoint.url} ({endpoint.form.value})"
        )
        document = webhook_json(endpoint)
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
        case KindsRefused():
            faults = (Fault(f"types: {refusal.reason}", pointer="#/types"),)
            raise Problem(Answer(KINDS["INVALID_REQUEST"], "The request is not valid."), faults)
        case TooManyWebhooks():
            detail = f"There are {refusal.most} webhooks already, and no more are possible."
            raise Problem(Answer(KINDS["TOO_MANY_WEBHOOKS"], detail))
        case CannotRedeliver():
            detail = f"{refusal.reason[:1].upper()}{refusal.reason[1:]}."
            raise Problem(Answer(KINDS["CANNOT_REDELIVER"], detail))
