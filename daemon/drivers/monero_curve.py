"""The curve of Monero: shared secrets 8aR, fast up to their sign and exact; pure.

A transaction key R is a point of ed25519 by the rules of Monero's `ge_frombytes_vartime`: y below
p, on the curve, and no sign where x is zero. Every multiple is one of 8R, so what R has of the
torsion subgroup never matters. All encodings are 32 bytes, little-endian, x's sign in the top bit.

The fast way goes over the birationally equivalent Montgomery curve (RFC 7748, 4.1), because
OpenSSL's X25519 takes less than half as long as any Edwards multiplication that Python can reach:
u = (1 + y) / (1 - y), and back y = (u - 1) / (u + 1). It knows no signs, so it leaves two
candidates for each secret, and points that are not on the curve give nonsense: it is a filter, and
`derive` has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import sha3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl import bindings as sodium
from nacl import exceptions as sodium_errors

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
SIGN_BIT = 1 << 255
IDENTITY = b"\x01" + bytes(31)

H = bytes.fromhex("8b655970153799af2aeadc9ff1add0ea6c7251d54154cfa92c173a0dd39c1f94")
"""The second generator of commitments: 8 times the point whose y is Keccak-256 of the first."""

_Y_BITS = SIGN_BIT - 1
_LADDER_FIRST, _LADDER_END = 1 << 251, 1 << 252
# One for each user's view key; an object is made in the time of an X25519 and kept in about 1 KiB.
_LADDERS_KEPT = 16_384
# x is zero for y = 1 and y = -1 only.
_SIGNED_ZEROS = frozenset(
    (y | SIGN_BIT).to_bytes(32, "little") for y in (1, FIELD - 1)
)  # monerod refuses them, libsodium does not


# --- exact ----------------------------------------------------------------------------------------


def hash_to_scalar(data: bytes) -> bytes:
    """Keccak-256 reduced modulo the group order: Monero's Hs."""
    number = int.from_bytes(sha3.keccak_256(data).digest(), "little")
    return (number % ORDER).to_bytes(32, "little")


def is_point(encoded: bytes) -> bool:
    """True if monerod takes these bytes for a point, whatever subgroup it is in."""
    return _is_canonical(encoded) and _sum(encoded, IDENTITY) is not None


def derive(tx_key: bytes, view_key: bytes) -> bytes:
    """The shared secret 8aR; the identity where R is no point, as wallet2 has it.

    `view_key` is a canonical scalar and not zero.
    """
    if not _is_canonical(tx_key):
        return IDENTITY
    product = _multiple((8 * int.from_bytes(view_key, "little")) % ORDER, tx_key)
    if product is not None:
        return product
    # libsodium multiplies in the prime-order subgroup only: eight times R is in there.
    multiple: bytes | None = tx_key
    for _ in range(3):
        multiple = multiple and _sum(multiple, multiple)
    if multiple is None or multiple == IDENTITY:
        return IDENTITY
    product = _multiple(int.from_bytes(view_key, "little"), multiple)
    assert product is not None, "a multiple of 8R that is not of low order exists"
    return product


def subtract_base(point: bytes, scalar: bytes) -> bytes | None:
    """`point` - `scalar`·G for a canonical scalar; None if `point` is none."""
    if not is_point(point):
        return None
    if not any(scalar):
        return point
    base: bytes = sodium.crypto_scalarmult_ed25519_base_noclamp(scalar)
    difference: bytes = sodium.crypto_core_ed25519_sub(point, base)
    return difference


def commit(mask: bytes, amount: int) -> bytes:
    """The Pedersen commitment mask·G + amount·H; `mask` and `amount` are canonical scalars."""
    blinding: bytes = IDENTITY
    if any(mask):
        blinding = sodium.crypto_scalarmult_ed25519_base_noclamp(mask)
    if not amount:
        return blinding
    value = _multiple(amount, H)
    assert value is not None, "H generates the prime-order subgroup"
    commitment = _sum(blinding, value)
    assert commitment is not None, "a sum of points is a point"
    return commitment


def _is_canonical(encoded: bytes) -> bool:
    """Where libsodium is more lenient than monerod."""
    return int.from_bytes(encoded, "little") & _Y_BITS < FIELD and encoded not in _SIGNED_ZEROS


def _sum(one: bytes, other: bytes) -> bytes | None:
    """None unless both are on the curve; libsodium reduces a y that is too large."""
    try:
        total: bytes = sodium.crypto_core_ed25519_add(one, other)
    except sodium_errors.RuntimeError:
        return None
    return total


def _multiple(scalar: int, point: bytes) -> bytes | None:
    """None if libsodium refuses: small order, a torsion part, or the identity as result."""
    try:
        product: bytes = sodium.crypto_scalarmult_ed25519_noclamp(
            scalar.to_bytes(32, "little"), point
        )
    except sodium_errors.RuntimeError:
        return None
    return product


# --- fast, up to the sign -------------------------------------------------------------------------


def ladder_points(tx_keys: Sequence[bytes]) -> list[X25519PublicKey]:
    """Each R as X25519 takes it. Not checked: what is no point gives some other point's secret."""
    edwards = [1 - (int.from_bytes(tx_key, "little") & _Y_BITS) for tx_key in tx_keys]
    # y = 1 is the identity: u = -1 + 2·0 is a point of the twist, but of low order there as well.
    return [
        X25519PublicKey.from_public_bytes(((half - 1) % FIELD).to_bytes(32, "little"))
        for half in _twice_inverted(edwards)
    ]


@lru_cache(maxsize=_LADDERS_KEPT)
def ladder_key(view_key: bytes) -> X25519PrivateKey | None:
    """What multiplies by plus or minus 8a: X25519 takes multiples of 8 from 2^254 up to 2^255.

    One of a and -a is an eighth of such, except for the 2^126 scalars next to zero: None.
    """
    scalar = int.from_bytes(view_key, "little")
    for candidate in (scalar, ORDER - scalar):
        if _LADDER_FIRST <= candidate < _LADDER_END:
            return X25519PrivateKey.from_private_bytes((8 * candidate).to_bytes(32, "little"))
    return None


def secrets_but_sign(key: X25519PrivateKey, points: Sequence[X25519PublicKey]) -> list[int]:
    """The y of 8aR for each point; 1, the identity's, for points of low order."""
    exchange = key.exchange
    number = int.from_bytes
    montgomery: list[int] = []
    append = montgomery.append
    for point in points:
        try:
            append(number(exchange(point), "little") + 1)
        except ValueError:
            # All zeros (RFC 7748, 6.1): u of the identity is no number. 2 / 0 counts as 0 below.
            append(0)
    return [(1 - half) % FIELD for half in _twice_inverted(montgomery)]


def _twice_inverted(values: Sequence[int]) -> list[int]:
    """2 / value modulo p, 0 for those that are 0 modulo p; one inversion for all of them."""
    before: list[int] = []
    append = before.append
    product = 1
    for value in values:
        append(product)
        product = product * value % FIELD
    if not product:
        return _around_zeros(values)
    rest = 2 * pow(product, -1, FIELD)
    inverted: list[int] = []
    append = inverted.append
    for value, product in zip(reversed(values), reversed(before), strict=True):
        append(rest * product % FIELD)
        rest = rest * value % FIELD
    inverted.reverse()
    return inverted


def _around_zeros(values: Sequence[int]) -> list[int]:
    kept = iter(_twice_inverted([value for value in values if value % FIELD]))
    return [next(kept) if value % FIELD else 0 for value in values]
