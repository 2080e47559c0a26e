"""What callers give to `/v1/webhooks`: each field with its reader, its schema and its words."""

from __future__ import annotations

from typing import Any, get_args

from actors.core.events import Event
from actors.webhook_book import Form
from actors.webhook_engine import PAUSED
from actors.webhook_signature import SecretRefusedError, parse_secret
from actors.webhooks import LONGEST_OVERLAP_S, OVERLAP_S
from api.rest import fields
from api.rest.fields import Field, UnfitError, nearest, shown
from api.rest.problems import Fault

PAGE = 50
MAX_PAGE = 500
_LAST = 2**63 - 1
_INSTANT = {"type": "string", "format": "date-time"}

EVENT_KINDS: tuple[str, ...] = (*sorted(one.kind for one in get_args(Event)), PAUSED)
"""Kinds of events that can be asked for."""


def _types(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UnfitError(f"must be a list of kinds of events, not {shown(value)}")
    for one in value:
        if fields.text(one) not in EVENT_KINDS:
            meant = nearest(one, EVENT_KINDS)
            hint = (
                f"; did you mean {meant!r}?" if meant else f"; known are {', '.join(EVENT_KINDS)}"
            )
            raise UnfitError(f"has the unknown kind {shown(one)}{hint}")
    return tuple(dict.fromkeys(value))


def _form(value: Any) -> Form:
    return Form(fields.choice(tuple(one.value for one in Form))(value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UnfitError(f"must be true or false, not {shown(value)}")
    return value


def _secret(value: Any) -> bytes:
    try:
        return parse_secret(fields.text(value))
    except SecretRefusedError as error:
        raise UnfitError(str(error)) from None


def one_way(body: dict[str, Any]) -> list[Fault]:
    given = set(body)
    if given in ({"event_id"}, {"since", "until"}):
        return []
    return [Fault("give either event_id, or both since and until", pointer="#")]


def optional(field: Field) -> Field:
    return Field(field.name, field.read, field.schema, field.about, example=field.example)


URL = Field(
    "url",
    fields.text,
    {"type": "string", "format": "uri", "maxLength": 2048},
    "Where to: https, on a public address, without user, password and fragment.",
    required=True,
)
USER = Field(
    "user_id",
    fields.uuid,
    {"type": "string", "format": "uuid"},
    "Only this user's events; without it everybody's.",
)
TYPES = Field(
    "types",
    _types,
    {"type": "array", "items": {"type": "string", "enum": list(EVENT_KINDS)}},
    "Only these kinds of events; none means all that the form has.",
)
FORM = Field(
    "form",
    _form,
    {
        "type": "string",
        "enum": [one.value for one in Form],
        "default": Form.STANDARD.value,
    },
    "`standard`: events; `payscrypt`: the changes of orders' statuses, each as a WebhookOrder.",
)
FROM_START = Field(
    "from_start",
    _flag,
    {"type": "boolean", "default": False},
    "Begin with the oldest event there is, instead of with the next.",
)
SECRET = Field(
    "secret",
    _secret,
    {"type": "string", "pattern": "^whsec_[A-Za-z0-9+/]+=*$"},
    "`whsec_` and 24 to 64 bytes in base64; made if it is left out, which is best.",
)
FROM = Field(
    "from",
    fields.choice(("cursor", "now")),
    {"type": "string", "enum": ["cursor", "now"], "default": "cursor"},
    "`cursor`: with all that it has not got; `now`: with the next event, what waited is given up.",
)
OVERLAP = Field(
    "overlap_s",
    fields.whole(0, LONGEST_OVERLAP_S),
    {"type": "integer", "minimum": 0, "maximum": LONGEST_OVERLAP_S, "default": OVERLAP_S},
    "For how many seconds both secrets sign.",
)
EVENT = Field("event_id", fields.text, {"type": "string"}, "The event with this id, or seq.")
SINCE = Field("since", fields.instant, _INSTANT, "What happened at or after this instant.")
UNTIL = Field("until", fields.instant, _INSTANT, "And before this one.")
STATE = Field(
    "state",
    fields.choice(("waiting", "dead")),
    {"type": "string", "enum": ["waiting", "dead"], "default": "waiting"},
    "What waits for another attempt, or what was given up.",
)
LIMIT = Field(
    "limit",
    fields.whole_text(1, MAX_PAGE),
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
    "Entries on a page.",
)
BEFORE = Field(
    "before",
    fields.whole_text(1, _LAST),
    {"type": "integer", "minimum": 1},
    "What `next` of the page before named.",
)
ONE_USER = Field(
    "user_id",
    fields.uuid,
    {"type": "string", "format": "uuid"},
    "Only this user's.",
)
