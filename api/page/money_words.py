"""Amounts, assets and networks as a payer is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from actors.core.assets import Catalogue
from actors.core.events import Terms
from actors.core.money import format_decimal
from api.page.words import Words, phrase

NO_BREAK = "\u00a0"
_MAIN = frozenset({"main", "mainnet"})
_TEST_NETWORKS: Mapping[str, str] = MappingProxyType(
    {"11155111": "Sepolia", "560048": "Hoodi", "97": "Chapel", "31337": "Anvil"}
)
"""Names of EVM networks, which nodes only number."""


@dataclass(frozen=True, slots=True)
class MoneyWords:
    """Says what an invoice asks for, in one language."""

    terms: Terms
    catalogue: Catalogue
    words: Words

    def amount(self, amount_base: int, asset_id: str | None = None) -> str:
        """`0.5 BTC`, exactly; base units of an asset that is no longer in the catalogue."""
        asset_id = asset_id or self.terms.asset
        asset = self.catalogue.assets.get(asset_id)
        if asset is None:
            said = phrase("base_units", amount=str(amount_base), asset=asset_id)
            return self.words.text(said)
        return f"{self.words.number(amount_base, asset.exponent)}{NO_BREAK}{asset.symbol}"

    def plain(self, amount_base: int) -> str:
        """The number alone, as wallets take it: with a point, without groups."""
        asset = self.catalogue.assets.get(self.terms.asset)
        return format_decimal(amount_base, asset.exponent if asset else 0)

    @property
    def chain(self) -> str:
        chain = self.catalogue.chains.get(self.terms.chain)
        return chain.name if chain else self.terms.chain

    @property
    def asset(self) -> str:
        """`Bitcoin`; `USDT on BNB Smart Chain`, for one name may be on several chains."""
        asset = self.catalogue.assets.get(self.terms.asset)
        if asset is None:
            return self.terms.asset
        name = asset.name if asset.contract is None else asset.symbol
        if name == self.chain:
            return name
        return self.words.text(phrase("asset_on_chain", asset=name, chain=self.chain))

    @property
    def test_network(self) -> str | None:
        """The network's name where money is worth nothing; None on the real one."""
        network = self.terms.network
        chain = self.catalogue.chains.get(self.terms.chain)
        usual = chain.networks[0] if chain and chain.networks else None
        if network in _MAIN or network == usual:
            return None
        if usual is None and chain is not None and chain.family == "evm":
            # A number, of which nobody said what it is.
            return _TEST_NETWORKS.get(network)
        return _TEST_NETWORKS.get(network, network)
