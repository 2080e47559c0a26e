"""What the driver assumes of bitcoind's ZMQ notifications. Docstrings say what."""

from collections.abc import Iterator

import pytest

from tests.helpers.bitcoind import BitcoinNode, base_units, coins
from tests.helpers.zmq_tap import Message, ZmqTap
from tests.nodes.install import find, how_to_install


@pytest.fixture
def tap(btc_node: BitcoinNode) -> Iterator[ZmqTap]:
    """A subscriber of all topics, with nothing in the mempool and nothing left to hear of."""
    btc_node.mine()
    with ZmqTap(btc_node) as tap:
        yield tap


def sequence(messages: list[Message]) -> list[tuple[str, str]]:
    """Return (label, hash) of the sequence messages."""
    return [(m.label, m.hash) for m in messages if m.topic == "sequence"]


def hashes(messages: list[Message], topic: str) -> list[str]:
    return [m.hash for m in messages if m.topic == topic]


def up_to_block(tap: ZmqTap, block_hash: str) -> list[Message]:
    """Return the messages up to the one that announces the block as the tip."""
    return tap.until(lambda m: m.topic == "rawblock" and m.header_hash == block_hash)


def test_a_payment_is_published_as_hash_raw_bytes_and_sequence(
    btc_node: BitcoinNode, tap: ZmqTap
) -> None:
    """Entry into the mempool: `hashtx` and `rawtx` (as getrawtransaction), then `sequence` A.

    Hashes are in RPC's byte order, not in the serialisation's.
    """
    txid = btc_node.pay(btc_node.new_address(), 1_000_000)
    messages = tap.until(lambda m: m.topic == "sequence")
    assert [m.topic for m in messages] == ["hashtx", "rawtx", "sequence"]
    assert messages[0].hash == txid
    assert messages[1].body.hex() == btc_node.rpc("getrawtransaction", txid)
    assert (messages[2].label, messages[2].hash) == ("A", txid)


def test_a_block_is_published_after_its_transactions(btc_node: BitcoinNode, tap: ZmqTap) -> None:
    """A new block: `rawtx` of each of its transactions, `sequence` C, `hashblock`, `rawblock`.

    So a transaction's `rawtx` comes again on connection; the body of `sequence` C is 33 bytes.
    """
    txid = btc_node.pay(btc_node.new_address(), 1_000_000)
    tap.until(lambda m: m.topic == "sequence")
    (block_hash,) = btc_node.mine()
    messages = up_to_block(tap, block_hash)
    assert [m.topic for m in messages if m.topic != "hashtx"] == [
        "rawtx", "rawtx", "sequence", "hashblock", "rawblock"
    ]  # fmt: skip
    assert hashes(messages, "hashtx")[1] == txid
    assert sequence(messages) == [("C", block_hash)]
    assert all(len(m.body) == 33 for m in messages if m.topic == "sequence")
    assert messages[-1].body.hex() == btc_node.rpc("getblock", block_hash, 0)


def test_mined_transactions_are_not_called_removed(btc_node: BitcoinNode, tap: ZmqTap) -> None:
    """Leaving the mempool for a block sends no R, yet takes a number of mempool_sequence each."""
    btc_node.pay(btc_node.new_address(), 1_000_000)
    first = tap.until(lambda m: m.topic == "sequence")[-1]
    (block_hash,) = btc_node.mine()
    assert sequence(up_to_block(tap, block_hash)) == [("C", block_hash)]
    btc_node.pay(btc_node.new_address(), 1_000_000)
    second = tap.until(lambda m: m.topic == "sequence")[-1]
    assert second.mempool_sequence == first.mempool_sequence + 2


def test_a_replacement_is_removed_then_added(btc_node: BitcoinNode, tap: ZmqTap) -> None:
    """Replacement: `sequence` R of the old, then A of the new; the old gets no `rawtx` again."""
    old = btc_node.pay(btc_node.new_address(), 1_000_000)
    tap.until(lambda m: m.topic == "sequence")
    new = btc_node.replace(old)
    messages = tap.until(lambda m: m.topic == "sequence" and m.label == "A")
    assert sequence(messages) == [("R", old), ("A", new)]
    assert hashes(messages, "hashtx") == [new]


def test_a_double_spend_in_a_block_removes_what_it_displaces(
    btc_node: BitcoinNode, tap: ZmqTap
) -> None:
    """A mined conflict: `sequence` R of the mempool's transaction, before the block's C."""
    displaced = btc_node.pay(btc_node.new_address(), 1_000_000)
    tap.until(lambda m: m.topic == "sequence")
    decoded = btc_node.rpc("getrawtransaction", displaced, True)
    inputs = [{"txid": vin["txid"], "vout": vin["vout"]} for vin in decoded["vin"]]
    total_base = sum(base_units(out["value"]) for out in decoded["vout"])
    raw = btc_node.rpc("createrawtransaction", inputs, {btc_node.new_address(): coins(total_base)})
    spend = btc_node.rpc("signrawtransactionwithwallet", raw)["hex"]
    block_hash = btc_node.rpc("generateblock", btc_node.new_address(), [spend])["hash"]
    assert sequence(up_to_block(tap, block_hash)) == [("R", displaced), ("C", block_hash)]


def test_getrawmempool_says_which_sequence_comes_next(btc_node: BitcoinNode, tap: ZmqTap) -> None:
    """`mempool_sequence` beside the txids is the number of the next change.

    So a snapshot contains exactly the A and R messages with a lower number.
    """
    first = btc_node.pay(btc_node.new_address(), 1_000_000)
    added = tap.until(lambda m: m.topic == "sequence")[-1]
    snapshot = btc_node.rpc("getrawmempool", False, True)
    assert snapshot["txids"] == [first]
    assert snapshot["mempool_sequence"] == added.mempool_sequence + 1
    btc_node.pay(btc_node.new_address(), 1_000_000)
    later = tap.until(lambda m: m.topic == "sequence")[-1]
    assert later.mempool_sequence == snapshot["mempool_sequence"]


def test_invalidateblock_sends_no_hashblock(btc_node: BitcoinNode, tap: ZmqTap) -> None:
    """A rewound tip is told by `sequence` D alone, tip first, one per block."""
    blocks = btc_node.mine_empty(2)
    up_to_block(tap, blocks[-1])
    btc_node.rpc("invalidateblock", blocks[0])
    (marker,) = btc_node.mine_empty()
    messages = up_to_block(tap, marker)
    assert sequence(messages) == [("D", blocks[1]), ("D", blocks[0]), ("C", marker)]
    assert hashes(messages, "hashblock") == [marker]


def test_a_reorg_sends_one_hashblock_but_every_block_s_sequence(
    btc_node: BitcoinNode, tap: ZmqTap
) -> None:
    """Blocks of a longer branch that connect together: D and C for each, one `hashblock` in all.

    So `hashblock` alone skips blocks: its receiver has to walk back to one that it knows.
    """
    long = btc_node.mine_empty(3)
    up_to_block(tap, long[-1])
    btc_node.rpc("invalidateblock", long[0])
    short = btc_node.mine_empty(2)
    up_to_block(tap, short[-1])
    btc_node.rpc("reconsiderblock", long[0])
    messages = up_to_block(tap, long[-1])
    assert sequence(messages) == [
        ("D", short[1]), ("D", short[0]), ("C", long[0]), ("C", long[1]), ("C", long[2])
    ]  # fmt: skip
    assert hashes(messages, "hashblock") == [long[-1]]


def test_rawtx_comes_on_entry_connection_and_disconnection(
    btc_node: BitcoinNode, tap: ZmqTap
) -> None:
    """`rawtx` says nothing of why: mempool, block connected, block disconnected, mempool again."""
    txid = btc_node.pay(btc_node.new_address(), 1_000_000)
    raw = btc_node.rpc("getrawtransaction", txid)
    btc_node.mine()
    old, new = btc_node.reorg(1)
    messages = up_to_block(tap, new[-1])
    steps = [
        m.label if m.topic == "sequence" else "raw"
        for m in messages
        if (m.topic == "rawtx" and m.body.hex() == raw)
        or (m.topic == "sequence" and m.hash in (txid, *old))
    ]
    assert steps == ["raw", "A", "raw", "C", "raw", "D", "raw", "A"]
    btc_node.mine()


def test_each_topic_counts_its_messages(btc_node: BitcoinNode, tap: ZmqTap) -> None:
    """The third frame is a little-endian uint32 per topic, without gaps unless one was lost."""
    btc_node.pay(btc_node.new_address(), 1_000_000)
    (last, *_) = btc_node.mine_empty(3)[::-1]
    messages = up_to_block(tap, last)
    for topic in ("rawtx", "hashtx", "hashblock", "rawblock", "sequence"):
        numbers = [m.number for m in messages if m.topic == topic]
        assert len(numbers) >= 3
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    btc_node.mine()


def test_counters_begin_again_after_a_restart() -> None:
    """A restarted node counts from 0, on the same endpoint: a number that falls means a restart."""
    if find("btc") is None:
        pytest.skip(how_to_install("btc"))
    with BitcoinNode("btc") as node:
        node.mine_empty(20)
        with ZmqTap(node) as tap:
            (block_hash,) = node.mine_empty()
            before = up_to_block(tap, block_hash)[-1].number
            node.restart()
            messages = tap.resubscribed()
            assert before >= 20
            assert messages[-1].number < before
