"""Which outputs of transactions may be ours: scanning with private view keys; pure.

Runs in worker processes too, so work goes in and comes out as bytes: `pieces` packs transactions,
`scan` reads them, `unpack` reads its answer. Everything credited is what monero-wallet (wallet2)
would credit: for each transaction key R the shared secret 8aR, for output i its
s = Hs(8aR || varint(i)), the view tag, and then the address key D = P - sG. Whoever knows which D
are addresses looks them up; that table never comes here.

Sources: `derive_view_tag` and `derive_subaddress_public_key` in Monero's crypto.cpp, and
`process_new_transaction` in wallet2.cpp for which keys are tried.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

import sha3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from daemon.drivers.monero_curve import (
    IDENTITY,
    SIGN_BIT,
    derive,
    hash_to_scalar,
    is_point,
    ladder_key,
    ladder_points,
    secrets_but_sign,
    subtract_base,
)
from daemon.drivers.monero_varint import encode_varint

KEY_BYTES = 32
_VIEW_TAG = b"view_tag"
_NO_TAG = 0x100
_HEADER = struct.Struct("<IIHHH")  # transaction, first output, outputs, shared keys, own keys
_OUTPUT = struct.Struct("<32sH")
_ANSWER = struct.Struct("<III32s32s")
# A transaction with more is cut up: what one piece costs has a bound.
_PIECE_OUTPUTS, _PIECE_KEYS = 256, 8
# Measured, in microseconds: they only decide how work is cut, so their order of size is enough.
_KEY_US, _TAGGED_US, _EXACT_KEY_US, _EXACT_US = 37.0, 2.2, 105.0, 60.0
_PREPARE_US = 6.0


class Output(Protocol):
    """What is asked of `monero_wire.TxOutput`."""

    @property
    def key(self) -> bytes: ...
    @property
    def view_tag(self) -> int | None: ...


class Transaction(Protocol):
    """What is asked of `monero_wire.ParsedTx`."""

    @property
    def outputs(self) -> Sequence[Output]: ...
    @property
    def tx_keys(self) -> Sequence[bytes]: ...
    @property
    def additional_keys(self) -> Sequence[bytes]: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """An output that pays whoever has this view key and the spend key of `destination`."""

    tx: int
    """Index of the transaction among those that were scanned."""
    output: int
    view_key: int
    """Index of the view key among those that were scanned with."""
    destination: bytes
    """D, the public spend key of a (sub)address: 32 bytes. Most are nobody's."""
    scalar_secret: bytes = field(repr=False)
    """s, 32 bytes: decodes the amount, see `monero_amounts.prove`. Never to be logged."""


class Piece(NamedTuple):
    """Some outputs of one transaction and some of its keys."""

    packed: bytes
    per_key_us: float
    """About how long it takes with one view key."""
    once_us: float
    """About how long it takes to prepare it for any number of view keys."""


# One output against one transaction key: view tag or _NO_TAG, the output's index in its transaction
# as varint, transaction, output, one-time key. A plain tuple: naming its fields costs as much time
# as the hash of a view tag.
_Check = tuple[int, bytes, int, int, bytes]


# All outputs that belong to one transaction key.
_Group = tuple[bytes, list[_Check]]


class _Prepared(NamedTuple):
    """Groups by how they are scanned, with all that does not depend on the view key."""

    tagged: list[_Group]
    points: list[X25519PublicKey]
    exact: list[_Group]
    """View tags are missing."""
    void: list[_Group]
    """The transaction key is no point, and that matters."""


# --- packing --------------------------------------------------------------------------------------


def pieces(txs: Iterable[Transaction]) -> Iterator[Piece]:
    """Everything to scan of these transactions, which are numbered from 0.

    As wallet2 does: every 0x01 key is tried for every output, additional key i for output i, and
    a transaction without any 0x01 key is skipped whatever additional keys it has.
    """
    for tx, parsed in enumerate(txs):
        outputs, shared, own = parsed.outputs, parsed.tx_keys, parsed.additional_keys
        if len(shared) > 1:
            # Twice the same key finds the same outputs.
            shared = tuple(dict.fromkeys(shared))
        if len(outputs) <= _PIECE_OUTPUTS and len(shared) <= _PIECE_KEYS:
            if shared:
                yield _piece(tx, 0, outputs, shared, own[: len(outputs)])
            continue
        for first in range(0, len(outputs), _PIECE_OUTPUTS):
            some = outputs[first : first + _PIECE_OUTPUTS]
            theirs = own[first : first + len(some)]
            for at in range(0, len(shared), _PIECE_KEYS):
                yield _piece(tx, first, some, shared[at : at + _PIECE_KEYS], theirs)
                theirs = ()


def _piece(
    tx: int, first: int, outputs: Sequence[Output], shared: Sequence[bytes], own: Sequence[bytes]
) -> Piece:
    exact = False
    packed = [_HEADER.pack(tx, first, len(outputs), len(shared), len(own)), *shared, *own]
    for output in outputs:
        tag = output.view_tag
        exact = exact or tag is None
        packed.append(_OUTPUT.pack(output.key, _NO_TAG if tag is None else tag))
    keys, checks = len(shared) + len(own), len(shared) * len(outputs) + len(own)
    if exact:
        per_key_us = _EXACT_KEY_US * keys + _EXACT_US * checks
    else:
        per_key_us = _KEY_US * keys + _TAGGED_US * checks
    return Piece(b"".join(packed), per_key_us, _PREPARE_US * keys + checks)


def unpack(answer: bytes, *, first_view_key: int = 0) -> list[Candidate]:
    """What `scan` found; `first_view_key` is the index of the first view key it was given."""
    return [
        Candidate(tx, output, first_view_key + view_key, destination, secret)
        for tx, output, view_key, destination, secret in _ANSWER.iter_unpack(answer)
    ]


# --- scanning -------------------------------------------------------------------------------------


def scan(packed: bytes, view_keys: Sequence[bytes]) -> bytes:
    """All candidates among the packed pieces, in no order, for these view keys.

    View keys are canonical scalars and not zero. A candidate may come twice, if a transaction names
    the same key in two ways.
    """
    prepared = _prepare(packed)
    found: list[bytes] = []
    for number, view_key in enumerate(view_keys):
        for _, checks in prepared.void:
            _settle(checks, IDENTITY, number, found)
        for tx_key, checks in prepared.exact:
            _settle(checks, derive(tx_key, view_key), number, found)
        _scan_tagged(prepared, view_key, number, found)
    return b"".join(found)


def _prepare(packed: bytes) -> _Prepared:
    tagged: list[_Group] = []
    exact: list[_Group] = []
    void: list[_Group] = []
    at = 0
    while at < len(packed):
        tx, first, outputs, shared, own = _HEADER.unpack_from(packed, at)
        keys_at = at + _HEADER.size
        own_at = keys_at + KEY_BYTES * shared
        keys_end = own_at + KEY_BYTES * own
        at = keys_end + _OUTPUT.size * outputs
        checks: list[_Check] = []
        untagged = suspect = False
        for output, (key, tag) in enumerate(_OUTPUT.iter_unpack(packed[keys_end:at]), first):
            index, void_tag = _index_of(output)
            checks.append((tag, index, tx, output, key))
            if tag == _NO_TAG:
                untagged = suspect = True
            elif tag == void_tag:
                suspect = True
        groups = exact if untagged else tagged
        # For a key that is no point wallet2 goes on with the identity as shared secret, and then
        # credits and spends what was made so. To find out takes half as long as a scan, but only
        # outputs whose view tags fit that secret can be meant: one in 256.
        for pos in range(keys_at, keys_end, KEY_BYTES):
            tx_key = packed[pos : pos + KEY_BYTES]
            mine = checks if pos < own_at else [checks[(pos - own_at) // KEY_BYTES]]
            (void if suspect and not is_point(tx_key) else groups).append((tx_key, mine))
    return _Prepared(tagged, ladder_points([group[0] for group in tagged]), exact, void)


def _scan_tagged(prepared: _Prepared, view_key: bytes, number: int, found: list[bytes]) -> None:
    key = ladder_key(view_key)
    if key is None:
        for tx_key, checks in prepared.tagged:
            _settle(checks, derive(tx_key, view_key), number, found)
        return
    keccak, sign_bit, prefix = sha3.keccak_256, SIGN_BIT, _VIEW_TAG
    secrets = secrets_but_sign(key, prepared.points)
    for (tx_key, checks), y in zip(prepared.tagged, secrets, strict=True):
        even = prefix + y.to_bytes(32, "little")
        odd = prefix + (y | sign_bit).to_bytes(32, "little")
        for tag, index, _tx, _output, _key in checks:
            if keccak(even + index).digest()[0] == tag or keccak(odd + index).digest()[0] == tag:
                break
        else:
            continue
        _settle(checks, derive(tx_key, view_key), number, found)


def _settle(checks: Iterable[_Check], secret: bytes, number: int, found: list[bytes]) -> None:
    """The exact step, once the shared secret is known."""
    for tag, index, tx, output, key in checks:
        if tag not in (_NO_TAG, view_tag(secret, index)):
            continue
        scalar = hash_to_scalar(secret + index)
        destination = subtract_base(key, scalar)
        if destination is not None:
            found.append(_ANSWER.pack(tx, output, number, destination, scalar))


def view_tag(secret: bytes, index: bytes) -> int:
    """The view tag for a shared secret 8aR and an output's index, as varint."""
    digest: bytes = sha3.keccak_256(_VIEW_TAG + secret + index).digest()
    return digest[0]


@lru_cache(maxsize=4096)
def _index_of(output: int) -> tuple[bytes, int]:
    """An output's index as varint, and its view tag if the shared secret is the identity."""
    index = encode_varint(output)
    return index, view_tag(IDENTITY, index)
