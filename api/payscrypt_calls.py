"""Payscrypt's two calls, from message to message: both wires hand theirs in here."""

from __future__ import annotations

import re
from typing import assert_never

from actors.access import Caller
from actors.core.assets import Catalogue
from actors.core.outcomes import AssetDisabled
from actors.new_order import InvalidField, NewOrder
from actors.order_book import Order
from actors.orders import (
    NoKeyForAsset,
    OrderRefusal,
    OrderReused,
    Orders,
    PlacedOrder,
    UnsupportedAsset,
)
from actors.wallet_book import NoSuchWallet
from api.errors import Answer
from api.payscrypt import invalid, refused
from api.payscrypt_messages import order_message, public_message
from proto.payscrypt import pg

_ID = re.compile(r"[1-9][0-9]{0,18}")


class PayscryptCalls:
    """Refusals are returned; TransientError and PersistentError are raised as the store does."""

    def __init__(self, orders: Orders, catalogue: Catalogue) -> None:
        self._orders = orders
        self._catalogue = catalogue

    async def create_order(
        self, message: pg.CreateOrderRequest, *, caller: Caller, public_url: str
    ) -> pg.CreateOrderResponse | Answer:
        """The payment page is at `public_url`/pay/ID."""
        wanted = NewOrder(
            merchant_order_id=message.merchant_order_id,
            asset_name=message.asset_name,
            target_value=message.target_value,
            pg_wallet_id=message.pg_wallet_id,
            callback_url=message.callback_url,
            description=message.description,
            merchant_name=message.merchant_name,
        )
        placed = await self._orders.create(wanted, caller=caller)
        if not isinstance(placed, PlacedOrder):
            return _answer(placed)
        url = page_url(placed.order, public_url)
        order = order_message(placed, self._catalogue, redirect_url=url)
        return pg.CreateOrderResponse(order=order)

    async def get_public_order(
        self, message: pg.GetPublicOrderByIdRequest
    ) -> pg.GetPublicOrderByIdResponse | Answer:
        if not _ID.fullmatch(message.id):
            return invalid("id")
        placed = await self._orders.find(int(message.id))
        if not isinstance(placed, PlacedOrder):
            return refused("ORDER_NOT_FOUND")
        order = public_message(placed, self._catalogue, with_payments=message.with_payments)
        return pg.GetPublicOrderByIdResponse(order=order)


def page_url(order: Order, public_url: str) -> str:
    """Where the customer pays."""
    return f"{public_url}/pay/{order.id}"


def _answer(refusal: OrderRefusal) -> Answer:
    match refusal:
        case InvalidField():
            return invalid(refusal.field)
        case UnsupportedAsset():
            return refused("UNSUPPORTED_ASSET")
        case NoSuchWallet():
            return refused("WALLET_NOT_FOUND")
        case NoKeyForAsset():
            return refused("WALLET_HAS_NO_KEY")
        case OrderReused():
            return refused("ORDER_ID_REUSED")
        case AssetDisabled():
            return refused("CHAIN_UNAVAILABLE")
        case _:
            assert_never(refusal)
