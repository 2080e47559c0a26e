"""Amounts of outputs that are ours: decoded, and proved by the commitment they must open; pure.

Sources: `ecdhDecode` in Monero's rctOps.cpp and `decodeRct` in rctSigs.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import sha3

from daemon.drivers.monero_curve import ORDER, commit, hash_to_scalar

AMOUNT_LIMIT = 1 << 64
_AMOUNT_BYTES = 8
_MASKED_LONG = frozenset((1, 2, 3))  # Full, Simple, Bulletproof: mask and amount, 32 bytes each
_MASKED_SHORT = frozenset((4, 5, 6))  # Bulletproof2, CLSAG, BulletproofPlus: 8 bytes of amount


class Output(Protocol):
    """What is asked of `monero_wire.TxOutput`."""

    @property
    def amount(self) -> int: ...


class Transaction(Protocol):
    """What is asked of `monero_wire.ParsedTx`."""

    @property
    def version(self) -> int: ...
    @property
    def is_coinbase(self) -> bool: ...
    @property
    def outputs(self) -> Sequence[Output]: ...
    @property
    def rct_type(self) -> int: ...
    @property
    def ecdh(self) -> Sequence[bytes]: ...
    @property
    def commitments(self) -> Sequence[bytes]: ...


def prove(tx: Transaction, output: int, shared: bytes) -> int | None:
    """The amount in piconero of an output of ours, whose scalar s is `shared`; 0 is possible.

    None if nothing proves it: a commitment that the decoded amount does not open, a kind of
    transaction that is not known, or parts that are missing. Such an output cannot be spent, so
    it is no payment whatever its sender says.
    """
    if tx.version == 1 or tx.is_coinbase:
        return tx.outputs[output].amount
    if tx.outputs[output].amount or output >= min(len(tx.ecdh), len(tx.commitments)):
        return None
    opened = _open(tx.rct_type, tx.ecdh[output], shared)
    if opened is None:
        return None
    mask, amount = opened
    proved = amount < AMOUNT_LIMIT and commit(mask, amount) == tx.commitments[output]
    return amount if proved else None


def _open(rct_type: int, masked: bytes, shared: bytes) -> tuple[bytes, int] | None:
    """The commitment's mask and the amount that the sender claims."""
    if rct_type in _MASKED_SHORT and len(masked) == _AMOUNT_BYTES:
        pad: bytes = sha3.keccak_256(b"amount" + shared).digest()[:_AMOUNT_BYTES]
        amount = int.from_bytes(masked, "little") ^ int.from_bytes(pad, "little")
        return hash_to_scalar(b"commitment_mask" + shared), amount
    if rct_type in _MASKED_LONG and len(masked) == 64:
        first = hash_to_scalar(shared)
        mask = _difference(masked[:32], first)
        amount = _difference(masked[32:], hash_to_scalar(first))
        return mask.to_bytes(32, "little"), amount
    return None


def _difference(minuend: bytes, subtrahend: bytes) -> int:
    return (int.from_bytes(minuend, "little") - int.from_bytes(subtrahend, "little")) % ORDER
