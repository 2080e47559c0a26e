"""What a TON message says: a comment, a jetton transfer; what became of it (TEP-74, block.tlb).

Bags of cells are read by pytoniq-core. It believes sizes that cells state of themselves: reading
past the end gives it a shorter number. So every read here asks first whether there is enough.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256
from typing import NamedTuple

from pytoniq_core.boc import Builder, Cell, Slice
from pytoniq_core.boc.deserialize import Boc, NullCell
from pytoniq_core.tlb.transaction import InternalMsgInfo, Transaction, TransactionOrdinary

ACCOUNT_BYTES = 33
"""Workchain (1 byte, signed) and account id."""
MAX_BOC_BYTES = 1024 * 1024
"""A message has at most 8192 cells and 2 Mbit; a transaction's own part of its block is smaller."""
COMMENT_BYTES = 1024
"""Longer comments are none of ours."""
OP_TEXT = 0
OP_ENCRYPTED = 0x2167DA4B
OP_INTERNAL_TRANSFER = 0x178D4519
_OP_BITS = 32
_ORDINARY = -1
_ONCHAIN = 0
_SNAKE = 0
_DECIMALS_KEY = int.from_bytes(sha256(b"decimals").digest(), "big")


class CellError(ValueError):
    """The bytes are no bag of cells, or the cells do not hold what they should."""


class Transfer(NamedTuple):
    """The body of a jetton wallet's internal_transfer (TEP-74)."""

    amount_base: int
    comments: tuple[str, ...]
    """What the forward payload says: as `comments_of`."""


class Inbound(NamedTuple):
    """An inbound internal message and what became of it."""

    value_base: int
    bounced: bool
    """It is one of the account's own messages that came back."""
    aborted: bool
    returned: bool
    """The value went back to the sender in the bounce phase."""
    body: Cell


def read_cell(boc: str) -> Cell:
    """The root of a bag of cells in base64. Raises CellError."""
    return _read(boc, Cell)


def read_body(boc: str) -> NullCell:
    """As `read_cell`, for what strangers wrote: neither hashes nor kinds of its cells are checked.

    What of it is not looked at may be as odd as it likes.
    """
    return _read(boc, NullCell)


def _read(boc: str, kind: type[NullCell]) -> NullCell:
    try:
        raw = base64.b64decode(boc, validate=True)
    except (binascii.Error, ValueError):
        raise CellError("it is no base64") from None
    if len(raw) > MAX_BOC_BYTES:
        raise CellError(f"it has {len(raw)} bytes, more than any message")
    try:
        cells = Boc(raw).deserialize(kind)
    except Exception as error:  # noqa: BLE001 - a boundary: on malformed input pytoniq raises whatever comes up
        raise CellError(f"it is no bag of cells ({error or type(error).__name__})") from None
    if len(cells) != 1 or not isinstance(cells[0], kind):
        raise CellError("it has no single root")
    return cells[0]


def comments_of(body: NullCell) -> tuple[str, ...]:
    """The texts that a message's body may stand for: with the prefix of a comment, or without.

    None for an encrypted comment, for what is no UTF-8 and what is longer than COMMENT_BYTES.
    """
    if not isinstance(body, Slice):
        if body.type_ != _ORDINARY:
            return ()
        body = _opened(body)
    data = _snake(body)
    if data is None:
        return ()
    op = int.from_bytes(data[:4], "big") if len(data) >= 4 else None
    if op == OP_ENCRYPTED:
        return ()
    try:
        text = (data[4:] if op == OP_TEXT else data).decode()
    except UnicodeDecodeError:
        return ()
    return (text,) if text else ()


def read_transfer(body: NullCell) -> Transfer | None:
    """The internal_transfer in `body`; None when it is another message.

    Raises CellError when it begins as one and then is none.
    """
    reader = _Reader(body)
    if reader.left < _OP_BITS or reader.uint(_OP_BITS) != OP_INTERNAL_TRANSFER:
        return None
    reader.uint(64)
    amount = reader.coins()
    try:
        reader.skip_address()
        reader.skip_address()
        reader.coins()
        comments = reader.either_comments()
    except CellError:
        # The wallet has taken the amount: what follows is the payer's, and may be anything.
        comments = ()
    return Transfer(amount, comments)


def read_transaction(boc: str, tx_hash: bytes) -> Inbound | None:
    """The inbound internal message of the transaction; None when it has none.

    Raises CellError, also when the transaction's hash is another one.
    """
    cell = read_cell(boc)
    if cell.hash != tx_hash:
        raise CellError("its hash is another one")
    try:
        tx = Transaction.deserialize(cell.begin_parse())
        info = tx.in_msg.info if tx.in_msg else None
        if not isinstance(info, InternalMsgInfo):
            return None
        described = tx.description
        # Of its own accord nothing but an ordinary transaction takes a message.
        if not isinstance(described, TransactionOrdinary):
            return None
        bounce = described.bounce
        return Inbound(
            value_base=int(info.value_coins),
            bounced=bool(info.bounced),
            aborted=bool(described.aborted),
            returned=bounce is not None and bounce.type_ == "ok",
            body=tx.in_msg.body,
        )
    except Exception as error:  # noqa: BLE001 - the same boundary
        raise CellError(f"it is no transaction ({error or type(error).__name__})") from None


# --- get methods ---


def address_boc(account: bytes) -> str:
    """A cell that holds the address, in base64: an argument of a get method."""
    assert len(account) == ACCOUNT_BYTES, "workchain and account id"
    cell = address_bits(Builder(), account).end_cell()
    return base64.b64encode(cell.to_boc()).decode()


def address_bits(builder: Builder, account: bytes) -> Builder:
    """Store addr_std without anycast."""
    return builder.store_uint(0b100, 3).store_bytes(account)


def read_address(boc: str) -> bytes:
    """The account in a cell that holds an address. Raises CellError."""
    return _Reader(read_cell(boc)).account()


def read_decimals(content: str) -> int | None:
    """What a jetton's content (TEP-64) says of decimals; None when it does not, as off-chain ones.

    Raises CellError.
    """
    cell = read_cell(content)
    reader = _Reader(cell)
    if reader.left < 8 or reader.uint(8) != _ONCHAIN or not reader.flag():
        return None
    try:
        values = (
            Slice(Cell.empty().bits, [])
            .from_cell(reader.ref())
            .load_hashmap(256, value_deserializer=lambda value: value)
        )
    except Exception as error:  # noqa: BLE001 - the same boundary
        raise CellError(f"it is no dictionary ({error or type(error).__name__})") from None
    value = values.get(_DECIMALS_KEY) if values else None
    if value is None:
        return None
    data = _snake(_opened(value.load_ref()) if value.remaining_refs else value) or b""
    digits = data[1:] if data[:1] == bytes([_SNAKE]) else data
    return int(digits) if digits.isdigit() and len(digits) <= 3 else None


# --- inner ---


class _Reader:
    """Reads a cell; raises CellError where it ends too early."""

    def __init__(self, cell: NullCell) -> None:
        if cell.type_ != _ORDINARY:
            raise CellError("it is an exotic cell")
        self._slice: Slice = _opened(cell)

    @property
    def left(self) -> int:
        return int(self._slice.remaining_bits)

    def uint(self, bits: int) -> int:
        if bits > self.left:
            raise CellError(f"{bits} bits are asked of the {self.left} that are left")
        return int(self._slice.load_uint(bits)) if bits else 0

    def flag(self) -> bool:
        return self.uint(1) == 1

    def coins(self) -> int:
        return self.uint(8 * self.uint(4))

    def ref(self) -> NullCell:
        if not self._slice.remaining_refs:
            raise CellError("a reference is missing")
        cell: NullCell = self._slice.load_ref()
        return cell

    def account(self) -> bytes:
        if self.uint(3) != 0b100:
            raise CellError("it holds no standard address")
        return self.uint(8 * ACCOUNT_BYTES).to_bytes(ACCOUNT_BYTES, "big")

    def skip_address(self) -> None:
        """Any MsgAddress: none, external, standard or with variable length."""
        kind = self.uint(2)
        if kind == 0b00:
            return
        if kind == 0b01:
            self._skip(self.uint(9))
            return
        if self.flag():
            self._skip(self.uint(5))
        length = 256 if kind == 0b10 else self.uint(9)
        self._skip((8 if kind == 0b10 else 32) + length)

    def either_comments(self) -> tuple[str, ...]:
        """The comment of a forward payload, which is in the rest, or in a reference."""
        if not self.left:
            return ()
        if self.flag():
            return comments_of(self.ref())
        return comments_of(self._slice)

    def _skip(self, bits: int) -> None:
        if bits > self.left:
            raise CellError(f"{bits} bits are asked of the {self.left} that are left")
        self._slice.skip_bits(bits)


def _opened(cell: NullCell) -> Slice:
    return Slice(cell.bits.copy(), list(cell.refs), cell.type_)


def _snake(rest: Slice) -> bytes | None:
    """Bytes that go on in the first reference (TEP-64); None if too many, or no whole bytes."""
    data = b""
    while True:
        if rest.remaining_bits % 8:
            return None
        data += bytes(rest.load_bytes(rest.remaining_bits // 8)) if rest.remaining_bits else b""
        if len(data) > COMMENT_BYTES + 4:
            return None
        if not rest.remaining_refs:
            return data
        if rest.remaining_refs > 1:
            return None
        cell = rest.load_ref()
        if cell.type_ != _ORDINARY:
            return None
        rest = _opened(cell)
