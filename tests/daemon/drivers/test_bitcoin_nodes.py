"""The driver on real nodes: Knots pushes over ZMQ, Litecoin is polled."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import trio

from actors.core.chain_view import consecutive
from actors.core.watch_index import WatchIndex
from actors.ports import (
    Heartbeat,
    MempoolStale,
    PersistentError,
    Signal,
    TipMoved,
    TransientError,
    TxArrived,
    TxLeft,
)
from daemon.drivers import bitcoin_news
from daemon.drivers.bitcoin import BitcoinSource, ZmqChoice
from daemon.drivers.jsonrpc import JsonRpcClient, Login
from tests.helpers.bitcoind import BitcoinNode, Family
from tests.helpers.recording_log import RecordingLog
from tests.helpers.tcp_relay import TcpRelay, tcp_relay
from tests.nodes.install import find, how_to_install

T = TypeVar("T")
AMOUNT = 12_345


async def away(blocking: Callable[..., T], *args: Any) -> T:
    return await trio.to_thread.run_sync(partial(blocking, *args))


@pytest.fixture(params=["btc", "ltc"])
def node(request: pytest.FixtureRequest) -> BitcoinNode:
    """Each of the shared nodes in turn: push on BTC, polling on LTC."""
    shared: BitcoinNode = request.getfixturevalue(f"{request.param}_node")
    return shared


@asynccontextmanager
async def source_of(
    node: BitcoinNode, *, zmq: ZmqChoice | None = None, log: RecordingLog | None = None
) -> AsyncIterator[BitcoinSource]:
    login = (
        Login(cookie_file=node.cookie_file)
        if node.auth == "cookie"
        else Login(node.user, node.password)
    )
    source = BitcoinSource(
        JsonRpcClient(node.url, setting=f"coin.{node.family}", login=login),
        chain=node.family,
        asset=node.family.upper(),
        log=log or RecordingLog(),
        zmq=zmq,
        poll_interval_s=0.2,
    )
    try:
        yield source
    finally:
        await source.aclose()


class Shop:
    """An address of ours at a node, and an index that waits for payments to it."""

    def __init__(self, node: BitcoinNode, kind: str = "bech32") -> None:
        self.node = node
        self.address = node.new_address(kind)
        self.script = bytes.fromhex(node.rpc("getaddressinfo", self.address)["scriptPubKey"])
        self.index = WatchIndex()
        self.index.watch(self.script, uuid4())

    def is_paid(self) -> bytes:
        return bytes.fromhex(self.node.pay(self.address, AMOUNT))


async def until(signals: AsyncIterator[Signal], last: Callable[[Signal], bool]) -> list[Signal]:
    """The signals up to and with the first for which `last` is true; heartbeats are left out."""
    got: list[Signal] = []
    with trio.fail_after(60):
        async for signal in signals:
            if not isinstance(signal, Heartbeat):
                got.append(signal)
            if last(signal):
                return got
    raise AssertionError(got)


def arrival(txid: bytes) -> Callable[[Signal], bool]:
    return lambda signal: isinstance(signal, TxArrived) and signal.tx.txid == txid


def is_tip(signal: Signal) -> bool:
    return isinstance(signal, TipMoved)


def is_heartbeat(signal: Signal) -> bool:
    return isinstance(signal, Heartbeat)


def is_stale(signal: Signal) -> bool:
    return isinstance(signal, MempoolStale)


async def test_status(node: BitcoinNode) -> None:
    async with source_of(node) as source:
        status = await source.status()
        assert status.network == "regtest"
        assert status.genesis.hex() == await away(node.rpc, "getblockhash", 0)
        assert status.tip == await source.tip()
        assert status.tip.hash.hex() == await away(node.tip)
        assert status.headers_height == status.tip.height == await away(node.height)
        assert status.pruned_below is None
        expected = {"btc": ("Knots", "zmq hashblock,rawtx,sequence")}
        software, push = expected.get(node.family, ("Litecoin", "long-poll, poll 0.2s"))
        assert software in status.software
        assert status.push == push


@pytest.mark.parametrize("kind", ["legacy", "p2sh-segwit", "bech32", "bech32m"])
async def test_a_payment_is_seen_and_mined(node: BitcoinNode, kind: str) -> None:
    if node.family == "ltc" and kind == "bech32m":
        kind = "legacy"  # Litecoin 0.21 knows no bech32m
    shop = await away(Shop, node, kind)
    async with source_of(node) as source, source.signals(shop.index) as signals:
        txid = await away(shop.is_paid)
        arrived = (await until(signals, arrival(txid)))[-1]
        assert isinstance(arrived, TxArrived)
        (output,) = arrived.tx.outputs
        assert (output.destination, output.amount_base) == (shop.script, AMOUNT)
        assert output.asset == node.family.upper()
        assert output.outpoint.txid == txid
        snapshot = await source.read_mempool(shop.index)
        assert txid in snapshot.txids
        assert [tx.txid for tx in snapshot.txs] == [txid]
        entered_s = (await away(node.rpc, "getmempoolentry", txid.hex()))["time"]
        assert snapshot.txs[0].first_seen_s == entered_s

        (block_hash,) = await away(node.mine)
        await until(signals, is_tip)
        tip = await source.tip()
        assert tip.hash.hex() == block_hash
        heights = range(tip.height, tip.height + 1)
        ((block, txs),) = [b async for b in source.read_blocks(heights, shop.index)]
        assert block == tip
        assert [(tx.txid, tx.outputs, tx.spends) for tx in txs] == [
            (txid, arrived.tx.outputs, arrived.tx.spends)
        ]
        assert txid not in (await source.read_mempool(shop.index)).txids


async def test_what_is_mined_is_not_remembered(node: BitcoinNode) -> None:
    """While the mempool is pushed nobody lists it, and each payment would stay in memory."""
    shop = await away(Shop, node)
    async with source_of(node) as source:
        txid = await away(shop.is_paid)
        await source.read_mempool(shop.index)
        assert source._mempool.knows(txid)
        await away(node.mine)
        tip = await source.tip()
        heights = range(tip.height, tip.height + 1)
        ((_, txs),) = [b async for b in source.read_blocks(heights, shop.index)]
        assert [tx.txid for tx in txs] == [txid]
        assert not source._mempool.knows(txid)


async def test_a_replacement_elsewhere_is_a_conflict(node: BitcoinNode) -> None:
    shop = await away(Shop, node)
    async with source_of(node) as source, source.signals(shop.index) as signals:
        txid = await away(shop.is_paid)
        first = (await until(signals, arrival(txid)))[-1]
        assert isinstance(first, TxArrived)
        shop.index.claim(txid, first.tx.spends)
        thief = bytes.fromhex(await away(lambda: node.replace(txid.hex(), outputs={})))
        got = await until(signals, lambda signal: signal == TxLeft(txid))
        assert [signal.tx.txid for signal in got if isinstance(signal, TxArrived)] == [thief]
        conflict = next(signal.tx for signal in got if isinstance(signal, TxArrived))
        assert conflict.outputs == ()
        assert set(conflict.spends) & set(first.tx.spends)
        assert shop.index.conflicting(thief, conflict.spends) == (txid,)
        await away(node.mine)


async def test_a_fee_bump_pays_again(node: BitcoinNode) -> None:
    shop = await away(Shop, node)
    async with source_of(node) as source, source.signals(shop.index) as signals:
        txid = await away(shop.is_paid)
        await until(signals, arrival(txid))
        bumped = bytes.fromhex(await away(node.replace, txid.hex()))
        got = await until(signals, lambda signal: signal == TxLeft(txid))
        assert any(arrival(bumped)(signal) for signal in got)
        await away(node.mine)


async def test_a_reorg_brings_the_payment_back_into_the_mempool(node: BitcoinNode) -> None:
    shop = await away(Shop, node)
    async with source_of(node) as source, source.signals(shop.index) as signals:
        txid = await away(shop.is_paid)
        await until(signals, arrival(txid))
        await away(node.mine)
        stale = await source.tip()
        await until(signals, is_tip)
        old, new = await away(node.reorg, 1)
        assert stale.hash.hex() == old[0]
        await until(signals, is_tip)
        snapshot = await source.read_mempool(shop.index)
        assert [tx.txid for tx in snapshot.txs] == [txid]
        tip = await source.tip()
        assert tip.hash.hex() == new[-1]
        assert (await source.block_at(stale.height)) != stale
        for end in (tip, stale):
            window = await source.window(end, 12)
            assert window[-1] == end
            assert len(window) == 12
            assert consecutive(window)
        await away(node.mine)


async def test_five_hundred_blocks_of_downtime_are_read_in_order(btc_node: BitcoinNode) -> None:
    shop = await away(Shop, btc_node)
    first = await away(btc_node.height) + 1
    paid: list[bytes] = []
    for _ in range(5):
        paid.append(await away(shop.is_paid))
        await away(btc_node.mine, 100)
    async with source_of(btc_node) as source:
        tip = await source.tip()
        read = [b async for b in source.read_blocks(range(first, tip.height + 1), shop.index)]
        blocks = [block for block, _ in read]
        assert len(blocks) == 500
        assert consecutive(blocks)
        assert blocks[-1] == tip
        found = {block.height: [tx.txid for tx in txs] for block, txs in read if txs}
        assert found == {first + 100 * n: [txid] for n, txid in enumerate(paid)}


@pytest.fixture(params=["btc", "ltc"])
def own_node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BitcoinNode]:
    """A node of the test's own, to be stopped and started; it is known by its cookie."""
    yield from _own(request.param, tmp_path, auth="cookie")


@pytest.fixture
def expiring_node(tmp_path: Path) -> Iterator[BitcoinNode]:
    yield from _own("btc", tmp_path, extra=["-mempoolexpiry=1"])


@pytest.fixture
def pruning_node(tmp_path: Path) -> Iterator[BitcoinNode]:
    yield from _own("btc", tmp_path, extra=["-prune=1", "-fastprune"])


@pytest.fixture
def mweb_node(tmp_path: Path) -> Iterator[BitcoinNode]:
    yield from _own("ltc", tmp_path)


def _own(family: Family, folder: Path, **options: Any) -> Iterator[BitcoinNode]:
    if find(family) is None:
        pytest.skip(how_to_install(family))
    with BitcoinNode(family, datadir=folder, **options) as node:
        node.fund()
        yield node


async def test_a_node_that_restarts_is_found_again(own_node: BitcoinNode) -> None:
    shop = await away(Shop, own_node)
    async with source_of(own_node) as source:
        reader = source.read_blocks(range(1, 100), shop.index)
        read = [(await reader.__anext__())[0] for _ in range(10)]
        async with source.signals(shop.index) as signals:
            await until(signals, is_heartbeat)
            await away(own_node.stop)
            with pytest.raises(TransientError, match=rf"coin\.{own_node.family}\.daemon\.url"):
                await until(signals, lambda _: False)
        with pytest.raises(TransientError):
            await source.tip()
        await away(own_node.start)
        async with source.signals(shop.index) as signals:
            txid = await away(shop.is_paid)
            await until(signals, arrival(txid))
        rest = range(read[-1].height + 1, 100)
        read += [block async for block, _ in source.read_blocks(rest, shop.index)]
        assert [block.height for block in read] == list(range(1, 100))
        assert consecutive(read)
        reader.close()


async def test_an_expired_transaction_leaves(expiring_node: BitcoinNode) -> None:
    node = expiring_node
    shop = await away(Shop, node)
    async with source_of(node) as source, source.signals(shop.index) as signals:
        txid = await away(shop.is_paid)
        await until(signals, arrival(txid))
        now_s = (await away(node.rpc, "getmempoolentry", txid.hex()))["time"]
        await away(node.rpc, "setmocktime", now_s + 2 * 3600)
        await away(node.pay, await away(node.new_address), AMOUNT)
        await until(signals, lambda signal: signal == TxLeft(txid))


async def test_a_double_spend_in_a_block(btc_node: BitcoinNode) -> None:
    """The thief's transaction was never in our node's mempool: a block brings it."""
    node = btc_node
    shop = await away(Shop, node)
    async with source_of(node) as source, source.signals(shop.index) as signals:
        txid = await away(shop.is_paid)
        first = (await until(signals, arrival(txid)))[-1]
        assert isinstance(first, TxArrived)
        shop.index.claim(txid, first.tx.spends)
        shop.index.unconfirmed[txid] = {uuid4()}

        def steal() -> str:
            old = node.rpc("getrawtransaction", txid.hex(), True)
            inputs = [{"txid": vin["txid"], "vout": vin["vout"]} for vin in old["vin"]]
            raw = node.rpc("createrawtransaction", inputs, {node.new_address(): "0.0001"})
            signed = node.rpc("signrawtransactionwithwallet", raw)["hex"]
            node.rpc("generateblock", node.new_address(), [signed])
            return str(node.rpc("decoderawtransaction", signed)["txid"])

        thief = bytes.fromhex(await away(steal))
        got = await until(signals, lambda signal: signal == TxLeft(txid))
        assert any(is_tip(signal) for signal in got)
        tip = await source.tip()
        heights = range(tip.height, tip.height + 1)
        ((_, txs),) = [b async for b in source.read_blocks(heights, shop.index)]
        assert [(tx.txid, tx.outputs) for tx in txs] == [(thief, ())]
        assert shop.index.conflicting(thief, txs[0].spends) == (txid,)


async def test_pruned_blocks_are_told(pruning_node: BitcoinNode) -> None:
    node = pruning_node
    # A file of blocks holds about 240 of them, and the newest 288 blocks are always kept.
    await away(node.mine, 460)
    await away(node.rpc, "pruneblockchain", 270)
    async with source_of(node) as source:
        lowest = (await source.status()).pruned_below
        assert lowest is not None
        assert 0 < lowest <= 271
        readable = range(lowest, lowest + 1)
        assert len([b async for b in source.read_blocks(readable, WatchIndex())]) == 1
        with pytest.raises(PersistentError, match="has pruned block 1,"):
            await source.read_blocks(range(1, 5), WatchIndex()).__anext__()


async def test_mweb_is_tolerated(mweb_node: BitcoinNode) -> None:
    node = mweb_node
    shop = await away(Shop, node)
    await away(node.activate_mweb)
    paid = await away(shop.is_paid)
    within = await away(lambda: node.pay(node.new_address("mweb"), AMOUNT * 100))
    async with source_of(node) as source, source.signals(shop.index) as signals:
        snapshot = await source.read_mempool(shop.index)
        assert {paid, bytes.fromhex(within)} <= set(snapshot.txids)
        assert [tx.txid for tx in snapshot.txs] == [paid]
        await away(node.mine, 2)
        await until(signals, is_tip)
        tip = await source.tip()
        heights = range(1, tip.height + 1)
        read = [b async for b in source.read_blocks(heights, shop.index)]
        assert consecutive([block for block, _ in read])
        assert [tx.txid for _, txs in read for tx in txs] == [paid]


# --- push that breaks -----------------------------------------------------------------------------


@asynccontextmanager
async def relayed(
    node: BitcoinNode, shop: Shop, log: RecordingLog
) -> AsyncIterator[tuple[TcpRelay, AsyncIterator[Signal]]]:
    async with tcp_relay("127.0.0.1", node.zmq_port) as relay:
        address = f"tcp://127.0.0.1:{relay.port}"
        choice = ZmqChoice(endpoints=dict.fromkeys(("rawtx", "hashblock", "sequence"), address))
        at_node = source_of(node, zmq=choice, log=log)
        async with at_node as source, source.signals(shop.index) as signals:
            first = await away(shop.is_paid)
            await until(signals, arrival(first))
            await until(signals, is_heartbeat)
            yield relay, signals


async def test_a_cut_push_channel_loses_nothing(btc_node: BitcoinNode) -> None:
    shop = await away(Shop, btc_node)
    log = RecordingLog()
    async with relayed(btc_node, shop, log) as (relay, signals):
        relay.cut()
        txid = await away(shop.is_paid)
        got = await until(signals, arrival(txid))
        assert any(is_stale(signal) for signal in got)
        (warning,) = log.events("warning")
        assert warning.startswith("push channel lost its connection to tcp://127.0.0.1:")
        relay.mend()
        while not log.events("info"):
            txid = await away(shop.is_paid)
            await until(signals, arrival(txid))
            await until(signals, is_heartbeat)
        assert log.events("info") == ["push channel works again"]
        await away(btc_node.mine)
        await until(signals, is_tip)


async def test_a_silent_push_channel_loses_nothing(
    btc_node: BitcoinNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitcoin_news, "SILENCE_S", 1.0)
    shop = await away(Shop, btc_node)
    log = RecordingLog()
    async with relayed(btc_node, shop, log) as (relay, signals):
        relay.freeze()
        txid = await away(shop.is_paid)
        await until(signals, arrival(txid))
        await away(btc_node.mine)
        await until(signals, is_tip)
        await until(signals, is_stale)
        assert len(log.events("warning")) == 1
