"""Orders of merchants: each is an invoice, and one row that says what the merchant calls it.

Creating one twice gives the same one. The row is the claim, written before the invoice exists and
with its id, so whoever asks again after a crash completes what was begun. Requests for the same
order wait for each other here; those that come to different processes meet at the row, and then at
the invoice, which is made once.

Which terms an order's invoice gets, the first that says something: the number of confirmations is
the wallet's for the asset, then the bands of the user's policy for it, then the chain's. The rest
of the user's policy (tolerance, late money, replaceable payments) always counts. The time to pay is
the wallet's for the asset, then DEFAULT_EXPIRY_MS.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID, uuid4

import trio

from actors.access import Caller
from actors.brand_book import Brand
from actors.core.assets import Asset
from actors.core.invoice import Invoice
from actors.core.outcomes import AssetDisabled, NoSuchInvoice, NotCancellable
from actors.invoicing import Invoicing
from actors.new_invoice import NewInvoice
from actors.new_order import InvalidField, NewOrder, check
from actors.order_book import Order
from actors.order_status import OrderStatus, confirmations_of, status_of
from actors.ports import Store, TransientError, WallClock
from actors.turns import Turns
from actors.wallet_book import NoSuchWallet, Wallet

__all__ = ["InvalidField", "NewOrder", "OrderStatus", "Orders", "confirmations_of", "status_of"]

EXPIRY_MS = 15 * 60_000
DEFAULT_EXPIRY_MS: Mapping[str, int] = MappingProxyType({"xmr": 30 * 60_000})
"""Time to pay by chain, where the wallet names none; EXPIRY_MS for the others. How many
confirmations there are by default is the chain's own number, in the asset data."""

MAX_ORDER_ID = 2**53 - 1
WAIT_S = 10.0
"""For the request for the same order that came first."""
FINISH_WITHIN_S = 30.0
"""A request that began is finished even if its caller leaves, but not for ever."""
MAX_AT_WORK = 1000
"""Different orders that are created at the same time."""
MAX_TRIES = 5
"""Claims for one request: each further one needs a random id that was taken."""


@dataclass(frozen=True, slots=True)
class UnsupportedAsset:
    """There is no such asset, or it is not one of the wallet's."""

    asset_name: str


@dataclass(frozen=True, slots=True)
class NoKeyForAsset:
    """The wallet has no key for the asset's chain."""

    wallet_id: int
    asset: str


@dataclass(frozen=True, slots=True)
class OrderReused:
    """The merchant's number stands for an order with other parameters."""

    merchant_order_id: str


@dataclass(frozen=True, slots=True)
class NoSuchOrder:
    order_id: int


OrderRefusal = (
    InvalidField | UnsupportedAsset | NoSuchWallet | NoKeyForAsset | OrderReused | AssetDisabled
)
OrderCancelRefusal = NoSuchOrder | NotCancellable | AssetDisabled


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOrder:
    """An order at one moment."""

    order: Order
    invoice: Invoice
    """Status, amounts, address, times: created, expires and updated."""
    tip_height: int | None
    """Of its chain; None while that is not known."""
    brand: Brand | None
    """The merchant's."""

    @property
    def status(self) -> OrderStatus:
        return status_of(self.invoice)

    @property
    def confirmations(self) -> int:
        return confirmations_of(self.invoice, self.tip_height)

    @property
    def merchant_name(self) -> str:
        """The order's own, or the brand's; empty: neither has one."""
        return self.order.merchant_name or (self.brand.name if self.brand else "")


class Orders:
    """The application service; its state is the store's."""

    def __init__(
        self,
        invoicing: Invoicing,
        *,
        store: Store,
        clock: WallClock,
        alone: bool = True,
        new_order_id: Callable[[], int] = lambda: 1 + secrets.randbelow(MAX_ORDER_ID),
        new_invoice_id: Callable[[], UUID] = uuid4,
    ) -> None:
        """`alone`: no other process creates orders in this store."""
        self._invoicing = invoicing
        self._store = store
        self._clock = clock
        self._alone_here = alone
        self._new_order_id = new_order_id
        self._new_invoice_id = new_invoice_id
        self._turns: Turns[tuple[UUID, str]] = Turns()

    async def create(self, wanted: NewOrder, *, caller: Caller) -> PlacedOrder | OrderRefusal:
        """The order that is asked for, made unless it is there; durable and watched.

        The merchant is the wallet's user. An order with the same number and parameters is given
        back as it is now, unless it has expired or was cancelled: then there is a new one. Raises
        TransientError or PersistentError as the store does.
        """
        refusal = check(wanted)
        if refusal is not None:
            return refusal
        asset = self._invoicing.asset(wanted.asset_name)
        if asset is None:
            return UnsupportedAsset(wanted.asset_name)
        wallet = await self._store.wallets.wallet(wanted.pg_wallet_id)
        if wallet is None or not caller.sees(wallet.user_id):
            return NoSuchWallet(wanted.pg_wallet_id)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FINISH_WITHIN_S):
            async with self._alone(wallet.user_id, wanted.merchant_order_id):
                return await self._create(wanted, wallet, asset)
        raise TransientError(
            f"order {wanted.merchant_order_id!r} took longer than {FINISH_WITHIN_S:.0f} s: ask for"
            " it again with the same parameters, and it is completed or given back"
        )

    async def find(self, order_id: int) -> PlacedOrder | NoSuchOrder:
        """The order as it is now, for everybody: its number is all that one needs to know."""
        if not 1 <= order_id <= MAX_ORDER_ID:
            return NoSuchOrder(order_id)
        order = await self._store.orders.order(order_id)
        row = None if order is None else await self._store.invoice(order.invoice_id)
        if order is None or row is None:
            return NoSuchOrder(order_id)
        return await self._placed(order, row.invoice)

    async def attempts(
        self, user_id: UUID, merchant_order_id: str, *, limit: int
    ) -> tuple[PlacedOrder, ...]:
        """The merchant's orders of that number as they are now, the newest first."""
        rows = await self._store.orders.attempts(user_id, merchant_order_id, limit=limit)
        found = [await self.find(row.id) for row in rows]
        return tuple(one for one in found if isinstance(one, PlacedOrder))

    async def of_invoice(self, invoice_id: UUID) -> Order | None:
        """The order that an invoice is; None for any other invoice."""
        return await self._store.orders.order_of_invoice(invoice_id)

    async def cancel(self, order_id: int) -> PlacedOrder | OrderCancelRefusal:
        """Withdraw an order to which nothing was paid, as `Invoicing.cancel`; for operators."""
        placed = await self.find(order_id)
        if isinstance(placed, NoSuchOrder):
            return placed
        outcome = await self._invoicing.cancel(placed.order.invoice_id)
        assert not isinstance(outcome, NoSuchInvoice), "invoices are never deleted"
        if not isinstance(outcome, Invoice):
            return outcome
        return await self._placed(placed.order, outcome)

    # --- creating ---------------------------------------------------------------------------------

    async def _create(
        self, wanted: NewOrder, wallet: Wallet, asset: Asset
    ) -> PlacedOrder | OrderRefusal:
        """What `create` does for the wallet's user, nobody else being at work on that order."""
        for _ in range(MAX_TRIES):
            newest = await self._store.orders.newest_order(wallet.user_id, wanted.merchant_order_id)
            row = None if newest is None else await self._store.invoice(newest.invoice_id)
            standing = None if row is None or status_of(row.invoice) in _OVER else row.invoice
            if newest is not None and standing is not None and _same(wanted, newest, standing):
                return await self._placed(newest, standing)
            agreed = _agree(wallet, asset)
            if not isinstance(agreed, _Agreement):
                return agreed
            if standing is not None:
                return OrderReused(wanted.merchant_order_id)
            # Asked before there is a row: what is refused leaves no trace.
            away = self._invoicing.why_not(asset)
            if away is not None:
                return away
            order = await self._claim(wanted, wallet, newest, begun=row is None)
            if order is not None:
                return await self._complete(order, agreed, wanted)
        raise TransientError(
            f"no number was found for order {wanted.merchant_order_id!r} in {MAX_TRIES} attempts:"
            " ask for it again"
        )

    async def _claim(
        self, wanted: NewOrder, wallet: Wallet, newest: Order | None, *, begun: bool
    ) -> Order | None:
        """The row to complete; None if the number that chance gave is another order's.

        `begun`: `newest` has no invoice. It is gone on with if it was written for the same fields;
        otherwise nobody has ever been told of it, and it is left to itself.
        """
        if newest is not None and begun:
            if wanted.described_by(newest):
                return newest
            self._refuse_while_begun(newest)
        order = Order(
            id=self._new_order_id(),
            invoice_id=self._new_invoice_id(),
            user_id=wallet.user_id,
            wallet_id=wallet.id,
            merchant_order_id=wanted.merchant_order_id,
            attempt=1 if newest is None else newest.attempt + 1,
            description=wanted.description,
            callback_url=wanted.callback_url,
            merchant_name=wanted.merchant_name,
            created_at_ms=self._clock.now_ms(),
        )
        claimed = await self._store.orders.claim_order(order)
        return order if claimed == order else None

    def _refuse_while_begun(self, order: Order) -> None:
        """Another process may be completing it just now, and would tell somebody of it."""
        age_ms = self._clock.now_ms() - order.created_at_ms
        if not self._alone_here and age_ms < FINISH_WITHIN_S * 1000:
            raise TransientError(
                f"order {order.merchant_order_id!r} is being created with other parameters: ask for"
                f" it again in {FINISH_WITHIN_S:.0f} s"
            )

    async def _complete(
        self, order: Order, agreed: _Agreement, wanted: NewOrder
    ) -> PlacedOrder | OrderRefusal:
        """Make the order's invoice, which does not exist unless another process is faster."""
        outcome = await self._invoicing.create_invoice(
            NewInvoice(
                user_id=order.user_id,
                asset=agreed.asset,
                amount_base=wanted.amount_base,
                ttl_ms=agreed.expiry_ms,
                confirmations=agreed.confirmations,
                account_id=agreed.account_id,
            ),
            invoice_id=order.invoice_id,
        )
        if isinstance(outcome, Invoice):
            if not _same(wanted, order, outcome):
                return OrderReused(wanted.merchant_order_id)
            return await self._placed(order, outcome)
        if isinstance(outcome, AssetDisabled):
            return outcome
        raise AssertionError(f"the invoice of order {order.id} was refused: {outcome}")

    async def _placed(self, order: Order, invoice: Invoice) -> PlacedOrder:
        brand = await self._store.brands.brand(order.user_id)
        health = self._invoicing.health(invoice.terms.chain)
        tip_height = health.tip.height if health and health.tip else None
        return PlacedOrder(order=order, invoice=invoice, tip_height=tip_height, brand=brand)

    @asynccontextmanager
    async def _alone(self, user_id: UUID, merchant_order_id: str) -> AsyncIterator[None]:
        """One request at a time for one order. Raises TransientError if it lasts too long."""
        place = (user_id, merchant_order_id)
        async with self._turns.turn(place, wait_s=WAIT_S, most=MAX_AT_WORK) as ours:
            if not ours:
                raise TransientError(
                    f"order {merchant_order_id!r} is still being created, or too many others are:"
                    " ask for it again in a moment"
                )
            yield


_OVER = frozenset({OrderStatus.EXPIRED, OrderStatus.CANCELED})
"""A merchant may use its number again after these."""


def _same(wanted: NewOrder, order: Order, invoice: Invoice) -> bool:
    terms = invoice.terms
    asked = (wanted.asset_name, wanted.amount_base)
    return asked == (terms.asset, terms.required_base) and wanted.described_by(order)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Agreement:
    """What the wallet has for an order's invoice."""

    asset: str
    account_id: int
    confirmations: int | None
    expiry_ms: int


def _agree(wallet: Wallet, asset: Asset) -> _Agreement | OrderRefusal:
    if wallet.archived_at_ms is not None:
        return NoSuchWallet(wallet.id)
    chosen = wallet.asset(asset.id)
    if chosen is None:
        return UnsupportedAsset(asset.id)
    account_id = wallet.accounts.get(asset.chain)
    if account_id is None:
        return NoKeyForAsset(wallet.id, asset.id)
    return _Agreement(
        asset=asset.id,
        account_id=account_id,
        confirmations=chosen.confirmations,
        expiry_ms=chosen.expiry_ms or DEFAULT_EXPIRY_MS.get(asset.chain, EXPIRY_MS),
    )
