"""Payscrypt over REST: two calls, at the paths of both of its generations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import betterproto2
from quart import request

from actors.access_book import Scope
from actors.new_order import (
    MAX_ASSET_NAME,
    MAX_CALLBACK_URL,
    MAX_DESCRIPTION,
    MAX_MERCHANT_NAME,
    MAX_MERCHANT_ORDER_ID,
)
from api.errors import Answer
from api.payscrypt import invalid
from api.payscrypt_calls import PayscryptCalls
from api.rest.edge import Edge
from api.rest.fields import Schema
from api.rest.operation import Door, Incoming, Operation, Reply, Success
from api.rest.payscrypt_form import ERROR_SCHEMAS, ROOTS, PayscryptForm
from api.rest.problems import Problem
from api.rest.proto_shape import (
    INT64_SCHEMA,
    NOTHING,
    Renamed,
    answer_schema,
    json_of,
    message_of,
    shape_of,
)
from proto.payscrypt import pg

TAG = "Payscrypt"
INVOICES: Renamed = {
    "merchant_order_id": "merchant_invoice_id",
    "pg_wallet_id": "wallet_id",
    "asset_name": "asset",
    "target_value": "price",
    "callback_url": "redirect_url",
    "redirect_url": "payment_url",
    "order": "invoice",
}
"""The later generation's names for the same fields."""

_HOST = re.compile(r"(?:[0-9A-Za-z.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ANY_TEXT: Schema = {"type": "string"}


def _text(most: int, least: int = 0) -> Schema:
    schema: Schema = {"type": "string", "maxLength": most}
    return {**schema, "minLength": least} if least else schema


_CREATE: Mapping[str, tuple[str, Schema]] = {
    "merchant_order_id": (
        "The merchant's own number: the same one gives the same order until that is over.",
        _text(MAX_MERCHANT_ORDER_ID, 1),
    ),
    "asset_name": ("An asset of the wallet: `BTC`.", _text(MAX_ASSET_NAME, 1)),
    "target_value": (
        "What is asked for, in base units (satoshi, wei).",
        {"type": "string", "pattern": "^[1-9][0-9]{0,77}$"},
    ),
    "callback_url": (
        "Where the payment page leads to in the end: an http or https URL.",
        _text(MAX_CALLBACK_URL),
    ),
    "pg_wallet_id": ("The wallet to be paid to.", INT64_SCHEMA),
    "description": ("Shown on the payment page, and public.", _text(MAX_DESCRIPTION)),
    "merchant_name": (
        "Shown on the payment page instead of the name of the merchant's brand.",
        _text(MAX_MERCHANT_NAME),
    ),
}
_REQUIRED = ("merchant_order_id", "asset_name", "target_value", "pg_wallet_id")
_WITH_PAYMENTS: tuple[str, Schema] = ("List the payments too.", {"type": "boolean"})
_ID: tuple[str, Schema] = (
    "The order's id.",
    {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"},
)
_ABOUT: Mapping[str, str] = {
    "id": "A number of up to 53 bits, in digits.",
    "target_value": "What is asked for, in base units.",
    "target_confirmations": "The depth at which money counts as final.",
    "variants": "The address to pay to, in every form that is watched.",
    "expired_at": "The deadline, in Unix seconds.",
    "value": "What has come, in base units, in mempool and chain.",
    "confirmations": "The lowest number of the payments that reach the target, or 0.",
    "created_at": "Unix seconds.",
    "updated_at": "Unix seconds: when the last fact was recorded.",
    "chain": "`bitcoin`, `litecoin`, `monero`, `ethereum`, `bsc`, `ton`.",
    "network": "`mainnet`, `testnet` or `regtest`.",
    "callback_url": "Where the payment page leads to in the end.",
    "redirect_url": "The payment page.",
    "payments": "Those that make up `value`, where they were asked for.",
}
_PAYMENT_ABOUT: Mapping[str, str] = {
    "id": "`txid:index`.",
    "address": "What was paid to.",
    "value": "In base units.",
    "confirmations": "0 in the mempool.",
    "block_height": "0 in the mempool.",
    "created_at": "When it was first seen, in Unix seconds.",
    "updated_at": "Unix seconds.",
}


def _schema(kind: type[betterproto2.Message], about: Mapping[str, str], renamed: Renamed) -> Schema:
    return answer_schema(kind, about, prefix=TAG, renamed=renamed)


def _wrapped(name: str, component: str) -> Schema:
    return {
        "type": "object",
        "properties": {name: {"$ref": f"#/components/schemas/{component}"}},
        "required": [name],
    }


PAYSCRYPT_SCHEMAS: Mapping[str, Schema] = {
    **ERROR_SCHEMAS,
    "PayscryptPayment": _schema(pg.Payment, _PAYMENT_ABOUT, NOTHING),
    "PayscryptOrder": _schema(pg.Order, _ABOUT, NOTHING),
    "PayscryptPublicOrder": _schema(pg.PublicOrder, _ABOUT, NOTHING),
    "PayscryptInvoice": _schema(pg.Order, _ABOUT, INVOICES),
    "PayscryptPublicInvoice": _schema(pg.PublicOrder, _ABOUT, INVOICES),
    "PayscryptCreated": _wrapped("order", "PayscryptOrder"),
    "PayscryptFound": _wrapped("order", "PayscryptPublicOrder"),
    "PayscryptInvoiceCreated": _wrapped("invoice", "PayscryptInvoice"),
    "PayscryptInvoiceFound": _wrapped("invoice", "PayscryptPublicInvoice"),
}


@dataclass(frozen=True, slots=True)
class _Generation:
    """One generation of paths below one root."""

    root: str
    renamed: Renamed
    suffix: str
    """Of operation ids, which differ where paths do."""


class Payscrypt:
    """The calls, wherever they are mounted."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._calls = PayscryptCalls(edge.orders, edge.invoicing.catalogue)
        self._form = PayscryptForm()

    def operations(self) -> tuple[Operation, ...]:
        found: list[Operation] = []
        for root in ROOTS:
            suffix = root.removeprefix("/").capitalize()
            found += self._first(_Generation(root, NOTHING, suffix))
            found += self._later(_Generation(root, INVOICES, suffix))
        return tuple(found)

    def _first(self, at: _Generation) -> tuple[Operation, ...]:
        path = f"{at.root}/apis/pg/get_public_order"
        fields = {"id": _ID, "with_payments": _WITH_PAYMENTS}
        found = Success(200, "The order.", "PayscryptFound")
        kind, required = pg.GetPublicOrderByIdRequest, ("id",)
        return (
            self._create(at, "createOrder", f"{at.root}/apis/pg/create_order", "PayscryptCreated"),
            self._public(
                at,
                "getPublicOrder",
                "POST",
                path,
                successes=(found,),
                query=None,
                body=shape_of(kind, fields, required=required),
                body_required=False,
                example={"id": "4503599627370497", "with_payments": True},
            ),
            self._public(
                at,
                "getPublicOrderByQuery",
                "GET",
                path,
                successes=(found,),
                query=shape_of(kind, fields, required=required, in_query=True),
            ),
        )

    def _later(self, at: _Generation) -> tuple[Operation, ...]:
        path = f"{at.root}/payment/v1/invoice"
        fields = {"with_payments": _WITH_PAYMENTS}
        return (
            self._create(at, "createPaymentInvoice", path, "PayscryptInvoiceCreated"),
            self._public(
                at,
                "getPaymentInvoice",
                "GET",
                path + "/{id}",
                successes=(Success(200, "The order.", "PayscryptInvoiceFound"),),
                query=shape_of(pg.GetPublicOrderByIdRequest, fields, in_query=True),
                path_words={"id": "The order's id."},
            ),
        )

    def _create(self, at: _Generation, name: str, path: str, schema: str) -> Operation:
        example = {
            "merchant_order_id": "A-17",
            "asset_name": "BTC",
            "target_value": "1500000",
            "pg_wallet_id": "1",
            "callback_url": "https://shop.example/orders/A-17",
        }

        async def handle(incoming: Incoming) -> Reply:
            message = message_of(pg.CreateOrderRequest, incoming.body, at.renamed)
            made = await self._calls.create_order(
                message, caller=incoming.caller, public_url=self._public_url()
            )
            return _reply(made, at.renamed)

        return Operation(
            id=name + at.suffix,
            method="POST",
            path=path,
            tag=TAG,
            summary="Create an order",
            about=(
                "Gives out an address; the order is durable and watched when this answers. The API"
                " key is shown in the header `apikey`. As proto3 JSON has it, names may be in"
                " lowerCamelCase, and fields that are not known are ignored."
            ),
            handle=handle,
            query=None,
            body=shape_of(pg.CreateOrderRequest, _CREATE, renamed=at.renamed, required=_REQUIRED),
            body_required=False,
            example={at.renamed.get(field, field): value for field, value in example.items()},
            successes=(Success(200, "The order, made now or before.", schema),),
            refusals=(
                "INVALID_FIELD",
                "UNSUPPORTED_ASSET",
                "WALLET_NOT_FOUND",
                "WALLET_HAS_NO_KEY",
                "ORDER_ID_REUSED",
                "CHAIN_UNAVAILABLE",
            ),
            needs=Scope.WRITE,
            door=Door.FRESH_KEY,
            # The key's user is kept to their own wallets by `Orders.create`.
            shared=True,
            form=self._form,
        )

    def _public(self, at: _Generation, name: str, method: str, path: str, **more: Any) -> Operation:
        async def handle(incoming: Incoming) -> Reply:
            values = {**incoming.query, **incoming.body, **incoming.words}
            message = message_of(pg.GetPublicOrderByIdRequest, values)
            return _reply(await self._calls.get_public_order(message), at.renamed)

        return Operation(
            id=name + at.suffix,
            method=method,
            path=path,
            tag=TAG,
            summary="Read what is public of an order",
            about="For the customer's browser: needs no key; pages of any site may ask.",
            handle=handle,
            refusals=("INVALID_FIELD", "ORDER_NOT_FOUND"),
            needs=Scope.READ,
            door=Door.STRANGERS,
            shared=True,
            form=self._form,
            **more,
        )

    def _public_url(self) -> str:
        """Where customers reach us: as configured, or as this request did."""
        configured = self._edge.public_url
        if configured is not None:
            return configured
        host: str = request.headers.get("Host", "")
        # It comes back to who sent it, but no further than a host could.
        if not _HOST.fullmatch(host):
            raise Problem(invalid("Host"))
        return f"{request.scheme}://{host}"


def _reply(found: betterproto2.Message | Answer, renamed: Renamed) -> Reply:
    if isinstance(found, Answer):
        raise Problem(_renamed(found, renamed))
    (name, order), *_ = json_of(found).items()
    document = {renamed.get(key, key): value for key, value in order.items()}
    return Reply(document={renamed.get(name, name): document})


def _renamed(told: Answer, renamed: Renamed) -> Answer:
    """The same with the names that the request had."""
    words = told.detail.split(" ")
    return Answer(told.kind, " ".join(renamed.get(word, word) for word in words))
