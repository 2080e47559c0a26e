"""Blocks of our own making, whose coinbase pays whom and how a test likes.

monerod mines to one plain address only; a coinbase made here may pay subaddresses, many at once,
or the same one-time key again. It is the only way to money that is locked, and to the burning bug:
what wallets send is neither. Source: monero's ``cryptonote_tx_utils.cpp`` for what miners build,
``blockchain.cpp`` for what is accepted (amounts as the reward says, unlocked after 60 blocks).
"""

import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)

from tests.helpers.monero_address import MAINNET_SUBADDRESS, decode, keccak
from tests.helpers.monerod import COINBASE_LOCK_BLOCKS, NOBODY, MoneroNode

_EIGHT = (8).to_bytes(32, "little")


@dataclass(frozen=True)
class Payout:
    """One output. With the same ``secret`` at the same place it has the same one-time key again."""

    address: str
    amount_base: int
    secret: bytes | None = None


@dataclass(frozen=True)
class Mined:
    """A block of ours; its keys are those of the payouts, in their order."""

    hash: str
    txid: str
    height: int
    one_time_keys: tuple[str, ...]


def new_scalar() -> bytes:
    return crypto_core_ed25519_scalar_reduce(secrets.token_bytes(64))


def base_times(scalar: bytes) -> bytes:
    """Return scalar * G."""
    return bytes(crypto_scalarmult_ed25519_base_noclamp(scalar))


def mine_paying(node: MoneroNode, payouts: Sequence[Payout]) -> Mined:
    """Mine one block without the pool whose coinbase pays all these, the rest to nobody."""
    assert not node.pool(), "the template's reward would have fees in it"
    template = node.rpc("get_block_template", wallet_address=NOBODY, reserve_size=0)
    rest_base = template["expected_reward"] - sum(payout.amount_base for payout in payouts)
    assert rest_base > 0, "a coinbase cannot pay more than the reward"
    made = [_output(at, out) for at, out in enumerate([*payouts, Payout(NOBODY, rest_base)])]
    height = template["height"]
    extra = b"\x01" + base_times(new_scalar())
    extra += b"\x04" + _varint(len(made)) + b"".join(key for _, _, key in made)
    prefix = b"\x02" + _varint(height + COINBASE_LOCK_BLOCKS) + b"\x01\xff" + _varint(height)
    prefix += _varint(len(made)) + b"".join(output for output, _, _ in made)
    prefix += _varint(len(extra)) + extra
    blob = bytes.fromhex(template["blocktemplate_blob"])
    start = blob.index(bytes.fromhex(template["prev_hash"]))  # after versions and time
    header = blob[: start + 32] + struct.pack("<I", secrets.randbelow(2**32))
    block = (header + prefix + b"\x00" + b"\x00").hex()  # rct type 0; no other transactions
    call = {"jsonrpc": "2.0", "id": "0", "method": "submit_block", "params": [block]}
    answer = node.post("/json_rpc", **call)
    block_hash = node.tip()
    assert node.height() == height, answer
    txid = keccak(keccak(prefix) + keccak(b"\x00") + bytes(32)).hex()
    assert node.block(block_hash)["miner_tx_hash"] == txid
    return Mined(block_hash, txid, height, tuple(key.hex() for _, key, _ in made[:-1]))


def _output(index: int, payout: Payout) -> tuple[bytes, bytes, bytes]:
    """Return an output as the blob has it, its one-time key, and its transaction key."""
    keys = decode(payout.address)
    secret = payout.secret or new_scalar()
    eightfold = crypto_core_ed25519_scalar_mul(_EIGHT, secret)
    shared = bytes(crypto_scalarmult_ed25519_noclamp(eightfold, keys.view))
    number = _varint(index)
    scalar = crypto_core_ed25519_scalar_reduce(keccak(shared + number) + bytes(32))
    one_time_key = bytes(crypto_core_ed25519_add(base_times(scalar), keys.spend))
    if keys.prefix == MAINNET_SUBADDRESS:
        tx_key = bytes(crypto_scalarmult_ed25519_noclamp(secret, keys.spend))
    else:
        tx_key = base_times(secret)
    view_tag = keccak(b"view_tag" + shared + number)[:1]
    return _varint(payout.amount_base) + b"\x03" + one_time_key + view_tag, one_time_key, tx_key


def _varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])
