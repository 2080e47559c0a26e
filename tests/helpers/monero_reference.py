"""Monero's outputs in plain Python, slow and by the book: what the scanner must agree with.

Nothing here is shared with the daemon: affine points with the textbook formulas of ed25519, a
sender that makes outputs of every kind there is, and a receiver that follows wallet2 step by step.
Sources: RFC 8032; "Zero to Monero" 2.0, chapters 4 and 5; crypto.cpp, rctOps.cpp and wallet2.cpp of
monero-project/monero.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sha3

Q = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, Q) % Q
ROOT_OF_MINUS_ONE = pow(2, (Q - 1) // 4, Q)

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


# --- the curve ------------------------------------------------------------------------------------


def keccak(data: bytes) -> bytes:
    return bytes(sha3.keccak_256(data).digest())


def varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes([number % 128 + 128])
        number //= 128
    return encoded + bytes([number])


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    cross = D * x1 * x2 * y1 * y2 % Q
    # x has 1 + cross below, y 1 - cross; neither is ever zero. One inversion serves both.
    inverse = pow(1 - cross * cross, -1, Q)
    x = (x1 * y2 + x2 * y1) * (1 - cross) * inverse
    y = (y1 * y2 + x1 * x2) * (1 + cross) * inverse
    return x % Q, y % Q


def negate(point: Point) -> Point:
    return -point[0] % Q, point[1]


def multiply(scalar: int, point: Point) -> Point:
    """Not reduced modulo L: a point may have any order."""
    total = IDENTITY
    for bit in f"{scalar:b}":
        total = add(total, total)
        if bit == "1":
            total = add(total, point)
    return total


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decode(encoded: bytes) -> Point | None:
    """As ge_frombytes_vartime: None for what monerod does not take for a point."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number % 2**255
    if y >= Q:
        return None
    squared = (y * y - 1) * pow(D * y * y + 1, -1, Q) % Q
    x = pow(squared, (Q + 3) // 8, Q)
    if x * x % Q != squared:
        x = x * ROOT_OF_MINUS_ONE % Q
    if x * x % Q != squared:
        return None
    if x % 2 != sign:
        if x == 0:
            return None
        x = Q - x
    return x, y


def _decoded(encoded: bytes) -> Point:
    point = decode(encoded)
    assert point is not None
    return point


G = _decoded((4 * pow(5, -1, Q) % Q).to_bytes(32, "little"))
H = multiply(8, _decoded(keccak(encode(G))))


def _torsion() -> tuple[Point, ...]:
    """The eight points of low order: L times any point is one; the generator has order 8."""
    y = 2
    while True:
        point = decode(y.to_bytes(32, "little"))
        if point is not None:
            generator = multiply(L, point)
            if multiply(4, generator) != IDENTITY:
                return tuple(multiply(times, generator) for times in range(8))
        y += 1


TORSION = _torsion()
BASE_POWERS = [G]
for _ in range(255):
    BASE_POWERS.append(add(BASE_POWERS[-1], BASE_POWERS[-1]))


def base(scalar: int) -> Point:
    total = IDENTITY
    for bit, power in enumerate(BASE_POWERS):
        if scalar >> bit & 1:
            total = add(total, power)
    return total


def scalar_bytes(scalar: int) -> bytes:
    return scalar.to_bytes(32, "little")


def hash_to_scalar(data: bytes) -> int:
    return int.from_bytes(keccak(data), "little") % L


# --- what sender and receiver share ---------------------------------------------------------------


def derivation(point: Point | None, scalar: int) -> bytes:
    """generate_key_derivation; where it fails wallet2 goes on with the identity."""
    if point is None:
        return encode(IDENTITY)
    return encode(multiply(8, multiply(scalar, point)))


def derivation_scalar(secret: bytes, index: int) -> int:
    return hash_to_scalar(secret + varint(index))


def view_tag(secret: bytes, index: int) -> int:
    return keccak(b"view_tag" + secret + varint(index))[0]


def commitment(mask: int, amount: int) -> bytes:
    return encode(add(base(mask), multiply(amount, H)))


@dataclass(frozen=True)
class Wallet:
    """A receiver: view scalar a, spend scalar b; subaddresses by (account, index)."""

    view: int
    spend: int

    @classmethod
    def make(cls, dice: random.Random) -> Wallet:
        return cls(dice.randrange(1, L), dice.randrange(1, L))

    def subaddress_scalar(self, account: int, index: int) -> int:
        if (account, index) == (0, 0):
            return self.spend
        data = b"SubAddr\0" + scalar_bytes(self.view)
        data += account.to_bytes(4, "little") + index.to_bytes(4, "little")
        return (self.spend + hash_to_scalar(data)) % L

    def address(self, account: int = 0, index: int = 0) -> Address:
        spend = base(self.subaddress_scalar(account, index))
        is_subaddress = (account, index) != (0, 0)
        view = multiply(self.view, spend) if is_subaddress else base(self.view)
        return Address(spend, view, is_subaddress)


@dataclass(frozen=True)
class Address:
    spend: Point
    view: Point
    is_subaddress: bool


# --- transactions, in the shape the daemon parses them into ---------------------------------------


@dataclass(frozen=True)
class Output:
    key: bytes
    amount: int
    view_tag: int | None


@dataclass(frozen=True)
class Transaction:
    outputs: tuple[Output, ...]
    tx_keys: tuple[bytes, ...] = ()
    additional_keys: tuple[bytes, ...] = ()
    version: int = 2
    is_coinbase: bool = False
    rct_type: int = 6
    ecdh: tuple[bytes, ...] = ()
    commitments: tuple[bytes, ...] = ()


def mask_amount(rct_type: int, secret: int, amount: int, mask: int) -> tuple[bytes, bytes]:
    """ecdhEncode: the masked tuple and the commitment; short types choose their own mask."""
    shared = scalar_bytes(secret)
    if rct_type >= 4:
        pad = int.from_bytes(keccak(b"amount" + shared)[:8], "little")
        mask = hash_to_scalar(b"commitment_mask" + shared)
        return (amount ^ pad).to_bytes(8, "little"), commitment(mask, amount)
    first = hash_to_scalar(shared)
    second = hash_to_scalar(scalar_bytes(first))
    masked = scalar_bytes((mask + first) % L) + scalar_bytes((amount + second) % L)
    return masked, commitment(mask, amount)


def send(
    payments: Sequence[tuple[Address, int]],
    dice: random.Random,
    *,
    rct_type: int = 6,
    tagged: bool = True,
    torsion: int = 0,
    coinbase: bool = False,
    version: int = 2,
) -> Transaction:
    """What a wallet sends: one key for all, or additional ones if subaddresses are among several.

    `torsion` is the number of a point of low order that is added to every transaction key.
    """
    secret_key = dice.randrange(1, L)
    low = TORSION[torsion]
    alone = len(payments) == 1
    subaddresses = [to for to, _ in payments if to.is_subaddress]
    needs_additional = bool(subaddresses) and not alone
    # A single subaddress gets the transaction's key made from its own spend key.
    generator = subaddresses[0].spend if alone and subaddresses else G
    tx_key = encode(add(multiply(secret_key, generator), low))
    additional = []
    outputs, ecdh, commitments = [], [], []
    for index, (to, amount) in enumerate(payments):
        own_key = secret_key
        if needs_additional:
            own_key = dice.randrange(1, L)
            generator = to.spend if to.is_subaddress else G
            additional.append(encode(add(multiply(own_key, generator), low)))
            if not to.is_subaddress:
                own_key = secret_key
        secret = derivation(to.view, own_key)
        scalar = derivation_scalar(secret, index)
        key = encode(add(base(scalar), to.spend))
        clear = coinbase or version == 1
        tag = view_tag(secret, index) if tagged else None
        outputs.append(Output(key, amount if clear else 0, tag))
        if not clear:
            masked, committed = mask_amount(rct_type, scalar, amount, dice.randrange(L))
            ecdh.append(masked)
            commitments.append(committed)
    return Transaction(
        tuple(outputs),
        (tx_key,),
        tuple(additional),
        version,
        coinbase,
        0 if coinbase or version == 1 else rct_type,
        tuple(ecdh),
        tuple(commitments),
    )


# --- the receiver ---------------------------------------------------------------------------------


def receive(
    tx: Transaction, view: int, destinations: Iterable[bytes]
) -> list[tuple[int, bytes, int]]:
    """Output, destination and scalar s of everything wallet2 would take for its own."""
    wanted = set(destinations)
    found = []
    own = [derivation(decode(key), view) for key in tx.additional_keys]
    for number, tx_key in enumerate(tx.tx_keys):
        shared = derivation(decode(tx_key), view)
        for index, output in enumerate(tx.outputs):
            secrets = [shared]
            # wallet2 reads additional keys in the round of the first 0x01 key.
            if number == 0 and index < len(own):
                secrets.append(own[index])
            for secret in secrets:
                destination, scalar = _paid(output, secret, index)
                if destination in wanted:
                    found.append((index, destination, scalar))
                    break
    return sorted(set(found))


def _paid(output: Output, secret: bytes, index: int) -> tuple[bytes | None, int]:
    scalar = derivation_scalar(secret, index)
    point = decode(output.key)
    if point is None or output.view_tag not in (None, view_tag(secret, index)):
        return None, scalar
    return encode(add(point, negate(base(scalar)))), scalar


def amount_of(tx: Transaction, index: int, scalar: int) -> int | None:
    """decodeRct with the checks of a wallet; None where it would not believe the amount."""
    output = tx.outputs[index]
    if tx.is_coinbase or tx.version == 1:
        return output.amount
    if tx.rct_type not in range(1, 7):
        return None
    shared, masked = scalar_bytes(scalar), tx.ecdh[index]
    if tx.rct_type >= 4:
        pad = keccak(b"amount" + shared)[:8]
        amount = int.from_bytes(bytes(a ^ b for a, b in zip(masked, pad, strict=True)), "little")
        mask = hash_to_scalar(b"commitment_mask" + shared)
    else:
        first = hash_to_scalar(shared)
        mask = (int.from_bytes(masked[:32], "little") - first) % L
        second = hash_to_scalar(scalar_bytes(first))
        amount = (int.from_bytes(masked[32:], "little") - second) % L
    if commitment(mask, amount) != tx.commitments[index] or amount >= 2**64:
        return None
    return amount
