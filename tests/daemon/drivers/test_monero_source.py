"""Blocks, tips and status from a scripted Monero node: lies, truncation, reorgs, late view keys."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import trio

from actors.core.assets import Chain
from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef, consecutive
from actors.core.watch_index import WatchIndex
from actors.ports import ChainSource, PersistentError, TransientError
from daemon.drivers import monero_blocks, monero_mempool
from daemon.drivers.jsonrpc_words import AnswerTooLargeError
from daemon.drivers.monero import MoneroSource
from daemon.drivers.monero_rpc import RawBlock
from daemon.drivers.monero_search import unlock_of
from tests.helpers.fake_monero import FakeMonero, raw, without_last_tx
from tests.helpers.monero_data import Payee, Pays, block, chain_of, image, payee, tx
from tests.helpers.recording_log import RecordingLog

MONERO = Chain("xmr", "Monero", "monero", "XMR", 120, 10)
US = payee("invoice 1")
OTHER = payee("somebody", of="somebody")
Found = list[tuple[BlockRef, tuple[ChainTx, ...]]]


def index_of(*payees: Payee) -> WatchIndex:
    index = WatchIndex()
    for each in payees:
        index.watch(each.destination, uuid4())
    return index


@asynccontextmanager
async def source_of(
    node: Any, *, keys: Sequence[bytes] | None = None, log: RecordingLog | None = None
) -> AsyncIterator[MoneroSource]:
    ring = [US.view_key] if keys is None else keys
    source = MoneroSource(
        node, chain=MONERO, view_keys=lambda: ring, log=log or RecordingLog(), poll_interval_s=1.0
    )
    try:
        yield source
    finally:
        await source.aclose()


async def read(source: MoneroSource, heights: range, index: WatchIndex) -> Found:
    return [found async for found in source.read_blocks(heights, index)]


@pytest.fixture
def node() -> FakeMonero:
    return FakeMonero()


def test_it_is_a_chain_source(node: FakeMonero) -> None:
    source: ChainSource = MoneroSource(node, chain=MONERO, view_keys=list, log=RecordingLog())  # type: ignore[arg-type]
    assert source.chain == "xmr"
    assert source.disabled_assets() == {}


# --- status -----------------------------------------------------------------------------------


async def test_status_is_what_the_node_says(node: FakeMonero) -> None:
    async with source_of(node) as source:
        status = await source.status()
        assert status.software == "monerod 0.18.4.0-release"
        assert status.network == "fakechain"
        assert status.genesis == node.blocks_held[0].hash
        assert status.tip == await source.tip()
        assert status.headers_height == status.tip.height == 4
        assert not status.syncing
        assert status.pruned_below is None
        assert status.push == "poll 1s"
        assert await source.final_height() is None


async def test_status_of_a_restricted_node_that_is_behind(node: FakeMonero) -> None:
    node.restricted, node.synchronized = True, False
    node.network, node.target_height = "mainnet", 3_000_000
    async with source_of(node) as source:
        status = await source.status()
    assert status.software == "monerod of unknown version (restricted)"
    assert status.syncing
    assert status.headers_height == 3_000_000


async def test_a_private_network_has_nobody_to_be_synchronised_with(node: FakeMonero) -> None:
    node.synchronized = False
    async with source_of(node) as source:
        assert not (await source.status()).syncing
        node.target_height = 50
        assert (await source.status()).syncing


async def test_status_needs_block_0(node: FakeMonero) -> None:
    async def none(_: int) -> None:
        return None

    node.header = none  # type: ignore[assignment]
    async with source_of(node) as source:
        with pytest.raises(PersistentError, match=r"coin\.xmr\.daemon\.url"):
            await source.status()


async def test_window_and_block_at(node: FakeMonero) -> None:
    node.blocks_held = chain_of(9)
    async with source_of(node) as source:
        tip = await source.tip()
        window = await source.window(tip, 4)
        assert [each.height for each in window] == [5, 6, 7, 8]
        assert consecutive(window)
        assert window[-1] == tip
        assert await source.window(tip, 100) == (*await source.window(window[0], 6), *window[1:])
        assert await source.block_at(5) == window[0]
        assert await source.block_at(9) is None
        assert await source.window(window[0], 1) == (window[0],)


async def test_the_window_of_a_tip_that_is_stale(node: FakeMonero) -> None:
    """The headers by height are another branch's: the parents are followed."""
    old = chain_of(7, seed="old", start=chain_of(3))
    node.blocks_held = list(old)
    async with source_of(node) as source:
        tip = await source.tip()
        known = {each.height: each for each in await source.window(tip, 7)}

        async def header_of(block_hash: bytes) -> BlockRef:
            return next(each for each in known.values() if each.hash == block_hash)

        node.header_of = header_of  # type: ignore[method-assign]
        node.blocks_held = chain_of(8, seed="new", start=old[:3])
        assert await source.window(tip, 6) == tuple(known[height] for height in range(1, 7))


# --- what is found ----------------------------------------------------------------------------


async def test_payments_in_blocks_are_found_and_proved(node: FakeMonero) -> None:
    second = payee("invoice 2")
    paid = tx("a", Pays(OTHER, 9), Pays(US, 5), Pays(second, 7))
    node.mine(tx("b", Pays(OTHER, 1)), paid)
    node.mine()
    async with source_of(node) as source:
        found = await read(source, range(5, 7), index_of(US, second))
    (first, (match,)), (_, none) = found
    assert (first.height, first.hash, none) == (5, node.blocks_held[5].hash, ())
    assert match.txid == paid.txid
    assert [(o.outpoint.index, o.destination, o.amount_base, o.asset) for o in match.outputs] == [
        (1, US.destination, 5, "XMR"),
        (2, second.destination, 7, "XMR"),
    ]
    assert match.spends == (image("a"),)
    assert all(o.one_time_key and o.unlock_height is None is o.unlock_ms for o in match.outputs)
    assert match.refused == ()


async def test_a_coinbase_output_is_found_and_locked(node: FakeMonero) -> None:
    node.mine(coinbase=[Pays(OTHER, 3), Pays(US, 600)])
    async with source_of(node) as source:
        ((_, (match,)),) = await read(source, range(5, 6), index_of(US))
    (output,) = match.outputs
    assert (output.amount_base, output.unlock_height, output.unlock_ms) == (600, 5 + 60 - 1, None)
    assert match.spends == ()


@pytest.mark.parametrize(
    ("unlock_time", "expected"),
    [
        (0, (None, None)),
        (1, (0, None)),
        (499_999_999, (499_999_998, None)),
        (500_000_000, (None, 499_999_880_000)),
    ],
)
def test_unlock_times(unlock_time: int, expected: tuple[int | None, int | None]) -> None:
    assert unlock_of(unlock_time) == expected


async def test_a_locked_payment_says_so(node: FakeMonero) -> None:
    node.mine(tx("a", Pays(US, 5), unlock_time=100), tx("b", Pays(US, 5), unlock_time=2**40))
    async with source_of(node) as source:
        ((_, (by_height, by_time)),) = await read(source, range(5, 6), index_of(US))
    assert by_height.outputs[0].unlock_height == 99
    assert by_time.outputs[0].unlock_ms == (2**40 - 120) * 1000


async def test_an_amount_that_is_not_proved_is_refused_and_said(node: FakeMonero) -> None:
    log = RecordingLog()
    node.mine(tx("a", Pays(US, 5, claims=5_000_000), Pays(US, 4)))
    async with source_of(node, log=log) as source:
        ((_, (match,)),) = await read(source, range(5, 6), index_of(US))
    assert [output.amount_base for output in match.outputs] == [4]
    (refused,) = match.refused
    assert (refused.outpoint.index, refused.destination, refused.asset) == (
        0,
        US.destination,
        "XMR",
    )
    assert "commitment" in refused.reason
    assert "refused an output" in str(log.lines)


async def test_an_output_aimed_at_a_foreign_address_by_a_view_key_is_none(node: FakeMonero) -> None:
    """Its maker knows a view key of ours; who owns the address could neither see nor spend it."""
    thief = payee("thief", of="another shop")
    aimed = replace(thief, spend=US.spend)
    node.mine(tx("a", Pays(aimed, 5)))
    async with source_of(node, keys=[thief.view_key, US.view_key]) as source:
        ((_, txs),) = await read(source, range(5, 6), index_of(US, thief))
    assert txs == ()


async def test_key_images_of_payments_we_wait_for_are_conflicts(node: FakeMonero) -> None:
    index = index_of(US)
    index.claim(bytes(32), (image("shared"),))
    index.unconfirmed[(failed := tx("c", Pays(OTHER, 2))).txid] = {uuid4()}
    node.mine(tx("a", Pays(OTHER, 1), spends=(image("x"), image("shared"))), failed)
    async with source_of(node) as source:
        ((_, (rival, known)),) = await read(source, range(5, 6), index)
    assert rival.outputs == ()
    assert image("shared") in rival.spends
    assert known.txid == failed.txid


# --- view keys and addresses that come later ------------------------------------------------------


async def test_addresses_and_view_keys_that_come_after_the_scan(node: FakeMonero) -> None:
    late, later = payee("late"), payee("later", of="another shop")
    for n in range(6):
        node.mine(tx(f"a{n}", Pays(late, 5), Pays(later, 6)))
    keys, index = [US.view_key], index_of(US)
    async with source_of(node, keys=keys) as source:
        reader = source.read_blocks(range(5, 11), index)
        found = [await anext(reader), await anext(reader)]
        index.watch(late.destination, uuid4())
        found.append(await anext(reader))
        keys.append(later.view_key)
        index.watch(later.destination, uuid4())
        found += [each async for each in reader]
    amounts = [[o.amount_base for tx in txs for o in tx.outputs] for _, txs in found]
    assert amounts == [[], [], [5], [5, 6], [5, 6], [5, 6]]


async def test_without_view_keys_nothing_is_scanned(node: FakeMonero) -> None:
    node.mine(tx("a", Pays(US, 5)))
    async with source_of(node, keys=[]) as source:
        assert await read(source, range(5, 6), index_of(US)) == [(await source.tip(), ())]


# --- reading ahead --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_following", [True, False])
async def test_many_blocks_come_in_order(node: FakeMonero, is_following: bool) -> None:
    node.blocks_held = chain_of(60)
    async with source_of(node) as source:
        if is_following:
            async with source.signals(index_of(US)):
                found = await read(source, range(3, 60), index_of(US))
        else:
            found = await read(source, range(3, 60), index_of(US))
    assert [block.height for block, _ in found] == list(range(3, 60))
    assert consecutive([block for block, _ in found])
    assert node.count("blocks") < 10


@pytest.mark.parametrize("limit", ["bytes", "transactions"])
async def test_a_batch_is_as_large_as_the_blocks_allow(
    node: FakeMonero, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    size = len(node.blocks_held[1].blob)
    if limit == "bytes":
        monkeypatch.setattr(monero_blocks, "BATCH_BYTES", 4 * size + 9)
    else:
        monkeypatch.setattr(monero_blocks, "BATCH_TXS", 4)
    node.blocks_held = chain_of(41)
    asked: list[int] = []

    def count(raws: list[RawBlock]) -> list[RawBlock]:
        asked.append(len(raws))
        return raws

    node.doctor = count
    async with source_of(node) as source:
        await read(source, range(1, 41), index_of(US))
    assert asked[:3] == [1, 2, 4]
    assert max(asked) == 4


async def test_an_answer_that_is_too_large_is_asked_for_in_parts(node: FakeMonero) -> None:
    node.blocks_held = chain_of(30)

    def limited(raws: list[RawBlock]) -> list[RawBlock]:
        if len(raws) > 3:
            raise AnswerTooLargeError("too large")
        return raws

    node.doctor = limited
    async with source_of(node) as source:
        found = await read(source, range(1, 30), index_of(US))
    assert len(found) == 29


async def test_a_single_block_that_is_too_large_is_told(node: FakeMonero) -> None:
    node.failures = [AnswerTooLargeError("too large")]
    async with source_of(node) as source:
        with pytest.raises(AnswerTooLargeError):
            await read(source, range(1, 3), index_of(US))


async def test_a_reader_that_is_left_in_the_middle_leaves_nothing_behind(node: FakeMonero) -> None:
    node.blocks_held = chain_of(60)
    async with source_of(node) as source, source.signals(index_of(US)):
        reader = source.read_blocks(range(1, 60), index_of(US))
        await anext(reader)
        reader.close()
        reader.close()
        assert [each async for each in reader] == []
        dropped = source.read_blocks(range(1, 60), index_of(US))
        await anext(dropped)
        del dropped
        await trio.testing.wait_all_tasks_blocked()
        feed = source._feed
        assert feed is not None
        assert feed.nursery is not None
        assert len(feed.nursery.child_tasks) == 2  # looking, and comparing nodes


# --- the chain moves, or the node lies ------------------------------------------------------------


async def test_it_ends_where_the_chain_ends(node: FakeMonero) -> None:
    async with source_of(node) as source:
        assert len(await read(source, range(3, 50), index_of(US))) == 2
        assert await read(source, range(8, 50), index_of(US)) == []


async def test_it_ends_where_a_reorg_breaks_the_row(node: FakeMonero) -> None:
    node.blocks_held = chain_of(12)
    async with source_of(node) as source:
        reader = source.read_blocks(range(1, 12), index_of(US))
        first = await anext(reader)
        node.blocks_held = chain_of(14, seed="other", start=node.blocks_held[:1])
        assert first[0].height == 1
        assert [each async for each in reader] == []
    assert node.distrusted == []


def another_height(raws: list[RawBlock]) -> list[RawBlock]:
    return [raw(each) for each in chain_of(3)[-1:]]


def mixed(raws: list[RawBlock]) -> list[RawBlock]:
    stranger = block("stranger", 4, bytes(32))
    return [raws[0], raw(stranger)] if len(raws) > 1 else raws


def cut(raws: list[RawBlock]) -> list[RawBlock]:
    return [each._replace(blob=each.blob[:-3]) for each in raws]


def other_txs(raws: list[RawBlock]) -> list[RawBlock]:
    instead = raw(block("x", 5, bytes(32), tx("instead", Pays(US, 10**12))))
    return [each._replace(txs=instead.txs) for each in raws]


def cut_txs(raws: list[RawBlock]) -> list[RawBlock]:
    return [
        each._replace(txs=tuple(one._replace(blob=one.blob[:50]) for one in each.txs))
        for each in raws
    ]


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (another_height, "block 2 when asked for 5"),
        (cut, "block 5 garbled"),
        (cut_txs, "block 5 garbled"),
        (without_last_tx, "other transactions"),
        (other_txs, "other transactions"),
    ],
)
@pytest.mark.parametrize("is_following", [True, False])
async def test_a_node_that_lies_is_not_believed(
    node: FakeMonero, lie: Any, words: str, is_following: bool
) -> None:
    node.mine(tx("a", Pays(US, 5)))
    node.doctor = lie
    async with source_of(node) as source:
        if is_following:
            async with source.signals(index_of(US)):
                with pytest.raises(TransientError, match=r"coin\.xmr\.daemon\.url.*" + words):
                    await read(source, range(5, 6), index_of(US))
        else:
            with pytest.raises(TransientError, match=words):
                await read(source, range(5, 6), index_of(US))
        assert words in node.distrusted[0]
        node.doctor = lambda raws: raws
        assert len(await read(source, range(5, 6), index_of(US))) == 1


async def test_a_batch_of_two_branches_is_not_believed(node: FakeMonero) -> None:
    async with source_of(node) as source:
        await read(source, range(1, 5), index_of(US))
        node.doctor = mixed
        with pytest.raises(TransientError, match="without the one before it"):
            await read(source, range(3, 5), index_of(US))


async def test_a_failure_comes_after_what_was_read_before_it(node: FakeMonero) -> None:
    node.blocks_held = chain_of(30)
    async with source_of(node) as source, source.signals(index_of(US)):
        seen = 0

        def fails_later(raws: list[RawBlock]) -> list[RawBlock]:
            nonlocal seen
            seen += 1
            if seen == 4:
                raise TransientError("timed out")
            return raws

        node.doctor = fails_later
        reader = source.read_blocks(range(1, 30), index_of(US))
        assert [(await anext(reader))[0].height for _ in range(7)] == list(range(1, 8))
        with pytest.raises(TransientError, match="timed out"):
            await anext(reader)
        node.doctor = lambda raws: raws
        assert len(await read(source, range(8, 30), index_of(US))) == 22


# --- the pool -------------------------------------------------------------------------------------


async def test_the_pool_is_read_once(node: FakeMonero) -> None:
    ours = tx("a", Pays(US, 5))
    node.add(ours, *(tx(f"b{n}", Pays(OTHER, 1)) for n in range(3)))
    async with source_of(node) as source:
        index = index_of(US)
        snapshot = await source.read_mempool(index)
        assert set(snapshot.txids) == set(node.pool)
        ((match),) = snapshot.txs
        assert (match.txid, match.first_seen_s) == (ours.txid, 1_700_000_000)
        assert match.outputs[0].amount_base == 5
        assert snapshot.contested == frozenset()
        assert await source.read_mempool(index) == snapshot
        assert node.count("pool_txs") == 1
        assert source.statistics().known_txs == 4


async def test_the_pool_is_read_again_for_a_new_view_key(node: FakeMonero) -> None:
    later = payee("later", of="another shop")
    node.add(tx("a", Pays(later, 5)))
    keys, index = [US.view_key], index_of(US, later)
    async with source_of(node, keys=keys) as source:
        assert (await source.read_mempool(index)).txs == ()
        keys.append(later.view_key)
        assert len((await source.read_mempool(index)).txs) == 1


async def test_a_pool_of_hundreds_is_fetched_in_parts(node: FakeMonero) -> None:
    node.add(*(tx(f"b{n}", Pays(OTHER, 1)) for n in range(250)))
    async with source_of(node) as source:
        assert len((await source.read_mempool(index_of(US))).txids) == 250
    assert node.count("pool_txs") == 3


async def test_a_contested_transaction_is_in_the_pool_and_does_not_count(node: FakeMonero) -> None:
    ours = tx("a", Pays(US, 5))
    node.add(ours)
    node.contested.add(ours.txid)
    async with source_of(node) as source:
        snapshot = await source.read_mempool(index_of(US))
    assert (snapshot.txs, snapshot.contested) == ((), frozenset({ours.txid}))
    assert ours.txid in snapshot.txids


@pytest.mark.parametrize("lie", ["cut", "another"])
async def test_a_pool_of_lies_is_not_believed(node: FakeMonero, lie: str) -> None:
    ours, other = tx("a", Pays(US, 5)), tx("b", Pays(US, 6))
    node.add(ours)
    blob = ours.blob[:40] if lie == "cut" else other.blob
    node.pool_doctor = lambda txs: [each._replace(blob=blob) for each in txs]
    async with source_of(node) as source:
        with pytest.raises(TransientError, match=ours.txid.hex()):
            await source.read_mempool(index_of(US))
    assert node.distrusted


async def test_no_more_of_the_pool_is_remembered_than_the_limit(
    node: FakeMonero, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monero_mempool, "CONCERNING_LIMIT", 2)
    node.add(*(tx(f"p{n}", Pays(US, 5)) for n in range(5)))
    async with source_of(node) as source:
        await source.read_mempool(index_of(US))
        assert source.statistics().known_txs == 2


async def test_a_view_key_that_comes_while_the_pool_is_fetched(node: FakeMonero) -> None:
    """What was scanned without it is not taken for known."""
    later = payee("later", of="another shop")
    node.add(tx("a", Pays(later, 5)))
    keys, index = [US.view_key], index_of(US, later)
    async with source_of(node, keys=keys) as source:

        async def comes(call: str) -> None:
            await trio.lowlevel.checkpoint()
            if call == "pool_txs" and len(keys) == 1:
                keys.append(later.view_key)
                assert source._mempool.unknown(list(node.pool), index) == list(node.pool)

        node.before = comes
        assert (await source.read_mempool(index)).txs == ()
        assert len((await source.read_mempool(index)).txs) == 1
