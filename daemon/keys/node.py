"""Public child derivation, BIP-32 CKDpub, on libsecp256k1."""

from __future__ import annotations

import hmac

from coincurve import PublicKey

HARDENED = 1 << 31
"""Indices from here on need the private key (BIP-32)."""


class ChainNode:
    """A point with its chain code: something that has children. Immutable.

    Not a value: no equality, and its repr shows neither the point nor the chain code.
    """

    __slots__ = ("_chain_code", "_compressed", "_point")

    def __init__(self, point: PublicKey, chain_code: bytes) -> None:
        assert len(chain_code) == 32
        self._point = point
        self._compressed = point.format()
        self._chain_code = chain_code

    def child_key(self, index: int) -> PublicKey:
        """The public key of child `index`; ValueError outside 0..2**31-1 (hardened or negative).

        ValueError too where BIP-32 calls a child invalid, which has a chance of 1 in 2**127.
        """
        return self._derive(index)[0]

    def child(self, index: int) -> ChainNode:
        """Child `index` as a node of its own; errors as in `child_key`."""
        return ChainNode(*self._derive(index))

    def _derive(self, index: int) -> tuple[PublicKey, bytes]:
        if not 0 <= index < HARDENED:
            raise ValueError(f"index {index} is outside 0..2147483647")
        digest = hmac.digest(
            self._chain_code, self._compressed + index.to_bytes(4, "big"), "sha512"
        )
        return self._point.add(digest[:32]), digest[32:]
