"""The version bytes in front of an extended key, and what wallets mean by them.

Sources: BIP-32, SLIP-132 (registered versions); for Dogecoin, bip-utils. A version is a wallet's
hint about itself and no part of the key: tallyd accepts every public one for every coin and uses
the hint for warnings only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class ScriptHint(Enum):
    """The address form a wallet announces by the version it exports."""

    UNSAID = "any script type"
    """xpub, tpub: by SLIP-132 legacy P2PKH, in practice exported for every script type."""
    NESTED = "nested segwit (P2SH-P2WPKH)"
    NATIVE = "native segwit (P2WPKH)"
    MULTISIG_NESTED = "multi-signature (P2SH-P2WSH)"
    MULTISIG_NATIVE = "multi-signature (P2WSH)"


@dataclass(frozen=True, slots=True)
class KeyVersion:
    public: bytes
    private: bytes
    prefix: str
    """The first characters of the public form, as people call it: `zpub`."""
    private_prefix: str
    coin: str
    """Whose version it is, for people: `Bitcoin`."""
    script: ScriptHint
    test: bool
    """For test networks only."""


def _row(public: str, private: str, names: str, coin: str, script: ScriptHint) -> KeyVersion:
    prefix, private_prefix = names.split()
    return KeyVersion(
        public=bytes.fromhex(public),
        private=bytes.fromhex(private),
        prefix=prefix,
        private_prefix=private_prefix,
        coin=coin.removesuffix(" testnet"),
        script=script,
        test=coin.endswith(" testnet"),
    )


VERSIONS = (
    _row("0488b21e", "0488ade4", "xpub xprv", "Bitcoin", ScriptHint.UNSAID),
    _row("049d7cb2", "049d7878", "ypub yprv", "Bitcoin", ScriptHint.NESTED),
    _row("04b24746", "04b2430c", "zpub zprv", "Bitcoin", ScriptHint.NATIVE),
    _row("0295b43f", "0295b005", "Ypub Yprv", "Bitcoin", ScriptHint.MULTISIG_NESTED),
    _row("02aa7ed3", "02aa7a99", "Zpub Zprv", "Bitcoin", ScriptHint.MULTISIG_NATIVE),
    _row("043587cf", "04358394", "tpub tprv", "Bitcoin testnet", ScriptHint.UNSAID),
    _row("044a5262", "044a4e28", "upub uprv", "Bitcoin testnet", ScriptHint.NESTED),
    _row("045f1cf6", "045f18bc", "vpub vprv", "Bitcoin testnet", ScriptHint.NATIVE),
    _row("024289ef", "024285b5", "Upub Uprv", "Bitcoin testnet", ScriptHint.MULTISIG_NESTED),
    _row("02575483", "02575048", "Vpub Vprv", "Bitcoin testnet", ScriptHint.MULTISIG_NATIVE),
    _row("019da462", "019d9cfe", "Ltub Ltpv", "Litecoin", ScriptHint.UNSAID),
    _row("01b26ef6", "01b26792", "Mtub Mtpv", "Litecoin", ScriptHint.NESTED),
    _row("0436f6e1", "0436ef7d", "ttub ttpv", "Litecoin testnet", ScriptHint.UNSAID),
    _row("02facafd", "02fac398", "dgub dgpv", "Dogecoin", ScriptHint.UNSAID),
    _row("0432a9a8", "0432a243", "tgub tgpv", "Dogecoin testnet", ScriptHint.UNSAID),
    _row("03e25d7e", "03e25945", "ppub pprv", "Polis", ScriptHint.UNSAID),
)
XPUB = VERSIONS[0]
PUBLIC: Mapping[bytes, KeyVersion] = MappingProxyType({row.public: row for row in VERSIONS})
PRIVATE: Mapping[bytes, KeyVersion] = MappingProxyType({row.private: row for row in VERSIONS})
