"""`GET /v1/invoices`: pages of invoices."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from quart import request

from actors.invoicing import LAST_INSTANT_MS
from actors.ports import InvoiceQuery, Order
from api.convert import STATE_OF_WORD
from api.rest import fields
from api.rest.cursors import CursorError, cursor_after, read_cursor
from api.rest.edge import Edge
from api.rest.fields import Field, Shape
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Fault, invalid
from api.rest.views import Views

PAGE = 50
_ORDERS = ("-created", "created", "-updated", "updated")
_FILTERS = ("user_id", "asset", "status", "updated_since", "order", "limit")


class Listing:
    """Lists invoices, page by page."""

    def __init__(self, edge: Edge, *, views: Views) -> None:
        self._edge = edge
        self._invoicing = edge.invoicing
        self._views = views

    def operations(self) -> tuple[Operation, ...]:
        return (self._listing(),)

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
            "items": [self._views.document(row.invoice) for row in page],
            "next": following,
        }
        return Reply(document=document, headers=_next_link(following))


def _next_link(cursor: str | None) -> dict[str, str]:
    """The Link header (RFC 8288) of the next page, with the filters of this one."""
    if cursor is None:
        return {}
    given = {name: request.args[name] for name in _FILTERS if name in request.args}
    return {"Link": f'</v1/invoices?{urlencode({**given, "cursor": cursor})}>; rel="next"'}
