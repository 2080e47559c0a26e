"""Chains and assets are data: this module gives them a shape and checks it; it names no coin.

Source of the data: `daemon/assets.toml`, extended or replaced by the operator's configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

MAX_EXPONENT = 30


class CatalogueError(ValueError):
    """The asset data contradict themselves; the text names the entry and the field."""


@dataclass(frozen=True, slots=True)
class Chain:
    """One block chain that a driver can follow."""

    id: str
    """Short lower-case name used in settings, metrics and the store: `btc`."""
    name: str
    family: str
    """Which driver follows it: `bitcoin`, `evm`, `monero`, `ton`."""
    coin: str
    """The asset id of its native coin: `BTC`."""
    block_time_s: float
    """Expected time between two blocks, in seconds; only for forecasts told to people."""
    confirmations: int
    """Confirmations required of a payment when the caller names no number."""
    networks: tuple[str, ...] = ()
    """Networks by the name that its nodes give (EVM: the chain id), the usual one first; empty:
    whatever the node says."""
    unlock_blocks: int = 0
    """Blocks that must pass before the payee may spend what he got: what is in block `h` can be
    spent in block `h + unlock_blocks` (Monero 10). Not a condition of settling."""

    def hash_text(self, value: bytes) -> str:
        """A transaction's or block's hash as people on this chain write it."""
        return f"0x{value.hex()}" if self.family == "evm" else value.hex()

    def contract_text(self, value: bytes) -> str:
        """A token contract's address in a form that everything on this chain takes; of TON the raw
        one (TEP-2), `0:` and 64 digits.
        """
        if self.family == "ton":
            return f"{int.from_bytes(value[:1], 'big', signed=True)}:{value[1:].hex()}"
        return f"0x{value.hex()}"


@dataclass(frozen=True, slots=True)
class Asset:
    """Something an invoice can ask for: a coin or a token."""

    id: str
    """Upper-case name, the GoiPay CoinType where there is one: `BTC`, `USDT_ERC20`."""
    chain: str
    symbol: str
    name: str
    exponent: int
    """Decimal places: 1 unit = 10**exponent base units."""
    contract: bytes | None = None
    """The token's contract address; None for a native coin."""


_Entry = TypeVar("_Entry", Chain, Asset)


class Catalogue:
    """Every chain and asset this process knows; immutable once built."""

    __slots__ = ("assets", "chains")

    def __init__(self, *, chains: Iterable[Chain], assets: Iterable[Asset]) -> None:
        """Raise CatalogueError on a duplicate, a dangling reference or a value out of range."""
        self.chains: Mapping[str, Chain] = MappingProxyType(_by_id("chain", chains))
        self.assets: Mapping[str, Asset] = MappingProxyType(_by_id("asset", assets))
        for asset in self.assets.values():
            if asset.chain not in self.chains:
                raise CatalogueError(
                    f"asset {asset.id}: chain {asset.chain!r} is not in the catalogue"
                )
            if not 0 <= asset.exponent <= MAX_EXPONENT:
                raise CatalogueError(
                    f"asset {asset.id}: exponent {asset.exponent} is outside 0..{MAX_EXPONENT}"
                )
        for chain in self.chains.values():
            coin = self.assets.get(chain.coin)
            if coin is None or coin.chain != chain.id or coin.contract is not None:
                raise CatalogueError(
                    f"chain {chain.id}: coin {chain.coin!r} is not a native asset of that chain"
                )

    def chain_of(self, asset: Asset) -> Chain:
        return self.chains[asset.chain]

    def hash_text(self, chain_id: str, value: bytes) -> str:
        """As Chain.hash_text; bare hexadecimal digits for a chain that is not in the catalogue."""
        chain = self.chains.get(chain_id)
        return value.hex() if chain is None else chain.hash_text(value)


def _by_id(noun: str, entries: Iterable[_Entry]) -> dict[str, _Entry]:
    found: dict[str, _Entry] = {}
    for entry in entries:
        if entry.id in found:
            raise CatalogueError(f"{noun} {entry.id}: listed twice")
        found[entry.id] = entry
    return found
