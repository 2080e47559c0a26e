"""Monero's bytes: real transactions and blocks, built ones, and broken ones."""

import contextlib
import io
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.drivers.monero_extra import parse_extra
from daemon.drivers.monero_hash import NULL_HASH, keccak, tree_hash
from daemon.drivers.monero_varint import encode_varint, end_of_varints, read_varint
from daemon.drivers.monero_wire import (
    ParsedTx,
    PrunedIdError,
    TxOutput,
    WireError,
    parse_block,
    parse_tx,
)
from tests.helpers.monero_blobs import (
    BlockBlob,
    TxBlob,
    TxIn,
    TxOut,
    busy_block,
    coinbase,
    extra,
    ordinary_tx,
    tree_root,
    varint,
)

DATA = Path(__file__).parents[2] / "nodes" / "data" / "monero"
PUBLIC: dict[str, Any] = json.loads((DATA / "mainnet.json").read_text())
REGTEST: dict[str, Any] = json.loads((DATA / "regtest.json").read_text())
KEYS = [bytes([n]) * 32 for n in range(1, 20)]
HEX = bytes.fromhex

# --- real data ---


@pytest.mark.parametrize(
    ("kind", "version", "rct_type", "inputs", "outputs", "ecdh_bytes"),
    [
        ("v1_coinbase", 1, 0, 0, 3, None),
        ("v1", 1, 0, 2, 4, None),
        ("v2_coinbase", 2, 0, 0, 1, None),
        ("rct_full", 2, 1, 1, 2, 64),
        ("rct_simple", 2, 2, 2, 2, 64),
        ("rct_bulletproof", 2, 3, 2, 2, 64),
        ("rct_bulletproof2", 2, 4, 1, 2, 8),
        ("rct_clsag", 2, 5, 2, 2, 8),
        ("rct_bulletproof_plus", 2, 6, 1, 2, 8),
    ],
)
def test_public_transactions_of_every_kind(kind, version, rct_type, inputs, outputs, ecdh_bytes):
    data = PUBLIC["transactions"][kind]
    prunable_hash = HEX(data["prunable_hash"]) if "prunable_hash" in data else None
    tx = parse_tx(HEX(data["hex"]), prunable_hash=prunable_hash)
    assert tx.txid.hex() == data["txid"]
    assert (tx.version, tx.rct_type) == (version, rct_type)
    assert tx.is_coinbase == kind.endswith("coinbase")
    assert (len(tx.key_images), len(tx.outputs)) == (inputs, outputs)
    assert len(tx.tx_keys) == 1
    assert len(tx.ecdh) == len(tx.commitments) == (outputs if ecdh_bytes else 0)
    assert all(len(each) == ecdh_bytes for each in tx.ecdh)
    assert all(bool(output.amount) == (rct_type == 0) for output in tx.outputs)


@pytest.mark.parametrize("name", PUBLIC["blocks"])
def test_public_blocks(name):
    data = PUBLIC["blocks"][name]
    block = parse_block(HEX(data["hex"]))
    assert (block.hash.hex(), block.height) == (data["hash"], data["height"])


def test_the_odd_block_is_known_by_its_bytes_alone():
    raw = bytearray(HEX(PUBLIC["blocks"]["mainnet_202612"]["hex"]))
    block = parse_block(bytes(raw))
    assert len(block.txids) == 513
    raw[-1] ^= 1
    other = parse_block(bytes(raw))
    assert other.height == block.height
    header, leaves = bytes(raw[:43]), [other.miner_tx.txid, *other.txids]
    hashing = header + tree_root(leaves) + varint(514)
    assert other.hash == keccak(varint(len(hashing)) + hashing)


@pytest.mark.parametrize("vector", PUBLIC["tree_hashes"], ids=lambda vector: vector["root"][:8])
def test_public_tree_hashes(vector):
    raw = HEX(vector["leaves"])
    assert tree_hash([raw[at : at + 32] for at in range(0, len(raw), 32)]).hex() == vector["root"]


@pytest.mark.parametrize("kind", REGTEST["transactions"])
def test_a_node_reads_the_same_in_a_transaction(kind):
    data = REGTEST["transactions"][kind]
    raw = HEX(data["hex"])
    tx = parse_tx(raw)
    pruned = raw[: data["pruned_bytes"]]
    assert parse_tx(pruned, prunable_hash=HEX(data["prunable_hash"])) == tx
    assert tx.txid.hex() == data["txid"]
    _assert_agrees(tx, data["json"])
    assert len(tx.tx_keys) == 1
    expected = len(tx.outputs) if kind in {"two_subaddresses", "subaddresses_and_main"} else 0
    assert len(tx.additional_keys) == expected


@pytest.mark.parametrize("data", REGTEST["blocks"], ids=lambda data: str(data["height"]))
def test_a_node_reads_the_same_in_a_block(data):
    block = parse_block(HEX(data["hex"]))
    decoded = data["json"]
    assert (block.hash.hex(), block.height) == (data["hash"], data["height"])
    assert block.parent.hex() == decoded["prev_id"]
    assert block.timestamp == decoded["timestamp"]
    assert [txid.hex() for txid in block.txids] == decoded["tx_hashes"]
    if data["height"]:  # for the first block the node answers no miner transaction id
        assert block.miner_tx.txid.hex() == data["miner_txid"]
    assert block.miner_tx.is_coinbase
    _assert_agrees(block.miner_tx, decoded["miner_tx"])


def _assert_agrees(tx: ParsedTx, decoded: dict[str, Any]) -> None:
    assert tx.version == decoded["version"]
    assert tx.unlock_time == decoded["unlock_time"]
    spends = [vin["key"]["k_image"] for vin in decoded["vin"] if "key" in vin]
    assert [image.hex() for image in tx.key_images] == spends
    assert list(tx.outputs) == [_output(vout) for vout in decoded["vout"]]
    assert (tx.tx_keys, tx.additional_keys) == reference_extra(bytes(decoded["extra"]))
    rct = decoded.get("rct_signatures", {})
    assert tx.rct_type == rct.get("type", 0)
    amounts = [entry["amount"][:16] for entry in rct.get("ecdhInfo", [])]
    assert [each.hex() for each in tx.ecdh] == amounts
    assert [each.hex() for each in tx.commitments] == rct.get("outPk", [])


def _output(vout: dict[str, Any]) -> TxOutput:
    target = vout["target"]
    if "key" in target:
        return TxOutput(HEX(target["key"]), vout["amount"], None)
    tagged = target["tagged_key"]
    return TxOutput(HEX(tagged["key"]), vout["amount"], int(tagged["view_tag"], 16))


# --- built ones ---

U64 = st.integers(0, 2**64 - 1)
KEY = st.binary(min_size=32, max_size=32)
TX_IN = st.builds(TxIn, KEY, st.lists(U64, max_size=130).map(tuple), U64)


@st.composite
def transactions(draw: st.DrawFn) -> TxBlob:
    version = draw(st.sampled_from([1, 2, 2, 2]))
    height = draw(st.none() | U64)
    rct_type = 0 if version == 1 else draw(st.integers(0, 6))
    ecdh_bytes = 8 if rct_type >= 4 else 64
    ecdh = st.binary(min_size=ecdh_bytes, max_size=ecdh_bytes)
    tag = st.none() | st.integers(0, 255)
    outputs = draw(st.lists(st.builds(TxOut, KEY, tag, U64, ecdh, KEY), max_size=17))
    inputs = [] if height is not None else draw(st.lists(TX_IN, min_size=1, max_size=4))
    proofs = draw(st.binary(min_size=1, max_size=40))
    if version == 1:
        proofs = bytes(64 * sum(len(each.offsets) for each in inputs))
    spent = len(inputs) or 1
    return TxBlob(
        outputs,
        inputs,
        height,
        version,
        draw(U64),
        draw(st.binary(max_size=200)),
        rct_type,
        draw(U64),
        proofs,
        [bytes(32)] * spent if rct_type == 2 else (),
    )


@settings(max_examples=150)
@given(transactions())
def test_what_was_built_is_read(built):
    tx = parse_tx(built.whole)
    assert tx.txid == built.txid
    assert (tx.version, tx.unlock_time) == (built.version, built.unlock_time)
    assert tx.is_coinbase == (built.height is not None)
    assert list(tx.key_images) == [each.key_image for each in built.inputs]
    expected = [TxOutput(each.key, each.amount, each.view_tag) for each in built.outputs]
    assert list(tx.outputs) == expected
    assert (tx.tx_keys, tx.additional_keys) == reference_extra(built.extra)
    hidden = built.outputs if built.rct_type else []
    assert list(tx.ecdh) == [each.ecdh for each in hidden]
    assert list(tx.commitments) == [each.commitment for each in hidden]
    if built.version == 2:
        assert parse_tx(built.pruned, prunable_hash=built.prunable_hash) == tx


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 200])
def test_a_built_block_is_read(count):
    block, txs = busy_block(random.Random(count), height=3_000_000, txs=count)
    parsed = parse_block(block.blob)
    assert parsed.hash == block.hash
    assert (parsed.height, parsed.parent) == (3_000_000, block.parent)
    assert parsed.txids == tuple(tx.txid for tx in txs)
    assert parsed.miner_tx == parse_tx(block.miner_tx.whole)
    for tx in txs:
        assert parse_tx(tx.pruned, prunable_hash=tx.prunable_hash).txid == tx.txid


def test_another_prunable_hash_gives_another_id():
    tx = ordinary_tx(random.Random(1))
    assert parse_tx(tx.pruned, prunable_hash=KEYS[0]).txid != tx.txid


def test_a_coinbase_has_the_same_id_with_and_without_a_prunable_hash():
    built = coinbase(7, [TxOut(KEYS[0])])
    for prunable_hash in (None, NULL_HASH, KEYS[1]):
        assert parse_tx(built.whole, prunable_hash=prunable_hash).txid == built.txid


# --- extra ---


class EndError(Exception):
    """The reference reads no further."""


def reference_extra(raw: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Field after field from a stream, as slow and plain as can be."""
    stream = io.BytesIO(raw)
    keys: list[bytes] = []
    additional: list[tuple[bytes, ...]] = []
    with contextlib.suppress(EndError):
        while tag := stream.read(1):
            if tag == b"\x01":
                keys.append(_take(stream, 32))
            elif tag == b"\x04":
                count = _take_varint(stream)
                additional.append(tuple(_take(stream, 32) for _ in range(count)))
            else:
                _go_on_if(tag in {b"\x02", b"\x03", b"\xde"})
                field = _take(stream, _take_varint(stream))
                _go_on_if(tag != b"\x02" or len(field) <= 255)
                if tag == b"\x03":
                    inner = io.BytesIO(field)
                    _take_varint(inner)
                    _take(inner, 32)
                    _go_on_if(not inner.read())
    return tuple(keys), additional[0] if additional else ()


def _go_on_if(condition: bool) -> None:
    if not condition:
        raise EndError


def _take(stream: io.BytesIO, count: int) -> bytes:
    taken = stream.read(min(count, 10**6))
    _go_on_if(len(taken) == count)
    return taken


def _take_varint(stream: io.BytesIO) -> int:
    value = shift = 0
    while True:
        byte = _take(stream, 1)[0]
        value |= (byte & 0x7F) << shift
        _go_on_if(value < 2**64)
        if byte < 0x80:
            _go_on_if(byte != 0 or shift == 0)
            return value
        shift += 7
        _go_on_if(shift < 70)


KEY_1, KEY_2, KEY_3 = KEYS[:3]
FIELD_1, FIELD_2 = b"\x01" + KEY_1, b"\x01" + KEY_2
BOTH = b"\x04\x02" + KEY_2 + KEY_3


@pytest.mark.parametrize(
    ("raw", "tx_keys", "additional"),
    [
        pytest.param(b"", [], [], id="empty"),
        pytest.param(FIELD_1, [KEY_1], [], id="one key"),
        pytest.param(FIELD_1 + FIELD_2 + FIELD_1, [KEY_1, KEY_2, KEY_1], [], id="repeated"),
        pytest.param(FIELD_1[:-1], [], [], id="key cut off"),
        pytest.param(FIELD_1 + FIELD_2[:-1], [KEY_1], [], id="second key cut off"),
        pytest.param(FIELD_1 + BOTH, [KEY_1], [KEY_2, KEY_3], id="additional"),
        pytest.param(BOTH + FIELD_1, [KEY_1], [KEY_2, KEY_3], id="additional first"),
        pytest.param(BOTH, [], [KEY_2, KEY_3], id="additional only"),
        pytest.param(FIELD_1 + BOTH[:-1], [KEY_1], [], id="additional cut off"),
        pytest.param(FIELD_1 + b"\x04", [KEY_1], [], id="additional without a count"),
        pytest.param(b"\x04\x00" + FIELD_1 + BOTH, [KEY_1], [], id="first additional is empty"),
        pytest.param(BOTH + b"\x04\x01" + KEY_1, [], [KEY_2, KEY_3], id="second additional"),
        pytest.param(BOTH + b"\x04\x05" + KEY_1, [], [KEY_2, KEY_3], id="second one cut off"),
        pytest.param(b"\x04" + varint(2**63) + KEY_1 * 4, [], [], id="additional of 2^63"),
        pytest.param(b"\x04\x82\x00" + KEY_1 * 2, [], [], id="count not in shortest form"),
        pytest.param(b"\x02\x00" + FIELD_1, [KEY_1], [], id="empty nonce"),
        pytest.param(b"\x02\x09" + bytes(9) + FIELD_1, [KEY_1], [], id="payment id"),
        pytest.param(b"\x02\xff\x01" + bytes(255) + FIELD_1, [KEY_1], [], id="longest nonce"),
        pytest.param(b"\x02\x80\x02" + bytes(256) + FIELD_1, [], [], id="nonce too long"),
        pytest.param(b"\x02\x80\x00" + FIELD_1, [], [], id="nonce size not in shortest form"),
        pytest.param(FIELD_1 + b"\x02\x22" + FIELD_2, [KEY_1], [], id="nonce past the end"),
        pytest.param(b"\x02\x21" + FIELD_2 + FIELD_1, [KEY_1], [], id="a key within a nonce"),
        pytest.param(b"\x03\x21\x07" + KEY_3 + FIELD_1, [KEY_1], [], id="merge mining"),
        pytest.param(b"\x03\x22\x80\x01" + KEY_3 + FIELD_1, [KEY_1], [], id="deep merge mining"),
        pytest.param(b"\x03\x22\x07" + KEY_3 + b"!" + FIELD_1, [], [], id="merge mining too long"),
        pytest.param(b"\x03\x20\x07" + KEY_3[:-1] + FIELD_1, [], [], id="merge mining too short"),
        pytest.param(b"\x03\x01\x80" + FIELD_1, [], [], id="merge mining without an end"),
        pytest.param(b"\x03\x00" + FIELD_1, [], [], id="empty merge mining"),
        pytest.param(b"\xde\x04abcd" + FIELD_1, [KEY_1], [], id="minergate"),
        pytest.param(b"\xde\x80\x04" + bytes(512) + FIELD_1, [KEY_1], [], id="long minergate"),
        pytest.param(FIELD_1 + bytes(40), [KEY_1], [], id="padding"),
        pytest.param(b"\x00" + FIELD_1, [], [], id="padding is for the end"),
        pytest.param(FIELD_1 + b"\x05" + FIELD_2, [KEY_1], [], id="unknown field"),
    ],
)
def test_extra(raw, tx_keys, additional):
    assert parse_extra(raw) == (tuple(tx_keys), tuple(additional))
    assert reference_extra(raw) == (tuple(tx_keys), tuple(additional))


def test_every_beginning_of_extra_gives_what_it_holds():
    raw = extra(tx_keys=KEYS[:2], additional_keys=KEYS[2:5], nonce=bytes(9))
    for size in range(len(raw) + 1):
        keys, additional = parse_extra(raw[:size])
        assert list(keys) == KEYS[: min(size // 33, 2)]
        assert list(additional) == (KEYS[2:5] if size >= 66 + 2 + 96 else [])


FIELDS = st.one_of(
    st.builds(lambda key: b"\x01" + key, KEY),
    st.builds(
        lambda n, keys: b"\x04" + varint(n) + keys, st.integers(0, 3), st.binary(max_size=96)
    ),
    st.builds(
        lambda tag, n, body: tag + varint(n) + body,
        st.sampled_from([b"\x02", b"\x03", b"\xde"]),
        st.integers(0, 40),
        st.binary(max_size=40),
    ),
    st.sampled_from([b"", b"\0", b"\x03\x21\x07" + KEY_3, b"\x02\x03abc"]),
    st.binary(max_size=3),
)


@settings(max_examples=300)
@given(st.lists(FIELDS, max_size=6).map(b"".join))
def test_any_extra_is_read_as_by_the_reference(raw):
    assert parse_extra(raw) == reference_extra(raw)


# --- varints ---


@given(U64, st.binary(max_size=3))
def test_a_varint_comes_back(value, behind):
    raw = encode_varint(value)
    assert raw == varint(value)
    assert read_varint(raw + behind, 0) == (value, len(raw))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "cut off by the end at 41"),
        (b"\x80", "cut off by the end at 42"),
        (b"\xff" * 9, "cut off by the end at 50"),
        (b"\x80\x00", "not in its shortest form"),
        (b"\xff\xff\x00", "not in its shortest form"),
        (b"\xff" * 9 + b"\x00", "not in its shortest form"),
        (b"\xff" * 9 + b"\x02", "over 64 bits"),
        (b"\xff" * 9 + b"\x81\x00", "over 64 bits"),
        (b"\xff" * 10, "over 64 bits"),
    ],
)
def test_other_varints_are_refused(raw, why):
    assert read_varint(raw, 0) is None
    blob = b"\x02\x00\x01\xff\x07\x01\x00\x03" + KEYS[0] + b"t" + raw
    with pytest.raises(WireError) as caught:
        parse_tx(blob)
    assert str(caught.value) == f"the size of extra at byte 41 is no varint: {why}"


def test_many_varints_are_passed_over_at_once():
    rng = random.Random(5)
    values = [rng.getrandbits(rng.randrange(65)) for _ in range(1000)]
    raw = b"".join(map(varint, values))
    for count in (0, 1, 2, 63, 64, 65, 127, 128, 129, 1000):
        end = len(b"".join(map(varint, values[:count])))
        assert end_of_varints(raw + b"\x80", 0, count) == end
    assert end_of_varints(raw + b"\x80\x00", 0, 1001) is None
    assert end_of_varints(raw, 0, 1001) is None


# --- broken ones ---

SPEND = TxIn(KEYS[0])
PAY = TxOut(KEYS[1], 7, 0, bytes(8), KEYS[2])
GOOD = TxBlob([PAY], [SPEND], extra=FIELD_1)


@pytest.mark.parametrize(
    ("blob", "text"),
    [
        (b"", "the transaction version at byte 0"),
        (b"\x00" + GOOD.whole[1:], "version 0, not 1 or 2"),
        (b"\x03" + GOOD.whole[1:], "version 3, not 1 or 2"),
        (TxBlob([PAY]).whole, "no input"),
        (b"\x02\x00\x01\x00" + bytes(90), "input 0 at byte 3 is of kind 00"),
        (b"\x02\x00\x02\xff" + bytes(90), "input 0 at byte 3 is of kind ff"),
        (b"\x02\x00\x03\x02" + bytes(90), "3 inputs at byte 3 do not fit into the 91 bytes left"),
        (b"\x02\x00" + varint(2**64 - 1) + bytes(90), "inputs at byte 12 do not fit into the 90"),
        (TxBlob([PAY], [TxIn(KEYS[0], (1,) * 20)]).whole[:50], "go to byte 58, past the end at 50"),
        (b"\x02\x00\x01\x02\x00" + varint(1000) + bytes(60), "1000 ring members at byte 7 do not"),
        (b"\x02\x00\x01\x02\x00\x02\x01\x80\x00" + bytes(60), "offset of a ring member at byte 7"),
        (
            b"\x02\x00\x01\x02\x00\x10" + b"\x01" * 15 + b"\x80\x00" + bytes(60),
            "offset of a ring member at byte 21 is no varint: not in its shortest form",
        ),
        (
            b"\x02\x00\x01\x02\x00\x10" + b"\xff" * 9 + b"\x02" + b"\x01" * 70,
            "offset of a ring member at byte 6 is no varint: over 64 bits",
        ),
        (b"\x02\x00\x01\xff\x07\xfe\x01" + bytes(60), "254 outputs at byte 7 do not fit"),
        (b"\x02\x00\x01\xff\x07\x01\x00\x04" + bytes(60), "output 0 at byte 7 is of kind 04"),
        (b"\x02\x00\x01\xff\x07\x01\x00\x03" + bytes(32), "output 0 at byte 7 goes past the end"),
        (b"\x02\x00\x01\xff\x07\x01\x80\x01\x02" + bytes(31), "output 0 at byte 8 goes past"),
        (GOOD.prefix, "the RingCT type at byte"),
        (GOOD.prefix[:-1], "extra of 33 bytes at byte"),
        (GOOD.prefix + b"\x07" + bytes(99), "is 7, over 6"),
        (GOOD.pruned[:-1], "the RingCT base goes to byte"),
        (GOOD.pruned, "the proofs at byte"),
        (coinbase(7, [PAY]).whole + b"!", "1 bytes are left over after the RingCT base"),
        (TxBlob([PAY], [SPEND], version=1, proofs=bytes(1023)).whole, "the signatures go to byte"),
        (TxBlob([PAY], [SPEND], version=1, proofs=bytes(1025)).whole, "1 bytes are left over"),
    ],
)
def test_what_is_wrong_with_a_transaction_is_said(blob, text):
    with pytest.raises(WireError) as caught:
        parse_tx(blob)
    assert text in str(caught.value)


def test_a_whole_transaction_is_not_taken_for_a_pruned_one():
    with pytest.raises(WireError, match="6 bytes are left over after the RingCT base"):
        parse_tx(GOOD.whole, prunable_hash=GOOD.prunable_hash)


def test_a_pruned_version_1_has_no_id():
    old = TxBlob([PAY], [SPEND], version=1, proofs=bytes(1024))
    with pytest.raises(PrunedIdError, match="needed whole"):
        parse_tx(old.pruned, prunable_hash=NULL_HASH)


MINER = coinbase(7, [PAY], extra=FIELD_1)
BLOCK = BlockBlob(MINER, KEYS[:3])


@pytest.mark.parametrize(
    ("blob", "text"),
    [
        (b"", "the major version at byte 0"),
        (BlockBlob(MINER, major_version=256).blob, "the major version before byte 2 is 256"),
        (BlockBlob(MINER, minor_version=999).blob, "the minor version before byte 3 is 999"),
        (BLOCK.header[:-1], "the header at byte 7 goes past the end at 42"),
        (BlockBlob(GOOD).blob, "the transaction at byte 43 is no miner transaction"),
        (BLOCK.header + MINER.prefix, "the RingCT type at byte"),
        (BLOCK.header + MINER.prefix + b"\x06" + bytes(90), "has RingCT type 6 at byte"),
        (BLOCK.blob[:-1], "the 3 transaction ids go to byte"),
        (BLOCK.blob + b"!", "1 bytes are left over after the 3 transaction ids"),
        (BLOCK.header + MINER.whole + varint(2**60), "transaction ids go to byte"),
    ],
)
def test_what_is_wrong_with_a_block_is_said(blob, text):
    with pytest.raises(WireError) as caught:
        parse_block(blob)
    assert text in str(caught.value)


@pytest.mark.parametrize("kind", ["rct_bulletproof_plus", "rct_bulletproof", "v1", "v2_coinbase"])
def test_no_beginning_of_a_transaction_is_one(kind):
    raw = HEX(PUBLIC["transactions"][kind]["hex"])
    if kind.startswith("rct"):
        raw = _pruned(raw)
        prunable_hash = bytes(32)
    else:
        prunable_hash = None
    for size in range(len(raw)):
        with pytest.raises(WireError):
            parse_tx(raw[:size], prunable_hash=prunable_hash)


def _pruned(raw: bytes) -> bytes:
    """The shortest beginning that is read as a pruned transaction."""
    for size in range(len(raw)):
        try:
            parse_tx(raw[:size], prunable_hash=bytes(32))
        except WireError:
            continue
        return raw[:size]
    raise AssertionError("there is none")


def test_no_beginning_of_a_block_is_one():
    raw = HEX(REGTEST["blocks"][-2]["hex"])
    parse_block(raw)
    for size in range(len(raw)):
        with pytest.raises(WireError):
            parse_block(raw[:size])


TX_SEEDS = [HEX(data["hex"]) for data in PUBLIC["transactions"].values()]
TX_SEEDS += [HEX(data["hex"])[: data["pruned_bytes"]] for data in REGTEST["transactions"].values()]
BLOCK_SEEDS = [HEX(data["hex"]) for data in REGTEST["blocks"]]


@pytest.mark.parametrize("seed", range(4))
def test_mutated_bytes_are_read_or_refused(seed):
    rng = random.Random(seed)
    read = {"tx": 0, "block": 0}
    for _ in range(1500):
        with contextlib.suppress(WireError):
            blob = _mutated(rng, rng.choice(TX_SEEDS))
            _assert_sound(parse_tx(blob, prunable_hash=rng.choice([None, bytes(32)])))
            read["tx"] += 1
        with contextlib.suppress(WireError):
            block = parse_block(_mutated(rng, rng.choice(BLOCK_SEEDS)))
            _assert_sound(block.miner_tx)
            assert {len(each) for each in (block.hash, block.parent, *block.txids)} == {32}
            read["block"] += 1
    assert all(20 < count < 1000 for count in read.values()), read


def _mutated(rng: random.Random, blob: bytes) -> bytes:
    raw = bytearray(blob)
    # Most of what decides is at the front, and behind the last input.
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(min(len(raw), rng.choice((12, 400, 20_000))))
        change = rng.randrange(4)
        if change == 0:
            raw[at] = rng.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFF))
        elif change == 1:
            raw[at] ^= 1 << rng.randrange(8)
        elif change == 2:
            raw[at:at] = rng.randbytes(rng.randrange(1, 12))
        else:
            del raw[at : at + rng.randrange(1, 40)]
        if not raw:
            break
    return bytes(raw)


def _assert_sound(tx: ParsedTx) -> None:
    keys = [output.key for output in tx.outputs]
    keys += [tx.txid, *tx.key_images, *tx.tx_keys, *tx.additional_keys, *tx.commitments]
    assert {len(key) for key in keys} == {32}
    assert tx.is_coinbase == (not tx.key_images)
    hidden = len(tx.outputs) if tx.rct_type else 0
    assert len(tx.ecdh) == len(tx.commitments) == hidden
    assert {len(each) for each in tx.ecdh} <= {8 if tx.rct_type >= 4 else 64}


@pytest.mark.parametrize("count", [2**16, 2**32, 2**63, 2**64 - 1])
def test_a_count_is_believed_only_as_far_as_there_are_bytes(count):
    big = varint(count)
    blobs = [
        b"\x02\x00" + big + bytes(90),
        b"\x02\x00\x01\x02\x00" + big + bytes(90),
        b"\x02\x00\x01\xff\x07" + big + bytes(90),
        b"\x02\x00\x01\xff\x07\x00" + big + bytes(90),
    ]
    tracemalloc.start()
    try:
        for blob in blobs:
            with pytest.raises(WireError):
                parse_tx(blob)
        with pytest.raises(WireError):
            parse_block(BLOCK.header + MINER.whole + big + bytes(90))
        assert parse_extra(b"\x04" + big + bytes(90)) == ((), ())
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
