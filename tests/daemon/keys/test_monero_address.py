"""Subaddresses: published vectors, the curve by hand, and bip-utils."""

import pytest
from bip_utils import Monero, MoneroCoins
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.keys import monero_address
from daemon.keys.monero_address import (
    GROUP_ORDER,
    PRIMARY,
    SUBADDRESS,
    address_text,
    is_key,
    is_scalar,
    public_key,
    subaddress,
)
from tests.daemon.keys import monero_samples as samples

SCALAR = st.integers(1, GROUP_ORDER - 1)
INDEX = st.integers(0, 2**32 - 1)
COINS = {
    "mainnet": MoneroCoins.MONERO_MAINNET,
    "stagenet": MoneroCoins.MONERO_STAGENET,
    "testnet": MoneroCoins.MONERO_TESTNET,
}


def scalar(number):
    return number.to_bytes(32, "little")


@pytest.mark.parametrize(("index", "expected"), samples.ADDRESSES.items())
def test_monero_s_own_vectors(index, expected):
    view, spend = bytes.fromhex(samples.VIEW), bytes.fromhex(samples.SPEND)
    major, minor = index
    spend_of, view_of = subaddress(view=view, spend=spend, major=major, minor=minor)
    for network in ("mainnet", "fakechain"):
        assert address_text(SUBADDRESS[network], spend=spend_of, view=view_of) == expected


def test_the_primary_address_and_goipay_s_vector():
    view, spend = bytes.fromhex(samples.VIEW), bytes.fromhex(samples.SPEND)
    assert public_key(view).hex() == samples.VIEW_PUBLIC
    assert address_text(PRIMARY["mainnet"], spend=spend, view=public_key(view)) == samples.PRIMARY
    view, spend = bytes.fromhex(samples.GOIPAY_VIEW), bytes.fromhex(samples.GOIPAY_SPEND)
    spend, view = subaddress(view=view, spend=spend, major=0, minor=1)
    assert address_text(SUBADDRESS["stagenet"], spend=spend, view=view) == samples.GOIPAY_FIRST


@settings(max_examples=10, deadline=None)
@given(view=SCALAR, spend=SCALAR, major=INDEX, minor=INDEX)
def test_equals_the_curve_by_hand(view, spend, major, minor):
    if major == minor == 0:
        minor = 1
    spend = samples.compress(samples.multiply(samples.BASE, spend))
    found = subaddress(view=scalar(view), spend=spend, major=major, minor=minor)
    assert found == samples.subaddress(scalar(view), spend, major, minor)


@settings(max_examples=20, deadline=None)
@given(view=SCALAR, spend=SCALAR, major=INDEX, minor=INDEX, network=st.sampled_from([*COINS]))
def test_equals_bip_utils(view, spend, major, minor, network):
    if major == minor == 0:
        minor = 1
    spend = public_key(scalar(spend))
    slow = Monero.FromWatchOnly(scalar(view), spend, COINS[network])
    own, seen_by = subaddress(view=scalar(view), spend=spend, major=major, minor=minor)
    assert address_text(SUBADDRESS[network], spend=own, view=seen_by) == slow.Subaddress(
        minor, major
    )
    primary = address_text(PRIMARY[network], spend=spend, view=public_key(scalar(view)))
    assert primary == slow.PrimaryAddress()


@pytest.mark.parametrize("index", [(0, 0), (-1, 1), (0, -1), (2**32, 0), (0, 2**32)])
def test_what_is_no_subaddress(index):
    view, spend = bytes.fromhex(samples.VIEW), bytes.fromhex(samples.SPEND)
    with pytest.raises(ValueError, match="there is no subaddress"):
        subaddress(view=view, spend=spend, major=index[0], minor=index[1])


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_keys_are_points_of_the_prime_order_group(data):
    point = samples.decompress(data)
    good = point is not None and samples.multiply(point, GROUP_ORDER) == (0, 1)
    assert is_key(data) is (good and point != (0, 1))


@pytest.mark.parametrize("text", samples.SMALL_ORDER)
def test_points_of_small_order_and_keys_with_a_torsion_part_are_no_keys(text):
    small = samples.decompress(bytes.fromhex(text))
    if small is None:  # minus zero, in the two encodings that name no point
        assert not is_key(bytes.fromhex(text))
        return
    assert samples.multiply(small, 8) == (0, 1)
    assert not is_key(bytes.fromhex(text))
    key = samples.decompress(bytes.fromhex(samples.SPEND))
    mixed = samples.compress(samples.add(key, small))
    assert is_key(mixed) is (small == (0, 1))


def test_scalars_are_canonical_and_not_zero():
    for number, good in ((0, False), (1, True), (GROUP_ORDER - 1, True), (GROUP_ORDER, False)):
        assert is_scalar(scalar(number)) is good
    assert not is_scalar(b"\xff" * 32)
    assert not is_scalar(b"\1" * 31)
    assert not is_key(b"\1" * 31)


def test_every_network_of_a_node_has_its_two_prefixes():
    assert SUBADDRESS.keys() == PRIMARY.keys() == {"mainnet", "stagenet", "testnet", "fakechain"}
    assert monero_address.GROUP_ORDER == samples.L
