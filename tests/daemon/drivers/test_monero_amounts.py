"""An amount counts only if it opens the output's commitment."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.drivers.monero_amounts import prove
from tests.helpers import monero_reference as reference
from tests.helpers.monero_reference import L, Output, Transaction, scalar_bytes

RCT_TYPES = (1, 2, 3, 4, 5, 6)
LONG, SHORT = (1, 2, 3), (4, 5, 6)
AMOUNTS = (0, 1, 255, 10**12, 2**32, 2**63, 2**64 - 1)
slow = settings(max_examples=40, deadline=None)


def hidden(rct_type, secret, amount, mask=7):
    """A transaction with one output of this amount, whose s is `secret`."""
    masked, commitment = reference.mask_amount(rct_type, secret, amount, mask)
    output = Output(bytes(32), 0, None)
    return Transaction((output,), rct_type=rct_type, ecdh=(masked,), commitments=(commitment,))


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("rct_type", RCT_TYPES)
def test_proves_amounts_of_every_kind(rct_type, amount):
    tx = hidden(rct_type, 12345, amount)

    assert prove(tx, 0, scalar_bytes(12345)) == amount
    assert reference.amount_of(tx, 0, 12345) == amount


@slow
@given(
    st.sampled_from(RCT_TYPES),
    st.integers(0, L - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, L - 1),
    st.integers(0, 63),
    st.integers(0, 255),
)
def test_agrees_with_a_wallet_about_every_changed_byte(kind, secret, amount, mask, at, mark):
    tx = hidden(kind, secret, amount, mask)
    (masked,) = tx.ecdh
    changed = bytearray(masked)
    changed[at % len(masked)] ^= mark
    tx = replace(tx, ecdh=(bytes(changed),))

    proved = prove(tx, 0, scalar_bytes(secret))

    assert proved == reference.amount_of(tx, 0, secret)
    assert proved == (None if mark else amount)


@pytest.mark.parametrize("rct_type", RCT_TYPES)
def test_refuses_a_commitment_to_another_amount(rct_type):
    tx = replace(hidden(rct_type, 99, 10**12), commitments=hidden(rct_type, 99, 1).commitments)

    assert prove(tx, 0, scalar_bytes(99)) is None


@pytest.mark.parametrize("rct_type", RCT_TYPES)
def test_refuses_another_outputs_scalar(rct_type):
    assert prove(hidden(rct_type, 99, 10**12), 0, scalar_bytes(98)) is None


@pytest.mark.parametrize("rct_type", RCT_TYPES)
def test_refuses_bytes_that_are_no_commitment(rct_type):
    tx = replace(hidden(rct_type, 99, 10**12), commitments=((2).to_bytes(32, "little"),))

    assert prove(tx, 0, scalar_bytes(99)) is None


@pytest.mark.parametrize("amount", [2**64, 2**64 + 1, L - 1])
@pytest.mark.parametrize("rct_type", LONG)
def test_refuses_amounts_beyond_64_bits_though_the_commitment_opens(rct_type, amount):
    assert prove(hidden(rct_type, 99, amount), 0, scalar_bytes(99)) is None


@pytest.mark.parametrize("rct_type", LONG)
def test_takes_masks_that_are_not_reduced(rct_type):
    # sc_sub takes any 32 bytes, and so do wallets.
    tx = hidden(rct_type, 99, 10**12)
    mask = int.from_bytes(tx.ecdh[0][:32], "little") + L
    tx = replace(tx, ecdh=(scalar_bytes(mask) + tx.ecdh[0][32:],))

    assert prove(tx, 0, scalar_bytes(99)) == reference.amount_of(tx, 0, 99) == 10**12


@pytest.mark.parametrize("rct_type", [0, 7, 255])
def test_refuses_kinds_it_does_not_know(rct_type):
    tx = replace(hidden(6, 99, 10**12), rct_type=rct_type)

    assert prove(tx, 0, scalar_bytes(99)) is None


@pytest.mark.parametrize(("rct_type", "length"), [(1, 8), (3, 63), (4, 64), (6, 7), (6, 0)])
def test_refuses_masked_amounts_of_another_length(rct_type, length):
    tx = replace(hidden(rct_type, 99, 10**12), ecdh=(bytes(length),))

    assert prove(tx, 0, scalar_bytes(99)) is None


@pytest.mark.parametrize("missing", ["ecdh", "commitments"])
def test_refuses_what_is_not_all_there(missing):
    tx = replace(hidden(6, 99, 10**12), **{missing: ()})

    assert prove(tx, 0, scalar_bytes(99)) is None


def test_takes_clear_amounts_where_the_chain_has_them():
    output = Output(bytes(32), 600_000_000_000, None)
    coinbase = Transaction((output,), is_coinbase=True, rct_type=0)
    old = Transaction((output,), version=1, rct_type=0)

    assert prove(coinbase, 0, bytes(32)) == 600_000_000_000
    assert prove(old, 0, bytes(32)) == 600_000_000_000


def test_refuses_clear_amounts_that_nothing_proves():
    tx = hidden(6, 99, 5)
    tx = replace(tx, outputs=(replace(tx.outputs[0], amount=5),))

    assert prove(tx, 0, scalar_bytes(99)) is None


@pytest.mark.parametrize("rct_type", RCT_TYPES)
def test_proves_what_a_sender_made(rct_type):
    dice = random.Random(rct_type)
    wallet = reference.Wallet.make(dice)
    amounts = [2**64 - 1, 3]
    addresses = [wallet.address(0, 1), wallet.address(0, 2)]
    tx = reference.send(list(zip(addresses, amounts, strict=True)), dice, rct_type=rct_type)
    spends = {reference.encode(address.spend) for address in addresses}

    found = reference.receive(tx, wallet.view, spends)

    assert [prove(tx, index, scalar_bytes(secret)) for index, _, secret in found] == amounts
