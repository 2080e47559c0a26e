"""How Monero names things: Keccak-256, tree hash, ids of transactions and blocks; pure.

Sources: Monero's `tree-hash.c` and `cryptonote_format_utils.cpp` (monero-project/monero). Keccak
here is the original with padding byte 0x01, not SHA-3. All ids are 32 bytes in the order that
people see.
"""

from __future__ import annotations

from collections.abc import Sequence

import sha3

from daemon.drivers.monero_varint import encode_varint

HASH_BYTES = 32
NULL_HASH = bytes(HASH_BYTES)

# The block at mainnet's height 202612 got its id from a tree hash that was computed wrongly, and
# kept it: Monero knows it by the Keccak of its bytes.
_ODD_BLOCK_HEIGHT = 202_612
_ODD_BLOCK_BLOB = bytes.fromhex("3a8a2b3a29b50fc86ff73dd087ea43c6f0d6b8f936c849194d5c84c737903966")
_ODD_BLOCK_ID = bytes.fromhex("bbd604d2ba11ba27935e006ed39c9bfdd99b76bf4a50654bc1e1e61217962698")


def keccak(data: bytes) -> bytes:
    """Keccak-256, which Monero calls `cn_fast_hash`."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def tree_hash(hashes: Sequence[bytes]) -> bytes:
    """The root over at least one hash: the last ones are paired until a power of two is left."""
    assert hashes, "a tree hash needs at least one hash"
    count = len(hashes)
    if count == 1:
        return hashes[0]
    width = 1 << (count - 1).bit_length() - 1
    kept = 2 * width - count
    level = [*hashes[:kept], *_pairs(hashes[kept:])]
    while len(level) > 1:
        level = _pairs(level)
    return level[0]


def _pairs(hashes: Sequence[bytes]) -> list[bytes]:
    return [keccak(hashes[at] + hashes[at + 1]) for at in range(0, len(hashes), 2)]


def tx_id(prefix: bytes, rct_base: bytes, prunable_hash: bytes) -> bytes:
    """The id of a version 2 transaction from its parts as serialised.

    `prunable_hash` is the Keccak of what pruning takes away, NULL_HASH when there is no such part.
    """
    return keccak(keccak(prefix) + keccak(rct_base) + prunable_hash)


def block_id(blob: bytes, header: bytes, txids: Sequence[bytes], *, height: int) -> bytes:
    """The id of the block with these bytes; `txids` begin with the miner transaction's."""
    if height == _ODD_BLOCK_HEIGHT and keccak(blob) == _ODD_BLOCK_BLOB:
        return _ODD_BLOCK_ID
    hashing_blob = header + tree_hash(txids) + encode_varint(len(txids))
    return keccak(encode_varint(len(hashing_blob)) + hashing_blob)
