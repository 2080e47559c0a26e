"""Wallets: what is accepted, what is refused, and what of it invoices get."""

from __future__ import annotations

from uuid import UUID

import pytest

from actors.core.invoice import Invoice, State
from actors.core.outcomes import KeyInUse, KeyRefused, NoKey, NoSuchUser, UnknownAsset
from actors.invoicing import NewInvoice
from actors.wallets import (
    MAX_EXPIRY_MS,
    MAX_NAME,
    MAX_WALLETS,
    NoSuchWallet,
    Wallet,
    WalletAsset,
    WalletRefused,
)
from daemon.store import MemoryStore
from tests.helpers.house import BTC_KEY, EVM_KEY, LTC_KEY, open_house

NOBODY = UUID(int=9)


@pytest.fixture
async def house(autojump_clock):
    async with open_house() as running:
        yield running


@pytest.fixture
async def user_id(house):
    user_id = await house.invoicing.register_user()
    assert isinstance(user_id, UUID)
    return user_id


async def add(house, user_id, *, name="shop", keys=(("btc", BTC_KEY),), assets=None):
    wallet = await house.wallets.add(user_id, name=name, keys=keys, assets=assets)
    assert isinstance(wallet, Wallet), wallet
    return wallet


def ids(wallet):
    return [one.asset for one in wallet.assets]


async def test_without_a_list_every_asset_of_the_keys_chains_may_be_asked_for(
    mock_clock, house, user_id
):
    wallet = await add(house, user_id, keys=[("btc", BTC_KEY), ("eth", EVM_KEY)])
    assert ids(wallet) == ["BTC", "ETH", "HOUSE_TOKEN"]
    assert set(wallet.accounts) == {"btc", "eth"}
    assert wallet.created_at_ms == house.clock.now_ms()
    assert wallet == await house.wallets.look(wallet.id)
    assert [one.chain for one in await house.wallets.accounts(wallet)] == ["btc", "eth"]


async def test_an_asset_may_come_before_its_key(house, user_id):
    assets = [WalletAsset("LTC", 0, MAX_EXPIRY_MS), WalletAsset("BTC", 2**32 - 1, 10_000)]
    wallet = await add(house, user_id, keys=(), assets=assets)
    assert wallet.assets == tuple(assets)
    changed = await house.wallets.change(wallet.id, keys=[("ltc", LTC_KEY)])
    assert isinstance(changed, Wallet)
    assert set(changed.accounts) == {"ltc"}
    assert changed.assets == tuple(assets)
    assert (await add(house, user_id, assets=[])).assets == ()


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"name": ""}, WalletRefused("name", f"must have 1 to {MAX_NAME} printable characters")),
        ({"name": "  "}, "name"),
        ({"name": "x" * (MAX_NAME + 1)}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"keys": [("btc", BTC_KEY), ("btc", BTC_KEY)]}, "keys"),
        ({"assets": [WalletAsset("NONE")]}, UnknownAsset("NONE")),
        ({"assets": [WalletAsset("BTC"), WalletAsset("BTC", 1)]}, "assets"),
        ({"assets": [WalletAsset("BTC", -1)]}, "confirmations"),
        ({"assets": [WalletAsset("BTC", 2**32)]}, "confirmations"),
        ({"assets": [WalletAsset("BTC", None, 9_999)]}, "expiry"),
        ({"assets": [WalletAsset("BTC", None, 0)]}, "expiry"),
        ({"assets": [WalletAsset("BTC", None, MAX_EXPIRY_MS + 1)]}, "expiry"),
        ({"keys": [("doge", BTC_KEY)]}, "chain"),
        ({"keys": [("btc", BTC_KEY), ("ltc", "nonsense")]}, "masterPubKey"),
    ],
)
async def test_what_cannot_be_is_refused_and_nothing_changes(house, user_id, given, refusal):
    wallet = await add(house, user_id, keys=[("ltc", LTC_KEY)])
    more = {"name": "x", "keys": [("btc", BTC_KEY)], **given}
    for outcome in (
        await house.wallets.add(user_id, **more),
        await house.wallets.change(wallet.id, **more),
    ):
        if isinstance(refusal, str):
            assert isinstance(outcome, WalletRefused | KeyRefused), outcome
            assert outcome.field == refusal
            assert outcome.reason
        else:
            assert outcome == refusal
    assert await house.wallets.find() == (wallet,)
    assert len(await house.store.accounts("btc", used=False)) == 0


async def test_nobody_and_nothing_are_told_so(house, user_id):
    assert await house.wallets.add(NOBODY, name="x", keys=()) == NoSuchUser(NOBODY)
    for wallet_id in (-(2**70), -1, 0, 1, 2**63 - 1, 2**63, 2**70):
        assert await house.wallets.look(wallet_id) == NoSuchWallet(wallet_id)
        assert await house.wallets.change(wallet_id, name="x") == NoSuchWallet(wallet_id)
        assert await house.wallets.archive(wallet_id) == NoSuchWallet(wallet_id)
    assert await house.wallets.find(user_id) == ()


async def test_one_merchant_has_so_many_wallets_at_most(house, user_id):
    for _ in range(MAX_WALLETS):
        await add(house, user_id)
    refused = await house.wallets.add(user_id, name="x", keys=())
    assert isinstance(refused, WalletRefused)
    assert refused.field == "wallets"
    other = await house.user(ltc=LTC_KEY)
    await add(house, other, keys=())


async def test_another_merchants_key_is_refused(house, user_id):
    other = await house.user()
    refused = await house.wallets.add(user_id, name="x", keys=[("btc", BTC_KEY)])
    assert refused == KeyInUse("btc")
    wallet = await add(house, user_id, keys=())
    assert await house.wallets.change(wallet.id, keys=[("ltc", LTC_KEY)]) == KeyInUse("ltc")
    assert await house.wallets.look(wallet.id) == wallet
    assert isinstance(await add(house, other, keys=[("btc", BTC_KEY)]), Wallet)


async def test_keys_are_put_in_taken_out_and_put_back(house, user_id):
    wallet = await add(house, user_id, keys=[("btc", BTC_KEY), ("ltc", LTC_KEY)])
    without = await house.wallets.change(wallet.id, name="new", without=["btc"])
    assert isinstance(without, Wallet)
    assert (without.name, set(without.accounts)) == ("new", {"ltc"})
    assert ids(without) == ids(wallet)
    for keys in ((), [("btc", BTC_KEY)]):
        outcome = await house.wallets.change(wallet.id, keys=keys, without=["btc"])
        assert isinstance(outcome, WalletRefused)
    both = await house.wallets.change(wallet.id, keys=[("ltc", LTC_KEY)], without=["ltc"])
    assert isinstance(both, WalletRefused)
    back = await house.wallets.change(wallet.id, keys=[("btc", BTC_KEY)])
    assert isinstance(back, Wallet)
    assert back.accounts == wallet.accounts


async def test_a_wallet_is_archived_and_brought_back(mock_clock, house, user_id):
    wallet = await add(house, user_id)
    house.clock.jump(5)
    archived = await house.wallets.archive(wallet.id)
    assert isinstance(archived, Wallet)
    assert archived.archived_at_ms == house.clock.now_ms()
    house.clock.jump(5)
    assert await house.wallets.archive(wallet.id) == archived
    assert await house.wallets.find(user_id) == (archived,)
    assert await house.wallets.archive(wallet.id, archived=False) == wallet
    assert await house.wallets.archive(wallet.id, archived=False) == wallet


# --- invoices on a wallet's account ---------------------------------------------------------------


async def invoice(house, user_id, account_id, asset="BTC"):
    wanted = NewInvoice(user_id, asset, 1000, 60_000, 1, account_id=account_id)
    return await house.invoicing.create_invoice(wanted)


async def test_an_invoice_gets_its_address_from_the_account_it_names(house):
    user_id = await house.user(btc=EVM_KEY)
    wallet = await add(house, user_id, keys=[("btc", BTC_KEY)])
    current = await house.invoice(user_id)
    named = [await invoice(house, user_id, wallet.accounts["btc"]) for _ in range(2)]
    assert all(isinstance(one, Invoice) for one in named)
    assert [one.terms.path for one in (current, *named)] == [(0, 1), (0, 1), (0, 2)]
    assert {one.terms.account_id for one in named} == {wallet.accounts["btc"]}
    assert current.terms.account_id != wallet.accounts["btc"]
    assert len({one.terms.address for one in (current, *named)}) == 3
    assert (await house.paid(named[0])).state is State.SEEN
    assert (await house.mined(named[0])).state is State.SETTLED


async def test_an_account_of_another_user_or_chain_is_no_key(house, user_id):
    other = await house.user()
    theirs = await house.store.account(other, "btc")
    mine = await add(house, user_id, keys=[("eth", EVM_KEY)])
    for account_id in (theirs.id, mine.accounts["eth"], 99):
        assert await invoice(house, user_id, account_id) == NoKey(user_id, "btc")
    assert await invoice(house, NOBODY, theirs.id) == NoSuchUser(NOBODY)


async def test_what_was_given_out_is_watched_after_the_keys_have_changed(autojump_clock):
    store = MemoryStore()

    def again(on_commit):
        store._on_commit = on_commit
        return store

    async with open_house(make_store=again) as house:
        user_id = await house.invoicing.register_user()
        wallet = await add(house, user_id)
        waiting = await invoice(house, user_id, wallet.accounts["btc"])
        changed = await house.wallets.change(wallet.id, keys=[("btc", EVM_KEY)])
        assert isinstance(changed, Wallet)
        assert (await house.paid(waiting)).state is State.SEEN
        later = await invoice(house, user_id, wallet.accounts["btc"])
        assert await house.wallets.change(wallet.id, without=["btc"])
        fake = house.btc
    async with open_house(make_store=again, chains=("btc",)) as house:
        assert house.btc is not fake
        assert (await house.paid(later)).state is State.SEEN
