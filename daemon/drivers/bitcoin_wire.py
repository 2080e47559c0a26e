"""Raw blocks and transactions of the Bitcoin family, searched in one pass; pure.

Formats: Bitcoin's block and transaction serialisation with BIP 144 witnesses; Litecoin's MWEB
(LIP 2 to 4): flag bit 3, the HogEx transaction that ends a block, the extension block after it.

Nearly every output is somebody else's, so the pass makes no objects but one slice per script and
asks the index for all of them at once (a set intersection in C); only the transactions that
concern us are then parsed in full and hashed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterable
from dataclasses import dataclass
from hashlib import sha256

from actors.core.chain_events import ChainTx, OutPoint, Output
from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex

HEADER_BYTES = 80
FINAL_SEQUENCE = 0xFFFFFFFE
"""An input below this one says that its transaction may be replaced (BIP 125, rule 1)."""
_NULL_TXID = bytes(32)
_WITNESS = 0x01
_MWEB = 0x08
_FLAGS = (_WITNESS, _MWEB, _WITNESS | _MWEB)


class WireError(ValueError):
    """The bytes are not what they were said to be; the text says where, and is short."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in a block; all of `scripts` belong to its transactions in order."""

    starts: list[int]
    """Offset of each transaction."""
    firsts: list[int]
    """Index into `scripts` of each transaction's first one."""
    scripts: list[bytes]
    """The scriptPubKey of every output that has one of the sizes asked for."""
    spent: list[bytes] | None
    """Every input's outpoint as serialised (36 bytes), when asked for."""
    spent_firsts: list[int]
    """Index into `spent` of each transaction's first input."""


@dataclass(frozen=True, slots=True)
class ParsedTx:
    """One transaction in full."""

    txid: bytes | None
    """In the order that people see; None for a pure MWEB transaction, whose id is its kernel's."""
    spends: tuple[bytes, ...]
    """Serialised outpoints; empty for a coinbase."""
    outputs: tuple[tuple[int, bytes], ...]
    """(amount in base units, scriptPubKey)."""
    is_coinbase: bool
    end: int
    """Offset of the first byte after it."""
    replaceable: bool = False
    """One of its own inputs signals that it may be replaced (BIP 125)."""


def block_ref(header: bytes, height: int) -> BlockRef:
    """The identity of the block with this 80-byte header (Litecoin's id is SHA-256d as well)."""
    if len(header) < HEADER_BYTES:
        raise WireError(f"a block header has 80 bytes, not {len(header)}")
    return BlockRef(
        height=height,
        hash=_hash256(header[:HEADER_BYTES]),
        parent=header[35:3:-1],
        time_s=int.from_bytes(header[68:72], "little"),
    )


def match_block(raw: bytes, index: WatchIndex, asset: str) -> tuple[ChainTx, ...]:
    """The block's transactions that concern us, in block order. Raises WireError.

    A coinbase that pays a watched destination is reported like any payment: the money is real, but
    it cannot be spent for 100 blocks, so who mines to an invoice should ask for as many.
    """
    layout = parse_block(raw, index.sizes, with_inputs=bool(index.conflicts))
    return match_layout(raw, layout, index, asset)


def match_layout(raw: bytes, layout: Layout, index: WatchIndex, asset: str) -> tuple[ChainTx, ...]:
    """`match_block` for a block that is already parsed."""
    concerned = set(
        _owners(layout.scripts, index.destinations.keys() & layout.scripts, layout.firsts)
    )
    if layout.spent is not None:
        held = index.conflicts.keys() & layout.spent
        concerned.update(_owners(layout.spent, held, layout.spent_firsts))
    found = (
        parse_tx(raw, layout.starts[ordinal], within_block=True) for ordinal in sorted(concerned)
    )
    return tuple(tx for parsed in found if (tx := match_tx(parsed, index, asset)) is not None)


def match_tx(tx: ParsedTx, index: WatchIndex, asset: str) -> ChainTx | None:
    """What of the transaction concerns us; None when nothing does."""
    txid = tx.txid
    if txid is None:
        return None
    outputs = tuple(
        Output(OutPoint(txid, n), script, amount_base, asset)
        for n, (amount_base, script) in enumerate(tx.outputs)
        if script in index.destinations
    )
    if outputs or any(key in index.conflicts for key in tx.spends):
        return ChainTx(txid=txid, outputs=outputs, spends=tx.spends, replaceable=tx.replaceable)
    return None


def parse_block(raw: bytes, sizes: Container[int], *, with_inputs: bool) -> Layout:
    """Walk the whole block once, checking every length. Raises WireError.

    Only scripts of the given `sizes` are kept.
    """
    if len(raw) <= HEADER_BYTES:
        raise WireError(f"a block has more than {HEADER_BYTES} bytes, not {len(raw)}")
    layout = Layout([], [], [], [] if with_inputs else None, [])
    try:
        count, pos = _count(raw, HEADER_BYTES)
        end = _walk(raw, pos, count, sizes, layout)
    except IndexError:
        raise WireError(f"the block of {len(raw)} bytes ends within a transaction") from None
    if not layout.starts:
        raise WireError("the block has no transaction")
    # Offsets only grow, so a slice past the end shows here if no index past it showed before.
    if end > len(raw):
        raise WireError(f"the block of {len(raw)} bytes ends within a transaction")
    has_extension = _is_hogex(raw, layout.starts[-1])
    if end < len(raw) and not has_extension:
        raise WireError(f"{len(raw) - end} bytes follow the block's last transaction")
    return layout


def _walk(raw: bytes, pos: int, count: int, sizes: Container[int], layout: Layout) -> int:  # noqa: C901, PLR0912, PLR0915 - hot loop: calls double its time
    start, first, script = layout.starts.append, layout.firsts.append, layout.scripts.append
    spend_first = layout.spent_firsts.append
    scripts, spent = layout.scripts, layout.spent
    for _ in range(count):
        start(pos)
        flags = 0
        pos += 4
        inputs = raw[pos]
        if inputs == 0:
            flags = raw[pos + 1]
            if flags not in _FLAGS:
                raise WireError(f"transaction {len(layout.starts) - 1} has unknown flags {flags}")
            pos += 2
            inputs = raw[pos]
        pos += 1
        if inputs >= 0xFD:
            inputs, pos = _count(raw, pos - 1)
        if spent is not None:
            spend_first(len(spent))
        for _ in range(inputs):
            if spent is not None:
                spent.append(raw[pos : pos + 36])
            size = raw[pos + 36]
            if size < 0xFD:
                pos += 41 + size
            else:
                size, pos = _count(raw, pos + 36)
                pos += size + 4
        outputs = raw[pos]
        pos += 1
        if outputs >= 0xFD:
            outputs, pos = _count(raw, pos - 1)
        first(len(scripts))
        for _ in range(outputs):
            size = raw[pos + 8]
            pos += 9
            if size >= 0xFD:
                size, pos = _count(raw, pos - 1)
            if size in sizes:
                script(raw[pos : pos + size])
            pos += size
        if flags & _WITNESS:
            for _ in range(inputs):
                items = raw[pos]
                pos += 1
                if items >= 0xFD:
                    items, pos = _count(raw, pos - 1)
                for _ in range(items):
                    size = raw[pos]
                    if size < 0xFD:
                        pos += 1 + size
                    else:
                        size, pos = _count(raw, pos)
                        pos += size
        if flags & _MWEB:
            # In a block only HogEx has the flag, and it carries no MWEB transaction: one zero byte.
            if raw[pos] != 0:
                raise WireError(f"transaction {len(layout.starts) - 1} has MWEB data in a block")
            pos += 1
        pos += 4
    return pos


def parse_tx(raw: bytes, start: int = 0, *, within_block: bool = False) -> ParsedTx:
    """The transaction at `start`; unless `within_block`, it must end where `raw` does.

    Raises WireError. A coinbase's outpoint is left out; MWEB data are skipped unseen.
    """
    try:
        tx = _parse_tx(raw, start, within_block=within_block)
    except IndexError:
        raise WireError(f"the transaction at {start} ends too early") from None
    if tx.end > len(raw):
        raise WireError(f"the transaction at {start} ends too early")
    if not within_block and tx.end != len(raw):
        raise WireError(f"{len(raw) - tx.end} bytes follow the transaction")
    return tx


def _parse_tx(raw: bytes, start: int, *, within_block: bool) -> ParsedTx:
    flags = 0
    pos = start + 4
    if raw[pos] == 0:
        flags = raw[pos + 1]
        if flags not in _FLAGS:
            raise WireError(f"the transaction at {start} has unknown flags {flags}")
        pos += 2
    body = pos
    count, pos = _count(raw, pos)
    spends: list[bytes] = []
    lowest = FINAL_SEQUENCE
    for _ in range(count):
        spends.append(raw[pos : pos + 36])
        size, pos = _count(raw, pos + 36)
        pos += size + 4
        lowest = min(lowest, int.from_bytes(raw[pos - 4 : pos], "little"))
    outputs, pos = _parse_outputs(raw, pos)
    body_end = pos
    if flags & _WITNESS:
        pos = _skip_witnesses(raw, pos, len(spends))
    if flags & _MWEB:
        pos = _skip_mweb(raw, pos, within_block=within_block)
    core = b"".join((raw[start : start + 4], raw[body:body_end], raw[pos : pos + 4]))
    is_mweb_only = bool(flags & _MWEB) and not spends and not outputs
    is_coinbase = len(spends) == 1 and spends[0][:32] == _NULL_TXID
    return ParsedTx(
        txid=None if is_mweb_only else _hash256(core),
        spends=() if is_coinbase else tuple(spends),
        outputs=outputs,
        is_coinbase=is_coinbase,
        end=pos + 4,
        replaceable=lowest < FINAL_SEQUENCE and not is_coinbase,
    )


def _parse_outputs(raw: bytes, pos: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    count, pos = _count(raw, pos)
    outputs: list[tuple[int, bytes]] = []
    for _ in range(count):
        amount_base = int.from_bytes(raw[pos : pos + 8], "little", signed=True)
        if amount_base < 0:
            raise WireError(f"the output at {pos} has a negative amount")
        size, pos = _count(raw, pos + 8)
        outputs.append((amount_base, raw[pos : pos + size]))
        pos += size
    return tuple(outputs), pos


def _skip_witnesses(raw: bytes, pos: int, inputs: int) -> int:
    for _ in range(inputs):
        items, pos = _count(raw, pos)
        for _ in range(items):
            size, pos = _count(raw, pos)
            pos += size
    return pos


def _skip_mweb(raw: bytes, pos: int, *, within_block: bool) -> int:
    """To the lock time: MWEB data have no length, but only the last 4 bytes follow them."""
    if raw[pos] == 0:
        return pos + 1
    if within_block:
        raise WireError("a transaction has MWEB data in a block")
    if len(raw) - 4 <= pos:
        raise WireError("the transaction ends within its MWEB data")
    return len(raw) - 4


def _owners(all_keys: list[bytes], wanted: set[bytes], firsts: list[int]) -> Iterable[int]:
    """Ordinals of the transactions that hold one of the wanted keys."""
    if not wanted:
        return ()
    return (bisect_right(firsts, at) - 1 for at, key in enumerate(all_keys) if key in wanted)


def _is_hogex(raw: bytes, start: int) -> bool:
    return raw[start + 4] == 0 and bool(raw[start + 5] & _MWEB)


def _count(raw: bytes, pos: int) -> tuple[int, int]:
    """A CompactSize and the offset after it; a truncated one is an IndexError."""
    first = raw[pos]
    if first < 0xFD:
        return first, pos + 1
    width = 1 << (first - 0xFC)
    end = pos + 1 + width
    if end > len(raw):
        raise IndexError
    return int.from_bytes(raw[pos + 1 : end], "little"), end


def _hash256(data: bytes) -> bytes:
    return sha256(sha256(data).digest()).digest()[::-1]
