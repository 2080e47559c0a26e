"""Events and invoice states as plain JSON values, and back: the form that is stored and published.

Bytes are lower-case hex, money is a string of decimal digits (JSON numbers end at 2**53), instants
are integers of Unix milliseconds. `from_json(to_json(x)) == x` for every event and state. What only
some chains or policies have (OPTIONAL) is left out where there is none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from actors.core import events as ev
from actors.core.chain_events import OutPoint, Removal
from actors.core.invoice import Invoice, State
from actors.core.payment import Payment, Refusal
from actors.core.policy_json import (
    applied_from_json,
    applied_to_json,
    policy_from_json,
    policy_to_json,
)

Json = dict[str, Any]

_KINDS: dict[str, type[ev.Event]] = {
    kind.kind: kind
    for kind in (
        ev.InvoiceCreated,
        ev.PaymentSeen,
        ev.PaymentIncluded,
        ev.PaymentDisconnected,
        ev.PaymentDisplaced,
        ev.PaymentUnlocked,
        ev.PaymentRefused,
        ev.InvoiceCovered,
        ev.InvoiceUncovered,
        ev.InvoiceSettled,
        ev.DeadlineReached,
        ev.InvoiceExpired,
        ev.InvoiceCancelled,
        ev.SettlementReversed,
        ev.SettlementRestored,
    )
}
EVENT_KINDS = tuple(_KINDS)
"""Every kind of event, as readers name what they want."""


class CodecError(ValueError):
    """Stored data that this version cannot read: a damaged store, or one of a newer version."""


def event_to_json(event: ev.Event) -> Json:
    """The event's fields without `kind`, which is stored beside them."""
    names, values_of, encoders, add_optional = _ENCODERS[type(event)]
    encoded = dict(zip(names, values_of(event), strict=True))
    for name, encode in encoders:
        encoded[name] = encode(encoded[name])
    if add_optional is not None:
        add_optional(encoded, event)
    return encoded


def event_from_json(kind: str, data: Json) -> ev.Event:
    """The event of that kind. Raises CodecError when kind or fields are not of this version."""
    event_type = _KINDS.get(kind)
    if event_type is None:
        raise CodecError(f"event kind {kind!r} is unknown to this version")
    try:
        return event_type(
            **{name: _decode(event_type, name, value) for name, value in data.items()}
        )
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise CodecError(f"event of kind {kind!r} cannot be read: {error}") from error


def invoice_to_json(invoice: Invoice) -> Json:
    return {"terms": terms_to_json(invoice.terms), **state_to_json(invoice)}


def invoice_from_json(data: Json) -> Invoice:
    """Raises CodecError when the data are not a state of this version."""
    try:
        terms = data["terms"]
    except KeyError as error:
        raise CodecError(f"invoice state cannot be read: {error}") from error
    return state_from_json(terms_from_json(terms), data)


def state_to_json(invoice: Invoice) -> Json:
    """The part of the state that changes: everything but the terms."""
    encoded: Json = {
        "state": invoice.state.value,
        "version": invoice.version,
        "payments": [_payment_to_json(p) for p in invoice.payments],
        "deadline_reached": invoice.deadline_reached,
        "reversed": invoice.reversed,
        "settled_at_ms": invoice.settled_at_ms,
        "updated_at_ms": invoice.updated_at_ms,
    }
    if invoice.refused:
        encoded["refused"] = [_refusal_to_json(one) for one in invoice.refused]
    return encoded


def state_from_json(terms: ev.Terms, data: Json) -> Invoice:
    """Raises CodecError when the data are not a state of this version."""
    try:
        updated_at_ms = data["updated_at_ms"]
        if updated_at_ms == terms.created_at_ms:
            updated_at_ms = terms.created_at_ms  # one object: most invoices in memory are untouched
        return Invoice(
            terms=terms,
            state=_STATES[data["state"]],
            version=data["version"],
            payments=tuple([_payment_from_json(p) for p in data["payments"]]),
            deadline_reached=data["deadline_reached"],
            reversed=data["reversed"],
            settled_at_ms=data["settled_at_ms"],
            updated_at_ms=updated_at_ms,
            refused=tuple([_refusal_from_json(one) for one in data.get("refused", ())]),
        )
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise CodecError(f"invoice state cannot be read: {error}") from error


def terms_to_json(terms: ev.Terms) -> Json:
    encoded: Json = {
        "invoice_id": str(terms.invoice_id),
        "user_id": str(terms.user_id),
        "asset": terms.asset,
        "chain": terms.chain,
        "network": terms.network,
        "address": terms.address,
        "destination": terms.destination.hex(),
        "account_id": terms.account_id,
        "path": list(terms.path),
        "required_base": str(terms.required_base),
        "confirmations": terms.confirmations,
        "created_at_ms": terms.created_at_ms,
        "expires_at_ms": terms.expires_at_ms,
        "watch_depth": terms.watch_depth,
        "finality": terms.finality,
    }
    if terms.memo is not None:
        encoded["memo"] = terms.memo
    if terms.policy is not None:
        encoded["policy"] = policy_to_json(terms.policy)
    if terms.metadata:
        encoded["metadata"] = dict(terms.metadata)
    return encoded


def terms_from_json(data: Json) -> ev.Terms:
    """Raises CodecError when the data are not terms of this version.

    What many invoices have in common (user, asset, chain, network) is one object for all of them:
    a hundred thousand invoices are held in memory.
    """
    try:
        major, minor = data["path"]
        return ev.Terms(
            invoice_id=UUID(data["invoice_id"]),
            user_id=_shared_uuid(data["user_id"]),
            asset=sys.intern(data["asset"]),
            chain=sys.intern(data["chain"]),
            network=sys.intern(data["network"]),
            address=data["address"],
            destination=bytes.fromhex(data["destination"]),
            account_id=data["account_id"],
            path=(major, minor),
            required_base=int(data["required_base"]),
            confirmations=data["confirmations"],
            created_at_ms=data["created_at_ms"],
            expires_at_ms=data["expires_at_ms"],
            watch_depth=data["watch_depth"],
            finality=data.get("finality"),
            memo=data.get("memo"),
            policy=policy_from_json(data["policy"]) if "policy" in data else None,
            metadata=tuple(data["metadata"].items()) if "metadata" in data else (),
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CodecError(f"invoice terms cannot be read: {error}") from error


OPTIONAL = ("one_time_key", "unlock_height", "unlock_ms", "replaceable", "policies")
"""Fields of events that are written only where they are set."""
_STATES = {state.value: state for state in State}


@lru_cache(maxsize=65_536)
def _shared_uuid(text: str) -> UUID:
    return UUID(text)


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _hexes(values: tuple[bytes, ...]) -> list[str]:
    return [value.hex() for value in values]


def _encoder(kind: type[ev.Event], name: str) -> Callable[[Any], Any] | None:
    match name:
        case "block_hash" | "by" | "one_time_key":
            return _hex
        case "outpoint":
            return lambda outpoint: [outpoint.txid.hex(), outpoint.index]
        case "spends":
            return _hexes
        case "reason" if kind is ev.PaymentDisplaced:
            return lambda reason: reason.value
        case "terms":
            return terms_to_json
        case _ if name.endswith("_base"):
            return str
        case _:
            return None


def _add_placed(encoded: Json, of: ev.PaymentSeen | ev.PaymentIncluded) -> None:
    """OPTIONAL, spelt out: hardly any event has them, and every one is on its way to the disk."""
    _add_lock(encoded, of)
    if of.replaceable:
        encoded["replaceable"] = True
    if of.policies:
        encoded["policies"] = applied_to_json(of.policies)


def _add_policies(encoded: Json, of: Any) -> None:
    if of.policies:
        encoded["policies"] = applied_to_json(of.policies)


def _add_lock(encoded: Json, of: ev.PaymentSeen | ev.PaymentIncluded | Payment) -> None:
    if of.one_time_key is not None:
        encoded["one_time_key"] = of.one_time_key.hex()
    if of.unlock_height is not None:
        encoded["unlock_height"] = of.unlock_height
    if of.unlock_ms is not None:
        encoded["unlock_ms"] = of.unlock_ms


_Encoder = tuple[
    tuple[str, ...],
    Callable[[Any], tuple[Any, ...]],
    tuple[tuple[str, Callable[[Any], Any]], ...],
    Callable[[Json, Any], None] | None,
]


def _encoder_of(kind: type[ev.Event]) -> _Encoder:
    """The fields, what reads them all at once, the encoders of those that need one, and what adds
    the OPTIONAL ones that are set."""
    every = [field.name for field in fields(kind)]
    names = tuple(name for name in every if name not in OPTIONAL)
    special = ((name, _encoder(kind, name)) for name in names)
    encoders = tuple((name, encode) for name, encode in special if encode is not None)
    values_of = attrgetter(*names) if len(names) > 1 else lambda event: (event.at_ms,)
    if len(names) == len(every):
        return names, values_of, encoders, None
    return names, values_of, encoders, _add_placed if "unlock_ms" in every else _add_policies


_ENCODERS: dict[type, _Encoder] = {kind: _encoder_of(kind) for kind in _KINDS.values()}


def _outpoint(value: Any) -> OutPoint:
    return OutPoint(bytes.fromhex(value[0]), value[1])


def _spends(value: Any) -> tuple[bytes, ...]:
    return tuple(map(bytes.fromhex, value))


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "block_hash": bytes.fromhex,
    "by": bytes.fromhex,
    "one_time_key": bytes.fromhex,
    "outpoint": _outpoint,
    "spends": _spends,
    "terms": terms_from_json,
    "policies": applied_from_json,
}


def _decode(kind: type[ev.Event], name: str, value: Any) -> Any:
    if value is None:
        return None
    if (decode := _DECODERS.get(name)) is not None:
        return decode(value)
    if name == "reason" and kind is ev.PaymentDisplaced:
        return Removal(value)
    return int(value) if name.endswith("_base") else value


def _refusal_to_json(refusal: Refusal) -> Json:
    return {
        "outpoint": [refusal.outpoint.txid.hex(), refusal.outpoint.index],
        "asset": refusal.asset,
        "reason": refusal.reason,
    }


def _refusal_from_json(data: Json) -> Refusal:
    txid, index = data["outpoint"]
    return Refusal(OutPoint(bytes.fromhex(txid), index), data["asset"], data["reason"])


def _payment_to_json(payment: Payment) -> Json:
    encoded: Json = {
        "outpoint": [payment.outpoint.txid.hex(), payment.outpoint.index],
        "amount_base": str(payment.amount_base),
        "asset": payment.asset,
        "first_seen_ms": payment.first_seen_ms,
        "late": payment.late,
        "height": payment.height,
        "block_hash": payment.block_hash.hex() if payment.block_hash else None,
        "gone": payment.gone.value if payment.gone else None,
        "gone_by": payment.gone_by.hex() if payment.gone_by else None,
        "spends": _hexes(payment.spends),
    }
    _add_lock(encoded, payment)
    if payment.replaceable:
        encoded["replaceable"] = True
    if payment.accepted:
        encoded["accepted"] = True
    return encoded


def _payment_from_json(data: Json) -> Payment:
    return Payment(
        outpoint=OutPoint(bytes.fromhex(data["outpoint"][0]), data["outpoint"][1]),
        amount_base=int(data["amount_base"]),
        asset=data["asset"],
        first_seen_ms=data["first_seen_ms"],
        late=data["late"],
        height=data["height"],
        block_hash=bytes.fromhex(data["block_hash"]) if data["block_hash"] else None,
        gone=Removal(data["gone"]) if data["gone"] else None,
        gone_by=bytes.fromhex(data["gone_by"]) if data["gone_by"] else None,
        spends=tuple(map(bytes.fromhex, data.get("spends", ()))),
        one_time_key=bytes.fromhex(data["one_time_key"]) if "one_time_key" in data else None,
        unlock_height=data.get("unlock_height"),
        unlock_ms=data.get("unlock_ms"),
        replaceable=data.get("replaceable", False),
        accepted=data.get("accepted", False),
    )
