"""The AddressDeriver of the daemon: each family of chains has its own kind of keys."""

from __future__ import annotations

from collections.abc import Mapping

from actors.core.assets import Chain
from actors.core.outcomes import KeyRefused
from actors.ports import Account, Derived, PublicKey
from daemon.keys.deriver import Deriver
from daemon.keys.monero_deriver import MoneroDeriver
from daemon.keys.ton_deriver import TonDeriver, TonForm
from daemon.keys.vault import Vault


class Keyring:
    """Hands each chain's keys to those who know them. For one thread."""

    def __init__(self, vault: Vault, *, ton: Mapping[str, TonForm] | None = None) -> None:
        """`ton`: what new invoices get, by chain of that family."""
        self.vault = vault
        self.monero = MoneroDeriver(vault)
        self._ton = TonDeriver(ton)
        self._extended = Deriver()

    def parse_key(self, chain: Chain, text: str) -> PublicKey | KeyRefused:
        """See `AddressDeriver`; a chain without address forms is refused in words."""
        if chain.family == "monero":
            return self.monero.parse_key(chain, text)
        if chain.family == "ton":
            return self._ton.parse_key(chain, text)
        if not self._extended.supports(chain):
            reason = f"this version makes no addresses for {chain.name}: it takes no keys for it"
            return KeyRefused(chain.id, "chain", reason)
        return self._extended.parse_key(chain, text)

    def derive(
        self, chain: Chain, account: Account, *, network: str, major: int, minor: int
    ) -> Derived:
        """See `AddressDeriver`."""
        deriver: MoneroDeriver | TonDeriver | Deriver = self._extended
        if chain.family == "monero":
            deriver = self.monero
        elif chain.family == "ton":
            deriver = self._ton
        return deriver.derive(chain, account, network=network, major=major, minor=minor)
