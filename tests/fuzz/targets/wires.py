"""What nodes send as bytes: blocks, transactions, extra, epee, cells, and notifications."""

from __future__ import annotations

import base64
import json
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from actors.core.chain_events import ChainTx
from actors.core.watch_index import WatchIndex
from daemon.drivers import bitcoin_wire, monero_epee, monero_extra, monero_wire, ton_cells
from daemon.drivers.monero_varint import encode_varint
from tests.fuzz.engine import ROOT, Target, plain
from tests.fuzz.mutation import mutated
from tests.helpers import bitcoin_tx, epee

DATA = ROOT / "tests" / "nodes" / "data"
CORPUS = Path(__file__).parents[1] / "corpus"


@cache
def corpus(name: str) -> dict[str, Any]:
    """What `record.py` has taken down from a real node."""
    return dict(json.loads((CORPUS / f"{name}.json").read_text()))


def load(file: str) -> dict[str, Any]:
    return dict(json.loads((DATA / file).read_text()))


def seeded(seeds: list[bytes], dice: Random) -> bytes:
    return mutated(dice, dice.choice(seeds), others=seeds)


def short(error: Exception) -> None:
    """It goes into logs and to people."""
    assert 0 < len(str(error)) < 300, str(error)[:300]


# --- Bitcoin and Litecoin -------------------------------------------------------------------------

MWEB = load("ltc_mweb.json")


@cache
def bitcoin_blocks() -> list[bytes]:
    recorded = corpus("bitcoin")["answers"]["getblock"]
    return [bytes.fromhex(MWEB["block"]["hex"]), *(bytes.fromhex(each) for _, each in recorded)]


@cache
def bitcoin_txs() -> list[bytes]:
    recorded = [each for _, each in corpus("bitcoin")["answers"]["getrawtransaction"]]
    held = [one["hex"] for one in (*MWEB["mempool"].values(),)]
    return [bytes.fromhex(each) for each in (*held, *recorded)]


@cache
def scripts() -> tuple[bytes, ...]:
    """Everything that the blocks pay: whatever a mutation leaves intact is looked for."""
    read = [bitcoin_tx.read_block(block) for block in bitcoin_blocks()]
    return tuple({out.script for txs in read for tx in txs for out in tx.outs})


def watching(destinations: tuple[bytes, ...]) -> WatchIndex:
    index = WatchIndex()
    for each in destinations:
        index.watch(each, uuid4())
    return index


def block(data: bytes) -> None:
    try:
        found = bitcoin_wire.match_block(data, watching(scripts()), "BTC")
    except bitcoin_wire.WireError as error:
        short(error)
        return
    # What counts as a payment must be one to a reader that shares no code with ours.
    assert amounts(found) == plainly_paid(bitcoin_tx.read_block(data))


def amounts(found: tuple[ChainTx, ...]) -> list[tuple[bytes, int]]:
    return sorted((out.destination, out.amount_base) for tx in found for out in tx.outputs)


def plainly_paid(txs: list[bitcoin_tx.Tx]) -> list[tuple[bytes, int]]:
    wanted = set(scripts())
    return sorted((out.script, out.amount) for tx in txs for out in tx.outs if out.script in wanted)


def transaction(data: bytes) -> None:
    try:
        parsed = bitcoin_wire.parse_tx(data)
    except bitcoin_wire.WireError as error:
        short(error)
        return
    assert parsed.end == len(data)
    assert all(amount >= 0 or script for amount, script in parsed.outputs)


# --- Monero ---------------------------------------------------------------------------------------

XMR = (load("monero/mainnet.json"), load("monero/regtest.json"))
XMR_TXS = [bytes.fromhex(one["hex"]) for one in XMR[0]["transactions"].values()]
XMR_TXS += [
    bytes.fromhex(one["hex"])[: one["pruned_bytes"]] for one in XMR[1]["transactions"].values()
]
XMR_BLOCKS = [bytes.fromhex(one["hex"]) for one in XMR[1]["blocks"]]
EXTRAS = [
    b"\x01" + bytes(32),
    b"\x01" + bytes(range(32)) + b"\x04\x02" + bytes(range(64)),
    b"\x02\x09\x01" + bytes(8) + b"\x01" + bytes(range(32)),
    b"\x03\x21\x00" + bytes(32) + b"\xde\x04abcd" + b"\x00" * 40,
]


def monero_tx(data: bytes) -> None:
    for prunable_hash in (None, bytes(32)):
        try:
            tx = monero_wire.parse_tx(data, prunable_hash=prunable_hash)
        except monero_wire.WireError as error:
            short(error)
            continue
        keys = [out.key for out in tx.outputs]
        keys += [tx.txid, *tx.key_images, *tx.tx_keys, *tx.additional_keys, *tx.commitments]
        assert {len(key) for key in keys} == {32}
        hidden = len(tx.outputs) if tx.rct_type else 0
        assert len(tx.ecdh) == len(tx.commitments) == hidden


def monero_block(data: bytes) -> None:
    try:
        found = monero_wire.parse_block(data)
    except monero_wire.WireError as error:
        short(error)
        return
    assert {len(each) for each in (found.hash, found.parent, *found.txids)} == {32}
    assert 0 <= found.height < 2**64


def extra(data: bytes) -> None:
    own, additional = monero_extra.parse_extra(data)
    assert {len(key) for key in (*own, *additional)} <= {32}
    # Every key was there.
    assert all(key in data for key in (*own, *additional))


EPEES = [
    epee.pack({"status": b"OK", "untrusted": False, "heights": [1, 2, 2**40]}),
    epee.pack({"blocks": b"x" * 300, "n": 70_000, "flag": True}),
    monero_epee.pack({"txids": [bytes(32)] * 3, "prune": True, "start_height": 7}),
    monero_epee.pack({"blocks": [{"block": b"blob", "txs": [{"blob": b"tx"}]}], "status": b"OK"}),
    encode_varint(2**63) * 4,
]


def epee_section(data: bytes) -> None:
    try:
        section = monero_epee.unpack(data)
    except monero_epee.EpeeError as error:
        short(error)
        return
    assert all(isinstance(name, str | bytes) for name in section)


# --- TON ------------------------------------------------------------------------------------------


def cells_in(value: Any) -> list[bytes]:
    """Every bag of cells in an answer, at any depth."""
    if isinstance(value, dict):
        return [found for each in value.values() for found in cells_in(each)]
    if isinstance(value, list):
        return [found for each in value for found in cells_in(each)]
    if isinstance(value, str) and value.startswith("te6cc"):
        return [base64.b64decode(value)]
    return []


@cache
def cells() -> list[bytes]:
    found = {each for _, _, answer in corpus("ton")["answers"] for each in cells_in(answer)}
    examples = cells_in(load("ton/v2_examples.json"))
    small = sorted(each for each in (*found, *examples) if len(each) < 3000)
    return small[:60]


READERS = (
    lambda text: ton_cells.read_transfer(ton_cells.read_body(text)),
    lambda text: ton_cells.comments_of(ton_cells.read_body(text)),
    ton_cells.read_cell,
    ton_cells.read_address,
    ton_cells.read_decimals,
    lambda text: ton_cells.read_transaction(text, bytes(32)),
)


def cell(data: bytes) -> None:
    for reader in READERS:
        try:
            reader(base64.b64encode(data).decode())
        except ton_cells.CellError as error:
            short(error)


def _late(seeds: Any, dice: Random) -> bytes:
    return seeded(seeds(), dice)


TARGETS = [
    Target("bitcoin-block", partial(_late, bitcoin_blocks), plain(block), cases=1500),
    Target("bitcoin-tx", partial(_late, bitcoin_txs), plain(transaction), cases=3000),
    Target("monero-tx", partial(seeded, XMR_TXS), plain(monero_tx), cases=2500),
    Target("monero-block", partial(seeded, XMR_BLOCKS), plain(monero_block), cases=2000),
    Target("monero-extra", partial(seeded, EXTRAS), plain(extra), cases=3000),
    Target("monero-epee", partial(seeded, EPEES), plain(epee_section), cases=3000),
    Target("ton-cells", partial(_late, cells), plain(cell), cases=500),
]
