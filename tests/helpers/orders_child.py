"""A program that creates orders until it is killed, and says what it was told.

`python -m tests.helpers.orders_child URL`: each order is asked for by two callers at the same time;
after `open`, each line on standard output is `merchant_order_id order-id invoice-id`, printed after
createOrder has returned.
"""

from __future__ import annotations

import sys
from itertools import count
from uuid import UUID

import trio

from actors.access import Caller
from actors.access_book import Scope
from actors.orders import NewOrder, PlacedOrder
from actors.wallets import Wallet
from daemon.store import open_store
from tests.helpers.house import BTC_KEY, House, open_house

CALLERS = 8
CALLER = Caller(actor="a", address="b", scopes=frozenset({Scope.WRITE}))


async def create(house: House, merchant_order_id: str) -> PlacedOrder:
    wanted = NewOrder(
        merchant_order_id=merchant_order_id, asset_name="BTC", target_value="7", pg_wallet_id=1
    )
    placed = await house.orders.create(wanted, caller=CALLER)
    assert isinstance(placed, PlacedOrder), placed
    return placed


async def ask(house: House, caller: int) -> None:
    """Order after order; the next caller asks for the same ones."""
    for number in count():
        placed = await create(house, f"{caller // 2}-{number}")
        order = placed.order
        print(order.merchant_order_id, order.id, order.invoice_id, flush=True)


async def main(url: str) -> None:
    async with (
        open_store(url, on_commit=lambda _facts: None) as store,
        open_house(make_store=lambda _listener: store, chains=("btc",)) as house,
        trio.open_nursery() as nursery,
    ):
        if not await house.wallets.find():
            user_id = await house.invoicing.register_user()
            assert isinstance(user_id, UUID)
            made = await house.wallets.add(user_id, name="shop", keys=[("btc", BTC_KEY)])
            assert isinstance(made, Wallet)
        print("open", flush=True)
        for caller in range(CALLERS):
            nursery.start_soon(ask, house, caller)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
