"""Policies as JSON, and `/v1/users/{user_id}/policies/{asset}`: the defaults of a user's assets."""

from __future__ import annotations

from typing import Any

from actors.core.policy import (
    MAX_BANDS,
    MAX_BPS,
    MAX_CONFIRMATIONS,
    MAX_LATE_S,
    Band,
    Policy,
    PolicyError,
    checked,
)
from actors.core.policy_json import policy_to_json
from actors.new_invoice import MAX_METADATA_BYTES
from api.errors import answer
from api.rest import fields
from api.rest.edge import Edge
from api.rest.fields import Field, Schema, Shape, UnfitError, described, shown
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Fault, Problem

_MONEY: Schema = {
    "oneOf": [
        {"type": "string", "pattern": "^[0-9]{1,80}$"},
        {"type": "integer", "minimum": 0},
    ]
}
_DEPTH: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_CONFIRMATIONS}
_BAND = Shape(
    (
        Field("from_base", fields.base_units, _MONEY, "From this amount on.", required=True),
        Field(
            "confirmations",
            fields.whole(0, MAX_CONFIRMATIONS),
            _DEPTH,
            "So many confirmations.",
            required=True,
        ),
    )
)


def _nested(shape: Shape, value: Any) -> dict[str, Any]:
    """The values of an object within the body. Raises UnfitError with all that is wrong."""
    if not isinstance(value, dict):
        raise UnfitError(f"must be a JSON object, not {shown(value)}")
    values, faults = shape.read(value, lambda _, detail: Fault(detail))
    if faults:
        raise UnfitError("is refused: " + "; ".join(fault.detail for fault in faults))
    return values


def _bands(value: Any) -> tuple[Band, ...]:
    if not isinstance(value, list):
        raise UnfitError(f"must be a list, not {shown(value)}")
    return tuple(Band(**_nested(_BAND, one)) for one in value)


POLICY = Shape(
    (
        Field(
            "bands",
            _bands,
            {"type": "array", "maxItems": MAX_BANDS, "items": _BAND.schema()},
            "Confirmations by amount, ascending: the amount that is asked for, or of an open amount"
            " what is credited.",
        ),
        Field(
            "rbf_confirmations",
            fields.whole(0, MAX_CONFIRMATIONS),
            _DEPTH,
            "At least so many for a payment that signals that it may be replaced (BIP 125).",
        ),
        Field(
            "tolerance_base",
            fields.base_units,
            _MONEY,
            "So much less than the amount, in base units, still covers it. Where `tolerance_bps` is"
            " given too, the smaller of the two counts.",
        ),
        Field(
            "tolerance_bps",
            fields.whole(0, MAX_BPS),
            {"type": "integer", "minimum": 0, "maximum": MAX_BPS},
            "The same in hundredths of a percent of the amount.",
        ),
        Field(
            "accept_late_s",
            fields.whole(0, MAX_LATE_S),
            {"type": "integer", "minimum": 0, "maximum": MAX_LATE_S},
            "Money first seen within so many seconds after the deadline is late, and counts.",
        ),
    )
)
EXAMPLE = {
    "bands": [
        {"from_base": "0", "confirmations": 1},
        {"from_base": "100000000", "confirmations": 6},
    ],
    "tolerance_bps": 50,
    "accept_late_s": 7200,
}


def read_policy(value: Any) -> Policy:
    """Raises UnfitError."""
    try:
        return checked(Policy(**_nested(POLICY, value)))
    except PolicyError as error:
        raise UnfitError(f"is refused: {error}") from None


def read_metadata(value: Any) -> dict[str, str]:
    """How much of it may be kept is the core's affair. Raises UnfitError."""
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise UnfitError(
            'must be a JSON object of texts, such as {"order": "A-17"}: write numbers in quotation'
            " marks, so that they come back as they were"
        )
    return value


POLICY_FIELD = Field(
    "policy",
    read_policy,
    POLICY.schema(),
    "What is accepted beyond the plain rules, instead of the user's default for the asset; an empty"
    " object asks for none. `confirmations` takes the place of a default's bands, and cannot be"
    " given beside bands.",
)
METADATA_FIELD = Field(
    "metadata",
    read_metadata,
    {"type": "object", "additionalProperties": {"type": "string"}},
    f"Texts by name, kept with the invoice and given back: at most {MAX_METADATA_BYTES} bytes as"
    " JSON.",
    example={"order": "A-17"},
)


def policy_schema() -> Schema:
    """The schema of a policy as it is answered: money as texts, and only what is set."""
    document = POLICY.schema()
    money = {"type": "string", "pattern": "^[0-9]{1,80}$"}
    properties = document["properties"]
    properties["tolerance_base"] = {**described(POLICY.names["tolerance_base"]), **money}
    del properties["tolerance_base"]["oneOf"]
    return {**document, "description": "What is accepted beyond the plain rules."}


class Policies:
    """Shows and changes the default policies of users."""

    def __init__(self, edge: Edge) -> None:
        self._invoicing = edge.invoicing
        self._audit = edge.audit

    def operations(self) -> tuple[Operation, ...]:
        path = "/v1/users/{user_id}/policies/{asset}"
        words = {"asset": "The asset's id, as `GET /v1/assets` lists it."}
        refusals = ("NO_SUCH_USER", "INVALID_USER_ID", "UNKNOWN_ASSET")
        return (
            Operation(
                id="getPolicy",
                method="GET",
                path=path,
                path_words=words,
                tag="Users",
                summary="Read the default policy for an asset",
                about="An empty object where none is set.",
                handle=self._read,
                successes=(Success(200, "The policy.", "Policy"),),
                refusals=refusals,
            ),
            Operation(
                id="setPolicy",
                method="PUT",
                path=path,
                path_words=words,
                tag="Users",
                summary="Set the default policy for an asset",
                about=(
                    "For invoices to come that name no policy of their own; those that exist keep"
                    " what was agreed. The whole policy is replaced."
                ),
                handle=self._set,
                body=POLICY,
                complete=_complete,
                example=EXAMPLE,
                successes=(Success(200, "The policy, as it is now.", "Policy"),),
                refusals=(*refusals, "POLICY_REFUSED"),
            ),
            Operation(
                id="removePolicy",
                method="DELETE",
                path=path,
                path_words=words,
                tag="Users",
                summary="Remove the default policy for an asset",
                handle=self._remove,
                successes=(Success(204, "There is none now."),),
                refusals=refusals,
            ),
        )

    async def _read(self, incoming: Incoming) -> Reply:
        found = await self._invoicing.policy(incoming.ids["user_id"], incoming.words["asset"])
        if not isinstance(found, Policy):
            raise Problem(answer(found))
        return Reply(document=policy_to_json(found))

    async def _set(self, incoming: Incoming) -> Reply:
        policy = Policy(**incoming.body)
        await self._change(incoming, policy, "policy.set")
        return Reply(document=policy_to_json(policy))

    async def _remove(self, incoming: Incoming) -> Reply:
        await self._change(incoming, None, "policy.removed")
        return Reply(204)

    async def _change(self, incoming: Incoming, policy: Policy | None, act: str) -> None:
        user_id, asset = incoming.ids["user_id"], incoming.words["asset"]
        refusal = await self._invoicing.set_policy(user_id, asset, policy)
        if refusal is not None:
            raise Problem(answer(refusal))
        await self._audit.record(incoming.caller, act, target=str(user_id), detail=asset)


def _complete(body: dict[str, Any]) -> list[Fault]:
    """What is wrong with the values together."""
    try:
        checked(Policy(**body))
    except PolicyError as error:
        return [Fault(str(error), pointer="#")]
    return []
