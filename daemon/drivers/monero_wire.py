"""Monero's blocks and transactions: from bytes to what scanning needs; pure.

Formats: Monero's `cryptonote_basic.h` and `rctTypes.h` (monero-project/monero). Read as strictly as
monerod reads them: every varint in its shortest form and below 2^64, no byte left over. Ids are
computed here, so whoever asked for an id can tell whether he was given what he asked for.

Every count is held against the bytes that are left before anything is made of it. The text of a
WireError says what was read, at which byte, and what is wrong with it; it quotes no data.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from daemon.drivers.monero_extra import parse_extra
from daemon.drivers.monero_hash import HASH_BYTES, NULL_HASH, block_id, keccak, tx_id
from daemon.drivers.monero_varint import VARINT_FORM, end_of_varints, read_varint, varint_fault

_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_INPUT_GEN = b"\xff"
_INPUT_TO_KEY = b"\x02"
_OUTPUT_TO_KEY = 0x02
_OUTPUT_TO_TAGGED_KEY = 0x03
_INPUT_LEAST_BYTES = 35  # kind, amount, number of ring members, key image
_OUTPUT_LEAST_BYTES = 34  # amount, kind, key

# What nearly all inputs and outputs are since hard fork 15: a hidden amount and a ring of 16, a
# hidden amount and a view tag. Told apart first, which saves a sixth of the time of the whole.
_USUAL_INPUT = re.compile(rb"\x02\x00\x10(?>%b{16})(.{32})" % VARINT_FORM, re.DOTALL)
_USUAL_RING = 16
_USUAL_OUTPUT = b"\x00\x03"
_USUAL_OUTPUT_BYTES = 35

_RCT_NULL = 0
_RCT_SIMPLE = 2  # the only one that has pseudo outputs in its base part
_RCT_LAST = 6
_RCT_SHORT_ECDH_FROM = 4


class WireError(ValueError):
    """The bytes are not what they were said to be; the text says where, and is short."""


class PrunedIdError(WireError):
    """A pruned version 1 transaction: its id covers the signatures too, so it is needed whole."""


class TxOutput(NamedTuple):
    """One output. A tuple, because a catch-up makes millions of them."""

    key: bytes
    """The one-time public key, 32 bytes; not checked to be a point."""
    amount: int
    """As written in clear, in piconero: 0 where the amount is hidden (`rct_type` 1 to 6)."""
    view_tag: int | None
    """The first byte of the view tag's hash; None before hard fork 15."""


class ParsedTx(NamedTuple):
    """One transaction without its proofs. A tuple for the same reason."""

    txid: bytes
    """Computed from the bytes."""
    version: int
    """1 or 2."""
    unlock_time: int
    """Below 500 000 000 a height, else Unix seconds; 0 for none."""
    is_coinbase: bool
    key_images: tuple[bytes, ...]
    """What it spends, 32 bytes each; empty for a coinbase."""
    outputs: tuple[TxOutput, ...]
    tx_keys: tuple[bytes, ...]
    """Every transaction public key of `extra` in its order, 32 bytes each, none of them checked."""
    additional_keys: tuple[bytes, ...]
    """Of the first such field in `extra`; number i is for output i. May be more or fewer than the
    outputs: nothing enforces it."""
    rct_type: int
    """0 to 6; 0 for version 1 as well."""
    ecdh: tuple[bytes, ...]
    """One for each output: 64 bytes (mask, amount) for types 1 to 3, 8 bytes for 4 to 6; empty for
    type 0."""
    commitments: tuple[bytes, ...]
    """One for each output, 32 bytes; empty for type 0."""


class ParsedBlock(NamedTuple):
    """A block without its transactions, but for the miner's."""

    hash: bytes
    """Computed from the bytes."""
    height: int
    """As the miner transaction says: monerod lets no other into the chain."""
    parent: bytes
    timestamp: int
    """Unix seconds as the miner wrote them."""
    miner_tx: ParsedTx
    txids: tuple[bytes, ...]
    """Of the other transactions, in block order."""


class _Prefix(NamedTuple):
    """What both versions begin with."""

    version: int
    unlock_time: int
    height: int | None  # of a coinbase, else None
    key_images: tuple[bytes, ...]
    ring_members: int
    outputs: tuple[TxOutput, ...]
    extra: bytes
    end: int


class _RctBase(NamedTuple):
    rct_type: int
    ecdh: tuple[bytes, ...]
    commitments: tuple[bytes, ...]
    end: int


_NO_RCT = (_RCT_NULL, (), ())


def parse_tx(blob: bytes, *, prunable_hash: bytes | None = None) -> ParsedTx:
    """The transaction that `blob` holds, whole or, when `prunable_hash` is given, pruned.

    The hash goes into the id unproved: compare the id with the one that was asked for. It is not
    used where there is nothing to prune (type 0). Malformed `extra` is no error: what came before
    the fault counts. Raises WireError, PrunedIdError for a pruned one of version 1.
    """
    assert prunable_hash is None or len(prunable_hash) == HASH_BYTES, "a hash has 32 bytes"
    prefix = _parse_prefix(blob, 0)
    if prefix.version == 1:
        if prunable_hash is not None:
            raise PrunedIdError(
                "a pruned version 1 transaction does not tell its id: it is needed whole"
            )
        end = prefix.end + prefix.ring_members * _SIGNATURE_BYTES
        _expect_end(blob, end, "signatures")
        return _assemble(prefix, keccak(blob), *_NO_RCT)
    base = _parse_rct_base(blob, prefix)
    if base.rct_type == _RCT_NULL or prunable_hash is not None:
        _expect_end(blob, base.end, "RingCT base")
    if base.rct_type == _RCT_NULL:
        prunable_hash = NULL_HASH
    elif prunable_hash is None:
        if base.end == len(blob):
            raise WireError(f"the proofs at byte {base.end} are missing, as in a pruned one")
        prunable_hash = keccak(blob[base.end :])
    txid = tx_id(blob[: prefix.end], blob[prefix.end : base.end], prunable_hash)
    return _assemble(prefix, txid, base.rct_type, base.ecdh, base.commitments)


def parse_block(blob: bytes) -> ParsedBlock:
    """The block that `blob` holds. Raises WireError.

    The ids of its transactions are as written: they are proved once the block's hash is known to be
    right. The work is not checked; that is the node's part.
    """
    pos = 0
    for what in ("major version", "minor version"):
        version, pos = _varint(blob, pos, what)
        if version > 0xFF:
            raise WireError(f"the {what} before byte {pos} is {version}, over 255")
    timestamp, pos = _varint(blob, pos, "timestamp")
    header_end = pos + HASH_BYTES + 4
    if header_end > len(blob):
        raise WireError(f"the header at byte {pos} goes past the end at {len(blob)}")
    parent = blob[pos : pos + HASH_BYTES]
    prefix = _parse_prefix(blob, header_end)
    if prefix.height is None:
        raise WireError(f"the transaction at byte {header_end} is no miner transaction")
    miner_tx, pos = _parse_miner_tx(blob, header_end, prefix)
    count, pos = _varint(blob, pos, "number of transactions")
    end = pos + count * HASH_BYTES
    _expect_end(blob, end, f"{count} transaction ids")
    txids = tuple([blob[at : at + HASH_BYTES] for at in range(pos, end, HASH_BYTES)])
    block_hash = block_id(blob, blob[:header_end], (miner_tx.txid, *txids), height=prefix.height)
    return ParsedBlock(block_hash, prefix.height, parent, timestamp, miner_tx, txids)


def _parse_miner_tx(blob: bytes, start: int, prefix: _Prefix) -> tuple[ParsedTx, int]:
    """Within a block, where only the miner transaction itself says where it ends."""
    end = prefix.end
    if prefix.version == 1:
        return _assemble(prefix, keccak(blob[start:end]), *_NO_RCT), end
    if end >= len(blob):
        raise WireError(f"the RingCT type at byte {end} is past the end")
    if blob[end] != _RCT_NULL:
        raise WireError(f"the miner transaction has RingCT type {blob[end]} at byte {end}, not 0")
    txid = tx_id(blob[start:end], blob[end : end + 1], NULL_HASH)
    return _assemble(prefix, txid, *_NO_RCT), end + 1


def _assemble(
    prefix: _Prefix,
    txid: bytes,
    rct_type: int,
    ecdh: tuple[bytes, ...],
    commitments: tuple[bytes, ...],
) -> ParsedTx:
    tx_keys, additional_keys = parse_extra(prefix.extra)
    return ParsedTx(
        txid,
        prefix.version,
        prefix.unlock_time,
        prefix.height is not None,
        prefix.key_images,
        prefix.outputs,
        tx_keys,
        additional_keys,
        rct_type,
        ecdh,
        commitments,
    )


def _parse_prefix(blob: bytes, start: int) -> _Prefix:
    version, pos = _varint(blob, start, "transaction version")
    if version not in {1, 2}:
        raise WireError(f"the transaction at byte {start} has version {version}, not 1 or 2")
    unlock_time, pos = _varint(blob, pos, "unlock time")
    count, pos = _varint(blob, pos, "number of inputs")
    if count == 0:
        raise WireError(f"the transaction at byte {start} has no input")
    height: int | None = None
    key_images: tuple[bytes, ...] = ()
    ring_members = 0
    if count == 1 and blob[pos : pos + 1] == _INPUT_GEN:
        height, pos = _varint(blob, pos + 1, "height")
    else:
        key_images, ring_members, pos = _parse_inputs(blob, pos, count)
    count, pos = _varint(blob, pos, "number of outputs")
    outputs, pos = _parse_outputs(blob, pos, count)
    size, pos = _varint(blob, pos, "size of extra")
    end = pos + size
    if end > len(blob):
        raise WireError(f"extra of {size} bytes at byte {pos} goes past the end at {len(blob)}")
    extra = blob[pos:end]
    return _Prefix(version, unlock_time, height, key_images, ring_members, outputs, extra, end)


def _parse_inputs(blob: bytes, pos: int, count: int) -> tuple[tuple[bytes, ...], int, int]:
    """(key images, number of ring members of all inputs, end)."""
    _expect_room(blob, pos, count, _INPUT_LEAST_BYTES, "inputs")
    key_images: list[bytes] = []
    all_members = 0
    for number in range(count):
        usual = _USUAL_INPUT.match(blob, pos)
        if usual is not None:
            key_images.append(usual[1])
            all_members += _USUAL_RING
            pos = usual.end()
            continue
        kind = blob[pos : pos + 1]
        if kind != _INPUT_TO_KEY:
            raise WireError(f"input {number} at byte {pos} is of kind {kind.hex() or 'nothing'}")
        _, pos = _varint(blob, pos + 1, "amount of an input")
        members, pos = _varint(blob, pos, "number of ring members")
        _expect_room(blob, pos, members, 1, "ring members")
        all_members += members
        pos = _skip_offsets(blob, pos, members)
        key_images.append(blob[pos : pos + _KEY_BYTES])
        pos += _KEY_BYTES
    if pos > len(blob):
        raise WireError(f"the inputs go to byte {pos}, past the end at {len(blob)}")
    return tuple(key_images), all_members, pos


def _parse_outputs(blob: bytes, pos: int, count: int) -> tuple[tuple[TxOutput, ...], int]:
    _expect_room(blob, pos, count, _OUTPUT_LEAST_BYTES, "outputs")
    outputs: list[TxOutput] = []
    size = len(blob)
    for number in range(count):
        if blob[pos : pos + 2] == _USUAL_OUTPUT and pos + _USUAL_OUTPUT_BYTES <= size:
            end = pos + _USUAL_OUTPUT_BYTES
            outputs.append(TxOutput(blob[pos + 2 : end - 1], 0, blob[end - 1]))
            pos = end
            continue
        amount, pos = _varint(blob, pos, "amount of an output")
        # The last output may lie past the end: `end` is checked once, below.
        kind = blob[pos] if pos < size else -1
        end = pos + 1 + _KEY_BYTES
        key = blob[pos + 1 : end]
        if kind == _OUTPUT_TO_TAGGED_KEY and end < size:
            outputs.append(TxOutput(key, amount, blob[end]))
            pos = end + 1
        elif kind == _OUTPUT_TO_KEY and end <= size:
            outputs.append(TxOutput(key, amount, None))
            pos = end
        elif kind in {_OUTPUT_TO_KEY, _OUTPUT_TO_TAGGED_KEY, -1}:
            raise WireError(f"output {number} at byte {pos} goes past the end at {size}")
        else:
            raise WireError(f"output {number} at byte {pos} is of kind {kind:02x}")
    return tuple(outputs), pos


def _parse_rct_base(blob: bytes, prefix: _Prefix) -> _RctBase:
    pos = prefix.end
    if pos >= len(blob):
        raise WireError(f"the RingCT type at byte {pos} is past the end")
    rct_type = blob[pos]
    pos += 1
    if rct_type == _RCT_NULL:
        return _RctBase(rct_type, (), (), pos)
    if rct_type > _RCT_LAST:
        raise WireError(f"the RingCT type at byte {pos - 1} is {rct_type}, over {_RCT_LAST}")
    _, pos = _varint(blob, pos, "fee")
    if rct_type == _RCT_SIMPLE:
        # As many as inputs: a coinbase has one too.
        pos += _KEY_BYTES * (len(prefix.key_images) or 1)
    ecdh_bytes = 8 if rct_type >= _RCT_SHORT_ECDH_FROM else 2 * _KEY_BYTES
    count = len(prefix.outputs)
    masks = pos + count * ecdh_bytes
    end = masks + count * _KEY_BYTES
    if end > len(blob):
        raise WireError(f"the RingCT base goes to byte {end}, past the end at {len(blob)}")
    ecdh = _chunks(blob, pos, count, ecdh_bytes)
    return _RctBase(rct_type, ecdh, _chunks(blob, masks, count, _KEY_BYTES), end)


def _chunks(blob: bytes, pos: int, count: int, size: int) -> tuple[bytes, ...]:
    return tuple([blob[at : at + size] for at in range(pos, pos + count * size, size)])


def _expect_room(blob: bytes, pos: int, count: int, least_bytes: int, what: str) -> None:
    left = len(blob) - pos
    if count * least_bytes > left:
        raise WireError(f"{count} {what} at byte {pos} do not fit into the {left} bytes left")


def _expect_end(blob: bytes, end: int, what: str) -> None:
    if end > len(blob):
        raise WireError(f"the {what} go to byte {end}, past the end at {len(blob)}")
    if end < len(blob):
        raise WireError(f"{len(blob) - end} bytes are left over after the {what} at byte {end}")


def _varint(blob: bytes, pos: int, what: str) -> tuple[int, int]:
    """The value and where it ends."""
    if pos < len(blob) and (first := blob[pos]) < 0x80:
        return first, pos + 1
    read = read_varint(blob, pos)
    if read is None:
        raise WireError(f"the {what} at byte {pos} is no varint: {varint_fault(blob, pos)}")
    return read


def _skip_offsets(blob: bytes, pos: int, count: int) -> int:
    end = end_of_varints(blob, pos, count)
    if end is not None:
        return end
    # Which one it was is only of interest now.
    for _ in range(count):
        _, pos = _varint(blob, pos, "offset of a ring member")
    raise AssertionError("a malformed varint was read")
