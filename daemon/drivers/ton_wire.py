"""Toncenter's JSON as facts: blocks, transactions, results of get methods. No IO.

Sources: toncenter/ton-indexer (v3), toncenter/ton-http-api (v2). Hashes come in base64, accounts as
`0:HEX` (v3) or in the friendly form (v2, TEP-2), amounts as decimal texts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

HASH_BYTES = 32
MASTERCHAIN = -1
_MASTERCHAIN_BYTE = 0xFF
_DECIMAL = re.compile(r"[0-9]{1,39}")
_RAW = re.compile(r"(-?[0-9]{1,3}):([0-9a-fA-F]{64})")
_HEX = re.compile(r"-?0x[0-9a-fA-F]{1,64}")
_FRIENDLY_BYTES = 36

Json = Mapping[str, Any]


class TonWireError(ValueError):
    """An answer is not of the form that the API has."""


@dataclass(frozen=True, slots=True)
class Network:
    name: str
    global_id: int
    """Of its blocks: `global_id` in block.tlb."""
    zero_state: bytes
    """Root hash of the zero state: what the chain began with."""


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "mainnet": Network(
            "mainnet", -239, base64.b64decode("F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk=")
        ),
        "testnet": Network(
            "testnet", -3, base64.b64decode("gj+B8wb/AmlPk1z1AhVI484rhrUpgSr2oSFIh56VoSg=")
        ),
    }
)


class Header(NamedTuple):
    """A block, of the masterchain unless said otherwise."""

    seqno: int
    hash: bytes
    """Its root hash."""
    time_s: int
    tx_count: int | None
    """Transactions of the block itself; None where the API does not tell."""
    global_id: int | None = None


class BlockId(NamedTuple):
    """Names a block of any workchain, as v2 does: `shard` is a signed decimal text."""

    workchain: int
    shard: str
    seqno: int
    hash: bytes = b""


class TonTx(NamedTuple):
    """A transaction that an internal message with value brought about.

    Where `boc` is given (v2), value, body and what became of it are still to be read from that.
    """

    hash: bytes
    account: bytes
    value_base: int = 0
    aborted: bool = False
    body: str = ""
    """Of the message: a bag of cells in base64."""
    boc: str = ""


class Page(NamedTuple):
    """Some transactions of a masterchain block."""

    hashes: frozenset[bytes]
    """Of all of them."""
    masters: frozenset[bytes]
    """Of those on the masterchain."""
    txs: tuple[TonTx, ...]
    """Those that may be payments."""


# --- v3 -------------------------------------------------------------------------------------------


def masterchain_info(answer: object) -> tuple[Header, int]:
    """(the last block, the seqno of the first one there is)."""
    info = as_object(answer, "the answer")
    first = as_object(info.get("first"), "first")
    return header(info.get("last")), as_int(first.get("seqno"), "first.seqno")


def headers(answer: object) -> list[Header]:
    """The masterchain blocks in a list of blocks."""
    listed = as_list(as_object(answer, "the answer").get("blocks"), "blocks")
    return [
        header(block)
        for block in listed
        if as_int(as_object(block, "a block").get("workchain"), "workchain") == MASTERCHAIN
    ]


def total_transactions(answer: object) -> int | None:
    """Of all blocks in a list of blocks; None where one does not tell."""
    total = 0
    for block in as_list(as_object(answer, "the answer").get("blocks"), "blocks"):
        count = _tx_count(as_object(block, "a block"))
        if count is None:
            return None
        total += count
    return total


def header(answer: object) -> Header:
    block = as_object(answer, "a block")
    if as_int(block.get("workchain"), "workchain") != MASTERCHAIN:
        raise TonWireError("a block of another workchain where one of the masterchain belongs")
    return Header(
        seqno=as_int(block.get("seqno"), "seqno"),
        hash=as_hash(block.get("root_hash"), "root_hash"),
        time_s=as_int(block.get("gen_utime"), "gen_utime"),
        tx_count=_tx_count(block),
        global_id=as_int(block.get("global_id"), "global_id"),
    )


def page(answer: object, seqno: int) -> tuple[int, Page]:
    """(how many are listed, the transactions) of the masterchain block `seqno`."""
    listed = as_list(as_object(answer, "the answer").get("transactions"), "transactions")
    hashes: set[bytes] = set()
    masters: set[bytes] = set()
    found: list[TonTx] = []
    for item in listed:
        tx = as_object(item, "a transaction")
        tx_hash = as_hash(tx.get("hash"), "hash")
        if tx.get("mc_block_seqno") != seqno or tx.get("emulated"):
            raise TonWireError(
                f"transaction {tx_hash.hex()} of block {tx.get('mc_block_seqno')} in block {seqno}"
            )
        if tx_hash in hashes:
            continue
        hashes.add(tx_hash)
        account = as_account(tx.get("account"), "account")
        if account[0] == _MASTERCHAIN_BYTE:
            masters.add(tx_hash)
        payment = _payment(tx, tx_hash, account)
        if payment is not None:
            found.append(payment)
    return len(listed), Page(frozenset(hashes), frozenset(masters), tuple(found))


def transaction(item: object) -> TonTx | None:
    """One transaction, such as news bring; None when it is no payment."""
    tx = as_object(item, "a transaction")
    tx_hash, account = as_hash(tx.get("hash"), "hash"), as_account(tx.get("account"), "account")
    return _payment(tx, tx_hash, account)


def _payment(tx: Json, tx_hash: bytes, account: bytes) -> TonTx | None:
    message = tx.get("in_msg")
    if message is None:
        return None
    message = as_object(message, "in_msg")
    value, source = message.get("value"), message.get("source")
    # A message from outside has neither; what bounced is the account's own money.
    if value is None or source is None or message.get("bounced") is True:
        return None
    described = as_object(tx.get("description"), "description")
    bounce = described.get("bounce")
    if bounce is not None and as_object(bounce, "bounce").get("type") == "ok":
        return None
    content = message.get("message_content")
    body = as_object(content, "message_content").get("body") if content is not None else None
    if body is not None and not isinstance(body, str):
        raise TonWireError("body is no text")
    return TonTx(
        tx_hash,
        account,
        value_base=as_amount(value, "value"),
        aborted=described.get("aborted") is True,
        body=body or "",
    )


def _tx_count(block: Json) -> int | None:
    count = block.get("tx_count")
    return None if count is None else as_int(count, "tx_count")


# --- v2 -------------------------------------------------------------------------------------------


def block_id(answer: object) -> BlockId:
    block = as_object(answer, "a block id")
    return BlockId(
        workchain=as_int(block.get("workchain"), "workchain"),
        shard=str(_signed(block.get("shard"), "shard")),
        seqno=as_int(block.get("seqno"), "seqno"),
        hash=as_hash(block.get("root_hash"), "root_hash"),
    )


def block_header(answer: object) -> tuple[Header, tuple[BlockId, ...]]:
    """(the block, the blocks before it): two after a merge of shards."""
    told = as_object(answer, "the answer")
    own = block_id(told.get("id"))
    previous = tuple(block_id(each) for each in as_list(told.get("prev_blocks"), "prev_blocks"))
    found = Header(
        own.seqno,
        own.hash,
        as_int(told.get("gen_utime"), "gen_utime"),
        None,
        as_int(told.get("global_id"), "global_id"),
    )
    return found, previous


def page_v2(answer: object) -> tuple[list[TonTx], str | None, bool]:
    """(transactions, logical time of the last, whether there are more) of one block."""
    told = as_object(answer, "the answer")
    found, last_lt = [], None
    for item in as_list(told.get("transactions"), "transactions"):
        tx = as_object(item, "a transaction")
        name = as_object(tx.get("transaction_id"), "transaction_id")
        last_lt = str(as_int(name.get("lt"), "lt"))
        address = as_object(tx.get("address", {}), "address").get("account_address")
        boc = tx.get("data")
        if not isinstance(boc, str):
            raise TonWireError("data is no text")
        found.append(
            TonTx(
                as_hash(name.get("hash"), "hash"),
                as_account(tx.get("account") or address, "account"),
                boc=boc,
            )
        )
    return found, last_lt, told.get("incomplete") is True


# --- get methods ----------------------------------------------------------------------------------


def stack(answer: object) -> tuple[int, list[tuple[str, str]]]:
    """(exit code, results as (kind, value)) of either version; values are numbers or base64."""
    told = as_object(answer, "the answer")
    entries = []
    for entry in as_list(told.get("stack"), "stack"):
        if isinstance(entry, list) and len(entry) == 2:
            kind, value = entry
            if isinstance(value, dict):
                value = value.get("bytes")
        else:
            item = as_object(entry, "a stack entry")
            kind, value = item.get("type"), item.get("value")
        entries.append((str(kind), value if isinstance(value, str) else ""))
    return _signed(told.get("exit_code"), "exit_code"), entries


# --- values ---------------------------------------------------------------------------------------


def as_object(value: object, what: str) -> Json:
    if not isinstance(value, dict):
        raise TonWireError(f"{what} is no object")
    return value


def as_list(value: object, what: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TonWireError(f"{what} is no list")
    return value


def as_int(value: object, what: str) -> int:
    """A number that is not negative, but for workchains and global ids; also as a text."""
    number = _signed(value, what)
    if number < 0 and what not in {"workchain", "global_id"}:
        raise TonWireError(f"{what} is {number}")
    return number


def as_amount(value: object, what: str) -> int:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return int(value)
    raise TonWireError(f"{what} is no amount but {str(value)[:80]!r}")


def as_hash(value: object, what: str) -> bytes:
    """32 bytes in base64, with or without padding, in either alphabet; or in hexadecimal digits."""
    if isinstance(value, str) and len(value) == 44:
        # The usual form. What is no base64 is left out here, and then too short.
        with suppress(ValueError):
            if len(found := binascii.a2b_base64(value)) == HASH_BYTES:
                return found
    try:
        if isinstance(value, str) and len(value) in {43, 44}:
            text = value.rstrip("=").translate(_URL_SAFE) + "="
            found = base64.b64decode(text, validate=True)
        elif isinstance(value, str) and len(value) == 2 * HASH_BYTES:
            found = bytes.fromhex(value)
        else:
            found = b""
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != HASH_BYTES:
        raise TonWireError(f"{what} is no hash but {str(value)[:80]!r}")
    return found


def as_account(value: object, what: str) -> bytes:
    """Workchain and account id (33 bytes) of a raw or friendly address (TEP-2)."""
    if isinstance(value, str) and len(value) == 66 and value.startswith("0:"):
        # The usual form. Where there are spaces it becomes too short.
        with suppress(ValueError):
            if len(found := bytes.fromhex(value[2:])) == HASH_BYTES:
                return b"\0" + found
    if isinstance(value, str) and len(value) == 48:
        try:
            found = base64.b64decode(value.translate(_URL_SAFE), validate=True)
        except (binascii.Error, ValueError):
            found = b""
        if len(found) == _FRIENDLY_BYTES:
            return found[1:34]
    if isinstance(value, str) and (parts := _RAW.fullmatch(value)):
        workchain = int(parts[1])
        if -128 <= workchain < 128:
            return workchain.to_bytes(1, "big", signed=True) + bytes.fromhex(parts[2])
    raise TonWireError(f"{what} is no address but {str(value)[:80]!r}")


def raw_address(account: bytes) -> str:
    """As v3 writes it: `0:HEX`."""
    workchain = int.from_bytes(account[:1], "big", signed=True)
    return f"{workchain}:{account[1:].hex().upper()}"


def as_number(value: str, what: str) -> int:
    """A number of a stack: decimal or hexadecimal."""
    if _HEX.fullmatch(value):
        return int(value, 16)
    return _signed(value, what)


def _signed(value: object, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _DECIMAL.fullmatch(value.removeprefix("-")):
        return int(value)
    raise TonWireError(f"{what} is no number but {str(value)[:80]!r}")


_URL_SAFE = str.maketrans("-_", "+/")
