"""`/v1/users`: users and their watch-only keys."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from uuid import UUID

from actors.core.assets import Catalogue
from actors.core.outcomes import KeyRefused, UserExists
from api.access import repeated
from api.errors import answer
from api.rest import fields
from api.rest import json_schema as schema
from api.rest.edge import Edge
from api.rest.fields import Field, Shape
from api.rest.operation import (
    IDEMPOTENCY_HEADER,
    IDEMPOTENCY_REFUSALS,
    Incoming,
    Operation,
    Reply,
    Success,
    idempotency_key,
)
from api.rest.problems import Fault, Problem

KEY_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "bitcoin": "Extended public key for {name}.",
        "evm": "Extended public key for {name}.",
        "monero": "Private view key and public spend key for {name}: 64 hexadecimal digits each,"
        " with a colon between them. The view key is stored encrypted and never returned.",
        "ton": "Public key of the wallet for {name} (ed25519): 64 hexadecimal digits, or base64.",
    }
)
"""Families of chains that keys can be given for, with the form of the keys."""

_AFTER = Field(
    "after",
    fields.uuid,
    {"type": "string", "format": "uuid"},
    "What `next` of the page before named.",
)
_XPUB = (
    "xpub6CUf84eg4Ba1jJ3ePzLSSoeQ1ENzP33zCN4982Xoi1TZ1kfYreZe5ECqLm4RVWQHpuB5gixi3gK1PykXzcwWxW7w6d"
    "7GWxpsNY7wxNVBHip"
)


PAGE = 100
MAX_PAGE = 500
_LIMIT = Field(
    "limit",
    fields.whole_text(1, MAX_PAGE),
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
    "Users on a page.",
)


def key_fields(catalogue: Catalogue) -> tuple[Field, ...]:
    """The fields of an object that gives keys by chain."""
    return tuple(
        Field(
            chain.id,
            fields.text,
            {"type": "string", "minLength": 1, "maxLength": 200},
            KEY_FAMILIES[chain.family].format(name=chain.name),
        )
        for chain in catalogue.chains.values()
        if chain.family in KEY_FAMILIES
    )


class Users:
    """Registers users and takes their keys."""

    def __init__(self, edge: Edge) -> None:
        self._invoicing = edge.invoicing
        self._repeats = edge.repeats
        self._audit = edge.audit
        self._brands = edge.brands
        self._keys = key_fields(edge.invoicing.catalogue)

    def operations(self) -> tuple[Operation, ...]:
        user_id = Field(
            "id",
            fields.uuid,
            {"type": "string", "format": "uuid"},
            "An id of your own; without it one is made.",
        )
        return (
            Operation(
                id="listUsers",
                method="GET",
                path="/v1/users",
                tag="Users",
                summary="List users",
                about="Every merchant or tenant with the name of its brand, by id.",
                handle=self._list,
                query=Shape((_AFTER, _LIMIT)),
                successes=(Success(200, "A page of users.", "UserPage"),),
            ),
            Operation(
                id="registerUser",
                method="POST",
                path="/v1/users",
                tag="Users",
                summary="Register a user",
                about="A user is a merchant or tenant with keys of its own. The body may be empty.",
                handle=self._register,
                body=Shape((user_id,)),
                body_required=False,
                example={"id": "0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10"},
                successes=(Success(201, "The user is registered.", "User"),),
                request_headers=IDEMPOTENCY_HEADER,
                refusals=("USER_EXISTS", *IDEMPOTENCY_REFUSALS),
            ),
            Operation(
                id="setKeys",
                method="PUT",
                path="/v1/users/{user_id}/keys",
                tag="Users",
                summary="Set the user's keys",
                about=(
                    "For each chain one extended public key, in any version (xpub, ypub, zpub,"
                    " tpub, …), Monero's two keys, or TON's public key; keys that can spend are"
                    " refused. All given keys are stored, or none; chains that are not named keep"
                    " theirs. The same key again changes nothing."
                    " A new key starts at its own first address, and old invoices keep theirs."
                ),
                handle=self._set_keys,
                body=Shape(self._keys),
                example={self._keys[0].name: _XPUB} if self._keys else None,
                successes=(Success(204, "The keys are stored."),),
                refusals=("NO_SUCH_USER", "INVALID_USER_ID", "KEY_REFUSED", "KEY_IN_USE"),
            ),
        )

    async def _list(self, incoming: Incoming) -> Reply:
        limit = incoming.query.get("limit", PAGE)
        # One more than the page shows whether there is another.
        found = await self._brands.merchants(after=incoming.query.get("after"), limit=limit + 1)
        page = found[:limit]
        return Reply(
            document={
                "items": [{"id": str(one.user_id), "name": one.name or None} for one in page],
                "next": str(page[-1].user_id) if len(found) > limit else None,
            }
        )

    async def _register(self, incoming: Incoming) -> Reply:
        outcome = await self._repeats.register_user(
            incoming.body.get("id"), caller=incoming.caller, key=idempotency_key()
        )
        if isinstance(outcome, UserExists):
            raise Problem(answer(outcome))
        if not isinstance(outcome, UUID):
            raise Problem(repeated(outcome))
        await self._audit.record(incoming.caller, "user.registered", target=str(outcome))
        return Reply(201, {"id": str(outcome)})

    async def _set_keys(self, incoming: Incoming) -> Reply:
        given = [
            (one.name, incoming.body[one.name]) for one in self._keys if one.name in incoming.body
        ]
        refusal = await self._invoicing.set_keys(incoming.ids["user_id"], given)
        if refusal is None:
            await self._audit.record(
                incoming.caller,
                "user.keys_set",
                target=str(incoming.ids["user_id"]),
                detail=", ".join(chain for chain, _ in given),
            )
            return Reply(204)
        told = answer(refusal)
        faults: tuple[Fault, ...] = ()
        if isinstance(refusal, KeyRefused):
            faults = (Fault(told.detail, pointer=f"#/{refusal.chain}"),)
        raise Problem(told, faults)


USER_PAGE_SCHEMA: schema.Schema = schema.whole_object(
    {
        "items": schema.array(
            schema.whole_object(
                {
                    "id": schema.uuid("The user."),
                    "name": schema.or_null(schema.text("Of its brand.")),
                }
            ),
            "By id.",
        ),
        "next": schema.or_null(schema.uuid("`after` of the next page; null on the last.")),
    }
)
