"""Builders of Monero transactions and blocks as bytes, for tests and benchmarks.

Written against Monero's formats, not with the code under test: ids come from another Keccak. Only
the form is right: keys are whatever is asked for, proofs are any bytes, and no node would take one
of these. Amounts are piconero.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from Crypto.Hash import keccak as pycryptodome_keccak

RING_SIZE = 16
_NULL_HASH = bytes(32)


def keccak(data: bytes) -> bytes:
    return pycryptodome_keccak.new(data=data, digest_bits=256).digest()


def varint(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


@dataclass(frozen=True)
class TxIn:
    """One input: its key image and its ring, as offsets each from the one before."""

    key_image: bytes
    offsets: tuple[int, ...] = tuple(range(1, RING_SIZE + 1))
    amount: int = 0

    @property
    def blob(self) -> bytes:
        ring = b"".join(map(varint, self.offsets))
        return b"\x02" + varint(self.amount) + varint(len(self.offsets)) + ring + self.key_image


@dataclass(frozen=True)
class TxOut:
    """One output; without a view tag it is of the older kind. ``ecdh`` 8 or 64 bytes."""

    key: bytes
    view_tag: int | None = 0
    amount: int = 0
    ecdh: bytes = bytes(8)
    commitment: bytes = bytes(32)

    @property
    def blob(self) -> bytes:
        amount = varint(self.amount)
        if self.view_tag is None:
            return amount + b"\x02" + self.key
        return amount + b"\x03" + self.key + bytes([self.view_tag])


@dataclass(frozen=True)
class TxBlob:
    """One transaction; ``height`` makes it a coinbase.

    For version 1 ``proofs`` must be the signatures: 64 bytes for each ring member. Version 2 with
    ``rct_type`` 0 has none.
    """

    outputs: Sequence[TxOut]
    inputs: Sequence[TxIn] = ()
    height: int | None = None
    version: int = 2
    unlock_time: int = 0
    extra: bytes = b""
    rct_type: int = 6
    fee: int = 0
    proofs: bytes = b"proofs"
    pseudo_outputs: Sequence[bytes] = field(default=())  # type 2: one for each input

    @cached_property
    def prefix(self) -> bytes:
        if self.height is None:
            inputs = [each.blob for each in self.inputs]
        else:
            inputs = [b"\xff" + varint(self.height)]
        outputs = [each.blob for each in self.outputs]
        return b"".join(
            (
                varint(self.version),
                varint(self.unlock_time),
                varint(len(inputs)),
                *inputs,
                varint(len(outputs)),
                *outputs,
                varint(len(self.extra)),
                self.extra,
            )
        )

    @cached_property
    def rct_base(self) -> bytes:
        if self.version == 1:
            return b""
        if self.rct_type == 0:
            return b"\0"
        ecdh = [each.ecdh for each in self.outputs]
        commitments = [each.commitment for each in self.outputs]
        return b"".join(
            (bytes([self.rct_type]), varint(self.fee), *self.pseudo_outputs, *ecdh, *commitments)
        )

    @property
    def pruned(self) -> bytes:
        return self.prefix + self.rct_base

    @property
    def whole(self) -> bytes:
        return self.pruned + (self.proofs if self.has_proofs else b"")

    @property
    def has_proofs(self) -> bool:
        return self.version == 1 or self.rct_type != 0

    @property
    def prunable_hash(self) -> bytes:
        return keccak(self.proofs) if self.has_proofs else _NULL_HASH

    @cached_property
    def txid(self) -> bytes:
        if self.version == 1:
            return keccak(self.whole)
        return keccak(keccak(self.prefix) + keccak(self.rct_base) + self.prunable_hash)


def coinbase(height: int, outputs: Sequence[TxOut], **more: Any) -> TxBlob:
    """The miner's transaction of the block at this height."""
    return TxBlob(outputs, height=height, unlock_time=height + 60, rct_type=0, **more)


def extra(
    *,
    tx_keys: Sequence[bytes] = (),
    nonce: bytes | None = None,
    additional_keys: Sequence[bytes] | None = None,
) -> bytes:
    """The fields in the order in which wallets write them."""
    fields = [b"\x01" + key for key in tx_keys]
    if additional_keys is not None:
        fields.append(b"\x04" + varint(len(additional_keys)) + b"".join(additional_keys))
    if nonce is not None:
        fields.append(b"\x02" + varint(len(nonce)) + nonce)
    return b"".join(fields)


@dataclass(frozen=True)
class BlockBlob:
    """One block: the miner's transaction whole, of the others the ids."""

    miner_tx: TxBlob
    txids: Sequence[bytes] = ()
    parent: bytes = _NULL_HASH
    timestamp: int = 1_700_000_000
    nonce: int = 0
    major_version: int = 16
    minor_version: int = 16

    @property
    def header(self) -> bytes:
        numbers = (self.major_version, self.minor_version, self.timestamp)
        return b"".join(map(varint, numbers)) + self.parent + self.nonce.to_bytes(4, "little")

    @property
    def blob(self) -> bytes:
        ids = varint(len(self.txids)) + b"".join(self.txids)
        return self.header + self.miner_tx.whole + ids

    @property
    def hash(self) -> bytes:
        leaves = [self.miner_tx.txid, *self.txids]
        hashing = self.header + tree_root(leaves) + varint(len(leaves))
        return keccak(varint(len(hashing)) + hashing)


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """From the top: the right half is full; what exceeds a power of two is paired at the end."""
    if len(leaves) == 1:
        return leaves[0]
    width = 1
    while width * 2 < len(leaves):
        width *= 2
    single = 2 * width - len(leaves)
    paired = [keccak(leaves[at] + leaves[at + 1]) for at in range(single, len(leaves), 2)]
    nodes = [*leaves[:single], *paired]
    if len(nodes) == 1:
        return nodes[0]
    half = len(nodes) // 2
    return keccak(tree_root(nodes[:half]) + tree_root(nodes[half:]))


def ordinary_tx(
    rng: random.Random,
    *,
    inputs: int = 2,
    outputs: int = 2,
    new_key: Callable[[], bytes] | None = None,
    proof_bytes: int = 1500,
) -> TxBlob:
    """Like most on mainnet today: ring 16, view tags, one transaction key, an encrypted payment id.

    Transaction and output keys come from ``new_key``, by default random bytes (half of them are no
    point). The proofs' content does not matter, so it is all zeros.
    """
    key = new_key or (lambda: rng.randbytes(32))
    return TxBlob(
        [
            TxOut(key(), rng.randrange(256), 0, rng.randbytes(8), rng.randbytes(32))
            for _ in range(outputs)
        ],
        [
            TxIn(rng.randbytes(32), tuple(rng.randrange(1, 10_000_000) for _ in range(RING_SIZE)))
            for _ in range(inputs)
        ],
        extra=extra(tx_keys=[key()], nonce=b"\x01" + rng.randbytes(8)),
        fee=rng.randrange(30_000_000, 300_000_000),
        proofs=bytes(proof_bytes),
    )


def busy_block(
    rng: random.Random,
    *,
    height: int,
    txs: int,
    parent: bytes = _NULL_HASH,
    new_key: Callable[[], bytes] | None = None,
) -> tuple[BlockBlob, list[TxBlob]]:
    """A block of ordinary transactions, and these; their sizes are spread like mainnet's."""
    key = new_key or (lambda: rng.randbytes(32))
    made = [
        ordinary_tx(
            rng,
            inputs=rng.choice((1, 1, 1, 2, 2, 3, 8)),
            outputs=rng.choice((2, 2, 2, 2, 2, 2, 3, 16)),
            new_key=key,
        )
        for _ in range(txs)
    ]
    reward = TxOut(key(), rng.randrange(256), 600_000_000_000)
    miner_tx = coinbase(height, [reward], extra=extra(tx_keys=[key()], nonce=rng.randbytes(16)))
    return BlockBlob(miner_tx, [tx.txid for tx in made], parent), made
