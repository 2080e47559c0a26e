"""Bitcoin-family transactions and blocks, written and read the slow way; shares no code with ours.

The reader follows the serialisation as Bitcoin Core describes it (BIP 144), field by field from a
stream that refuses to give less than was asked for.
"""

import hashlib
import io
import struct
from dataclasses import dataclass, field


class TruncatedError(Exception):
    """The bytes end within a field, or hold what no transaction may."""


@dataclass(frozen=True)
class TxIn:
    txid: bytes  # as serialised, not as people see it
    index: int
    script: bytes = b""
    sequence: int = 0xFFFFFFFD
    witness: tuple[bytes, ...] = ()

    @property
    def outpoint(self) -> bytes:
        return self.txid + struct.pack("<I", self.index)


@dataclass(frozen=True)
class TxOut:
    amount: int
    script: bytes


@dataclass(frozen=True)
class Tx:
    ins: tuple[TxIn, ...]
    outs: tuple[TxOut, ...]
    version: int = 2
    lock_time: int = 0
    mweb: bytes | None = None  # what stands before the lock time under flag 08

    @property
    def flags(self) -> int:
        has_witness = any(each.witness for each in self.ins)
        return (1 if has_witness else 0) | (8 if self.mweb is not None else 0)

    def core(self) -> bytes:
        """What the txid is the hash of."""
        return struct.pack("<i", self.version) + self._body() + struct.pack("<I", self.lock_time)

    def serialise(self) -> bytes:
        if not self.flags:
            return self.core()
        parts = [struct.pack("<i", self.version), b"\0", bytes([self.flags]), self._body()]
        if self.flags & 1:
            for each in self.ins:
                parts.append(compact(len(each.witness)))
                parts += [compact(len(item)) + item for item in each.witness]
        if self.flags & 8:
            parts.append(self.mweb or b"")
        return b"".join([*parts, struct.pack("<I", self.lock_time)])

    @property
    def txid(self) -> bytes:
        return hash256(self.core())[::-1]

    def _body(self) -> bytes:
        parts = [compact(len(self.ins))]
        for each in self.ins:
            parts += [each.outpoint, compact(len(each.script)), each.script]
            parts.append(struct.pack("<I", each.sequence))
        parts.append(compact(len(self.outs)))
        for out in self.outs:
            parts += [struct.pack("<q", out.amount), compact(len(out.script)), out.script]
        return b"".join(parts)


@dataclass(frozen=True)
class Block:
    txs: tuple[Tx, ...]
    parent: bytes = bytes(32)  # as serialised
    time_s: int = 1_600_000_000
    extension: bytes = b""
    header_rest: bytes = field(default=bytes(8))

    def header(self) -> bytes:
        merkle = hashlib.sha256(b"".join(tx.serialise() for tx in self.txs)).digest()
        start = struct.pack("<i", 0x20000000) + self.parent + merkle
        return start + struct.pack("<I", self.time_s) + self.header_rest

    def serialise(self) -> bytes:
        txs = b"".join(tx.serialise() for tx in self.txs)
        return self.header() + compact(len(self.txs)) + txs + self.extension

    @property
    def hash(self) -> bytes:
        return hash256(self.header())[::-1]


def coinbase(*outs: TxOut, height: int = 1) -> Tx:
    script = b"\x02" + struct.pack("<H", height)
    return Tx((TxIn(bytes(32), 0xFFFFFFFF, script, 0xFFFFFFFF, (bytes(32),)),), outs)


def compact(number: int) -> bytes:
    if number < 0xFD:
        return struct.pack("<B", number)
    if number <= 0xFFFF:
        return b"\xfd" + struct.pack("<H", number)
    if number <= 0xFFFFFFFF:
        return b"\xfe" + struct.pack("<I", number)
    return b"\xff" + struct.pack("<Q", number)


def hash256(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


# --- reading --------------------------------------------------------------------------------------


def read_tx(data: bytes) -> Tx:
    """One transaction without MWEB data; raises TruncatedError unless exactly one is there."""
    stream = io.BytesIO(data)
    tx = _tx(stream)
    if stream.read(1):
        raise TruncatedError("more than a transaction")
    return tx


def read_block(data: bytes) -> list[Tx]:
    """A block's transactions; raises TruncatedError."""
    stream = io.BytesIO(data)
    _take(stream, 80)
    count = _compact(stream)
    if count == 0:
        raise TruncatedError("no transaction")
    txs = [_tx(stream) for _ in range(count)]
    if stream.read(1) and not txs[-1].flags & 8:
        raise TruncatedError("more than a block")
    return txs


def _tx(stream: io.BytesIO) -> Tx:
    (version,) = struct.unpack("<i", _take(stream, 4))
    flags = 0
    count = _compact(stream, short_zero=True)
    if count == 0:
        flags = _take(stream, 1)[0]
        if flags not in (1, 8, 9):
            raise TruncatedError("unknown flags")
        count = _compact(stream)
    ins = [_in(stream) for _ in range(count)]
    outs = tuple(_out(stream) for _ in range(_compact(stream)))
    if flags & 1:
        for at, each in enumerate(ins):
            items = tuple(_take(stream, _compact(stream)) for _ in range(_compact(stream)))
            ins[at] = TxIn(each.txid, each.index, each.script, each.sequence, items)
    mweb = None
    if flags & 8:
        mweb = _take(stream, 1)
        if mweb != b"\0":
            raise TruncatedError("MWEB data")
    (lock_time,) = struct.unpack("<I", _take(stream, 4))
    return Tx(tuple(ins), outs, version, lock_time, mweb)


def _in(stream: io.BytesIO) -> TxIn:
    txid = _take(stream, 32)
    (index,) = struct.unpack("<I", _take(stream, 4))
    script = _take(stream, _compact(stream))
    (sequence,) = struct.unpack("<I", _take(stream, 4))
    return TxIn(txid, index, script, sequence)


def _out(stream: io.BytesIO) -> TxOut:
    (amount,) = struct.unpack("<q", _take(stream, 8))
    return TxOut(amount, _take(stream, _compact(stream)))


def _take(stream: io.BytesIO, count: int) -> bytes:
    if count > len(stream.getbuffer()):
        raise TruncatedError("more than there can be")
    data = stream.read(count)
    if len(data) != count:
        raise TruncatedError("ends within a field")
    return data


def _compact(stream: io.BytesIO, *, short_zero: bool = False) -> int:
    first = _take(stream, 1)[0]
    if first < 0xFD:
        return first
    form = {0xFD: "<H", 0xFE: "<I", 0xFF: "<Q"}[first]
    value: int = struct.unpack(form, _take(stream, struct.calcsize(form)))[0]
    # Only a plain zero byte is the marker of BIP 144.
    return -1 if short_zero and value == 0 else value
