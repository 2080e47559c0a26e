"""Users, keys and indices: the contract, on every store."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
import trio

from actors.core.outcomes import KeyInUse, NoSuchUser, UserExists
from actors.ports import PublicKey, Store
from daemon.store.directory import next_index
from daemon.store.errors import UnknownAccountError
from tests.store.conftest import Opener

ALICE, BOB = UUID(int=1), UUID(int=2**127 + 5)


def key(name: str, chain: str = "btc") -> PublicKey:
    return PublicKey(chain, f"canonical {name}", "a test's key")


async def current_key(store: Store, user_id: UUID, chain: str = "btc") -> str | None:
    account = await store.account(user_id, chain)
    return account.key if account else None


async def test_a_user_is_added_once(store: Store) -> None:
    assert not await store.has_user(ALICE)
    assert await store.add_user(ALICE, at_ms=1) is None
    assert await store.add_user(ALICE, at_ms=2) == UserExists(ALICE)
    assert await store.has_user(ALICE)
    assert not await store.has_user(BOB)


async def test_one_of_many_who_add_the_same_user_wins(store: Store) -> None:
    answers = []

    async def add() -> None:
        answers.append(await store.add_user(ALICE, at_ms=1))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(add)
    assert answers.count(None) == 1
    assert answers.count(UserExists(ALICE)) == 19


async def test_keys_need_a_user(store: Store) -> None:
    assert await store.set_keys(ALICE, [key("a")], at_ms=1) == NoSuchUser(ALICE)
    assert await store.account(ALICE, "btc") is None
    await store.add_user(ALICE, at_ms=1)
    assert await store.set_keys(ALICE, [], at_ms=1) is None
    assert await store.account(ALICE, "btc") is None


async def test_indices_start_at_0_1_and_go_on_when_the_same_key_comes_again(store: Store) -> None:
    await store.add_user(ALICE, at_ms=1)
    await store.set_keys(ALICE, [key("a"), key("a", "ltc")], at_ms=1)
    account = await store.account(ALICE, "btc")
    assert account is not None
    assert (account.user_id, account.chain, account.key) == (ALICE, "btc", "canonical a")
    assert [await store.allocate_index(account.id) for _ in range(3)] == [(0, 1), (0, 2), (0, 3)]
    assert await store.set_keys(ALICE, [key("a")], at_ms=2) is None
    assert await store.account(ALICE, "btc") == account
    assert await store.allocate_index(account.id) == (0, 4)
    other = await store.account(ALICE, "ltc")
    assert other is not None
    assert await store.allocate_index(other.id) == (0, 1)


async def test_a_new_key_starts_its_own_sequence_and_the_old_one_keeps_its_place(
    store: Store,
) -> None:
    await store.add_user(ALICE, at_ms=1)
    await store.set_keys(ALICE, [key("old")], at_ms=1)
    old = await store.account(ALICE, "btc")
    assert old is not None
    await store.allocate_index(old.id)
    await store.set_keys(ALICE, [key("new")], at_ms=2)
    new = await store.account(ALICE, "btc")
    assert new is not None
    assert new.id != old.id
    assert await store.allocate_index(new.id) == (0, 1)
    await store.set_keys(ALICE, [key("old")], at_ms=3)
    assert await store.account(ALICE, "btc") == old
    assert await store.allocate_index(old.id) == (0, 2)


async def test_a_key_belongs_to_one_user_for_ever(store: Store) -> None:
    await store.add_user(ALICE, at_ms=1)
    await store.add_user(BOB, at_ms=1)
    await store.set_keys(ALICE, [key("a")], at_ms=1)
    await store.set_keys(ALICE, [key("b")], at_ms=1)
    assert await store.set_keys(BOB, [key("a")], at_ms=2) == KeyInUse("btc")
    assert await store.set_keys(BOB, [key("c"), key("b")], at_ms=2) == KeyInUse("btc")
    assert await current_key(store, BOB) is None, "all or nothing"
    assert await store.set_keys(BOB, [key("a", "ltc")], at_ms=2) is None
    assert await current_key(store, BOB, "ltc") == "canonical a"


async def test_secrets_are_kept_with_the_key_and_renewed_when_it_comes_again(store: Store) -> None:
    await store.add_user(ALICE, at_ms=1)
    await store.set_keys(ALICE, [replace(key("a", "xmr"), secret=b"\0sealed")], at_ms=1)
    account = await store.account(ALICE, "xmr")
    assert account is not None
    assert account.secret == b"\0sealed"
    assert "sealed" not in repr(account)
    await store.set_keys(ALICE, [key("a", "xmr")], at_ms=2)
    assert await store.account(ALICE, "xmr") == account, "what comes without takes nothing away"
    await store.set_keys(ALICE, [replace(key("a", "xmr"), secret=b"again")], at_ms=3)
    assert await store.account(ALICE, "xmr") == replace(account, secret=b"again")
    await store.set_keys(ALICE, [key("a")], at_ms=1)
    plain = await store.account(ALICE, "btc")
    assert plain is not None
    assert plain.secret is None


async def test_accounts_of_a_chain_all_or_those_with_addresses(store: Store) -> None:
    await store.add_user(ALICE, at_ms=1)
    await store.add_user(BOB, at_ms=1)
    assert await store.accounts("btc", used=False) == ()
    for name in ("old", "new", "newest"):
        await store.set_keys(ALICE, [key(name)], at_ms=1)
    await store.set_keys(BOB, [key("b"), key("b", "ltc")], at_ms=1)
    found = await store.accounts("btc", used=False)
    assert [(one.user_id, one.key) for one in found] == [
        (ALICE, "canonical old"),
        (ALICE, "canonical new"),
        (ALICE, "canonical newest"),
        (BOB, "canonical b"),
    ]
    assert await store.accounts("btc", used=True) == ()
    for account in (found[3], found[0]):
        await store.allocate_index(account.id)
    assert await store.accounts("btc", used=True) == (found[0], found[3])


async def test_no_index_is_given_twice_also_over_restarts(open_again: Opener) -> None:
    given: list[tuple[int, int]] = []
    for _ in range(2):
        async with open_again() as store:
            await store.add_user(ALICE, at_ms=1)
            await store.set_keys(ALICE, [key("a")], at_ms=1)
            account = await store.account(ALICE, "btc")
            assert account is not None

            async def allocate(store: Store, account_id: int) -> None:
                given.append(await store.allocate_index(account_id))

            async with trio.open_nursery() as nursery:
                for _ in range(150):
                    nursery.start_soon(allocate, store, account.id)
    assert sorted(given) == [(0, minor) for minor in range(1, 301)]


async def test_an_unknown_account_is_a_bug_of_its_caller_alone(store: Store) -> None:
    await store.add_user(ALICE, at_ms=1)
    await store.set_keys(ALICE, [key("a")], at_ms=1)
    account = await store.account(ALICE, "btc")
    assert account is not None
    failed = []

    async def allocate(account_id: int) -> None:
        try:
            await store.allocate_index(account_id)
        except UnknownAccountError:
            failed.append(account_id)

    async with trio.open_nursery() as nursery:
        for account_id in (account.id, 999, account.id, 998, account.id):
            nursery.start_soon(allocate, account_id)
    assert sorted(failed) == [998, 999]
    assert await store.allocate_index(account.id) == (0, 4)


@pytest.mark.parametrize(
    ("index", "following"),
    [
        ((0, 1), (0, 2)),
        ((0, 2**31 - 2), (0, 2**31 - 1)),
        ((0, 2**31 - 1), (1, 0)),
        ((1, 0), (1, 1)),
    ],
)
def test_after_the_last_minor_index_comes_the_next_major(
    index: tuple[int, int], following: tuple[int, int]
) -> None:
    assert next_index(index) == following
