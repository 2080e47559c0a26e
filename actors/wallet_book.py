"""What the store keeps of wallets: the named sets of keys from which a merchant's orders are paid.

A wallet holds no keys of its own: each of its chains points to one of the user's accounts, which
need not be the user's current one. The same key of the same user is the same account, in every
wallet and outside of them, so no address is ever given out twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from actors.core.outcomes import KeyInUse, NoSuchUser

if TYPE_CHECKING:
    from actors.ports import PublicKey


@dataclass(frozen=True, slots=True)
class WalletAsset:
    """An asset that may be asked for with the wallet, and what holds for its orders."""

    asset: str
    confirmations: int | None = None
    """None: the user's policy for the asset or the chain's number."""
    expiry_ms: int | None = None
    """Time to pay; None: the default of the asset's chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """Keys and assets of one merchant under a small number."""

    id: int
    """From 1, growing; what merchants know as pg_wallet_id."""
    user_id: UUID
    name: str
    accounts: Mapping[str, int]
    """Chain id → account id."""
    assets: tuple[WalletAsset, ...]
    """In the order given."""
    created_at_ms: int
    archived_at_ms: int | None = None
    """No new orders since then."""

    def asset(self, asset: str) -> WalletAsset | None:
        return next((one for one in self.assets if one.asset == asset), None)


@dataclass(frozen=True, slots=True)
class NoSuchWallet:
    """There is none of this number, or it is another merchant's: the two are not told apart."""

    wallet_id: int


class WalletBook(Protocol):
    """Each method is one transaction; each may raise TransientError or PersistentError."""

    async def add_wallet(
        self,
        user_id: UUID,
        *,
        name: str,
        keys: Sequence[PublicKey],
        assets: Sequence[WalletAsset],
        at_ms: int,
    ) -> Wallet | NoSuchUser | KeyInUse:
        """Add a wallet with at most one key per chain, all or nothing.

        A key that the user has had before is its old account: the index sequence goes on, and a
        `secret` that comes with it takes the place of the stored one. What is the user's current
        key does not change.
        """
        ...

    async def wallet(self, wallet_id: int) -> Wallet | None: ...

    async def wallets(
        self, user_id: UUID | None = None, *, after: int = 0, limit: int | None = None
    ) -> tuple[Wallet, ...]:
        """Every wallet, or those of one user, archived ones too, by id from the one after `after`;
        the first `limit` of them."""
        ...

    async def change_wallet(
        self, wallet: Wallet, keys: Sequence[PublicKey], *, at_ms: int
    ) -> Wallet | NoSuchWallet | KeyInUse:
        """Store all but id, user and creation, all or nothing; returns it as it is then.

        Its accounts are those of `wallet`, with the accounts of `keys` in the place of those of
        their chains; a chain that is in neither is in the wallet no more.
        """
        ...
