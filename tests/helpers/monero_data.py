"""Monero transactions and blocks as bytes, made up: what pays whom is real, the proofs are not."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from nacl import bindings as sodium

from daemon.drivers.monero_curve import ORDER, commit, derive, hash_to_scalar, is_point
from daemon.drivers.monero_wire import parse_block, parse_tx
from tests.helpers.monero_address import keccak

COINBASE_LOCK_BLOCKS = 60


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def scalar(seed: str) -> bytes:
    """A canonical scalar, always the same for a seed."""
    number = int.from_bytes(hashlib.sha512(seed.encode()).digest(), "little") % ORDER
    return number.to_bytes(32, "little")


def base(secret: bytes) -> bytes:
    """`secret`·G."""
    return bytes(sodium.crypto_scalarmult_ed25519_base_noclamp(secret))


def image(seed: str) -> bytes:
    """32 bytes that may be a key image."""
    return hashlib.sha256(f"image {seed}".encode()).digest()


@dataclass(frozen=True)
class Payee:
    """A subaddress and the private view key that finds what is paid to it."""

    view_key: bytes
    spend: bytes
    """Its public spend key."""

    @property
    def destination(self) -> bytes:
        """What the index watches for."""
        return destination(self.spend, self.view_key)


def destination(spend: bytes, view_key: bytes) -> bytes:
    """A subaddress's public spend key, and the public view key of its wallet."""
    return spend + base(view_key)


def payee(seed: str, *, of: str = "shop") -> Payee:
    """A subaddress of the wallet `of`."""
    return Payee(scalar(f"view {of}"), base(scalar(f"spend {seed}")))


@dataclass(frozen=True)
class Pays:
    """An output. `claims` is what its hidden amount says, where that is not what it holds."""

    to: Payee
    amount: int
    claims: int | None = None


@dataclass(frozen=True)
class Tx:
    """`blob` is pruned; what was pruned is no proof of anything."""

    blob: bytes
    prunable: bytes

    @property
    def prunable_hash(self) -> bytes:
        return keccak(self.prunable)

    @property
    def pruned(self) -> bytes:
        return self.blob

    @property
    def txid(self) -> bytes:
        return parse_tx(self.blob, prunable_hash=self.prunable_hash).txid


def tx(seed: str, *outputs: Pays, spends: Sequence[bytes] = (), unlock_time: int = 0) -> Tx:
    """A transaction of the newest type (RCT 6, view tags), with a key for each output."""
    kept = b"".join(
        b"\x02" + varint(0) + varint(1) + varint(7) + key_image
        for key_image in (spends or [image(seed)])
    )
    inputs = varint(len(spends or [b""])) + kept
    made = [_output(f"{seed} {n}", n, output) for n, output in enumerate(outputs)]
    outs = b"".join(varint(0) + b"\x03" + one.key + one.view_tag for one in made)
    extra = b"\x01" + base(scalar(f"main {seed}"))
    extra += b"\x04" + varint(len(made)) + b"".join(one.tx_key for one in made)
    prefix = varint(2) + varint(unlock_time) + inputs + varint(len(made)) + outs
    prefix += varint(len(extra)) + extra
    rct = b"\x06" + varint(1000) + b"".join(one.ecdh for one in made)
    rct += b"".join(one.commitment for one in made)
    return Tx(prefix + rct, f"prunable {seed}".encode())


def miner_tx(seed: str, height: int, *outputs: Pays) -> bytes:
    """A coinbase; its amounts are in clear."""
    made = [_output(f"{seed} {height} {n}", n, output) for n, output in enumerate(outputs)]
    outs = b"".join(
        varint(output.amount) + b"\x03" + one.key + one.view_tag
        for one, output in zip(made, outputs, strict=True)
    )
    extra = b"\x01" + base(scalar(f"main {seed} {height}"))
    extra += b"\x04" + varint(len(made)) + b"".join(one.tx_key for one in made)
    return (
        varint(2)
        + varint(height + COINBASE_LOCK_BLOCKS)
        + varint(1)
        + b"\xff"
        + varint(height)
        + varint(len(made))
        + outs
        + varint(len(extra))
        + extra
        + b"\x00"
    )


@dataclass(frozen=True)
class Block:
    blob: bytes
    txs: tuple[Tx, ...]

    @property
    def hash(self) -> bytes:
        return parse_block(self.blob).hash


def block(seed: str, height: int, parent: bytes, *txs: Tx, coinbase: Sequence[Pays] = ()) -> Block:
    coinbase = coinbase or [Pays(payee("miner", of="miner"), 600_000_000_000)]
    header = varint(16) + varint(16) + varint(1_700_000_000 + 120 * height) + parent + bytes(4)
    blob = header + miner_tx(seed, height, *coinbase)
    return Block(blob + varint(len(txs)) + b"".join(each.txid for each in txs), txs)


def chain_of(length: int, *, seed: str = "main", start: Sequence[Block] = ()) -> list[Block]:
    """`start` and empty blocks on top, `length` in all."""
    blocks = list(start)
    while len(blocks) < length:
        parent = blocks[-1].hash if blocks else bytes(32)
        blocks.append(block(seed, len(blocks), parent))
    return blocks


@dataclass(frozen=True)
class _Made:
    key: bytes
    view_tag: bytes
    tx_key: bytes
    ecdh: bytes
    commitment: bytes


def _output(seed: str, n: int, output: Pays) -> _Made:
    secret = scalar(f"tx {seed}")
    # To a subaddress: R = rD, which the payee's view key turns into the sender's 8raD.
    tx_key = bytes(sodium.crypto_scalarmult_ed25519_noclamp(secret, output.to.spend))
    assert is_point(tx_key)
    derivation = derive(tx_key, output.to.view_key)
    shared = hash_to_scalar(derivation + varint(n))
    key = bytes(sodium.crypto_core_ed25519_add(base(shared), output.to.spend))
    claimed = output.amount if output.claims is None else output.claims
    pad = keccak(b"amount" + shared)[:8]
    ecdh = bytes(a ^ b for a, b in zip(claimed.to_bytes(8, "little"), pad, strict=True))
    mask = hash_to_scalar(b"commitment_mask" + shared)
    view_tag = keccak(b"view_tag" + derivation + varint(n))[:1]
    return _Made(key, view_tag, tx_key, ecdh, commit(mask, output.amount))
