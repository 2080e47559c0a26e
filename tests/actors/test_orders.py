"""Orders: made once, whoever asks again; found by everybody; refused in the document's order."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
import trio
import trio.testing

from actors.access import Caller
from actors.access_book import Scope
from actors.brand_book import Brand
from actors.core.outcomes import AssetDisabled, NotCancellable
from actors.core.policy import Band, Policy
from actors.orders import (
    MAX_AT_WORK,
    MAX_ORDER_ID,
    MAX_TRIES,
    WAIT_S,
    InvalidField,
    NewOrder,
    NoKeyForAsset,
    NoSuchOrder,
    OrderReused,
    Orders,
    OrderStatus,
    PlacedOrder,
    UnsupportedAsset,
)
from actors.ports import PersistentError, TransientError
from actors.wallets import NoSuchWallet, Wallet, WalletAsset
from daemon.store import MemoryStore, open_store
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.goipay_calls import XMR_SPEND, XMR_VIEW
from tests.helpers.house import BTC_KEY, EVM_KEY, LTC_KEY, House, open_house

ALL = Caller(actor="a", address="b", scopes=frozenset({Scope.WRITE}))
VALUE = 1_500_000
MINUTE_MS = 60_000
WANTED = NewOrder(
    merchant_order_id="1001", asset_name="BTC", target_value=str(VALUE), pg_wallet_id=1
)


@pytest.fixture
async def house(autojump_clock):
    async with open_house(make_store=FaultyStore) as running:
        yield running


@pytest.fixture
async def wallet(house):
    return await add_wallet(house, [("btc", BTC_KEY), ("ltc", LTC_KEY)])


async def add_wallet(house: House, keys, *assets: WalletAsset) -> Wallet:
    user_id = await house.invoicing.register_user()
    assert isinstance(user_id, UUID)
    wallet = await house.wallets.add(user_id, name="shop", keys=keys, assets=assets or None)
    assert isinstance(wallet, Wallet), wallet
    return wallet


async def create(house: House, *, caller: Caller = ALL, **fields) -> PlacedOrder:
    placed = await house.orders.create(replace(WANTED, **fields), caller=caller)
    assert isinstance(placed, PlacedOrder), placed
    return placed


async def refused(house: House, *, caller: Caller = ALL, **fields):
    outcome = await house.orders.create(replace(WANTED, **fields), caller=caller)
    assert not isinstance(outcome, PlacedOrder)
    return outcome


async def find(house: House, placed: PlacedOrder) -> PlacedOrder:
    found = await house.orders.find(placed.order.id)
    assert isinstance(found, PlacedOrder)
    return found


async def invoices(house: House) -> int:
    """How many were ever made."""
    kinds = [one.event.kind for one in await house.store.read(after_seq=0, limit=10_000)]
    return kinds.count("invoice.created")


async def expire(house: House, placed: PlacedOrder) -> None:
    house.clock.jump((placed.invoice.terms.expires_at_ms - house.clock.now_ms()) / 1000 + 1)
    house.btc.mine()
    await house.told()


# --- what an order is -----------------------------------------------------------------------------


async def test_an_order_is_an_invoice_of_the_wallets_account(house, wallet):
    placed = await create(house, callback_url="https://a/b", description="<i>x</i>")
    order, terms = placed.order, placed.invoice.terms
    assert 1 <= order.id <= MAX_ORDER_ID
    assert (order.user_id, order.wallet_id, order.attempt) == (wallet.user_id, wallet.id, 1)
    assert (order.callback_url, order.description) == ("https://a/b", "<i>x</i>")
    assert terms.invoice_id == order.invoice_id
    assert (terms.asset, terms.required_base) == ("BTC", VALUE)
    assert terms.account_id == wallet.accounts["btc"]
    assert placed.status is OrderStatus.PENDING
    assert (placed.confirmations, placed.tip_height) == (0, house.btc.height)
    assert await find(house, placed) == placed
    assert await house.orders.of_invoice(order.invoice_id) == order
    other = await house.invoice(await house.user(ltc=EVM_KEY), asset="LTC")
    assert await house.orders.of_invoice(other.terms.invoice_id) is None
    assert (await create(house, merchant_order_id="2")).invoice.terms.path == (0, 2)


async def test_the_way_of_an_order(house, wallet):
    placed = await create(house)
    await house.paid(placed.invoice, VALUE - 1)
    assert (await find(house, placed)).status is OrderStatus.PENDING
    await house.paid(placed.invoice, 1)
    now = await find(house, placed)
    assert (now.status, now.confirmations) == (OrderStatus.CONFIRMING, 0)
    await house.mined(placed.invoice)
    now = await find(house, placed)
    assert (now.status, now.confirmations) == (OrderStatus.CONFIRMING, 1)
    await house.mined(placed.invoice)
    now = await find(house, placed)
    assert (now.status, now.confirmations) == (OrderStatus.SUCCESSFUL, 2)
    assert now.order == placed.order


async def test_an_amount_beyond_64_bits(house, wallet):
    placed = await create(house, target_value="9" * 78)
    assert placed.invoice.terms.required_base == 10**78 - 1
    assert await create(house, target_value="9" * 78) == placed


async def test_the_page_has_the_orders_own_name_or_the_brands(house, wallet):
    assert (await create(house)).merchant_name == ""
    brand = Brand(user_id=wallet.user_id, name="Brand", colour="#00aaff")
    await house.store.brands.set_brand(brand, at_ms=1)
    placed = await create(house)
    assert (placed.brand, placed.merchant_name) == (brand, "Brand")
    named = await create(house, merchant_order_id="2", merchant_name="Own")
    assert named.merchant_name == "Own"


@pytest.mark.parametrize("order_id", [0, -1, 1, 2**53 - 1, 2**53, 2**63, 2**200, -(2**70)])
async def test_an_unknown_order(house, wallet, order_id):
    assert await house.orders.find(order_id) == NoSuchOrder(order_id)
    assert await house.orders.cancel(order_id) == NoSuchOrder(order_id)


async def test_ids_are_random_and_fit_into_53_bits(house, wallet):
    made = [(await create(house, merchant_order_id=str(n))).order.id for n in range(40)]
    assert len(set(made)) == 40
    assert max(made) <= MAX_ORDER_ID
    assert max(made) > 2**48, "40 numbers below 2**48 by chance: once in 2**200"


# --- terms ----------------------------------------------------------------------------------------


async def test_the_defaults_are_the_documents(autojump_clock):
    keys = [("btc", BTC_KEY), ("ltc", LTC_KEY), ("xmr", f"{XMR_VIEW}:{XMR_SPEND}")]
    async with open_house(chains=("btc", "ltc", "xmr", "eth", "bnb")) as house:
        await add_wallet(house, [*keys, ("eth", EVM_KEY), ("bnb", EVM_KEY)])
        found = {}
        for asset in ("BTC", "LTC", "ETH", "BNB", "XMR"):
            placed = await create(house, merchant_order_id=asset, asset_name=asset)
            terms = placed.invoice.terms
            minutes = (terms.expires_at_ms - terms.created_at_ms) // MINUTE_MS
            found[asset] = (placed.invoice.confirmations, minutes)
    assert found == {
        "BTC": (2, 15),
        "LTC": (6, 15),
        "ETH": (12, 15),
        "BNB": (15, 15),
        "XMR": (10, 30),
    }


async def test_what_the_wallet_says_of_the_asset_counts(house):
    await add_wallet(house, [("btc", BTC_KEY)], WalletAsset("BTC", 0, 3 * MINUTE_MS))
    placed = await create(house)
    terms = placed.invoice.terms
    assert placed.invoice.confirmations == 0
    assert terms.expires_at_ms - terms.created_at_ms == 3 * MINUTE_MS
    await house.paid(placed.invoice)
    assert (await find(house, placed)).status is OrderStatus.SUCCESSFUL


@pytest.mark.parametrize(("of_wallet", "expected"), [(4, 4), (None, 7)])
async def test_the_wallets_number_counts_before_the_users_bands(house, of_wallet, expected):
    wallet = await add_wallet(house, [("btc", BTC_KEY)], WalletAsset("BTC", of_wallet))
    policy = Policy(bands=(Band(0, 7),), tolerance_base=VALUE // 2)
    assert await house.invoicing.set_policy(wallet.user_id, "BTC", policy) is None
    placed = await create(house)
    assert placed.invoice.confirmations == expected
    await house.paid(placed.invoice, VALUE - VALUE // 2)
    assert (await find(house, placed)).status is OrderStatus.CONFIRMING, "the tolerance counts"


# --- refusals, in the document's order ------------------------------------------------------------


async def test_the_refusals_come_in_the_documents_order(house, wallet):
    """Everything is wrong at first, and is mended from the top of the document's table."""
    stranger = Caller(
        actor="a", address="b", scopes=ALL.scopes, user_id=await house.user(ltc=EVM_KEY)
    )
    await create(house)
    more = await house.wallets.add(
        wallet.user_id, name="x", keys=(), assets=[WalletAsset("BTC"), WalletAsset("ETH")]
    )
    assert isinstance(more, Wallet)
    wrong = {"target_value": "0", "asset_name": "NONE", "pg_wallet_id": 77}
    assert await refused(house, caller=stranger, **wrong) == InvalidField("target_value")
    wrong["target_value"] = "5"
    assert await refused(house, caller=stranger, **wrong) == UnsupportedAsset("NONE")
    wrong["asset_name"] = "LTC"
    assert await refused(house, caller=stranger, **wrong) == NoSuchWallet(77)
    wrong["pg_wallet_id"] = more.id
    assert await refused(house, caller=stranger, **wrong) == NoSuchWallet(more.id)
    assert await refused(house, **wrong) == UnsupportedAsset("LTC")
    wrong["asset_name"] = "ETH"
    assert await refused(house, **wrong) == NoKeyForAsset(more.id, "ETH")
    assert isinstance(await house.wallets.change(more.id, keys=[("eth", EVM_KEY)]), Wallet)
    assert await refused(house, **wrong) == OrderReused("1001")
    wrong["merchant_order_id"] = "new"
    assert isinstance(await refused(house, **wrong), AssetDisabled)
    assert await house.store.orders.newest_order(wallet.user_id, "new") is None, "no row is left"
    wrong["asset_name"] = "BTC"
    assert isinstance(await refused(house, **wrong), NoKeyForAsset)


async def test_another_merchants_wallet_is_as_if_it_were_not_there(house, wallet):
    mine = Caller(actor="a", address="b", scopes=ALL.scopes, user_id=wallet.user_id)
    other = Caller(actor="a", address="b", scopes=ALL.scopes, user_id=UUID(int=3))
    placed = await create(house, caller=mine)
    assert await refused(house, caller=other) == NoSuchWallet(1)
    assert await refused(house, caller=other, pg_wallet_id=2) == NoSuchWallet(2)
    assert await create(house) == placed, "a key for all merchants acts for the wallet's"


async def test_an_archived_wallet_takes_no_new_orders(house, wallet):
    placed = await create(house)
    assert isinstance(await house.wallets.archive(wallet.id), Wallet)
    assert await create(house) == placed
    assert await refused(house, merchant_order_id="2") == NoSuchWallet(wallet.id)
    assert await refused(house, target_value="9") == NoSuchWallet(wallet.id)
    await house.wallets.archive(wallet.id, archived=False)
    await create(house, merchant_order_id="2")


async def test_an_order_that_stands_is_given_back_whatever_became_of_the_wallet(house, wallet):
    placed = await create(house)
    assert await house.wallets.change(wallet.id, without=["btc"], assets=[])
    assert await create(house) == placed
    assert await refused(house, merchant_order_id="2") == UnsupportedAsset("BTC")


# --- once, whoever asks again ---------------------------------------------------------------------


async def test_the_same_order_is_given_back_as_it_is_now(house, wallet):
    placed = await create(house)
    assert await create(house) == placed
    await house.paid(placed.invoice)
    again = await create(house)
    assert (again.order, again.status) == (placed.order, OrderStatus.CONFIRMING)
    await house.mined(placed.invoice, 2)
    house.clock.jump(7 * 86_400)
    again = await create(house)
    assert (again.order, again.status) == (placed.order, OrderStatus.SUCCESSFUL)
    assert await invoices(house) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"asset_name": "LTC"},
        {"target_value": "1500001"},
        {"callback_url": "https://a"},
        {"description": "other"},
        {"merchant_name": "other"},
        {"pg_wallet_id": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("paid", [False, True])
async def test_other_parameters_are_refused_while_the_order_stands(house, wallet, changes, paid):
    keys = [("btc", BTC_KEY)]
    assert await house.wallets.add(wallet.user_id, name="second", keys=keys)
    placed = await create(house)
    if paid:
        await house.paid(placed.invoice)
        await house.mined(placed.invoice, 2)
    assert await refused(house, **changes) == OrderReused("1001")
    assert (await create(house)).order == placed.order
    assert await invoices(house) == 1


@pytest.mark.parametrize("changes", [{}, {"target_value": "7", "description": "new"}])
@pytest.mark.parametrize("ended", ["expired", "cancelled"])
async def test_the_number_may_be_used_again_after_the_end(house, wallet, changes, ended):
    first = await create(house)
    if ended == "expired":
        await expire(house, first)
    else:
        assert isinstance(await house.orders.cancel(first.order.id), PlacedOrder)
    second = await create(house, **changes)
    assert second.status is OrderStatus.PENDING
    assert second.order.attempt == 2
    assert second.order.id != first.order.id
    assert second.invoice.terms.address != first.invoice.terms.address
    assert await create(house, **changes) == second
    assert (await find(house, first)).status.final
    # Money for the first one is that order's, and late.
    await house.paid(first.invoice)
    assert (await find(house, first)).invoice.received_base == VALUE
    assert (await find(house, second)).status is OrderStatus.PENDING


async def test_merchants_have_numbers_of_their_own(house, wallet):
    other = await add_wallet(house, [("btc", EVM_KEY)])
    mine, theirs = await create(house), await create(house, pg_wallet_id=other.id, target_value="9")
    assert mine.order.id != theirs.order.id
    assert (mine.order.attempt, theirs.order.attempt) == (1, 1)


async def test_duplicates_at_the_same_time_are_one_order(house, wallet):
    found = []

    async def one():
        found.append(await create(house))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert len(found) == 20
    assert all(one == found[0] for one in found)
    assert await invoices(house) == 1


async def test_a_caller_that_leaves_does_not_stop_what_began(house, wallet):
    gate, claim = trio.Event(), house.store.orders.claim_order

    async def slow(order):
        await gate.wait()
        return await claim(order)

    house.store.orders.claim_order = slow
    async with trio.open_nursery() as nursery:
        nursery.start_soon(create, house)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        gate.set()
    assert await invoices(house) == 1
    await create(house)
    assert await invoices(house) == 1


async def test_a_row_that_came_meanwhile_is_the_first(house, wallet):
    """What was given up after its time may still reach the store."""
    placed, newest = await create(house), house.store.orders.newest_order

    async def early(_user_id, _merchant_order_id):
        house.store.orders.newest_order = newest

    house.store.orders.newest_order = early
    assert await create(house) == placed
    house.store.orders.newest_order = early
    assert await refused(house, description="other") == OrderReused("1001")
    assert await invoices(house) == 1


async def test_who_waits_too_long_is_told_so(house, wallet, autojump_clock):
    house.store.gate = trio.Event()
    waited_s = []

    async def second():
        start_s = trio.current_time()
        with pytest.raises(TransientError, match="still being created"):
            await create(house)
        waited_s.append(trio.current_time() - start_s)
        house.store.gate.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create, house)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(second)
    assert waited_s == [pytest.approx(WAIT_S)]


async def test_a_store_that_never_answers_holds_nobody_for_ever(house, wallet, autojump_clock):
    house.store.gate = trio.Event()
    with pytest.raises(TransientError, match="took longer than 30 s"):
        await create(house)
    house.store.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    await create(house)
    assert await invoices(house) == 1


async def test_so_many_orders_at_the_same_time(house, wallet):
    house.store.gate = trio.Event()
    done, failed = [], []

    async def one(number):
        try:
            done.append(await create(house, merchant_order_id=str(number)))
        except TransientError as error:
            failed.append(str(error))
            house.store.gate.set()

    async with trio.open_nursery() as nursery:
        for number in range(MAX_AT_WORK + 1):
            nursery.start_soon(one, number)
    assert (len(done), len(failed)) == (MAX_AT_WORK, 1)
    assert "too many others" in failed[0]


# --- what breaks off ------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for the daemon's end at this point."""


def kill(book, method: str, *, after: bool):
    """Have the next call of `method` end the daemon, before its work is done or after it."""
    real = getattr(book, method)

    async def killed(*args, **named):
        setattr(book, method, real)
        if after:
            await real(*args, **named)
        raise KilledError

    setattr(book, method, killed)


POINTS = [
    ("orders", "newest_order"),
    ("orders", "claim_order"),
    ("policies", "policy"),
    ("", "account_by_id"),
    ("", "allocate_index"),
    ("", "append"),
    ("brands", "brand"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("book", "method"), POINTS, ids=[point[1] for point in POINTS])
async def test_what_broke_off_is_completed_and_never_made_twice(
    autojump_clock, book, method, after
):
    store = MemoryStore()

    def again(on_commit):
        store._on_commit = on_commit
        return store

    async with open_house(make_store=again) as house:
        wallet = await add_wallet(house, [("btc", BTC_KEY)])
        kill(getattr(store, book) if book else store, method, after=after)
        with pytest.raises(KilledError):
            await create(house)
        claimed = await store.orders.newest_order(wallet.user_id, "1001")
        made = await invoices(house)
        if claimed is not None:
            found = await house.orders.find(claimed.id)
            assert isinstance(found, PlacedOrder if made else NoSuchOrder)
    async with open_house(make_store=again) as house:
        placed = await create(house)
        assert placed.order.attempt == 1
        assert claimed in (None, placed.order)
        assert await invoices(house) == 1
        assert await create(house) == placed
        await house.paid(placed.invoice)
        assert (await find(house, placed)).status is OrderStatus.CONFIRMING


async def test_what_broke_off_and_comes_with_other_parameters_is_another_order(house, wallet):
    house.store.fail("append", TransientError("locked"))
    with pytest.raises(TransientError):
        await create(house, description="first")
    begun = await house.store.orders.newest_order(wallet.user_id, "1001")
    assert begun is not None
    placed = await create(house, description="second")
    assert (placed.order.attempt, placed.order.description) == (2, "second")
    assert await house.orders.find(begun.id) == NoSuchOrder(begun.id)
    assert await refused(house, description="first") == OrderReused("1001")
    assert await invoices(house) == 1


async def test_another_amount_completes_what_broke_off(house, wallet):
    house.store.fail("append", TransientError("locked"))
    with pytest.raises(TransientError):
        await create(house)
    begun = await house.store.orders.newest_order(wallet.user_id, "1001")
    placed = await create(house, target_value="7")
    assert (placed.order, placed.invoice.terms.required_base) == (begun, 7)
    assert await refused(house) == OrderReused("1001")


async def test_a_store_that_cannot_be_used_is_said_so(house, wallet):
    house.store.fail("append", PersistentError("full"))
    with pytest.raises(PersistentError, match="full"):
        await create(house)
    await create(house)


async def test_a_number_that_is_taken_is_drawn_again(house, wallet):
    taken = (await create(house)).order.id
    numbers = iter([taken, taken, 7])
    house.orders._new_order_id = lambda: next(numbers)
    assert (await create(house, merchant_order_id="2")).order.id == 7
    house.orders._new_order_id = lambda: taken
    with pytest.raises(TransientError, match=f"in {MAX_TRIES} attempts"):
        await create(house, merchant_order_id="3")
    assert await invoices(house) == 2


async def test_a_restart_on_a_real_database_changes_nothing(tmp_path):
    """As far as a test without a mock clock can go: worker threads do the writing."""
    url = f"sqlite:///{tmp_path / 'tally.db'}"
    made: list[PlacedOrder] = []
    for _ in range(2):
        async with (
            open_store(url, on_commit=lambda _: None) as store,
            open_house(make_store=lambda _listener, store=store: store) as house,
        ):
            if not made:
                await add_wallet(house, [("btc", BTC_KEY)])
            made.append(await create(house))
    assert made[0].order == made[1].order
    assert made[0].invoice == made[1].invoice


# --- cancelling -----------------------------------------------------------------------------------


async def test_an_order_without_money_is_cancelled(house, wallet):
    placed = await create(house)
    for _ in range(2):
        cancelled = await house.orders.cancel(placed.order.id)
        assert isinstance(cancelled, PlacedOrder)
        assert (cancelled.order, cancelled.status) == (placed.order, OrderStatus.CANCELED)
    assert (await find(house, placed)).status is OrderStatus.CANCELED


async def test_an_order_with_money_is_not_cancelled(house, wallet):
    placed = await create(house)
    await house.paid(placed.invoice, 1)
    refusal = await house.orders.cancel(placed.order.id)
    assert refusal == NotCancellable(placed.order.invoice_id, "pending")


async def test_the_chain_may_be_away_for_good(house, wallet):
    placed = await create(house)
    orders = Orders(house.invoicing, store=house.store, clock=house.clock)
    del house.invoicing.chains["btc"]
    assert isinstance(await orders.cancel(placed.order.id), AssetDisabled)
    found = await orders.find(placed.order.id)
    assert isinstance(found, PlacedOrder)
    assert found.tip_height is None
