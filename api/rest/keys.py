"""`/v1/keys`: API keys, made and revoked in the running daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from actors.access import MAX_NAME, AccessRuleError, in_force, mint
from actors.access_book import Act, ApiKey, Scope
from actors.core.outcomes import NoSuchUser
from actors.invoicing import LAST_INSTANT_MS
from api.convert import format_instant
from api.errors import KINDS, Answer, answer
from api.rest import fields
from api.rest import json_schema as schema
from api.rest.edge import Edge
from api.rest.fields import Field, Shape, UnfitError, shown
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Fault, Problem, invalid

PAGE = 100
MAX_PAGE = 500
MAX_LIFE_S = 100 * 365 * 86_400
SCOPES = tuple(one.value for one in Scope)
STATES = ("in force", "expired", "revoked")


class Keys:
    """Makes, lists and revokes API keys."""

    def __init__(self, edge: Edge) -> None:
        self._book = edge.access_book
        self._gate = edge.gate
        self._invoicing = edge.invoicing
        self._clock = edge.clock

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="addKey",
                method="POST",
                path="/v1/keys",
                tag="Keys",
                summary="Make an API key",
                about=(
                    "The key is in this answer and in no other: only a hash of it is stored. It"
                    " opens at once. A key for a shop's site needs the scope `write` and the"
                    " shop's `user_id`."
                ),
                handle=self._add,
                body=Shape((_NAME, _SCOPES, _USER, _EXPIRES_IN, _EXPIRES_AT)),
                complete=_one_end,
                example={
                    "name": "shop.example",
                    "scopes": ["write"],
                    "user_id": "0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10",
                },
                successes=(Success(201, "The key, shown once.", "NewKey"),),
                refusals=("NO_SUCH_USER",),
            ),
            Operation(
                id="listKeys",
                method="GET",
                path="/v1/keys",
                tag="Keys",
                summary="List API keys, the newest first",
                about="By their prefixes, never with what opens; those that were revoked as well.",
                handle=self._list,
                needs=Scope.ADMIN,
                query=Shape((_ONLY_USER, _ONLY_STATE, _BEFORE, _LIMIT)),
                successes=(Success(200, "A page of keys.", "KeyPage"),),
            ),
            Operation(
                id="revokeKey",
                method="DELETE",
                path="/v1/keys/{prefix}",
                path_words={"prefix": "The eight characters after `tk_`."},
                tag="Keys",
                summary="Revoke an API key, for ever",
                about=(
                    "The next request with it is refused; streams that it opened end within two"
                    " seconds. The key stays listed."
                ),
                handle=self._revoke,
                shared=True,
                successes=(Success(204, "It opens nothing any more."),),
                refusals=("NO_SUCH_KEY",),
            ),
        )

    async def _add(self, incoming: Incoming) -> Reply:
        body, now_ms = incoming.body, self._clock.now_ms()
        user_id = body.get("user_id", incoming.caller.user_id)
        if user_id is not None and not await self._invoicing.has_user(user_id):
            raise Problem(answer(NoSuchUser(user_id)))
        try:
            key, token = mint(
                name=body["name"],
                scopes=body["scopes"],
                user_id=user_id,
                expires_at_ms=_end(body, now_ms),
                now_ms=now_ms,
            )
        except AccessRuleError as error:
            raise invalid([Fault(str(error), pointer="#")]) from None
        whom = "every user" if user_id is None else f"user {user_id}"
        detail = f"{key.name!r} may {', '.join(sorted(key.scopes))}, for {whom}"
        await self._book.add_api_key(key, self._act(incoming, "key.added", key.prefix, detail))
        self._gate.learn(key)
        return Reply(201, {**key_json(key, now_ms), "key": token})

    async def _list(self, incoming: Incoming) -> Reply:
        query, now_ms = incoming.query, self._clock.now_ms()
        found = [
            key
            for key in reversed(await self._book.api_keys())
            if query.get("user_id", key.user_id) == key.user_id
        ]
        before = query.get("before")
        if before is not None:
            at = next((n for n, key in enumerate(found) if key.prefix == before), None)
            if at is None:
                detail = f"before: there is no key with the prefix {shown(before)}"
                raise invalid([Fault(detail, parameter="before")])
            found = found[at + 1 :]
        wanted = [key for key in found if query.get("state", state := _state(key, now_ms)) == state]
        limit = query.get("limit", PAGE)
        page = wanted[:limit]
        return Reply(
            document={
                "items": [key_json(key, now_ms) for key in page],
                "next": page[-1].prefix if len(wanted) > limit else None,
            }
        )

    async def _revoke(self, incoming: Incoming) -> Reply:
        prefix, caller = incoming.words["prefix"], incoming.caller
        key = next((one for one in await self._book.api_keys() if one.prefix == prefix), None)
        hidden = key is not None and caller.user_id is not None and key.user_id != caller.user_id
        act = self._act(incoming, "key.revoked", prefix)
        if key is None or hidden or not await self._book.revoke_api_key(prefix, act):
            detail = f"There is no API key {shown(prefix)} that is not revoked."
            raise Problem(Answer(KINDS["NO_SUCH_KEY"], detail))
        self._gate.learn(replace(key, revoked_at_ms=act.at_ms))
        return Reply(204)

    def _act(self, incoming: Incoming, act: str, prefix: str, detail: str = "") -> Act:
        """Recorded by the store with the act itself, in one transaction."""
        return Act(
            at_ms=self._clock.now_ms(),
            actor=incoming.caller.actor,
            address=incoming.caller.address,
            act=act,
            target=prefix,
            detail=detail,
        )


def key_json(key: ApiKey, now_ms: int) -> dict[str, Any]:
    """A key as it is listed: nothing of it opens anything."""
    return {
        "prefix": key.prefix,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "user_id": None if key.user_id is None else str(key.user_id),
        "state": _state(key, now_ms),
        "created_at": format_instant(key.created_at_ms),
        "expires_at": _instant(key.expires_at_ms),
        "revoked_at": _instant(key.revoked_at_ms),
        "last_used_at": _instant(key.last_used_at_ms),
    }


def _state(key: ApiKey, now_ms: int) -> str:
    if key.revoked_at_ms is not None:
        return "revoked"
    return "in force" if in_force(key, now_ms=now_ms) else "expired"


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else format_instant(at_ms)


def _end(body: Mapping[str, Any], now_ms: int) -> int | None:
    life_s: int | None = body.get("expires_in")
    at_ms: int | None = body.get("expires_at")
    return at_ms if life_s is None else min(LAST_INSTANT_MS, now_ms + life_s * 1000)


# --- fields ---------------------------------------------------------------------------------------


def _scopes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise UnfitError(f"must be a list of at least one of {', '.join(SCOPES)}")
    read_one = fields.choice(SCOPES)
    return tuple(dict.fromkeys(read_one(one) for one in value))


def _name(value: Any) -> str:
    name = fields.text(value)
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise UnfitError(f"must be 1 to {MAX_NAME} printable characters, not {shown(name)}")
    return name


def _one_end(body: dict[str, Any]) -> list[Fault]:
    if {"expires_in", "expires_at"} <= set(body):
        return [Fault("expires_in and expires_at are given together: give one", pointer="#")]
    return []


_NAME = Field(
    "name",
    _name,
    {"type": "string", "minLength": 1, "maxLength": MAX_NAME},
    "Whose it is, for people.",
    required=True,
)
_SCOPES = Field(
    "scopes",
    _scopes,
    {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(SCOPES)}},
    "What it may do; `admin` includes the others.",
    required=True,
)
_USER = Field(
    "user_id",
    fields.uuid,
    {"type": "string", "format": "uuid"},
    "Only this user exists for the key; without it all do.",
)
_EXPIRES_IN = Field(
    "expires_in",
    fields.whole(1, MAX_LIFE_S),
    {"type": "integer", "minimum": 1, "maximum": MAX_LIFE_S},
    "Seconds for which it opens; without an end it does until it is revoked.",
)
_EXPIRES_AT = Field(
    "expires_at",
    fields.instant,
    {"type": "string", "format": "date-time"},
    "The instant at which it ceases to open.",
)
_ONLY_USER = Field(
    "user_id", fields.uuid, {"type": "string", "format": "uuid"}, "Only this user's."
)
_ONLY_STATE = Field(
    "state", fields.choice(STATES), fields.schema_of_choice(STATES), "Only those in this state."
)
_BEFORE = Field(
    "before", fields.text, {"type": "string"}, "What `next` of the page before named: a prefix."
)
_LIMIT = Field(
    "limit",
    fields.whole_text(1, MAX_PAGE),
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
    "Keys on a page.",
)

_KEY = {
    "prefix": schema.text("By which it is recognised: the eight characters after `tk_`."),
    "name": schema.text("Whose it is, for people."),
    "scopes": schema.array({"type": "string"}, "What it may do."),
    "user_id": schema.or_null(schema.uuid("The only user that exists for it; null: all.")),
    "state": schema.text("Whether it opens.", enum=list(STATES)),
    "created_at": schema.instant("Creation."),
    "expires_at": schema.or_null(schema.instant("Its end; null: none.")),
    "revoked_at": schema.or_null(schema.instant("Revocation.")),
    "last_used_at": schema.or_null(schema.instant("Its last use, within a minute or so.")),
}
KEY_SCHEMAS: dict[str, schema.Schema] = {
    "Key": schema.whole_object(_KEY),
    "NewKey": schema.whole_object(
        {**_KEY, "key": schema.text("The key itself: shown here and never again.")}
    ),
    "KeyPage": schema.page(
        "Key",
        "The newest first.",
        next=schema.or_null(schema.text("`before` of the next page; null on the last.")),
    ),
}
