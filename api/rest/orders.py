"""`/v1/orders`: merchants' orders, for who runs the daemon or the shop."""

from __future__ import annotations

from typing import Any

from actors.access_book import Scope
from actors.core.outcomes import NoSuchUser
from actors.orders import NoSuchOrder, PlacedOrder
from api.convert import format_instant
from api.errors import KINDS, Answer, answer
from api.rest import fields
from api.rest import json_schema as schema
from api.rest.edge import Edge
from api.rest.fields import Field, Shape, shown
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Fault, Problem, invalid
from api.rest.views import Views

MOST = 100
_WORDS = {"order_id": "The order's id, as createOrder answers it."}


class OrderOperations:
    """Shows and cancels orders."""

    def __init__(self, edge: Edge, *, views: Views) -> None:
        self._orders = edge.orders
        self._invoicing = edge.invoicing
        self._audit = edge.audit
        self._views = views
        self._public_url = edge.public_url or ""

    def operations(self) -> tuple[Operation, ...]:
        order = (Success(200, "The order, as it is now.", "Order"),)
        return (
            Operation(
                id="listOrders",
                method="GET",
                path="/v1/orders",
                tag="Orders",
                summary="Find orders by the merchant's number",
                about=(
                    f"The newest first, {MOST} at most: a shop may use its number again when an"
                    " order has expired or was cancelled. Other lists are those of invoices."
                ),
                handle=self._list,
                query=Shape((_USER, _NUMBER)),
                successes=(Success(200, "The orders.", "Orders"),),
                refusals=("NO_SUCH_USER",),
            ),
            Operation(
                id="getOrder",
                method="GET",
                path="/v1/orders/{order_id}",
                path_words=_WORDS,
                tag="Orders",
                summary="Read an order, with its invoice",
                handle=self._read,
                shared=True,
                successes=order,
                refusals=("NO_SUCH_ORDER",),
            ),
            Operation(
                id="cancelOrder",
                method="POST",
                path="/v1/orders/{order_id}/cancel",
                path_words=_WORDS,
                tag="Orders",
                summary="Cancel an order",
                about=(
                    "Withdraws an order to which nothing was paid; once more changes nothing."
                    " Webhooks tell of it, and the shop may use its number again."
                ),
                handle=self._cancel,
                needs=Scope.WRITE,
                shared=True,
                successes=order,
                refusals=("NO_SUCH_ORDER", "NOT_CANCELLABLE", "ASSET_DISABLED"),
            ),
        )

    async def _list(self, incoming: Incoming) -> Reply:
        user_id = incoming.query.get("user_id")
        if user_id is None:
            raise invalid([Fault("user_id is missing", parameter="user_id")])
        if not await self._invoicing.has_user(user_id):
            raise Problem(answer(NoSuchUser(user_id)))
        number = incoming.query["merchant_order_id"]
        found = await self._orders.attempts(user_id, number, limit=MOST)
        return Reply(document={"items": [self._json(one) for one in found]})

    async def _read(self, incoming: Incoming) -> Reply:
        return Reply(document=self._json(await self._mine(incoming)))

    async def _cancel(self, incoming: Incoming) -> Reply:
        before = await self._mine(incoming)
        outcome = await self._orders.cancel(before.order.id)
        if isinstance(outcome, NoSuchOrder):
            raise _absent(str(outcome.order_id))
        if not isinstance(outcome, PlacedOrder):
            raise Problem(answer(outcome))
        if before.invoice.version != outcome.invoice.version:
            await self._audit.record(
                incoming.caller,
                "order.cancelled",
                target=str(before.order.id),
                detail=f"invoice {before.order.invoice_id}",
            )
        return Reply(document=self._json(outcome))

    async def _mine(self, incoming: Incoming) -> PlacedOrder:
        """The order; for a caller restricted to a user no other user's exists."""
        word = incoming.words["order_id"]
        number = fields.number_in_path(word)
        found = NoSuchOrder(0) if number is None else await self._orders.find(number)
        if isinstance(found, NoSuchOrder) or not incoming.caller.sees(found.order.user_id):
            raise _absent(word)
        return found

    def _json(self, placed: PlacedOrder) -> dict[str, Any]:
        order = placed.order
        return {
            "id": str(order.id),
            "user_id": str(order.user_id),
            "wallet_id": order.wallet_id,
            "merchant_order_id": order.merchant_order_id,
            "attempt": order.attempt,
            "status": placed.status.name,
            "confirmations": placed.confirmations,
            "description": order.description,
            "callback_url": order.callback_url,
            "merchant_name": placed.merchant_name,
            "created_at": format_instant(order.created_at_ms),
            "page_url": f"{self._public_url}/pay/{order.id}",
            "invoice": self._views.document(placed.invoice),
        }


def _absent(word: str) -> Problem:
    return Problem(Answer(KINDS["NO_SUCH_ORDER"], f"There is no order {shown(word)}."))


_USER = Field(
    "user_id",
    fields.uuid,
    {"type": "string", "format": "uuid"},
    "The merchant; a key that is restricted to one need not say it.",
)
_NUMBER = Field(
    "merchant_order_id",
    fields.text,
    {"type": "string"},
    "What the merchant calls the order.",
    required=True,
)
ORDER_SCHEMAS: dict[str, schema.Schema] = {
    "Order": schema.whole_object(
        {
            "id": schema.text("The order's public id.", pattern="^[1-9][0-9]{0,15}$"),
            "user_id": schema.uuid("The merchant."),
            "wallet_id": schema.whole("The wallet that it is paid to.", 1),
            "merchant_order_id": schema.text("What the merchant calls it."),
            "attempt": schema.whole("Which one of that number.", 1),
            "status": schema.text(
                "`CONFIRMING`: paid, waiting for confirmations; the last three are final.",
                enum=["PENDING", "CONFIRMING", "SUCCESSFUL", "EXPIRED", "CANCELED"],
            ),
            "confirmations": schema.whole(
                "The lowest depth of the payments that cover it; 0 while they do not."
            ),
            "description": schema.text("Public, as it was given."),
            "callback_url": schema.text("Where the customer is sent in the end; may be empty."),
            "merchant_name": schema.text("Of the order, or else of the brand; may be empty."),
            "created_at": schema.instant("Creation."),
            "page_url": schema.text(
                "The payment page; where http.public_url is not set only its path.",
                format="uri-reference",
            ),
            "invoice": {"$ref": "#/components/schemas/Invoice"},
        },
        "What a shop asked for, and the invoice that it is.",
    ),
    "Orders": schema.page("Order", "The newest first."),
}
