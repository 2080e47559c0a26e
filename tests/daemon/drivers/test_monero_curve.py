"""The curve against Monero's own vectors and plain arithmetic, edges and torsion included."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.drivers import monero_curve as curve
from tests.helpers import monero_reference as reference
from tests.helpers.monero_reference import L, Q, scalar_bytes

# From tests/crypto/tests.txt of monero-project/monero.
CHECK_KEY = (
    ("c2cb3cf3840aa9893e00ec77093d3d44dba7da840b51c48462072d58d8efd183", False),
    ("bd85a61bae0c101d826cbed54b1290f941d26e70607a07fc6f0ad611eb8f70a6", True),
    ("328f81cad4eba24ab2bad7c0e56b1e2e7346e625bcb06ae649aef3ffa0b8bef3", False),
    ("6016a5463b9e5a58c3410d3f892b76278883473c3f0b69459172d3de49e85abe", True),
    ("4c71282b2add07cdc6898a2622553f1ca4eb851e5cb121181628be5f3814c5b1", False),
    ("69393c25c3b50e177f81f20f852dd604e768eb30052e23108b3cfa1a73f2736e", True),
    ("3d5a89b676cb84c2be3428d20a660dc6a37cae13912e127888a5132e8bac2163", True),
    ("78cd665deb28cebc6208f307734c56fccdf5fa7e2933fadfcdd2b6246e9ae95c", False),
)
HASH_TO_SCALAR = (
    ("", "4a078e76cd41a3d3b534b83dc6f2ea2de500b653ca82273b7bfad8045d85a400"),
    ("334a", "1ab04562c0e3238e41e3e0de165de27b1c35e7a16d7720cf8421d5969cb0d503"),
    ("14b5ff33", "709162ee2552c852ba62d406efd369d65851777152c9df4b61a2c4e19190c408"),
    ("30", "76508f84081e3fd53ad1aa29f1878ba0e8fcb96542a07186fe3aeda6bb8a110d"),
    (
        "380eb97f71e767e54dd449f64c2c3da7b42f538a5e5345cdb860e4c20ec4876c",
        "ff427ee8d2c82415a8da920e6e76ea1de4ae4414181543eeaf06f381ea1c1805",
    ),
)
# Public key, scalar, derivation; None where the key is no point.
DERIVATIONS = (
    (
        "a43452a819753a0632517e3f629c4211f09e388c9e046feff14cf79717c99aa8",
        "fa934ce9f0b0c9cc1fecd2843eb08cf194e9825a387fb5190189ea2421054d02",
        "a2c15491fb96a7f1ac1e2c61a472b272b0ec9b45a9cc4d78a95f6f062fb311ec",
    ),
    (
        "cddac822a3a36005853dde55a89843740e7658b574a30541d15d0facebc4a537",
        "4e401c7280d6b32b40bc2443afea1f3c0a02769d0d8ea15fd39704abc2337b0e",
        "f2187790bb4c968bb41a334d32cdf8c103ca66126d6f47c159d21b0212a6e228",
    ),
    (
        "8ada4509a9808934591eceb62dbbba175c8d8e2924e2b3ae94e8457a19ae538f",
        "65eca3d55238354c2f62fa8daaf278a378f5d112d104cdbcb136a488e4be150c",
        "a037cb60b79175eeb635dca11ddedd95dc91521048b7744ca3bde7bf6d78ca09",
    ),
    (
        "d875a37d7ffe687d74dcbcfb1d7b48812c49505e322a43568605b2219a8047b2",
        "869be2bc50c3f12a5c83f0d581e6d5585391daed3c651e81f69868d55e6d280d",
        None,
    ),
    (
        "ffc0ab99873d7e9e0f650f9c7b4ac9d5c371d584dda752658cc903b6cc0c6271",
        "697bd39b460702f72b0a56adff6ecb92c6e3eafaf3f6421433f688aea9958c0e",
        None,
    ),
)
# Derivation, output index, base, derived key.
DERIVED_KEYS = (
    (
        "ca780b065e48091d910de90bcab2411db3d1a845e6d95cfd556af4138504c737",
        217407,
        "6d9dd2068b9d6d643b407e360dfc5eb7a1f628fe2de8112a9e5731e8b3680c39",
        "d48008aff5f27d8fcdc2a3bf814ed3505530f598075f3bf7e868fea696b109f6",
    ),
    (
        "13bb0039172efee53059c7a973dc5f6f3c0a07611ebb0f5609cd833d5d25846c",
        1,
        "5ca5429e836cd4172b7427ca8dc639f39c299f1b8e0d00f9d3f9a5bb2e49251a",
        "52e0a76a5785d12737dba717fd6c90e0e7d7a1a6c758543758abe578793c7a52",
    ),
    (
        "fc9f87293569070b7e2e1be48e6ffcdfef370a728d4c01159b5b7b9783e0fa0f",
        1499890121,
        "2c887eb3a891f60d9382b9a368f7d8bbd91fc8742dfe1054d1999e9f928e399b",
        "678c62af985543c426e90db94de447219ac24d8f3f44652003fe2b70bef54092",
    ),
    (
        "ce07639dd9afda564b2e6322c32660e53b699ee67d54ebc223d49eb424f8d2ab",
        20,
        "b4e4ca4f5c43f50487dbc6920e9928ae5d03963f436c7079e0d9d2eb0b9485f6",
        "7aa03cda46c000b1ef3ab295cbebc9fa810ff61a1d6ea047e66269fefda6dd94",
    ),
)
SIGN = 1 << 255
EDGE_SCALARS = (
    *(1, 2, 7, 8, 2**124, 2**125, 2**251 - 1, 2**251, 2**251 + 1, 2**252 - 1, 2**252),
    *(L - 2**251, L - 2**252, L - 2**252 + 1, L - 2, L - 1),
)
NO_POINTS = tuple(
    number.to_bytes(32, "little")
    for number in (
        *(Q, Q + 1, Q + 18, Q | SIGN, Q + 1 | SIGN),  # y is not below p
        *(1 | SIGN, Q - 1 | SIGN),  # a sign where x is zero
        2,  # not on the curve
    )
)
scalars = st.one_of(st.sampled_from(EDGE_SCALARS), st.integers(1, L - 1))
slow = settings(max_examples=30, deadline=None)


@st.composite
def points(draw):
    """Any point: prime order, low order, or mixed."""
    scalar = draw(st.one_of(st.integers(0, 3), st.integers(0, L - 1)))
    low = reference.TORSION[draw(st.integers(0, 7))]
    return reference.encode(reference.add(reference.base(scalar), low))


# --- vectors: both implementations ----------------------------------------------------------------


@pytest.mark.parametrize(("key", "valid"), CHECK_KEY)
def test_knows_points_as_monero_does(key, valid):
    assert curve.is_point(bytes.fromhex(key)) is valid
    assert (reference.decode(bytes.fromhex(key)) is not None) is valid


@pytest.mark.parametrize(("data", "scalar"), HASH_TO_SCALAR)
def test_hashes_to_scalars_as_monero_does(data, scalar):
    assert curve.hash_to_scalar(bytes.fromhex(data)).hex() == scalar
    assert scalar_bytes(reference.hash_to_scalar(bytes.fromhex(data))).hex() == scalar


@pytest.mark.parametrize(("key", "scalar", "secret"), DERIVATIONS)
def test_derives_shared_secrets_as_monero_does(key, scalar, secret):
    key, scalar = bytes.fromhex(key), bytes.fromhex(scalar)
    expected = curve.IDENTITY if secret is None else bytes.fromhex(secret)

    assert curve.derive(key, scalar) == expected
    assert reference.derivation(reference.decode(key), int.from_bytes(scalar, "little")) == expected


@pytest.mark.parametrize(("secret", "index", "base", "derived"), DERIVED_KEYS)
def test_gets_from_an_output_to_the_address_key(secret, index, base, derived):
    secret, base, derived = bytes.fromhex(secret), bytes.fromhex(base), bytes.fromhex(derived)
    scalar = reference.derivation_scalar(secret, index)
    point = reference.decode(base)

    assert curve.hash_to_scalar(secret + reference.varint(index)) == scalar_bytes(scalar)
    assert curve.subtract_base(derived, scalar_bytes(scalar)) == base
    assert reference.encode(reference.add(point, reference.base(scalar))) == derived


def test_has_the_generator_that_monero_has():
    assert reference.encode(reference.H) == curve.H


# --- points ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoded", NO_POINTS, ids=bytes.hex)
def test_takes_nothing_else_for_a_point(encoded):
    assert reference.decode(encoded) is None
    assert not curve.is_point(encoded)
    assert curve.derive(encoded, scalar_bytes(5)) == curve.IDENTITY
    assert curve.subtract_base(encoded, scalar_bytes(5)) is None


@pytest.mark.parametrize("number", range(8))
def test_takes_points_of_low_order_for_points_without_a_secret(number):
    low = reference.encode(reference.TORSION[number])

    assert curve.is_point(low)
    assert curve.derive(low, scalar_bytes(L - 1)) == curve.IDENTITY


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_tells_points_from_other_bytes(encoded):
    assert curve.is_point(encoded) == (reference.decode(encoded) is not None)


# --- shared secrets -------------------------------------------------------------------------------


@slow
@given(points(), scalars)
def test_derives_exactly_whatever_the_subgroup(point, scalar):
    expected = reference.derivation(reference.decode(point), scalar)

    assert curve.derive(point, scalar_bytes(scalar)) == expected


@slow
@given(st.lists(points(), min_size=1, max_size=4), scalars)
@example([reference.encode(low) for low in reference.TORSION], 2**251 + 5)
def test_finds_every_secret_up_to_its_sign(tx_keys, scalar):
    key = curve.ladder_key(scalar_bytes(scalar))
    if key is None:
        # The gap around zero, which is for `derive`.
        assert min(scalar, L - scalar) <= L - 2**252
        return
    found = curve.secrets_but_sign(key, curve.ladder_points(tx_keys))

    expected = [reference.derivation(reference.decode(each), scalar) for each in tx_keys]
    assert found == [int.from_bytes(secret, "little") % SIGN for secret in expected]


@pytest.mark.parametrize("scalar", [1, L - 1, 2**124, L - 2**124, L - 2**252])
def test_leaves_the_scalars_next_to_zero_to_the_exact_way(scalar):
    assert curve.ladder_key(scalar_bytes(scalar)) is None


@pytest.mark.parametrize("scalar", [2**251, 2**251 - 1, 2**252 - 1, L - 2**251, L - 2**252 + 1])
def test_has_a_ladder_for_all_others(scalar):
    assert curve.ladder_key(scalar_bytes(scalar)) is not None


def test_survives_keys_that_are_no_points():
    dice = random.Random(4)
    good = reference.encode(reference.base(77))
    tx_keys = [good, *NO_POINTS, *(dice.randbytes(32) for _ in range(20)), good]
    key = curve.ladder_key(scalar_bytes(2**251))
    secrets = curve.secrets_but_sign(key, curve.ladder_points(tx_keys))

    assert len(secrets) == len(tx_keys)
    expected = reference.derivation(reference.decode(good), 2**251)
    assert secrets[0] == secrets[-1] == int.from_bytes(expected, "little") % SIGN


# --- outputs and commitments ----------------------------------------------------------------------


@slow
@given(points(), st.integers(0, L - 1))
@example(reference.encode(reference.base(9)), 9)
@example(reference.encode(reference.base(9)), 0)
def test_subtracts_multiples_of_the_base_point(point, scalar):
    negated = reference.negate(reference.base(scalar))
    expected = reference.encode(reference.add(reference.decode(point), negated))

    assert curve.subtract_base(point, scalar_bytes(scalar)) == expected


@slow
@given(
    st.one_of(st.sampled_from((0, 1, L - 1)), st.integers(0, L - 1)),
    st.one_of(st.sampled_from((0, 1, 2**64 - 1)), st.integers(0, 2**64 - 1)),
)
@example(0, 0)
def test_commits_to_amounts(mask, amount):
    assert curve.commit(scalar_bytes(mask), amount) == reference.commitment(mask, amount)
