"""Wallets and orders of a house, for tests of what is done with them."""

from __future__ import annotations

from uuid import UUID

from actors.new_order import NewOrder
from actors.orders import PlacedOrder
from actors.wallets import Wallet, WalletAsset
from api.access import IN_PROCESS
from tests.helpers.house import BTC_KEY, LTC_KEY, House

NUMBER = "A-17"
"""What the merchant calls its orders here."""


async def make_wallet(
    house: House, user_id: UUID, *, assets: tuple[WalletAsset, ...] | None = None, **keys: str
) -> Wallet:
    """A wallet with these keys, BTC's and LTC's without any."""
    given = keys or {"btc": BTC_KEY, "ltc": LTC_KEY}
    made = await house.wallets.add(user_id, name="shop", keys=list(given.items()), assets=assets)
    assert isinstance(made, Wallet), made
    return made


async def place_order(
    house: House,
    wallet: Wallet,
    amount_base: int = 1_500_000,
    *,
    asset: str = "BTC",
    number: str = NUMBER,
    **more: str,
) -> PlacedOrder:
    """The order of that number."""
    wanted = NewOrder(
        merchant_order_id=number,
        asset_name=asset,
        target_value=str(amount_base),
        pg_wallet_id=wallet.id,
        **more,
    )
    placed = await house.orders.create(wanted, caller=IN_PROCESS)
    assert isinstance(placed, PlacedOrder), placed
    return placed
