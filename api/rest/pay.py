"""What a merchant's customer sees: the page of an order, its status, its logo, and what it loads.

Open to everybody who knows the order's number, which is all that it takes to pay. The stream is in
`api.rest.pay_live`.
"""

from __future__ import annotations

from collections.abc import Mapping

from quart import request

from actors.order_status import OrderStatus
from actors.orders import NoSuchOrder, PlacedOrder
from api.page.assets import page_assets
from api.page.live import LivePart, live_part
from api.page.pages import has_logo, logo_digest, order_page
from api.rest.edge import Edge
from api.rest.fields import number_in_path
from api.rest.json_schema import Schema, text, whole_object
from api.rest.operation import Door, Incoming, Operation, Reply, Success
from api.rest.page_form import HTML, PageForm, asked_language, send, send_page
from api.rest.problems import Problem, problem

TAG = "Payment page"
FOR_EVER = "public, max-age=31536000, immutable"
A_DAY = "public, max-age=86400"

PAGE_SCHEMAS: Mapping[str, Schema] = {
    "PaymentPagePart": whole_object(
        {
            "version": text("Of this part; another one has another."),
            "status": text("The order's.", enum=[one.name for one in OrderStatus]),
            "final": {"type": "boolean", "description": "Nothing more is to be expected."},
            "headline": text("The status in a word or two."),
            "announcement": text("The status and what else must be known, in sentences."),
            "html": text("The part itself."),
        },
        "What of a payment page changes.",
    )
}

_ORDER = {"order": "The order's number."}
_LANGUAGE = (
    " In the language of `?lang=` (`en`, `de`, `es`, `zh`, `ar`), else of Accept-Language; other"
    " parameters are not looked at."
)


class Pay:
    """The pages' operations."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._form = PageForm()

    def operations(self) -> tuple[Operation, ...]:
        return (self._page_operation(), self._status_operation(), *self._file_operations())

    def _page_operation(self) -> Operation:
        return Operation(
            id="showPaymentPage",
            method="GET",
            path="/pay/{order}",
            tag=TAG,
            summary="Show the payment page",
            about=f"For the merchant's customer.{_LANGUAGE}",
            handle=self._show,
            query=None,
            path_words=_ORDER,
            door=Door.STRANGERS,
            form=self._form,
            successes=(Success(200, "The page.", media_type=HTML),),
            refusals=("NOT_FOUND",),
        )

    def _status_operation(self) -> Operation:
        return Operation(
            id="readPaymentStatus",
            method="GET",
            path="/pay/{order}/status",
            tag=TAG,
            summary="Read the part of the payment page that changes",
            about=(
                "For the page itself, where it has no stream; programs read the order"
                f" instead.{_LANGUAGE}"
            ),
            handle=self._status,
            query=None,
            path_words=_ORDER,
            request_headers={"If-None-Match": "The ETag of what you have."},
            door=Door.STRANGERS,
            successes=(
                Success(200, "The part.", "PaymentPagePart"),
                Success(304, "Nothing changed."),
            ),
            refusals=("NOT_FOUND", "STORE_UNAVAILABLE", "OPERATOR_NEEDED", "BUG"),
        )

    def _file_operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="showMerchantLogo",
                method="GET",
                path="/pay/{order}/logo",
                tag=TAG,
                summary="Show the merchant's logo",
                handle=self._logo,
                query=None,
                path_words=_ORDER,
                door=Door.STRANGERS,
                form=self._form,
                successes=(Success(200, "The picture.", media_type="image/*"),),
                refusals=("NOT_FOUND",),
            ),
            Operation(
                id="getPageAsset",
                method="GET",
                path="/pay/assets/{name}",
                tag=TAG,
                summary="Get the style sheet or script of the pages",
                handle=self._asset,
                query=None,
                path_words={"name": "With a part of the content's hash, as the page names it."},
                door=Door.STRANGERS,
                form=self._form,
                successes=(
                    Success(200, "The style sheet.", media_type="text/css"),
                    Success(200, "The script.", media_type="text/javascript"),
                ),
                refusals=("NOT_FOUND",),
            ),
        )

    async def _show(self, incoming: Incoming) -> Reply:
        placed = await self.placed(incoming)
        terms = placed.invoice.terms
        page = order_page(
            placed.order,
            placed.invoice,
            brand=placed.brand,
            language=asked_language(),
            catalogue=self._edge.invoicing.catalogue,
            health=self._edge.invoicing.health(terms.chain),
            now_ms=self._edge.clock.now_ms(),
        )
        return send_page(page)

    async def _status(self, incoming: Incoming) -> Reply:
        placed = await self.placed(incoming)
        part = self.live_part(placed, asked_language())
        headers = {"ETag": f'W/"{part.version}"', "Vary": "Accept-Language"}
        if request.if_none_match.contains_weak(part.version):
            return Reply(304, headers=headers)
        return send(part.document, "application/json", headers=headers)

    async def _logo(self, incoming: Incoming) -> Reply:
        brand = (await self.placed(incoming)).brand
        if brand is None or brand.logo is None or brand.logo_type is None or not has_logo(brand):
            raise _nothing()
        headers = {"Cache-Control": A_DAY, "ETag": f'"{logo_digest(brand.logo)}"'}
        return Reply(content=brand.logo, media_type=brand.logo_type, headers=headers)

    async def _asset(self, incoming: Incoming) -> Reply:
        found = page_assets().get(incoming.words["name"])
        if found is None:
            raise _nothing()
        return send(
            found.content,
            found.media_type,
            headers={"Cache-Control": FOR_EVER},
            gzipped=found.gzipped,
        )

    def live_part(self, placed: PlacedOrder, language: str) -> LivePart:
        """The order's part of the page as it is now; `language` is one of LANGUAGES."""
        return live_part(
            placed.order,
            placed.invoice,
            language=language,
            catalogue=self._edge.invoicing.catalogue,
            health=self._edge.invoicing.health(placed.invoice.terms.chain),
            now_ms=self._edge.clock.now_ms(),
        )

    async def placed(self, incoming: Incoming) -> PlacedOrder:
        """The order that the path names. Raises Problem when there is none."""
        order_id = number_in_path(incoming.words["order"])
        if order_id is None:
            raise _nothing()
        placed = await self._edge.orders.find(order_id)
        if isinstance(placed, NoSuchOrder):
            raise _nothing()
        return placed


def _nothing() -> Problem:
    """The same for what never was and for what is not to be seen."""
    return problem("NOT_FOUND", "There is nothing here.")
