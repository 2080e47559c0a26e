"""Scanning finds what a wallet would find, and nothing else, whatever a sender makes up."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.drivers import monero_scan
from tests.helpers import monero_reference as reference
from tests.helpers.monero_reference import L, Output, Transaction, Wallet, encode, scalar_bytes

dice = random.Random(20_111_120)
WALLET = Wallet.make(dice)
OTHER = Wallet.make(dice)
ADDRESSES = [WALLET.address(*place) for place in ((0, 0), (0, 1), (0, 2), (5, 7))]
STRANGERS = [OTHER.address(0, 0), OTHER.address(0, 1)]
OURS = {encode(address.spend) for address in ADDRESSES}
VIEW_KEY = scalar_bytes(WALLET.view)
slow = settings(max_examples=40, deadline=None)


def scan(txs, view_keys=(VIEW_KEY,)):
    packed = b"".join(piece.packed for piece in monero_scan.pieces(txs))
    return monero_scan.unpack(monero_scan.scan(packed, view_keys))


def received(tx, view=VIEW_KEY, destinations=OURS):
    """What the scanner finds, looked up, in the form of the reference."""
    return sorted(
        (each.output, each.destination, int.from_bytes(each.scalar_secret, "little"))
        for each in scan([tx], [view])
        if each.destination in destinations
    )


def expected(tx, view=WALLET.view, destinations=OURS):
    return reference.receive(tx, view, destinations)


def output_for(secret, index, spend, *, tagged=True):
    """An output whose maker used this shared secret."""
    scalar = reference.derivation_scalar(secret, index)
    tag = reference.view_tag(secret, index) if tagged else None
    return Output(encode(reference.add(reference.base(scalar), spend)), 0, tag)


# --- as wallets send ------------------------------------------------------------------------------


@slow
@given(
    st.lists(st.sampled_from(ADDRESSES + STRANGERS), min_size=1, max_size=4),
    st.integers(0, 2**32),
    st.booleans(),
    st.integers(0, 7),
    st.booleans(),
)
def test_finds_every_output_that_a_wallet_would(to, seed, tagged, torsion, coinbase):
    tx = reference.send(
        [(address, 1) for address in to],
        random.Random(seed),
        tagged=tagged,
        torsion=torsion,
        coinbase=coinbase,
    )

    found = received(tx)

    assert found == expected(tx)
    assert {index for index, _, _ in found} == {
        index for index, address in enumerate(to) if address in ADDRESSES
    }


@slow
@given(
    st.lists(st.one_of(st.binary(min_size=32, max_size=32), st.sampled_from(range(8))), max_size=3),
    st.lists(st.one_of(st.binary(min_size=32, max_size=32), st.sampled_from(range(8))), max_size=3),
    st.lists(st.one_of(st.none(), st.integers(0, 255)), min_size=1, max_size=3),
    st.integers(0, 2**32),
)
def test_finds_exactly_the_candidates_of_random_bytes(tx_keys, additional, tags, seed):
    chance = random.Random(seed)

    def key(drawn):
        # A number stands for a point of low order.
        return encode(reference.TORSION[drawn]) if isinstance(drawn, int) else drawn

    outputs = [Output(chance.randbytes(32), 0, tag) for tag in tags]
    tx = Transaction(tuple(outputs), tuple(map(key, tx_keys)), tuple(map(key, additional)))
    everybody = set()
    for index, output in enumerate(outputs if tx_keys else ()):
        point = reference.decode(output.key)
        pairs = [*tx.tx_keys, *tx.additional_keys[index : index + 1]]
        for tx_key in pairs if point else ():
            secret = reference.derivation(reference.decode(tx_key), WALLET.view)
            scalar = reference.derivation_scalar(secret, index)
            negated = reference.negate(reference.base(scalar))
            if output.view_tag in (None, reference.view_tag(secret, index)):
                everybody.add((index, encode(reference.add(point, negated)), scalar))

    assert set(received(tx, destinations={each[1] for each in everybody})) == everybody
    assert {each.destination for each in scan([tx])} == {each[1] for each in everybody}


@pytest.mark.parametrize("view", [1, 2, L - 1, 2**251 - 1, 2**251, 2**251 + 1, 2**252, L - 2**252])
def test_scans_with_view_keys_at_the_edges(view):
    wallet = Wallet(view, WALLET.spend)
    addresses = [wallet.address(), wallet.address(0, 1)]
    tx = reference.send([(address, 1) for address in addresses], dice)
    ours = {encode(address.spend) for address in addresses}

    found = received(tx, scalar_bytes(view), ours)

    assert len(found) == 2
    assert found == expected(tx, view, ours)


def test_numbers_transactions_and_view_keys():
    txs = [
        reference.send([(STRANGERS[0], 1)], dice),
        reference.send([(STRANGERS[0], 1), (ADDRESSES[1], 1)], dice),
    ]
    destinations = OURS | {encode(address.spend) for address in STRANGERS}
    view_keys = [scalar_bytes(Wallet.make(dice).view), VIEW_KEY, scalar_bytes(OTHER.view)]

    found = [each for each in scan(txs, view_keys) if each.destination in destinations]

    places = sorted((each.tx, each.output, each.view_key) for each in found)
    assert places == [(0, 0, 2), (1, 0, 2), (1, 1, 1)]


def test_counts_view_keys_from_the_first_of_its_portion():
    tx = reference.send([(ADDRESSES[0], 1)], dice)
    packed = b"".join(piece.packed for piece in monero_scan.pieces([tx]))

    found = monero_scan.unpack(monero_scan.scan(packed, [VIEW_KEY]), first_view_key=7)

    assert [each.view_key for each in found] == [7]


# --- keys in extra --------------------------------------------------------------------------------


def test_tries_every_transaction_key_for_every_output():
    first = reference.send([(ADDRESSES[0], 1)], dice)
    second = reference.send([(STRANGERS[0], 1), (ADDRESSES[0], 1)], dice)
    tx = replace(second, tx_keys=(*first.tx_keys, *second.tx_keys, *second.tx_keys))

    assert [index for index, _, _ in received(tx)] == [1]
    assert received(tx) == expected(tx)


def test_gives_additional_keys_to_their_own_output_only():
    tx = reference.send([(ADDRESSES[1], 1), (ADDRESSES[2], 1)], dice)
    swapped = replace(tx, additional_keys=tx.additional_keys[::-1])

    assert len(received(tx)) == 2
    assert received(swapped) == expected(swapped) == []


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_takes_more_or_fewer_additional_keys_than_outputs(count):
    tx = reference.send([(address, 1) for address in ADDRESSES[1:]], dice)
    strange = replace(tx, additional_keys=(*tx.additional_keys, bytes(32), bytes(32))[:count])

    found = received(strange)

    assert len(found) == min(count, 3)
    assert found == expected(strange)


def test_skips_a_transaction_without_a_transaction_key_as_wallets_do():
    tx = reference.send([(ADDRESSES[1], 1), (ADDRESSES[2], 1)], dice)
    bare = replace(tx, tx_keys=())

    assert received(bare) == expected(bare) == []


def test_looks_at_all_outputs_and_keys_of_a_transaction_that_is_cut_up():
    count = 600
    tx = reference.send([(ADDRESSES[0], 1)], dice)
    (tx_key,) = tx.tx_keys
    secret = reference.derivation(reference.decode(tx_key), WALLET.view)
    ours = (0, 255, 256, 511, count - 1)
    own_key = encode(reference.multiply(991, ADDRESSES[1].spend))
    own_secret = reference.derivation(reference.decode(own_key), WALLET.view)
    noise = Output(encode(reference.base(5)), 0, 0)
    outputs = [noise] * count
    for index in ours:
        outputs[index] = output_for(secret, index, ADDRESSES[0].spend)
    outputs[300] = output_for(own_secret, 300, ADDRESSES[1].spend)
    keys = [encode(reference.base(number)) for number in range(2, 14)]
    big = Transaction(
        tuple(outputs), (*keys, tx_key), (bytes(32),) * 300 + (own_key,) + (bytes(32),) * 299
    )

    assert len(list(monero_scan.pieces([big]))) > 4
    assert [index for index, _, _ in received(big)] == sorted((*ours, 300))


# --- what only an adversary makes -----------------------------------------------------------------


@pytest.mark.parametrize("tagged", [True, False])
def test_refuses_an_output_made_from_the_secret_with_the_wrong_sign(tagged):
    # X25519 cannot tell them apart, and the tag fits: only the exact step can.
    tx_key = reference.base(31)
    secret = reference.multiply(8 * WALLET.view, tx_key)
    wrong = output_for(encode(reference.negate(secret)), 0, ADDRESSES[0].spend, tagged=tagged)
    right = output_for(encode(secret), 0, ADDRESSES[0].spend, tagged=tagged)

    assert received(Transaction((wrong,), (encode(tx_key),))) == []
    assert len(received(Transaction((right,), (encode(tx_key),)))) == 1


def test_refuses_a_view_tag_that_fits_the_secret_with_the_wrong_sign():
    tx_key = reference.base(31)
    secret = reference.multiply(8 * WALLET.view, tx_key)
    tag = reference.view_tag(encode(reference.negate(secret)), 0)
    output = output_for(encode(secret), 0, ADDRESSES[0].spend)
    assert tag != output.view_tag
    tx = Transaction((replace(output, view_tag=tag),), (encode(tx_key),))

    assert received(tx) == expected(tx) == []


def test_refuses_a_wrong_view_tag_beside_a_right_one():
    tx_key = reference.base(31)
    secret = encode(reference.multiply(8 * WALLET.view, tx_key))
    right, wrong = (output_for(secret, index, ADDRESSES[0].spend) for index in (0, 1))
    wrong = replace(wrong, view_tag=wrong.view_tag ^ 1)
    tx = Transaction((right, wrong), (encode(tx_key),))

    assert [index for index, _, _ in received(tx)] == [0]
    assert received(tx) == expected(tx)


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize(
    "tx_key",
    [
        *(encode(low) for low in reference.TORSION),
        (2).to_bytes(32, "little"),  # not on the curve
        (reference.Q + 1).to_bytes(32, "little"),  # not canonical
        (1 | 1 << 255).to_bytes(32, "little"),  # a sign where x is zero
    ],
    ids=bytes.hex,
)
def test_goes_on_with_the_identity_where_there_is_no_secret_as_wallets_do(tx_key, tagged):
    paid = output_for(encode(reference.IDENTITY), 0, ADDRESSES[0].spend, tagged=tagged)
    noise = Output(encode(reference.base(6)), 0, 9 if tagged else None)
    tx = Transaction((paid, noise), (tx_key,))

    assert [index for index, _, _ in received(tx)] == [0]
    assert received(tx) == expected(tx)


@pytest.mark.parametrize("low", range(1, 8))
def test_never_matches_a_one_time_key_with_a_torsion_part(low):
    tx_key = reference.base(31)
    secret = encode(reference.multiply(8 * WALLET.view, tx_key))
    output = output_for(secret, 0, ADDRESSES[0].spend)
    twisted = encode(reference.add(reference.decode(output.key), reference.TORSION[low]))

    assert received(Transaction((replace(output, key=twisted),), (encode(tx_key),))) == []


@pytest.mark.parametrize("key", [2, reference.Q, reference.Q + 1, 1 | 1 << 255, 2**256 - 1])
def test_never_matches_a_one_time_key_that_is_no_point(key):
    tx = Transaction((Output(key.to_bytes(32, "little"), 0, None),), (encode(reference.base(31)),))

    assert scan([tx]) == []


def test_reports_both_outputs_that_share_a_one_time_key():
    # The burning bug: whoever credits must see that they are one.
    tx = reference.send([(ADDRESSES[0], 1)], dice)

    first, second = scan([tx, tx])

    assert (first.destination, first.scalar_secret) == (second.destination, second.scalar_secret)


def test_keeps_secrets_out_of_texts():
    (found,) = scan([reference.send([(ADDRESSES[0], 1)], dice)])

    assert repr(found.scalar_secret) not in repr(found)
    assert "scalar_secret" not in repr(found)


def test_finds_nothing_in_nothing():
    assert scan([]) == []
    assert scan([Transaction((), (bytes(32),))]) == []
    assert scan([reference.send([(ADDRESSES[0], 1)], dice)], []) == []
