"""Blocks, receipts and transactions of EVM chains as their JSON-RPC gives them; pure.

Formats: EIP-1474 and the execution-apis (quantities and data in hex), EIP-20 (the Transfer event
and the calls transfer and transferFrom), the contract ABI (32-byte words).

Nearly everything is somebody else's, so a block is searched in bulk: the payees of all of it are
decoded at once and looked up by one set intersection in C; only transactions that concern us are
then taken apart. Fields that are not needed are not read: nodes differ in them.

Places of payments (`OutPoint.index`): 0 is the transaction's own value, 1 + i its i-th log,
INTERNAL + k the k-th transfer of value inside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.core.chain_events import ChainTx, OutPoint, Output
from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""Keccak-256 of `Transfer(address,address,uint256)`."""
INTERNAL = 2**20
BALANCE = 2**21
"""The place of what a balance check found, in the block in which the balance rose."""
HASH_BYTES = 32
ADDRESS_BYTES = 20
MAX_LOGS = INTERNAL - 1

_TRANSFER = "0xa9059cbb"
_TRANSFER_FROM = "0x23b872dd"
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_WORD = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_ADDRESS_PADDING = "0" * 24

Json = dict[str, Any]


class WireError(ValueError):
    """The answer is not what it was said to be; the text says where, and is short."""


class OtherBlockError(WireError):
    """Answers belong to different blocks: the chain moved between the calls."""


@dataclass(frozen=True, slots=True)
class Assets:
    """What counts as money on one chain."""

    native: str
    """The coin's asset id."""
    tokens: Mapping[str, str]
    """Contract address in small letters, with 0x → asset id."""


@dataclass(frozen=True, slots=True)
class InternalTransfer:
    """Value that a contract moved."""

    number: int
    """Which one of its transaction, from 0, in the order of the trace."""
    destination: bytes
    amount_base: int


Internals = Mapping[str, Sequence[InternalTransfer]]
"""By transaction hash as the node writes it."""


@dataclass(frozen=True, slots=True)
class EvmBlock:
    """A block with what is needed to search it; `txs` are whole and checked to be objects."""

    ref: BlockRef
    txs: list[Json]
    logs: list[Json]
    """Every log, or every one that may concern us, in order."""
    receipts: Mapping[str, Json] | None
    """By transaction hash; None where only logs were asked for."""
    internals: Internals


# --- scalars --------------------------------------------------------------------------------------


def quantity(value: object) -> int:
    """A number in hex, at most 256 bits wide. Raises WireError."""
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise WireError(f"no quantity: {str(value)[:40]!r}")
    return int(value, 16)


def data(value: object, size: int | None = None) -> bytes:
    """Bytes in hex, `size` of them if given. Raises WireError."""
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise WireError(f"no data in hex: {str(value)[:40]!r}")
    raw = bytes.fromhex(value[2:])
    if size is not None and len(raw) != size:
        raise WireError(f"{len(raw)} bytes instead of {size}: {value[:40]!r}")
    return raw


def block_ref(block: object) -> BlockRef:
    """The identity of a block as eth_getBlockByNumber or newHeads gives it. Raises WireError."""
    if not isinstance(block, dict):
        raise WireError(f"no block: {str(block)[:40]!r}")
    return BlockRef(
        height=quantity(block.get("number")),
        hash=data(block.get("hash"), HASH_BYTES),
        parent=data(block.get("parentHash"), HASH_BYTES),
        time_s=quantity(block.get("timestamp")),
    )


def conflict_key(sender: bytes, nonce: int) -> bytes:
    """What two transactions share that exclude each other."""
    return sender + nonce.to_bytes(8, "big")


# --- blocks ---------------------------------------------------------------------------------------


def block_with_receipts(block: object, receipts: object, internals: Internals) -> EvmBlock:
    """A block with eth_getBlockReceipts's answer. Raises WireError, OtherBlockError."""
    ref, txs, text = _block(block)
    if not isinstance(receipts, list):
        raise OtherBlockError(f"no receipts of block {ref.height}")
    try:
        by_hash = {receipt["transactionHash"]: receipt for receipt in receipts}
        if {receipt["blockHash"] for receipt in receipts} - {text}:
            raise OtherBlockError(f"receipts of another block than {text}")
        # More receipts than transactions are borne: Polygon has such for what comes from its
        # other chain.
        missing = {tx["hash"] for tx in txs} - by_hash.keys()
        if missing or len(by_hash) != len(receipts):
            raise WireError(
                f"block {ref.height} has {len(txs)} transactions, but {len(receipts)} receipts"
                f" for {len(by_hash)} transactions, and none for {len(missing)}"
            )
        logs = [log for receipt in receipts for log in receipt["logs"]]
    except (KeyError, TypeError) as error:
        raise WireError(f"block {ref.height}: a receipt without {error}") from None
    return EvmBlock(ref, txs, logs, by_hash, internals)


def block_with_logs(block: object, logs: list[Json], internals: Internals) -> EvmBlock:
    """A block with those of its logs that eth_getLogs gave. Raises WireError, OtherBlockError."""
    ref, txs, text = _block(block)
    if any(log.get("blockHash") != text for log in logs):
        raise OtherBlockError(f"logs of another block than {text}")
    return EvmBlock(ref, txs, logs, None, internals)


def _block(block: object) -> tuple[BlockRef, list[Json], str]:
    ref = block_ref(block)
    assert isinstance(block, dict), "block_ref takes nothing else"
    txs = block.get("transactions")
    if not isinstance(txs, list) or not all(isinstance(tx, dict) for tx in txs):
        raise WireError(f"block {ref.height} without whole transactions")
    hashes = [tx.get("hash") for tx in txs]
    if not all(isinstance(txid, str) for txid in hashes):
        raise WireError(f"block {ref.height} holds a transaction without hash")
    if len(set(hashes)) != len(txs):
        raise WireError(f"block {ref.height} holds a transaction twice")
    return ref, txs, block["hash"]


def concerned(block: EvmBlock, index: WatchIndex, assets: Assets) -> list[Json]:
    """The transactions that may concern us, in block order. Raises WireError.

    What they pay is for `assemble` to say: a log here may be none of a payment.
    """
    try:
        hashes = _native_hits(block.txs, index) | _log_hits(block.logs, index, assets)
        hashes.update(_internal_hits(block.internals, index))
        if index.unconfirmed or index.conflicts:
            hashes.update(_awaited(block.txs, index))
        if not hashes:
            return []
        return [tx for tx in block.txs if tx["hash"] in hashes]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable(f"block {block.ref.height}", error) from None


def assemble(
    tx: Json, receipt: Json, block: EvmBlock, index: WatchIndex, assets: Assets
) -> ChainTx | None:
    """What a transaction of the block did for us; None when it does not concern us.

    A failed one paid nothing, whatever it says. Raises WireError.
    """
    try:
        txid, key = data(tx["hash"], HASH_BYTES), _key(tx)
        if receipt["transactionHash"] != tx["hash"]:
            raise WireError("the receipt of another transaction")
        status = quantity(receipt["status"])
        if status not in (0, 1):
            raise WireError(f"status {status}")
        internals = block.internals.get(tx["hash"], ())
        outputs = _outputs(tx, txid, receipt, internals, index, assets) if status else ()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable(f"a transaction of block {block.ref.height}", error) from None
    if outputs or txid in index.unconfirmed or key in index.conflicts:
        return ChainTx(txid=txid, outputs=outputs, spends=(key,))
    return None


def match_block(block: EvmBlock, index: WatchIndex, assets: Assets) -> tuple[ChainTx, ...]:
    """The transactions that concern us of a block that has its receipts. Raises WireError."""
    receipts = block.receipts
    assert receipts is not None, "receipts are there"
    found = (
        assemble(tx, receipts[tx["hash"]], block, index, assets)
        for tx in concerned(block, index, assets)
    )
    return tuple(tx for tx in found if tx is not None)


def _native_hits(txs: list[Json], index: WatchIndex) -> set[str]:
    valued = [tx for tx in txs if tx["value"] != "0x0" and tx["to"] is not None]
    payees = _addresses([tx["to"] for tx in valued], 2)
    held = index.destinations.keys() & payees
    if not held:
        return set()
    return {tx["hash"] for tx, payee in zip(valued, payees, strict=True) if payee in held}


def _log_hits(logs: list[Json], index: WatchIndex, assets: Assets) -> set[str]:
    tokens = assets.tokens
    if not tokens:
        return set()
    transfers = [
        log
        for log in logs
        if log["address"].lower() in tokens
        and len(log["topics"]) == 3
        and log["topics"][0] == TRANSFER_TOPIC
    ]
    payees = _addresses([log["topics"][2] for log in transfers], 26)
    held = index.destinations.keys() & payees
    if not held:
        return set()
    return {log["transactionHash"] for log, payee in zip(transfers, payees, strict=True)
            if payee in held}  # fmt: skip


def _internal_hits(internals: Internals, index: WatchIndex) -> set[str]:
    destinations = index.destinations
    return {
        txid
        for txid, transfers in internals.items()
        if any(transfer.destination in destinations for transfer in transfers)
    }


def _awaited(txs: list[Json], index: WatchIndex) -> set[str]:
    """Those that we wait for, and those that exclude them."""
    awaited = set()
    if index.unconfirmed:
        txids = _slices([tx["hash"] for tx in txs], 2, HASH_BYTES)
        held = index.unconfirmed.keys() & txids
        awaited |= {tx["hash"] for tx, txid in zip(txs, txids, strict=True) if txid in held}
    if index.conflicts:
        senders = _addresses([tx["from"] for tx in txs], 2)
        keys = [
            conflict_key(sender, int(tx["nonce"], 16))
            for tx, sender in zip(txs, senders, strict=True)
        ]
        held = index.conflicts.keys() & keys
        awaited |= {tx["hash"] for tx, key in zip(txs, keys, strict=True) if key in held}
    return awaited


def _outputs(
    tx: Json,
    txid: bytes,
    receipt: Json,
    internals: Sequence[InternalTransfer],
    index: WatchIndex,
    assets: Assets,
) -> tuple[Output, ...]:
    outputs = []
    own = _own_value(tx, txid, index, assets)
    if own is not None:
        outputs.append(own)
    logs = receipt["logs"]
    if len(logs) > MAX_LOGS:
        raise WireError(f"{len(logs)} logs")
    for number, log in enumerate(logs):
        asset = assets.tokens.get(log["address"].lower())
        moved = _moved(log) if asset is not None else None
        if asset is not None and moved is not None and moved[0] in index.destinations:
            outputs.append(Output(OutPoint(txid, 1 + number), moved[0], moved[1], asset))
    outputs += [
        Output(OutPoint(txid, INTERNAL + one.number), one.destination, one.amount_base,
               assets.native)
        for one in internals
        if one.destination in index.destinations and one.number < BALANCE - INTERNAL
    ]  # fmt: skip
    return tuple(outputs)


def _own_value(tx: Json, txid: bytes, index: WatchIndex, assets: Assets) -> Output | None:
    if tx["to"] is None:
        return None
    amount_base, payee = quantity(tx["value"]), data(tx["to"], ADDRESS_BYTES)
    if not amount_base or payee not in index.destinations:
        return None
    return Output(OutPoint(txid, 0), payee, amount_base, assets.native)


def _moved(log: Json) -> tuple[bytes, int] | None:
    """Payee and amount of an EIP-20 Transfer; None for a log of any other shape."""
    topics, amount = log["topics"], log["data"]
    if len(topics) != 3 or topics[0] != TRANSFER_TOPIC or _WORD.fullmatch(amount) is None:
        return None
    payee = data(topics[2], 32)
    return None if any(payee[:12]) else (payee[12:], int(amount, 16))


# --- the mempool ----------------------------------------------------------------------------------


def match_pending(tx: Json, index: WatchIndex, assets: Assets) -> ChainTx | None:
    """What a transaction in the mempool promises us; None when it does not concern us.

    A call of a token's transfer or transferFrom promises what its first log would say: place 1. Of
    one that is waited for already nothing new is promised: after a reorg it may be known from its
    block, with its payment at another place. Raises WireError.
    """
    try:
        payee = tx["to"]
        outputs: list[Output] = []
        txid = data(tx["hash"], HASH_BYTES)
        own = _own_value(tx, txid, index, assets)
        if own is not None:
            outputs.append(own)
        asset = assets.tokens.get(payee.lower()) if payee is not None else None
        is_news = asset is not None and txid not in index.unconfirmed
        promised = _promised(tx) if is_news else None
        if asset is not None and promised is not None and promised[0] in index.destinations:
            outputs.append(Output(OutPoint(txid, 1), promised[0], promised[1], asset))
        if not outputs and not index.conflicts and txid not in index.unconfirmed:
            return None
        key = _key(tx)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable("a pending transaction", error) from None
    if outputs or key in index.conflicts or txid in index.unconfirmed:
        return ChainTx(txid=txid, outputs=tuple(outputs), spends=(key,))
    return None


def _promised(tx: Json) -> tuple[bytes, int] | None:
    """Payee and amount of a call of transfer(address,uint256) or transferFrom(…); else None."""
    call = tx["input"] if "input" in tx else tx["data"]
    words = {_TRANSFER: 0, _TRANSFER_FROM: 1}.get(call[:10])
    if words is None:
        return None
    start = 10 + 64 * words
    payee, amount = call[start : start + 64], call[start + 64 : start + 128]
    if len(amount) != 64 or not payee.startswith(_ADDRESS_PADDING):
        return None
    return data("0x" + payee, 32)[12:], quantity("0x" + amount)


# --- inner ----------------------------------------------------------------------------------------


def _key(tx: Json) -> bytes:
    return conflict_key(data(tx["from"], ADDRESS_BYTES), quantity(tx["nonce"]))


def _addresses(texts: list[str], start: int) -> list[bytes]:
    return _slices(texts, start, ADDRESS_BYTES)


def _slices(texts: list[str], start: int, size: int) -> list[bytes]:
    """The last `size` bytes of each of many hex texts, decoded in one go; ValueError if odd."""
    if not texts:
        return []
    length = start + 2 * size
    if set(map(len, texts)) != {length}:
        raise ValueError(f"a value that has not {length} characters")
    joined = bytes.fromhex("".join([text[start:] for text in texts]))
    # fromhex skips blanks.
    if len(joined) != size * len(texts):
        raise ValueError("a value that is not hex")
    return [joined[at : at + size] for at in range(0, len(joined), size)]


def _unreadable(what: str, error: Exception) -> WireError:
    if isinstance(error, WireError):
        return error
    kind = "misses" if isinstance(error, KeyError) else "cannot be read:"
    return WireError(f"{what} {kind} {str(error)[:60]}")
