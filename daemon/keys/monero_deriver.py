"""From a user's Monero keys to the subaddresses of invoices, and to the keys that see payments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from actors.core.assets import Chain
from actors.core.outcomes import KeyRefused
from actors.ports import Account, Derived, PersistentError, PublicKey
from daemon.keys.deriver import DeriverStatistics
from daemon.keys.monero import MoneroKeys, parse, spend_key_of
from daemon.keys.monero_address import SUBADDRESS, address_text, public_key, subaddress
from daemon.keys.vault import Vault
from daemon.keys.view_keys import ViewKeys

_CACHED_KEYS = 4096


class MoneroDeriver:
    """The AddressDeriver of Monero; a destination is a subaddress's public spend key, and after
    it the public view key of its wallet: two of 32 bytes.

    Keeps the opened view keys of the last `capacity` accounts. For one thread.
    """

    def __init__(self, vault: Vault, *, capacity: int = _CACHED_KEYS) -> None:
        assert capacity > 0
        self._vault = vault
        self._capacity = capacity
        self._keys: OrderedDict[tuple[str, str], MoneroKeys] = OrderedDict()
        self._view_keys: dict[str, ViewKeys] = {}
        self._hits = 0
        self._misses = 0

    def view_keys(self, chain_id: str) -> ViewKeys:
        """What the chain has to be scanned with, now and later: always the same object."""
        return self._view_keys.setdefault(chain_id, ViewKeys())

    def watch(self, accounts: Iterable[Account]) -> None:
        """Scan for these accounts, which have given out addresses, from now on.

        Raises PersistentError when the secret of one is missing or cannot be opened.
        """
        found: dict[str, list[bytes]] = {}
        for account in accounts:
            found.setdefault(account.chain, []).append(self._vault.open(account))
        for chain_id, keys in found.items():
            self.view_keys(chain_id).add(*keys)

    def parse_key(self, chain: Chain, text: str) -> PublicKey | KeyRefused:
        """`VIEW:SPEND` as `monero.parse` takes it, the view key sealed (see `AddressDeriver`)."""
        keys = parse(chain.id, text)
        if isinstance(keys, KeyRefused):
            return keys
        canonical = keys.canonical
        sealed = self._vault.seal(keys.view, chain=chain.id, key=canonical)
        return PublicKey(chain.id, canonical, keys.description, sealed)

    def derive(
        self, chain: Chain, account: Account, *, network: str, major: int, minor: int
    ) -> Derived:
        """Subaddress major/minor; its view key is among `view_keys` before this returns.

        Raises PersistentError for an unknown network and for a secret that is missing or cannot be
        opened; ValueError for 0/0 and indices outside of 0..2**32-1.
        """
        prefix = SUBADDRESS.get(network)
        if prefix is None:
            raise PersistentError(
                f"{chain.id}: no address form is known for the network {network!r} that the node"
                f" is on; known are {', '.join(SUBADDRESS)}. Check which node"
                f" coin.{chain.id}.daemon.url names."
            )
        keys = self._opened(account)
        spend, view = subaddress(view=keys.view, spend=keys.spend, major=major, minor=minor)
        self.view_keys(chain.id).add(keys.view)
        # The subaddress's own view key C follows from these two, and needs the private key.
        destination = spend + public_key(keys.view)
        return Derived(address_text(prefix, spend=spend, view=view), destination)

    def reveal(self, account: Account) -> tuple[str, str]:
        """The private view key and the public spend key, in hexadecimal digits."""
        keys = self._opened(account)
        return keys.view.hex(), keys.spend.hex()

    def statistics(self) -> DeriverStatistics:
        return DeriverStatistics(
            cached=len(self._keys), capacity=self._capacity, hits=self._hits, misses=self._misses
        )

    def _opened(self, account: Account) -> MoneroKeys:
        at = (account.chain, account.key)
        keys = self._keys.get(at)
        if keys is not None:
            self._hits += 1
            self._keys.move_to_end(at)
            return keys
        self._misses += 1
        keys = self._keys[at] = MoneroKeys(self._vault.open(account), spend_key_of(account.key))
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)
        return keys
