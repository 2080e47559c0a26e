"""Extended public keys (BIP-32): their text, checked, and the one canonical text of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from bip_utils import Base58ChecksumError, Base58Decoder, Base58Encoder, Hash160
from coincurve import PublicKey

from daemon.keys.node import HARDENED, ChainNode
from daemon.keys.versions import PUBLIC, XPUB, KeyVersion

TEXT_CHARS = 111
"""Length of every extended key whose version we know."""
PAYLOAD_BYTES = 78
_ROOT = bytes(9)


@dataclass(frozen=True, slots=True)
class ExtendedKey:
    """A checked extended public key. The repr shows nothing that addresses could be made of."""

    version: KeyVersion
    depth: int
    parent_fingerprint: bytes
    child_number: int
    chain_code: bytes = field(repr=False)
    point: bytes = field(repr=False)
    """33 bytes, compressed; on the curve."""

    @property
    def canonical(self) -> str:
        """The same text for every key with the same addresses below it.

        Addresses depend on the point and the chain code alone. Version, depth, parent fingerprint
        and child number are notes for people, and wallets write them differently for one and the
        same key. So the canonical text is an xpub with the notes of a root: a valid extended key,
        which a wallet can import.
        """
        return base58check(XPUB.public + _ROOT + self.chain_code + self.point)

    @property
    def fingerprint(self) -> bytes:
        """The key's own fingerprint (BIP-32): 4 bytes."""
        return bytes(Hash160.QuickDigest(self.point)[:4])

    @property
    def description(self) -> str:
        """For people, without the key: `zpub at depth 3 (account 0'), fingerprint 1a2b3c4d`."""
        hardened = self.child_number >= HARDENED
        number = f"{self.child_number % HARDENED}{chr(39) if hardened else ''}"
        role = "account" if self.depth == 3 else "child"
        place = f"depth {self.depth} ({role} {number})" if self.depth else "depth 0 (a master key)"
        return f"{self.version.prefix} at {place}, fingerprint {self.fingerprint.hex()}"

    def node(self) -> ChainNode:
        return ChainNode(PublicKey(self.point), self.chain_code)


def parse(text: str) -> ExtendedKey | None:
    """The key that `text` is; None when it is anything else (`diagnosis.explain` says what).

    Accepted is exactly what BIP-32 calls valid, under any public version of `daemon.keys.versions`.
    """
    payload = base58check_payload(text) if len(text) == TEXT_CHARS else None
    if payload is None or len(payload) != PAYLOAD_BYTES:
        return None
    version = PUBLIC.get(payload[:4])
    depth, point = payload[4], payload[45:]
    if version is None or not is_point(point) or (depth == 0 and any(payload[5:13])):
        return None
    return ExtendedKey(
        version=version,
        depth=depth,
        parent_fingerprint=payload[5:9],
        child_number=int.from_bytes(payload[9:13], "big"),
        chain_code=payload[13:45],
        point=point,
    )


def is_point(data: bytes) -> bool:
    """Is it the compressed form of a point on secp256k1?"""
    if len(data) != 33 or data[0] not in (2, 3):
        return False
    try:
        PublicKey(data)
    except ValueError:
        return False
    return True


def base58check(payload: bytes) -> str:
    return str(Base58Encoder.CheckEncode(payload))


def base58check_payload(text: str) -> bytes | None:
    """What the text carries; None when it is not base58 or its checksum does not match.

    Decoding takes quadratic time: callers bound the length.
    """
    try:
        return bytes(Base58Decoder.CheckDecode(text))
    except (ValueError, Base58ChecksumError):
        return None
