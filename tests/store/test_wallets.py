"""Wallets and their accounts, on every store."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from actors.core.outcomes import KeyInUse, NoSuchUser
from actors.ports import PublicKey, Store
from actors.wallet_book import NoSuchWallet, Wallet, WalletAsset
from tests.store.conftest import Opener

ALICE, BOB = UUID(int=1), UUID(int=2**127 + 5)
ASSETS = (WalletAsset("LTC", 3, 60_000), WalletAsset("BTC"), WalletAsset("ETH", 0, 2**40))


def key(name: str, chain: str = "btc", secret: bytes | None = None) -> PublicKey:
    return PublicKey(chain, f"canonical {name}", "a test's key", secret)


async def add(store: Store, *keys: PublicKey, user_id: UUID = ALICE, **more) -> Wallet:
    given = {"name": "shop", "assets": (), "at_ms": 5, **more}
    wallet = await store.wallets.add_wallet(user_id, keys=keys, **given)
    assert isinstance(wallet, Wallet), wallet
    return wallet


async def accounts(store: Store, chain: str = "btc") -> list[str]:
    return [one.key for one in await store.accounts(chain, used=False)]


async def test_a_wallet_is_kept_as_it_was_given(open_again: Opener):
    async with open_again() as store:
        await store.add_user(ALICE, at_ms=1)
        wallet = await add(store, key("a"), key("a", "ltc"), name="Grüße 🛒", assets=ASSETS)
        assert wallet == Wallet(
            id=1,
            user_id=ALICE,
            name="Grüße 🛒",
            accounts={"btc": wallet.accounts["btc"], "ltc": wallet.accounts["ltc"]},
            assets=ASSETS,
            created_at_ms=5,
        )
        bare = await add(store)
        assert (bare.id, dict(bare.accounts), bare.assets) == (2, {}, ())
    async with open_again() as store:
        assert await store.wallets.wallet(1) == wallet
        assert await store.wallets.wallet(2) == bare
        assert await store.wallets.wallet(3) is None
        assert await store.wallets.wallet(-1) is None
        for chain in ("btc", "ltc"):
            account = await store.account_by_id(wallet.accounts[chain])
            assert account is not None
            assert (account.user_id, account.chain, account.key) == (ALICE, chain, "canonical a")
        assert await store.account_by_id(99) is None


async def test_wallets_are_listed_by_number_and_per_user(store: Store):
    for user_id in (ALICE, BOB):
        await store.add_user(user_id, at_ms=1)
    mine = [await add(store, key("a"), assets=ASSETS), await add(store, key("b", "ltc"))]
    theirs = await add(store, key("c"), user_id=BOB, assets=ASSETS[:1])
    more = await add(store, key("d"))
    assert await store.wallets.wallets() == (*mine, theirs, more)
    assert await store.wallets.wallets(ALICE) == (*mine, more)
    assert await store.wallets.wallets(BOB) == (theirs,)
    assert await store.wallets.wallets(UUID(int=3)) == ()


async def test_lists_come_in_pages_with_all_that_belongs_to_a_wallet(store: Store):
    for user_id in (ALICE, BOB):
        await store.add_user(user_id, at_ms=1)
    made = [
        await add(store, key(f"{n}"), user_id=(ALICE, BOB)[n % 2], assets=ASSETS) for n in range(5)
    ]
    book = store.wallets
    assert await book.wallets(limit=2) == tuple(made[:2])
    assert await book.wallets(after=2, limit=2) == tuple(made[2:4])
    assert await book.wallets(after=4, limit=2) == (made[4],)
    assert await book.wallets(ALICE, after=1, limit=1) == (made[2],)
    assert await book.wallets(after=5) == ()


async def test_a_wallets_key_is_not_the_users_current_one(store: Store):
    await store.add_user(ALICE, at_ms=1)
    await add(store, key("first"))
    assert await store.account(ALICE, "btc") is None
    await store.set_keys(ALICE, [key("current")], at_ms=2)
    wallet = await add(store, key("second"))
    current = await store.account(ALICE, "btc")
    assert current is not None
    assert current.key == "canonical current"
    assert wallet.accounts["btc"] != current.id
    assert await accounts(store) == ["canonical first", "canonical current", "canonical second"]


async def test_the_same_key_is_the_same_account_everywhere(store: Store):
    await store.add_user(ALICE, at_ms=1)
    await store.set_keys(ALICE, [key("a")], at_ms=2)
    current = await store.account(ALICE, "btc")
    assert current is not None
    assert await store.allocate_index(current.id) == (0, 1)
    first, second = await add(store, key("a")), await add(store, key("a"))
    assert first.accounts == second.accounts == {"btc": current.id}
    assert await store.allocate_index(current.id) == (0, 2)
    assert await store.account(ALICE, "btc") == current

    other = await add(store, key("b"))
    await store.allocate_index(other.accounts["btc"])
    assert await store.set_keys(ALICE, [key("b")], at_ms=3) is None
    current = await store.account(ALICE, "btc")
    assert current is not None
    assert current.id == other.accounts["btc"]
    assert await store.allocate_index(current.id) == (0, 2)
    assert len(await accounts(store)) == 2


async def test_accounts_of_wallets_are_watched_once_they_are_used(store: Store):
    await store.add_user(ALICE, at_ms=1)
    wallet = await add(store, key("m", "xmr", b"sealed"))
    assert await store.accounts("xmr", used=True) == ()
    await store.allocate_index(wallet.accounts["xmr"])
    (account,) = await store.accounts("xmr", used=True)
    assert (account.id, account.secret) == (wallet.accounts["xmr"], b"sealed")
    await add(store, key("m", "xmr", b"sealed anew"))
    await add(store, key("m", "xmr"))
    (account,) = await store.accounts("xmr", used=True)
    assert account.secret == b"sealed anew"


async def test_a_new_secret_reaches_the_current_account_too(store: Store):
    await store.add_user(ALICE, at_ms=1)
    await store.set_keys(ALICE, [key("m", "xmr", b"old")], at_ms=1)
    await add(store, key("m", "xmr", b"new"))
    account = await store.account(ALICE, "xmr")
    assert account is not None
    assert account.secret == b"new"


async def test_somebody_elses_key_is_refused_and_nothing_is_kept(store: Store):
    for user_id in (ALICE, BOB):
        await store.add_user(user_id, at_ms=1)
    await add(store, key("bob", "ltc"), user_id=BOB)
    wallets = store.wallets
    refused = await wallets.add_wallet(
        ALICE, name="x", keys=[key("new"), key("bob", "ltc")], assets=ASSETS, at_ms=2
    )
    assert refused == KeyInUse("ltc")
    assert await accounts(store) == []
    assert await wallets.wallets(ALICE) == ()
    mine = await add(store, key("alice"))
    refused = await wallets.change_wallet(
        replace(mine, name="changed"), [key("new"), key("bob", "ltc")], at_ms=3
    )
    assert refused == KeyInUse("ltc")
    assert await wallets.wallet(mine.id) == mine
    assert await accounts(store) == ["canonical alice"]


async def test_nobody_has_no_wallet(store: Store):
    refused = await store.wallets.add_wallet(ALICE, name="x", keys=[key("a")], assets=(), at_ms=2)
    assert refused == NoSuchUser(ALICE)
    assert await accounts(store) == []


async def test_a_wallet_is_changed_as_a_whole(open_again: Opener):
    async with open_again() as store:
        await store.add_user(ALICE, at_ms=1)
        old = await add(store, key("a"), key("a", "ltc"), key("a", "eth"), assets=ASSETS)
        other = await add(store, key("a"), assets=ASSETS)
        kept = {chain: old.accounts[chain] for chain in ("btc", "ltc")}
        wanted = replace(
            old,
            user_id=BOB,
            created_at_ms=77,
            name="new",
            accounts=kept,
            assets=(WalletAsset("BTC", 1), WalletAsset("LTC", None, 1)),
            archived_at_ms=9,
        )
        changed = await store.wallets.change_wallet(wanted, [key("b", "ltc")], at_ms=8)
        assert isinstance(changed, Wallet)
        assert changed == replace(
            wanted,
            user_id=ALICE,
            created_at_ms=5,
            accounts={**kept, "ltc": changed.accounts["ltc"]},
        )
        assert changed.accounts["ltc"] != old.accounts["ltc"]
    async with open_again() as store:
        assert await store.wallets.wallet(old.id) == changed
        assert await store.wallets.wallet(other.id) == other
        back = await store.wallets.change_wallet(
            replace(changed, archived_at_ms=None), [key("a", "ltc")], at_ms=10
        )
        assert isinstance(back, Wallet)
        assert back.accounts["ltc"] == old.accounts["ltc"]
        assert back.archived_at_ms is None
        assert await store.wallets.change_wallet(
            replace(changed, id=99), [key("z")], at_ms=11
        ) == NoSuchWallet(99)
        assert "canonical z" not in await accounts(store)
