"""Endpoints, attempts and what is owed as JSON, with their schemas."""

from __future__ import annotations

from typing import Any

from actors.core.webhook import Pause
from actors.webhook_book import Endpoint, Form, LoggedAttempt, Outcome, Owed
from actors.webhook_sending import Answer
from api.convert import format_instant

Json = dict[str, Any]


def webhook_json(endpoint: Endpoint) -> Json:
    """Never with a secret."""
    health = endpoint.health
    return {
        "id": str(endpoint.id),
        "user_id": None if endpoint.user_id is None else str(endpoint.user_id),
        "url": endpoint.url,
        "form": endpoint.form.value,
        "types": list(endpoint.types),
        "state": health.word,
        "paused": None if health.paused is None else health.paused.value,
        "paused_at": _instant(health.paused_at_ms),
        "failing_since": _instant(health.failing_since_ms),
        "failures": health.failures,
        "cursor": endpoint.cursor,
        "old_secret_until": _instant(endpoint.old_until_ms),
        "created_at": format_instant(endpoint.created_at_ms),
    }


def attempt_json(logged: LoggedAttempt) -> Json:
    one = logged.attempt
    return {
        "id": logged.id,
        "event_id": one.event_id,
        "type": one.type,
        "seq": one.seq,
        "invoice_id": None if one.invoice_id is None else str(one.invoice_id),
        "attempt": one.number,
        "at": format_instant(one.at_ms),
        "latency_ms": one.latency_ms,
        "status": one.status,
        "error": one.error,
        "outcome": one.outcome.value,
    }


def owed_json(row: Owed) -> Json:
    in_log = row.seq > 0
    return {
        "seq": row.seq if in_log else None,
        "invoice_id": str(row.lane) if in_log else None,
        "at": format_instant(row.at_ms),
        "attempts": row.attempts,
        "next_at": None if row.dead or not row.next_at_ms else format_instant(row.next_at_ms),
        "error": row.error,
    }


def answer_json(found: Answer) -> Json:
    return {
        "delivered": found.error is None,
        "status": found.status,
        "error": found.error,
        "latency_ms": found.latency_ms,
    }


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else format_instant(at_ms)


# --- schemas --------------------------------------------------------------------------------------


def _text(about: str, **more: object) -> Json:
    return {"type": "string", "description": about, **more}


def _or_null(about: str, type_: str = "string", **more: object) -> Json:
    return {"type": [type_, "null"], "description": about, **more}


def _count(about: str) -> Json:
    return {"type": "integer", "minimum": 0, "description": about}


def _object(properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(item: Json, **more: Json) -> Json:
    return _object({"items": {"type": "array", "items": item}, **more})


_WEBHOOK = {
    "id": _text("The endpoint.", format="uuid"),
    "user_id": _or_null("Whose events; null: everybody's.", format="uuid"),
    "url": _text("Where they are sent."),
    "form": _text(
        "`standard`: events; `payscrypt`: the changes of orders' statuses, as WebhookOrder.",
        enum=[one.value for one in Form],
    ),
    "types": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Kinds of events; empty: all.",
    },
    "state": _text("`failing` is still tried.", enum=["active", "failing", "paused"]),
    "paused": _or_null(
        "Why it is paused: somebody asked, the receiver said 410 Gone, or failed for days.",
        enum=[*(one.value for one in Pause), None],
    ),
    "paused_at": _or_null("Since when.", format="date-time"),
    "failing_since": _or_null("The first failure since the last success.", format="date-time"),
    "failures": _count("Failures since the last success."),
    "cursor": _count("Events up to this `seq` were taken, are not wanted, or are in the backlog."),
    "old_secret_until": _or_null("Until then the old secret signs as well.", format="date-time"),
    "created_at": _text("Creation.", format="date-time"),
}
_ATTEMPT = _object(
    {
        "id": _count("Position in the log of attempts."),
        "event_id": _text("What was sent, `webhook-id`."),
        "type": _text("Its kind."),
        "seq": _or_null("Its position in the daemon's log.", "integer"),
        "invoice_id": _or_null("Its invoice.", format="uuid"),
        "attempt": _count("Number of this attempt, from 1."),
        "at": _text("When it was made.", format="date-time"),
        "latency_ms": _count("How long the answer took."),
        "status": _or_null("HTTP status; null: there was no answer.", "integer"),
        "error": _or_null("What was wrong, for people."),
        "outcome": _text(
            "`failed` is tried again, `dead` is not.", enum=[one.value for one in Outcome]
        ),
    }
)
_OWED = _object(
    {
        "seq": _or_null("The event; null for a notice that is not in the log.", "integer"),
        "invoice_id": _or_null("Its invoice.", format="uuid"),
        "at": _text("When it happened.", format="date-time"),
        "attempts": _count("Attempts so far."),
        "next_at": _or_null(
            "The next attempt; null: behind another event, at once, or never.", format="date-time"
        ),
        "error": _or_null("How the last attempt failed, for people."),
    }
)
WEBHOOK_SCHEMAS: dict[str, Json] = {
    "Webhook": _object(_WEBHOOK),
    "NewWebhook": _object({**_WEBHOOK, "secret": _text("Shown here and never again.")}),
    "WebhookView": _object(
        {
            **_WEBHOOK,
            "waiting": _count("Events in the backlog that are tried again."),
            "dead": _count("Events in the backlog that were given up."),
            "behind": _count("Events of the log after the cursor, wanted or not."),
        }
    ),
    "Webhooks": _list({"$ref": "#/components/schemas/Webhook"}),
    "WebhookTest": _object(
        {
            "delivered": {"type": "boolean", "description": "Whether the answer was 2xx."},
            "status": _or_null("HTTP status; null: there was no answer.", "integer"),
            "error": _or_null("What was wrong, for people."),
            "latency_ms": _count("How long the answer took."),
        }
    ),
    "WebhookAttempts": _list(
        _ATTEMPT, next=_or_null("The `before` of the next page; null on the last.", "integer")
    ),
    "WebhookBacklog": _list(_OWED),
    "Redelivery": _object({"count": _count("Events that will be sent again.")}),
}
