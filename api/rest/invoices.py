"""`/v1/invoices`: create an invoice; read it, or wait for its change."""

from __future__ import annotations

from typing import Any

from quart import request

from actors.access_book import Scope
from actors.core.invoice import Invoice
from actors.core.money import AmountError, parse_decimal
from actors.idempotency import IdempotencyRefusal
from actors.invoicing import NewInvoice
from api.access import repeated
from api.convert import format_instant
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
from api.rest.policies import METADATA_FIELD, POLICY_FIELD
from api.rest.problems import Fault, Problem
from api.rest.views import View, Views
from api.rest.waiting import WaitingRoom

MAX_CONFIRMATIONS = 2**32 - 1


class Invoices:
    """Creates invoices and shows them one by one."""

    def __init__(self, edge: Edge, *, views: Views, room: WaitingRoom) -> None:
        self._edge = edge
        self._views = views
        self._invoicing = edge.invoicing
        self._room = room

    def operations(self) -> tuple[Operation, ...]:
        return self._creation(), self._reading(), self._cancelling()

    # --- create -----------------------------------------------------------------------------------

    def _creation(self) -> Operation:
        return Operation(
            id="createInvoice",
            method="POST",
            path="/v1/invoices",
            tag="Invoices",
            summary="Create an invoice",
            about=(
                "Gives out a fresh address that is never used again. The amount is given either as"
                " an exact decimal text or in base units; 0 asks for any amount. The time to pay is"
                " given either in seconds or as an instant; less than 10 seconds becomes 10."
                " Where the request names no policy, the user's default for the asset is agreed."
            ),
            handle=self._create,
            body=self._new_invoice(),
            complete=self._complete,
            example={
                "user_id": "0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10",
                "asset": next(iter(self._invoicing.catalogue.assets), "BTC"),
                "amount": "0.015",
                "expires_in": 3600,
            },
            successes=(Success(201, "The invoice, waiting for its payment.", "Invoice"),),
            needs=Scope.WRITE,
            request_headers=IDEMPOTENCY_HEADER,
            refusals=(
                "NO_SUCH_USER",
                "NO_KEY",
                "UNKNOWN_ASSET",
                "ASSET_DISABLED",
                "POLICY_REFUSED",
                "METADATA_REFUSED",
                *IDEMPOTENCY_REFUSALS,
            ),
        )

    def _new_invoice(self) -> Shape:
        assets = tuple(self._invoicing.catalogue.assets)
        return Shape(
            (
                Field(
                    "user_id",
                    fields.uuid,
                    {"type": "string", "format": "uuid"},
                    "Whose key the address is made from.",
                    required=True,
                ),
                Field(
                    "asset",
                    fields.choice(assets),
                    fields.schema_of_choice(assets),
                    "What to ask for.",
                    required=True,
                ),
                Field(
                    "amount",
                    fields.amount,
                    {"type": "string", "pattern": r"^[0-9]{1,80}(\.[0-9]{1,80})?$"},
                    "The amount in units of the asset: a text, so that no digit is lost.",
                    example="0.015",
                ),
                Field(
                    "amount_base",
                    fields.base_units,
                    {
                        "oneOf": [
                            {"type": "string", "pattern": "^[0-9]{1,80}$"},
                            {"type": "integer", "minimum": 0},
                        ]
                    },
                    "The amount in base units (satoshi, wei).",
                    example="1500000",
                ),
                Field(
                    "expires_in",
                    fields.whole(0, fields.MAX_INTEGER),
                    {"type": "integer", "minimum": 0},
                    "Seconds to pay.",
                    example=3600,
                ),
                Field(
                    "expires_at",
                    fields.instant,
                    {"type": "string", "format": "date-time"},
                    "The instant until which a payment must be seen.",
                ),
                Field(
                    "confirmations",
                    fields.whole(0, MAX_CONFIRMATIONS),
                    {"type": "integer", "minimum": 0, "maximum": MAX_CONFIRMATIONS},
                    "Blocks to wait for: 0 the mempool, 1 the tip. Otherwise the policy's bands"
                    " decide, or the chain's default.",
                ),
                POLICY_FIELD,
                METADATA_FIELD,
            ),
            one_of=(("amount", "amount_base"), ("expires_in", "expires_at")),
        )

    async def _create(self, incoming: Incoming) -> Reply:
        body = incoming.body
        outcome = await self._edge.repeats.create_invoice(
            NewInvoice(
                user_id=body["user_id"],
                asset=body["asset"],
                amount_base=body["amount_base"],
                ttl_ms=body.get("expires_in", 0) * 1000,
                confirmations=body.get("confirmations"),
                expires_at_ms=body.get("expires_at"),
                policy=body.get("policy"),
                metadata=body.get("metadata"),
            ),
            caller=incoming.caller,
            key=idempotency_key(),
        )
        if isinstance(outcome, IdempotencyRefusal):
            raise Problem(repeated(outcome))
        if not isinstance(outcome, Invoice):
            raise Problem(answer(outcome))
        view = self._views.of(outcome)
        location = f"/v1/invoices/{outcome.terms.invoice_id}"
        return Reply(201, content=view.content, headers={"ETag": view.etag, "Location": location})

    def _complete(self, body: dict[str, Any]) -> list[Fault]:
        """Work out `amount_base`; what is wrong with the values together."""
        faults: list[Fault] = []
        if "amount" in body and "asset" in body:
            asset = self._invoicing.catalogue.assets[body["asset"]]
            try:
                body["amount_base"] = parse_decimal(body["amount"], asset.exponent)
            except AmountError as error:
                faults.append(Fault(f"amount: {error}", pointer="#/amount"))
        now_ms = self._edge.clock.now_ms()
        if body.get("expires_at", now_ms + 1) <= now_ms:
            detail = f"expires_at has passed; it is {format_instant(now_ms)} now"
            faults.append(Fault(detail, pointer="#/expires_at"))
        return faults

    # --- cancel -----------------------------------------------------------------------------------

    def _cancelling(self) -> Operation:
        return Operation(
            id="cancelInvoice",
            method="POST",
            path="/v1/invoices/{invoice_id}/cancel",
            tag="Invoices",
            summary="Cancel an invoice",
            about=(
                "Withdraws an invoice to which nothing was paid; once more changes nothing. Its"
                " address stays watched: money that comes all the same is recorded as late."
            ),
            handle=self._cancel,
            needs=Scope.WRITE,
            successes=(Success(200, "The invoice, cancelled.", "Invoice"),),
            refusals=("NO_SUCH_INVOICE", "INVALID_INVOICE_ID", "NOT_CANCELLABLE", "ASSET_DISABLED"),
        )

    async def _cancel(self, incoming: Incoming) -> Reply:
        invoice_id = incoming.ids["invoice_id"]
        before = await self._views.look(invoice_id)
        outcome = await self._invoicing.cancel(invoice_id)
        if not isinstance(outcome, Invoice):
            raise Problem(answer(outcome))
        if before.invoice.version != outcome.version:
            await self._edge.audit.record(
                incoming.caller, "invoice.cancelled", target=str(invoice_id)
            )
        view = self._views.of(outcome)
        return Reply(content=view.content, headers={"ETag": view.etag})

    # --- read -------------------------------------------------------------------------------------

    def _reading(self) -> Operation:
        cap_s = self._edge.limits.wait_s
        return Operation(
            id="getInvoice",
            method="GET",
            path="/v1/invoices/{invoice_id}",
            tag="Invoices",
            summary="Read an invoice",
            about=(
                "Send the ETag of what you have as If-None-Match: the answer is 304 while nothing"
                " changed. With `wait` as well, the answer comes as soon as something changes, and"
                " 304 when the time is up: ask again at once."
            ),
            handle=self._read,
            query=Shape(
                (
                    Field(
                        "wait",
                        fields.whole_text(0, 86_400),
                        {"type": "integer", "minimum": 0, "maximum": 86_400},
                        f"Seconds to wait for a change, {cap_s} at most (more counts as {cap_s})."
                        " Without If-None-Match there is nothing to wait for.",
                        example=30,
                    ),
                )
            ),
            request_headers={"If-None-Match": "The ETag of the representation that you have."},
            successes=(
                Success(200, "The invoice as it is now.", "Invoice"),
                Success(304, "Nothing changed."),
            ),
            refusals=("NO_SUCH_INVOICE", "INVALID_INVOICE_ID", "TOO_MANY_WAITING"),
        )

    async def _read(self, incoming: Incoming) -> Reply:
        invoice_id = incoming.ids["invoice_id"]
        known_tags = request.if_none_match

        def known(view: View) -> bool:
            return known_tags.contains_weak(view.etag.strip('"'))

        view = await self._views.look(invoice_id)
        wait_s = min(incoming.query.get("wait", 0), self._edge.limits.wait_s)
        if known(view) and wait_s:
            changed = await self._room.different(invoice_id, known=known, wait_s=wait_s)
            view = changed or view
        if known(view):
            return Reply(304, headers={"ETag": view.etag})
        return Reply(content=view.content, headers={"ETag": view.etag})
