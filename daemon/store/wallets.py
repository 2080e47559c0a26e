"""`actors.wallet_book.WalletBook` on SQLite and PostgreSQL, and in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Protocol, TypeVar
from uuid import UUID

import trio
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from actors.core.outcomes import KeyInUse, NoSuchUser
from actors.ports import PublicKey
from actors.wallet_book import NoSuchWallet, Wallet, WalletAsset
from daemon.store.directory import has_user, keep_keys
from daemon.store.schema import wallet_accounts, wallet_assets, wallets

T = TypeVar("T")

KeepKeys = Callable[[UUID, Sequence[PublicKey]], Mapping[str, int] | KeyInUse]
"""Makes the keys the user's, current or not, all or nothing: chain id → account id."""


class _Run(Protocol):
    def __call__(self, run: Callable[[Connection], T], /) -> Awaitable[T]: ...


class SqlWallets:
    """The part of a store that keeps wallets."""

    def __init__(self, *, write: _Run, read: _Run) -> None:
        self._write = write
        self._read = read

    async def add_wallet(
        self,
        user_id: UUID,
        *,
        name: str,
        keys: Sequence[PublicKey],
        assets: Sequence[WalletAsset],
        at_ms: int,
    ) -> Wallet | NoSuchUser | KeyInUse:
        wanted = Wallet(
            id=0,
            user_id=user_id,
            name=name,
            accounts={},
            assets=tuple(assets),
            created_at_ms=at_ms,
        )
        return await self._write(partial(_add, wanted=wanted, keys=tuple(keys)))

    async def wallet(self, wallet_id: int) -> Wallet | None:
        found = await self._read(partial(_wallets, which=wallets.c.id == wallet_id))
        return found[0] if found else None

    async def wallets(
        self, user_id: UUID | None = None, *, after: int = 0, limit: int | None = None
    ) -> tuple[Wallet, ...]:
        which = wallets.c.id > after
        if user_id is not None:
            which &= wallets.c.user_id == user_id
        if limit is not None:
            which = wallets.c.id.in_(
                select(wallets.c.id).where(which).order_by(wallets.c.id).limit(limit)
            )
        return await self._read(partial(_wallets, which=which))

    async def change_wallet(
        self, wallet: Wallet, keys: Sequence[PublicKey], *, at_ms: int
    ) -> Wallet | NoSuchWallet | KeyInUse:
        return await self._write(partial(_change, wallet=wallet, keys=tuple(keys), at_ms=at_ms))


class MemoryWallets:
    """The same in memory; `users` are those that exist."""

    def __init__(self, users: Container[UUID], keep: KeepKeys) -> None:
        self._users = users
        self._keep = keep
        self._wallets: dict[int, Wallet] = {}

    async def add_wallet(
        self,
        user_id: UUID,
        *,
        name: str,
        keys: Sequence[PublicKey],
        assets: Sequence[WalletAsset],
        at_ms: int,
    ) -> Wallet | NoSuchUser | KeyInUse:
        await trio.lowlevel.checkpoint()
        if user_id not in self._users:
            return NoSuchUser(user_id)
        kept = self._keep(user_id, keys)
        if isinstance(kept, KeyInUse):
            return kept
        wallet = Wallet(
            id=len(self._wallets) + 1,
            user_id=user_id,
            name=name,
            accounts=MappingProxyType(dict(kept)),
            assets=tuple(assets),
            created_at_ms=at_ms,
        )
        self._wallets[wallet.id] = wallet
        return wallet

    async def wallet(self, wallet_id: int) -> Wallet | None:
        await trio.lowlevel.checkpoint()
        return self._wallets.get(wallet_id)

    async def wallets(
        self, user_id: UUID | None = None, *, after: int = 0, limit: int | None = None
    ) -> tuple[Wallet, ...]:
        await trio.lowlevel.checkpoint()
        found = (one for one in self._wallets.values() if one.id > after)
        mine = tuple(one for one in found if user_id is None or one.user_id == user_id)
        return mine if limit is None else mine[:limit]

    async def change_wallet(
        self, wallet: Wallet, keys: Sequence[PublicKey], *, at_ms: int
    ) -> Wallet | NoSuchWallet | KeyInUse:
        del at_ms  # only accounts would have it
        await trio.lowlevel.checkpoint()
        known = self._wallets.get(wallet.id)
        if known is None:
            return NoSuchWallet(wallet.id)
        kept = self._keep(known.user_id, keys)
        if isinstance(kept, KeyInUse):
            return kept
        changed = _changed(known, wallet, kept)
        self._wallets[wallet.id] = changed
        return changed


def _changed(known: Wallet, wanted: Wallet, kept: Mapping[str, int]) -> Wallet:
    return replace(
        wanted,
        user_id=known.user_id,
        created_at_ms=known.created_at_ms,
        accounts=MappingProxyType({**wanted.accounts, **kept}),
    )


def _add(
    connection: Connection, wanted: Wallet, keys: Sequence[PublicKey]
) -> Wallet | NoSuchUser | KeyInUse:
    user_id, at_ms = wanted.user_id, wanted.created_at_ms
    if not has_user(connection, user_id):
        return NoSuchUser(user_id)
    kept = keep_keys(connection, user_id, keys, at_ms=at_ms)
    if isinstance(kept, KeyInUse):
        return kept
    inserted = connection.execute(
        insert(wallets).values(user_id=user_id, name=wanted.name, created_at_ms=at_ms)
    ).inserted_primary_key
    assert inserted is not None, "one row was inserted"
    wallet = replace(wanted, id=inserted[0], accounts=MappingProxyType(dict(kept)))
    _write_parts(connection, wallet)
    return wallet


def _change(
    connection: Connection, wallet: Wallet, keys: Sequence[PublicKey], at_ms: int
) -> Wallet | NoSuchWallet | KeyInUse:
    known = _wallets(connection, wallets.c.id == wallet.id)
    if not known:
        return NoSuchWallet(wallet.id)
    kept = keep_keys(connection, known[0].user_id, keys, at_ms=at_ms)
    if isinstance(kept, KeyInUse):
        return kept
    changed = _changed(known[0], wallet, kept)
    connection.execute(
        update(wallets)
        .where(wallets.c.id == wallet.id)
        .values(name=changed.name, archived_at_ms=changed.archived_at_ms)
    )
    for table in (wallet_accounts, wallet_assets):
        connection.execute(delete(table).where(table.c.wallet_id == wallet.id))
    _write_parts(connection, changed)
    return changed


def _write_parts(connection: Connection, wallet: Wallet) -> None:
    accounts = [
        {"wallet_id": wallet.id, "chain": chain, "account_id": account_id}
        for chain, account_id in wallet.accounts.items()
    ]
    assets = [
        {
            "wallet_id": wallet.id,
            "place": place,
            "asset": one.asset,
            "confirmations": one.confirmations,
            "expiry_ms": one.expiry_ms,
        }
        for place, one in enumerate(wallet.assets)
    ]
    if accounts:
        connection.execute(insert(wallet_accounts), accounts)
    if assets:
        connection.execute(insert(wallet_assets), assets)


def _wallets(connection: Connection, which: ColumnElement[bool]) -> tuple[Wallet, ...]:
    """The wallets for which `which` is true, in three statements however many they are."""
    found = connection.execute(select(wallets).where(which).order_by(wallets.c.id)).all()
    accounts: dict[int, dict[str, int]] = defaultdict(dict)
    mine = wallet_accounts.join(wallets, wallets.c.id == wallet_accounts.c.wallet_id)
    for row in connection.execute(select(wallet_accounts).select_from(mine).where(which)):
        accounts[row.wallet_id][row.chain] = row.account_id
    assets: dict[int, list[WalletAsset]] = defaultdict(list)
    mine = wallet_assets.join(wallets, wallets.c.id == wallet_assets.c.wallet_id)
    query = select(wallet_assets).select_from(mine).where(which).order_by(wallet_assets.c.place)
    for row in connection.execute(query):
        assets[row.wallet_id].append(WalletAsset(row.asset, row.confirmations, row.expiry_ms))
    return tuple(
        Wallet(
            id=row.id,
            user_id=row.user_id,
            name=row.name,
            accounts=MappingProxyType(accounts[row.id]),
            assets=tuple(assets[row.id]),
            created_at_ms=row.created_at_ms,
            archived_at_ms=row.archived_at_ms,
        )
        for row in found
    )
