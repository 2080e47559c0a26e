"""`/v1/invoices`: create, read, wait, list; an invoice's history."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from quart import request

from actors.core.invoice import Invoice
from actors.core.money import AmountError, parse_decimal
from actors.core.outcomes import NoSuchInvoice
from actors.invoicing import LAST_INSTANT_MS, NewInvoice
from actors.ports import InvoiceQuery, Order
from api.convert import STATE_OF_WORD, format_instant
from api.errors import answer
from api.rest import fields
from api.rest.cursors import CursorError, cursor_after, read_cursor
from api.rest.edge import Edge
from api.rest.fields import Field, Shape
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Fault, Problem, invalid
from api.rest.represent import encode, entry_json, invoice_json
from api.rest.waiting import View, WaitingRoom

MAX_CONFIRMATIONS = 2**32 - 1
PAGE = 50
_ORDERS = ("-created", "created", "-updated", "updated")
_FILTERS = ("user_id", "asset", "status", "updated_since", "order", "limit")


class Invoices:
    """Everything below `/v1/invoices`."""

    def __init__(self, edge: Edge, room: WaitingRoom) -> None:
        self._edge = edge
        self._invoicing = edge.invoicing
        self._room = room

    def operations(self) -> tuple[Operation, ...]:
        return (self._creation(), self._reading(), self._listing(), self._telling())

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
            refusals=("NO_SUCH_USER", "NO_KEY", "UNKNOWN_ASSET", "ASSET_DISABLED"),
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
                    "Blocks to wait for: 0 the mempool, 1 the tip. The chain's default otherwise.",
                ),
            ),
            one_of=(("amount", "amount_base"), ("expires_in", "expires_at")),
        )

    async def _create(self, incoming: Incoming) -> Reply:
        body = incoming.body
        outcome = await self._invoicing.create_invoice(
            NewInvoice(
                user_id=body["user_id"],
                asset=body["asset"],
                amount_base=body["amount_base"],
                ttl_ms=body["ttl_ms"],
                confirmations=body.get("confirmations"),
            )
        )
        if not isinstance(outcome, Invoice):
            raise Problem(answer(outcome))
        view = self._view(outcome)
        location = f"/v1/invoices/{outcome.terms.invoice_id}"
        return Reply(201, content=view.content, headers={"ETag": view.etag, "Location": location})

    def _complete(self, body: dict[str, Any]) -> list[Fault]:
        """Work out `amount_base` and `ttl_ms` from what was given of them; what cannot be so."""
        faults: list[Fault] = []
        if "amount" in body and "asset" in body:
            asset = self._invoicing.catalogue.assets[body["asset"]]
            try:
                body["amount_base"] = parse_decimal(body["amount"], asset.exponent)
            except AmountError as error:
                faults.append(Fault(f"amount: {error}", pointer="#/amount"))
        if "expires_in" in body:
            body["ttl_ms"] = body["expires_in"] * 1000
        elif "expires_at" in body:
            now_ms = self._edge.clock.now_ms()
            body["ttl_ms"] = body["expires_at"] - now_ms
            if body["ttl_ms"] <= 0:
                detail = f"expires_at has passed; it is {format_instant(now_ms)} now"
                faults.append(Fault(detail, pointer="#/expires_at"))
        return faults

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
        look = partial(self._look, invoice_id)
        known_tags = request.if_none_match

        def known(view: View) -> bool:
            return known_tags.contains_weak(view.etag.strip('"'))

        view = await look()
        wait_s = min(incoming.query.get("wait", 0), self._edge.limits.wait_s)
        if known(view) and wait_s:
            changed = await self._room.different(invoice_id, look, known=known, wait_s=wait_s)
            view = changed or view
        if known(view):
            return Reply(304, headers={"ETag": view.etag})
        return Reply(content=view.content, headers={"ETag": view.etag})

    async def _look(self, invoice_id: UUID) -> View:
        row = await self._invoicing.invoice(invoice_id)
        if isinstance(row, NoSuchInvoice):
            raise Problem(answer(row))
        return self._view(row.invoice)

    def _view(self, invoice: Invoice) -> View:
        tip_height = self._room.tip_height(invoice.terms.chain)
        document = invoice_json(invoice, self._invoicing.catalogue, tip_height=tip_height)
        content, etag = encode(document)
        return View(invoice, tip_height, content, etag)

    # --- list -------------------------------------------------------------------------------------

    def _listing(self) -> Operation:
        return Operation(
            id="listInvoices",
            method="GET",
            path="/v1/invoices",
            tag="Invoices",
            summary="List invoices",
            about=(
                "Filters are joined by AND. `next` is the cursor of the next page, null on the"
                " last; give it back as it is, with the same filters. To follow changes, list with"
                " `updated_since` in the order `updated`."
            ),
            handle=self._list,
            query=self._filters(),
            successes=(Success(200, "A page of invoices.", "InvoicePage"),),
        )

    def _filters(self) -> Shape:
        assets = tuple(self._invoicing.catalogue.assets)
        words = tuple(STATE_OF_WORD)
        page = self._edge.limits.page
        return Shape(
            (
                Field("user_id", fields.uuid, {"type": "string", "format": "uuid"}, "One user's."),
                Field(
                    "asset",
                    fields.listed(fields.choice(assets)),
                    {"type": "string"},
                    "Of these assets, separated by commas.",
                    example=",".join(assets[:2]),
                ),
                Field(
                    "status",
                    fields.listed(fields.choice(words)),
                    {"type": "string"},
                    f"In these statuses, separated by commas: {', '.join(words)}.",
                    example="PENDING,PENDING_MEMPOOL",
                ),
                Field(
                    "updated_since",
                    fields.instant,
                    {"type": "string", "format": "date-time"},
                    "Changed at or after this instant.",
                ),
                Field(
                    "order",
                    fields.choice(_ORDERS),
                    fields.schema_of_choice(_ORDERS),
                    "By creation or last change, with `-` the newest first. The default is"
                    " `-created`, and `updated` when `updated_since` is given.",
                ),
                Field(
                    "limit",
                    fields.whole_text(1, page),
                    {"type": "integer", "minimum": 1, "maximum": page, "default": PAGE},
                    "Invoices on a page.",
                ),
                Field("cursor", fields.text, {"type": "string"}, "The page that `next` named."),
            )
        )

    async def _list(self, incoming: Incoming) -> Reply:
        asked = incoming.query
        since_ms = asked.get("updated_since")
        order = asked.get("order", "-created" if since_ms is None else "updated")
        limit = asked.get("limit", PAGE)
        query = InvoiceQuery(
            user_id=asked.get("user_id"),
            assets=asked.get("asset", ()),
            states=tuple(STATE_OF_WORD[word].value for word in asked.get("status", ())),
            updated_since_ms=None if since_ms is None else min(since_ms, LAST_INSTANT_MS),
            order=Order(order.removeprefix("-")),
            descending=order.startswith("-"),
            # One more than the page shows whether there is another.
            limit=limit + 1,
        )
        if "cursor" in asked:
            try:
                query = replace(query, after=read_cursor(asked["cursor"], query))
            except CursorError as error:
                raise invalid([Fault(f"cursor {error}", parameter="cursor")]) from None
        rows = await self._invoicing.invoices(query)
        page = rows[:limit]
        following = cursor_after(page[-1], query) if len(rows) > limit else None
        document = {
            "items": [self._item(row.invoice) for row in page],
            "next": following,
        }
        return Reply(document=document, headers=_next_link(following))

    def _item(self, invoice: Invoice) -> dict[str, Any]:
        tip_height = self._room.tip_height(invoice.terms.chain)
        return invoice_json(invoice, self._invoicing.catalogue, tip_height=tip_height)

    # --- history ----------------------------------------------------------------------------------

    def _telling(self) -> Operation:
        return Operation(
            id="getInvoiceEvents",
            method="GET",
            path="/v1/invoices/{invoice_id}/events",
            tag="Invoices",
            summary="Read an invoice's history",
            about=(
                "Every fact that was recorded of the invoice, oldest first. `seq` is the position"
                " in the daemon's whole log, `version` that in the invoice's own history."
            ),
            handle=self._history,
            successes=(Success(200, "The facts.", "History"),),
            refusals=("NO_SUCH_INVOICE", "INVALID_INVOICE_ID"),
        )

    async def _history(self, incoming: Incoming) -> Reply:
        invoice_id = incoming.ids["invoice_id"]
        entries = await self._invoicing.history(invoice_id)
        if not entries:
            raise Problem(answer(NoSuchInvoice(invoice_id)))
        return Reply(document={"items": [entry_json(entry) for entry in entries]})


def _next_link(cursor: str | None) -> dict[str, str]:
    """The Link header (RFC 8288) of the next page, with the filters of this one."""
    if cursor is None:
        return {}
    given = {name: request.args[name] for name in _FILTERS if name in request.args}
    return {"Link": f'</v1/invoices?{urlencode({**given, "cursor": cursor})}>; rel="next"'}
