"""`/v1/users`: users and their watch-only keys."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from uuid import UUID

from actors.core.outcomes import KeyRefused, UserExists
from api.access import repeated
from api.errors import answer
from api.rest import fields
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

_XPUB = (
    "xpub6CUf84eg4Ba1jJ3ePzLSSoeQ1ENzP33zCN4982Xoi1TZ1kfYreZe5ECqLm4RVWQHpuB5gixi3gK1PykXzcwWxW7w6d"
    "7GWxpsNY7wxNVBHip"
)


class Users:
    """Registers users and takes their keys."""

    def __init__(self, edge: Edge) -> None:
        self._invoicing = edge.invoicing
        self._repeats = edge.repeats
        self._audit = edge.audit
        self._chains = {
            chain.id: KEY_FAMILIES[chain.family].format(name=chain.name)
            for chain in edge.invoicing.catalogue.chains.values()
            if chain.family in KEY_FAMILIES
        }

    def operations(self) -> tuple[Operation, ...]:
        user_id = Field(
            "id",
            fields.uuid,
            {"type": "string", "format": "uuid"},
            "An id of your own; without it one is made.",
        )
        keys = tuple(
            Field(
                chain,
                fields.text,
                {"type": "string", "minLength": 1, "maxLength": 200},
                about,
            )
            for chain, about in self._chains.items()
        )
        return (
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
                body=Shape(keys),
                example={next(iter(self._chains)): _XPUB} if self._chains else None,
                successes=(Success(204, "The keys are stored."),),
                refusals=("NO_SUCH_USER", "INVALID_USER_ID", "KEY_REFUSED", "KEY_IN_USE"),
            ),
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
        given = [(chain, incoming.body[chain]) for chain in self._chains if chain in incoming.body]
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
