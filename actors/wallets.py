"""What an operator may ask of wallets: add, look, change, archive.

Expected refusals are returned; TransientError and PersistentError are raised when the store or the
vault cannot be used, and then nothing has happened.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import trio

from actors.core.outcomes import KeyInUse, KeyRefused, NoSuchUser, UnknownAsset
from actors.core.policy import MAX_CONFIRMATIONS
from actors.invoicing import MIN_TTL_MS, Invoicing
from actors.ports import Account, PublicKey, Store, WallClock
from actors.wallet_book import NoSuchWallet, Wallet, WalletAsset

__all__ = ["NoSuchWallet", "Wallet", "WalletAsset", "WalletRefusal", "WalletRefused", "Wallets"]

MAX_NAME = 100
MAX_WALLETS = 100
"""Of one user, archived ones too."""
MIN_EXPIRY_MS = MIN_TTL_MS
MAX_EXPIRY_MS = 366 * 86_400_000
MAX_WALLET_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class WalletRefused:
    """What is asked of the wallet cannot be; `reason` goes on after the field's name."""

    field: str
    """`name`, `keys`, `assets`, `confirmations`, `expiry`, `wallets`."""
    reason: str


WalletRefusal = NoSuchUser | NoSuchWallet | KeyRefused | KeyInUse | UnknownAsset | WalletRefused


class Wallets:
    """The application service; its state is the store's."""

    def __init__(self, invoicing: Invoicing, *, store: Store, clock: WallClock) -> None:
        self._invoicing = invoicing
        self._store = store
        self._book = store.wallets
        self._clock = clock
        self._changing = trio.Lock()

    async def add(
        self,
        user_id: UUID,
        *,
        name: str,
        keys: Sequence[tuple[str, str]],
        assets: Sequence[WalletAsset] | None = None,
    ) -> Wallet | WalletRefusal:
        """Add a wallet with keys as (chain id, text), one per chain at most; all or nothing.

        `assets` None: every asset of the keys' chains, with the defaults. An asset may be named
        before there is a key for its chain: orders for it are refused until then. The user's
        current keys do not change.
        """
        async with self._changing:
            if not await self._store.has_user(user_id):
                return NoSuchUser(user_id)
            if len(await self._book.wallets(user_id)) >= MAX_WALLETS:
                return WalletRefused("wallets", f"are {MAX_WALLETS} already; change one of them")
            accepted = self._keys(keys)
            if not isinstance(accepted, list):
                return accepted
            if assets is None:
                assets = self._all_assets({key.chain for key in accepted})
            problem = _name_problem(name) or self._assets_problem(assets)
            if problem is not None:
                return problem
            now_ms = self._clock.now_ms()
            return await self._book.add_wallet(
                user_id, name=name, keys=accepted, assets=assets, at_ms=now_ms
            )

    async def change(
        self,
        wallet_id: int,
        *,
        name: str | None = None,
        keys: Sequence[tuple[str, str]] = (),
        without: Collection[str] = (),
        assets: Sequence[WalletAsset] | None = None,
    ) -> Wallet | WalletRefusal:
        """Change what is given, all or nothing: `keys` take the place of their chains' keys,
        `without` are chains whose keys are taken out, `assets` are all that there are afterwards.

        Invoices that exist stay as they are: their addresses are watched for ever.
        """
        async with self._changing:
            wallet = await self.look(wallet_id)
            if isinstance(wallet, NoSuchWallet):
                return wallet
            for chain in without:
                if chain not in wallet.accounts:
                    return WalletRefused("keys", f"has none of {chain} that could be taken out")
                if any(chain == given for given, _ in keys):
                    return WalletRefused("keys", f"of {chain} is both given and taken out")
            accepted = self._keys(keys)
            if not isinstance(accepted, list):
                return accepted
            refused = _name_problem(wallet.name if name is None else name)
            problem = refused or self._assets_problem(assets or ())
            if problem is not None:
                return problem
            wanted = replace(
                wallet,
                name=wallet.name if name is None else name,
                accounts={
                    chain: account_id
                    for chain, account_id in wallet.accounts.items()
                    if chain not in without
                },
                assets=wallet.assets if assets is None else tuple(assets),
            )
            return await self._book.change_wallet(wanted, accepted, at_ms=self._clock.now_ms())

    async def archive(self, wallet_id: int, *, archived: bool = True) -> Wallet | NoSuchWallet:
        """Take no new orders for it any more, or again; what there is goes on."""
        async with self._changing:
            wallet = await self.look(wallet_id)
            if isinstance(wallet, NoSuchWallet) or (wallet.archived_at_ms is not None) == archived:
                return wallet
            now_ms = self._clock.now_ms()
            wanted = replace(wallet, archived_at_ms=now_ms if archived else None)
            changed = await self._book.change_wallet(wanted, (), at_ms=now_ms)
            assert isinstance(changed, Wallet), "wallets are never deleted"
            return changed

    async def look(self, wallet_id: int) -> Wallet | NoSuchWallet:
        if not 1 <= wallet_id <= MAX_WALLET_ID:
            return NoSuchWallet(wallet_id)
        return await self._book.wallet(wallet_id) or NoSuchWallet(wallet_id)

    async def find(
        self, user_id: UUID | None = None, *, after: int = 0, limit: int | None = None
    ) -> tuple[Wallet, ...]:
        """All, or those of one user, archived ones too, by id from the one after `after`."""
        return await self._book.wallets(user_id, after=after, limit=limit)

    async def accounts(self, wallet: Wallet) -> tuple[Account, ...]:
        """The wallet's keys, for who may see them."""
        found = [await self._store.account_by_id(one) for one in wallet.accounts.values()]
        return tuple(one for one in found if one is not None)

    def _keys(
        self, keys: Sequence[tuple[str, str]]
    ) -> list[PublicKey] | KeyRefused | WalletRefused:
        chains = [chain for chain, _ in keys]
        for chain in chains:
            if chains.count(chain) > 1:
                return WalletRefused("keys", f"has two of {chain}; give one per chain")
        return self._invoicing.parse_keys(keys)

    def _all_assets(self, chains: Collection[str]) -> tuple[WalletAsset, ...]:
        known = self._invoicing.catalogue.assets.values()
        return tuple(WalletAsset(asset.id) for asset in known if asset.chain in chains)

    def _assets_problem(self, assets: Sequence[WalletAsset]) -> UnknownAsset | WalletRefused | None:
        seen: set[str] = set()
        for one in assets:
            if self._invoicing.asset(one.asset) is None:
                return UnknownAsset(one.asset)
            if one.asset in seen:
                return WalletRefused("assets", f"has {one.asset} twice")
            seen.add(one.asset)
            if not 0 <= (one.confirmations or 0) <= MAX_CONFIRMATIONS:
                reason = f"of {one.asset} must be from 0 to {MAX_CONFIRMATIONS}"
                return WalletRefused("confirmations", reason)
            if one.expiry_ms is not None and not MIN_EXPIRY_MS <= one.expiry_ms <= MAX_EXPIRY_MS:
                least_s, most_s = MIN_EXPIRY_MS // 1000, MAX_EXPIRY_MS // 1000
                reason = f"of {one.asset} must be from {least_s} to {most_s} seconds"
                return WalletRefused("expiry", reason)
        return None


def _name_problem(name: str) -> WalletRefused | None:
    if name.strip() and len(name) <= MAX_NAME and name.isprintable():
        return None
    return WalletRefused("name", f"must have 1 to {MAX_NAME} printable characters")
