"""What messages say: comments, transfers; and bytes that say nothing."""

import base64
import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pytoniq_core.boc import Builder, Cell

from daemon.drivers.ton_cells import (
    COMMENT_BYTES,
    OP_ENCRYPTED,
    OP_INTERNAL_TRANSFER,
    CellError,
    Transfer,
    address_bits,
    address_boc,
    comments_of,
    read_address,
    read_body,
    read_cell,
    read_decimals,
    read_transaction,
    read_transfer,
)
from daemon.drivers.ton_jettons import LAYOUTS, WalletAddress

ACCOUNT = bytes(1) + bytes(range(32))
COMMENT = "INV-1"


def boc(cell: Cell) -> str:
    return base64.b64encode(cell.to_boc()).decode()


def text(said: str, *, prefix: bytes = bytes(4)) -> Cell:
    """A snake of cells."""
    data = prefix + said.encode()
    pieces = [data[at : at + 127] for at in range(0, len(data), 127)] or [b""]
    cell: Any = None
    for piece in reversed(pieces):
        builder = Builder().store_bytes(piece)
        cell = (builder.store_ref(cell) if cell is not None else builder).end_cell()
    return cell


def transfer(amount: int = 5, payload: Builder | None = None, *, is_ref: bool = False) -> Cell:
    builder = Builder().store_uint(OP_INTERNAL_TRANSFER, 32).store_uint(7, 64).store_coins(amount)
    address_bits(builder, ACCOUNT).store_uint(0, 2).store_coins(1).store_uint(is_ref, 1)
    if payload is not None:
        inner = payload.end_cell()
        builder = builder.store_ref(inner) if is_ref else builder.store_cell(inner)
    return builder.end_cell()


def said(cell: Cell) -> tuple[str, ...]:
    return comments_of(read_body(boc(cell)))


# --- comments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("comment", [COMMENT, "№ 5 — ü", "x" * 123, "x" * 124, "y" * 900, " a "])
def test_a_comment_is_read_with_and_without_its_prefix(comment):
    assert said(text(comment)) == (comment,)
    assert said(text(comment, prefix=b"")) == (comment,)


@pytest.mark.parametrize(
    "cell",
    [
        text(""),
        text("", prefix=b""),
        text(COMMENT, prefix=OP_ENCRYPTED.to_bytes(4, "big")),
        Builder().store_bytes(bytes(4) + b"\xff\xfe").end_cell(),
        Builder().store_bytes(bytes(4)).store_uint(5, 7).end_cell(),
        text("x" * (COMMENT_BYTES + 1)),
        Builder()
        .store_bytes(bytes(4) + b"a")
        .store_ref(text("b", prefix=b""))
        .store_ref(text("c", prefix=b""))
        .end_cell(),
    ],
    ids=["empty", "nothing", "encrypted", "no UTF-8", "no bytes", "too long", "a fork"],
)
def test_what_is_no_comment_says_nothing(cell):
    assert said(cell) == ()


def test_an_exotic_cell_is_no_comment():
    library = Cell(Builder().store_uint(2, 8).store_bytes(bytes(32)).end_cell().bits, [], 2)
    assert said(library) == ()
    assert said(Builder().store_bytes(bytes(4) + b"a").store_ref(library).end_cell()) == ()


# --- transfers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0, 1, 2**63 - 1, 2**63, 2**64 + 1, 2**120 - 1])
def test_a_transfer_has_its_amount_whatever_its_size(amount):
    assert read_transfer(read_body(boc(transfer(amount)))) == Transfer(amount, ())


@pytest.mark.parametrize("is_ref", [False, True])
def test_the_comment_of_a_transfer_is_in_the_rest_or_in_a_reference(is_ref):
    payload = Builder().store_bytes(bytes(4) + COMMENT.encode())
    cell = transfer(5, payload, is_ref=is_ref)
    assert read_transfer(read_body(boc(cell))) == Transfer(5, (COMMENT,))


def test_a_reference_that_is_promised_and_missing_takes_nothing_from_the_amount():
    assert read_transfer(transfer(5, is_ref=True)) == Transfer(5, ())


@pytest.mark.parametrize("kept_bits", [32 + 64 + 8 + 100, 32 + 64 + 12, 32 + 64 + 12 + 267 + 1])
def test_a_transfer_that_ends_after_its_amount_has_the_amount(kept_bits):
    whole = transfer(5)
    cut = Builder().store_bits(whole.bits[:kept_bits]).end_cell()
    assert read_transfer(cut) == Transfer(5, ())


@pytest.mark.parametrize("kept_bits", [33, 95, 96, 99, 100, 107])
def test_a_transfer_that_ends_within_its_amount_is_none(kept_bits):
    """pytoniq would read a shorter number there."""
    cut = Builder().store_bits(transfer(200).bits[:kept_bits]).end_cell()
    with pytest.raises(CellError, match="are asked of the"):
        read_transfer(cut)


def test_other_messages_are_no_transfers():
    assert read_transfer(text(COMMENT)) is None
    assert read_transfer(Builder().store_uint(1, 31).end_cell()) is None
    assert read_transfer(Builder().end_cell()) is None


@pytest.mark.parametrize("address", ["0" * 2, "01" + "000001000" + "1" * 8, "11"])
def test_addresses_of_every_kind_are_passed_over(address):
    builder = Builder().store_uint(OP_INTERNAL_TRANSFER, 32).store_uint(7, 64).store_coins(9)
    builder = builder.store_bits(address)
    if address == "11":
        builder = builder.store_bits("0" + f"{16:09b}" + "0" * 32 + "1" * 16)
    builder.store_uint(0, 2).store_coins(0).store_uint(0, 1)
    payload = builder.store_bytes(bytes(4) + COMMENT.encode())
    assert read_transfer(payload.end_cell()) == Transfer(9, (COMMENT,))


# --- other cells ----------------------------------------------------------------------------------


def test_an_address_survives_its_cell():
    masterchain = b"\xff" + bytes(range(32))
    for account in (ACCOUNT, masterchain):
        assert read_address(address_boc(account)) == account


def test_what_holds_no_address_is_said():
    with pytest.raises(CellError, match="no standard address"):
        read_address(boc(Builder().store_uint(0, 300).end_cell()))
    with pytest.raises(CellError, match="3 bits are asked"):
        read_address(boc(Builder().end_cell()))


def test_content_off_chain_tells_no_decimals():
    assert (
        read_decimals(boc(Builder().store_uint(1, 8).store_bytes(b"https://x").end_cell())) is None
    )
    assert read_decimals(boc(Builder().store_uint(0, 9).end_cell())) is None


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_wallets_have_the_address_that_the_library_computes(layout):
    code = text("code", prefix=b"")
    master = bytes(1) + bytes([7]) * 32
    wallet = WalletAddress(layout, master=master, code=code)
    for owner in (ACCOUNT, bytes(33), b"\xff" * 33, bytes(1) + b"\xff" * 32):
        data = layout(owner, master, code)
        init = Builder().store_uint(0b00110, 5).store_ref(code).store_ref(data).end_cell()
        assert wallet.of(owner) == bytes(1) + init.hash


# --- garbage --------------------------------------------------------------------------------------

READERS = (
    lambda data: read_transfer(read_body(data)),
    lambda data: comments_of(read_body(data)),
    read_cell,
    read_address,
    read_decimals,
    lambda data: read_transaction(data, bytes(32)),
)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xb5\xee\x9cr")
def test_bytes_that_are_no_cells_are_refused(data):
    for reader in READERS:
        with pytest.raises(CellError):
            reader(base64.b64encode(data).decode())


@given(st.data())
def test_changed_bytes_give_an_answer_or_a_refusal(data):
    whole = transfer(1000, Builder().store_bytes(bytes(4) + b"hello"), is_ref=True).to_boc()
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    del broken[data.draw(st.integers(1, len(broken))) :]
    for reader in READERS:
        with contextlib.suppress(CellError):
            reader(base64.b64encode(bytes(broken)).decode())


@pytest.mark.parametrize("data", ["?", "te6", "te6cckEBAQ=A", "AA" * 1_000_000])
def test_texts_that_are_no_cells_are_refused(data):
    with pytest.raises(CellError):
        read_cell(data)
