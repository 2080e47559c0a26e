"""What customers pay with: one key, many confirmed coins, transactions that are signed here.

A wallet of the node gets slow with its size; this one takes as long with the last payment as with
the first. Each payment spends one confirmed coin, and its change is a coin again once a block has
it: nothing waits in a chain of unconfirmed transactions, of which nodes take 25.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from bip_utils import Bech32ChecksumError, SegwitBech32Decoder
from coincurve import PrivateKey

from tests.helpers.bitcoin_tx import Tx, TxIn, TxOut, compact, hash256
from tests.helpers.bitcoind import MATURITY_BLOCKS, BitcoinNode, base_units

FEE_BASE = 1_000
BUMP_BASE = 1_000
"""So much more for each replacement: above the node's minimum for it."""
_COINBASES = 8
_PER_COINBASE = 300
_SPLIT_FEE_BASE = 100_000
_NOBODY = "raw(51)"
"""Whoever mines: with a wallet looking on, mining takes ten times as long."""
_REPLACEABLE = 0xFFFFFFFD


class BrokeError(Exception):
    """No confirmed coin is left: blocks come too slowly for the rate."""


@dataclass(frozen=True)
class Coin:
    txid: str
    index: int
    amount_base: int


@dataclass(frozen=True)
class Signed:
    """A payment: its first output is the invoice's, its second the change."""

    txid: str
    raw: str
    coin: Coin
    fee_base: int
    change: Coin


class Purse:
    """Thread-safe."""

    def __init__(self, secret: bytes, coins: Iterable[Coin] = ()) -> None:
        self._key = PrivateKey(secret)
        public = self._key.public_key.format()
        digest = hashlib.new("ripemd160", hashlib.sha256(public).digest()).digest()
        self._public = public
        self.script = b"\x00\x14" + digest
        # BIP 143: what a key's own hash stands for when an input is signed.
        self._code = b"\x19\x76\xa9\x14" + digest + b"\x88\xac"
        self._coins = deque(coins)
        self._unconfirmed: dict[str, Coin] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._coins)

    def pay(self, script: bytes, amount_base: int) -> Signed:
        """A payment, signed; raises BrokeError."""
        with self._lock:
            if not self._coins:
                raise BrokeError("every coin waits for a block")
            coin = self._coins.popleft()
        return self._payment(coin, script, amount_base, FEE_BASE)

    def bump(self, old: Signed, script: bytes, amount_base: int) -> Signed:
        """The same with a higher fee, which the change pays."""
        return self._payment(old.coin, script, amount_base, old.fee_base + BUMP_BASE)

    def sent(self, payment: Signed) -> None:
        """The node took it: its change is ours once a block has it."""
        with self._lock:
            self._unconfirmed[payment.txid] = payment.change

    def replaced(self, payment: Signed) -> None:
        """No block will ever have it."""
        with self._lock:
            self._unconfirmed.pop(payment.txid, None)

    def confirmed(self, txid: str) -> None:
        with self._lock:
            change = self._unconfirmed.pop(txid, None)
            if change is not None:
                self._coins.append(change)

    def _payment(self, coin: Coin, script: bytes, amount_base: int, fee_base: int) -> Signed:
        change_base = coin.amount_base - amount_base - fee_base
        outs = (TxOut(amount_base, script), TxOut(change_base, self.script))
        tx = self.signed(coin, outs)
        txid = tx.txid.hex()
        return Signed(txid, tx.serialise().hex(), coin, fee_base, Coin(txid, 1, change_base))

    def signed(self, coin: Coin, outs: tuple[TxOut, ...]) -> Tx:
        """One input, signed for SIGHASH_ALL as BIP 143 says."""
        bare = TxIn(bytes.fromhex(coin.txid)[::-1], coin.index, sequence=_REPLACEABLE)
        sequence = struct.pack("<I", _REPLACEABLE)
        paid = b"".join(
            struct.pack("<q", out.amount) + compact(len(out.script)) + out.script for out in outs
        )
        digest = hash256(
            struct.pack("<i", 2)
            + hash256(bare.outpoint)
            + hash256(sequence)
            + bare.outpoint
            + self._code
            + struct.pack("<q", coin.amount_base)
            + sequence
            + hash256(paid)
            + struct.pack("<II", 0, 1)
        )
        signature = self._key.sign(digest, hasher=None) + b"\x01"
        signed = TxIn(bare.txid, bare.index, b"", _REPLACEABLE, (signature, self._public))
        return Tx((signed,), outs)


def fill(node: BitcoinNode) -> tuple[bytes, list[Coin]]:
    """A new key, and the confirmed coins that were mined for it and split, on a fresh chain."""
    secret = secrets.token_bytes(32)
    purse = Purse(secret)
    hashes = node.rpc("generatetodescriptor", _COINBASES, f"raw({purse.script.hex()})")
    mine_to_nobody(node, MATURITY_BLOCKS)
    coins: list[Coin] = []
    for block_hash in hashes:
        coinbase = node.rpc("getblock", block_hash, 2)["tx"][0]
        amount_base = base_units(coinbase["vout"][0]["value"])
        each_base = (amount_base - _SPLIT_FEE_BASE) // _PER_COINBASE
        outs = (TxOut(each_base, purse.script),) * _PER_COINBASE
        tx = purse.signed(Coin(coinbase["txid"], 0, amount_base), outs)
        txid = node.rpc("sendrawtransaction", tx.serialise().hex())
        coins.extend(Coin(txid, index, each_base) for index in range(_PER_COINBASE))
    mine_to_nobody(node, 1)
    return secret, coins


def mine_to_nobody(node: BitcoinNode, blocks: int) -> list[str]:
    """The new blocks' hashes."""
    return list(node.rpc("generatetodescriptor", blocks, _NOBODY))


def script_of(address: str) -> bytes:
    """The output script of a regtest address with a witness program (BIP 173); ValueError else."""
    try:
        version, program = SegwitBech32Decoder.Decode("bcrt", address)
    except Bech32ChecksumError as error:
        raise ValueError(f"{address} is not an address: {error}") from None
    assert version == 0
    return bytes([version, len(program)]) + bytes(program)
