"""Which address a public key has on which chain and network: the one table of it.

Networks are named as the node names them. A chain that is not listed here, of a family with forms
per network, has no addresses yet; families with one form for all networks need no entry per chain.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from bip_utils import Hash160
from coincurve import PublicKey

from actors.ports import Derived, PersistentError
from daemon.keys import evm, segwit


@dataclass(frozen=True, slots=True)
class AddressForm:
    """How the addresses of one chain are made."""

    chain: str
    script: str
    """For people: the kind of address."""
    purpose: int
    """The first level of the account path at which wallets keep such addresses (BIP-43)."""
    coin_type: int
    """The second level (SLIP-44)."""
    prefixes: Mapping[str, str]
    """Network → what `encode` needs to know of it; empty: the form is the same on all networks."""
    encode: Callable[[PublicKey, str], Derived]

    def account_path(self, *, test: bool) -> str:
        """Where wallets keep the first account; all test networks share coin type 1 (SLIP-44)."""
        return f"m/{self.purpose}'/{1 if test else self.coin_type}'/0'"

    def derive(self, key: PublicKey, network: str) -> Derived:
        """The address of `key` on `network`; PersistentError when the network is unknown."""
        if not self.prefixes:
            return self.encode(key, "")
        prefix = self.prefixes.get(network)
        if prefix is None:
            raise PersistentError(
                f"{self.chain}: no address form is known for the network {network!r} that the node "
                f"is on; known are {', '.join(self.prefixes)}. Check which node "
                f"coin.{self.chain}.daemon.url names."
            )
        return self.encode(key, prefix)


def _p2wpkh(key: PublicKey, hrp: str) -> Derived:
    key_hash = Hash160.QuickDigest(key.format())
    return Derived(segwit.p2wpkh_address(hrp, key_hash), segwit.p2wpkh_script(key_hash))


def _evm(key: PublicKey, _prefix: str) -> Derived:
    address = evm.address_of(key)
    return Derived(evm.checksummed(address), address)


_SEGWIT = "P2WPKH, native segwit (BIP-84)"
_BITCOIN_NETWORKS: Mapping[str, tuple[int, Mapping[str, str]]] = MappingProxyType(
    {
        "btc": (
            0,
            {"main": "bc", "test": "tb", "testnet4": "tb", "signet": "tb", "regtest": "bcrt"},
        ),
        "ltc": (2, {"main": "ltc", "test": "tltc", "regtest": "rltc"}),
    }
)


@lru_cache(maxsize=64)
def form_for(*, family: str, chain: str) -> AddressForm | None:
    """The form of the chain's addresses; None when this package knows none."""
    if family == "evm":
        return AddressForm(chain, "EVM account (EIP-55 text)", 44, 60, {}, _evm)
    if family == "bitcoin" and chain in _BITCOIN_NETWORKS:
        coin_type, hrps = _BITCOIN_NETWORKS[chain]
        return AddressForm(chain, _SEGWIT, 84, coin_type, MappingProxyType(hrps), _p2wpkh)
    return None
