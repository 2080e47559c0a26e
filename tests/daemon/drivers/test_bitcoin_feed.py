"""A node's news with a scripted node and a scripted ZMQ publisher: what real ones rarely do."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
import trio

from actors.core.chain_events import ChainTx
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
from daemon.drivers.bitcoin_zmq import reachable
from daemon.drivers.jsonrpc import JsonRpcClient
from tests.helpers.bitcoin_tx import Tx, TxIn, TxOut, coinbase
from tests.helpers.http_node import RpcFault, rpc_node
from tests.helpers.recording_log import RecordingLog
from tests.helpers.zmq_publisher import ZmqPublisher

OURS = b"\x00\x14" + b"o" * 20
THEIRS = b"\x00\x14" + b"t" * 20
A_HASH, B_HASH = b"A" * 32, b"B" * 32


def tx(script: bytes, *, spends: bytes | None = None, amount: int = 1000) -> Tx:
    return Tx((TxIn(spends or os.urandom(32), 0, witness=(b"s",)),), (TxOut(amount, script),))


@dataclass
class Node:
    """What a scripted node answers when asked; `pool` in its own order."""

    tip: bytes = A_HASH
    pool: dict[bytes, Tx] = field(default_factory=dict)
    loaded: bool = True
    zmq: list[dict[str, Any]] | None = None

    def enters(self, *txs: Tx) -> None:
        self.pool.update({each.txid: each for each in txs})

    def methods(self) -> dict[str, Any]:
        methods: dict[str, Any] = {
            "getbestblockhash": self._tip,
            "getmempoolinfo": lambda: {
                "loaded": self.loaded,
                "size": len(self.pool),
                "bytes": sum(len(each.serialise()) for each in self.pool.values()),
            },
            "getrawmempool": lambda _: [txid.hex() for txid in self.pool],
            "getrawtransaction": self._raw,
            "getmempoolentry": self._entry,
        }
        if self.zmq is not None:
            methods["getzmqnotifications"] = self.zmq
        return methods

    def _tip(self) -> str:
        return self.tip.hex()

    def _raw(self, txid: str) -> Any:
        found = self.pool.get(bytes.fromhex(txid))
        return (
            RpcFault(-5, "No such mempool transaction")
            if found is None
            else found.serialise().hex()
        )

    def _entry(self, txid: str) -> Any:
        known = bytes.fromhex(txid) in self.pool
        return {"time": 1234, "fee": 0.1} if known else RpcFault(-5, "Transaction not in mempool")


@dataclass
class Scene:
    source: BitcoinSource
    node: Node
    index: WatchIndex
    log: RecordingLog


@asynccontextmanager
async def scene(
    node: Node, *, zmq: ZmqChoice | None = None, poll_interval_s: float = 0.05
) -> AsyncIterator[Scene]:
    log = RecordingLog()
    index = WatchIndex()
    index.watch(OURS, uuid4())
    async with rpc_node(node.methods()) as server:
        client = JsonRpcClient(server.url, setting="coin.btc")
        source = BitcoinSource(
            client, chain="btc", asset="BTC", log=log, zmq=zmq, poll_interval_s=poll_interval_s
        )
        try:
            yield Scene(source, node, index, log)
        finally:
            await source.aclose()


async def until(signals: AsyncIterator[Signal], last: Callable[[Signal], bool]) -> list[Signal]:
    """The signals up to and with the first for which `last` is true; heartbeats are left out."""
    got: list[Signal] = []
    with trio.fail_after(20):
        async for signal in signals:
            if not isinstance(signal, Heartbeat):
                got.append(signal)
            if last(signal):
                return got
    raise AssertionError(got)


def arrival(of: Tx) -> Callable[[Signal], bool]:
    return lambda signal: isinstance(signal, TxArrived) and signal.tx.txid == of.txid


def left(of: Tx) -> Callable[[Signal], bool]:
    return lambda signal: signal == TxLeft(of.txid)


def is_heartbeat(signal: Signal) -> bool:
    return isinstance(signal, Heartbeat)


def is_stale(signal: Signal) -> bool:
    return isinstance(signal, MempoolStale)


# --- polling --------------------------------------------------------------------------------------


async def test_polling_tells_what_comes_and_goes() -> None:
    async with scene(Node()) as s, s.source.signals(s.index) as signals:
        ours, theirs = tx(OURS, amount=77), tx(THEIRS)
        s.node.enters(theirs, ours)
        got = await until(signals, arrival(ours))
        assert s.source.statistics().known_txs == 2
        signals_now = s.source.statistics().signals
        assert signals_now is not None
        assert signals_now.delivered > 0
        assert isinstance(got[-1], TxArrived)
        assert got[-1].tx == ChainTx(
            ours.txid,
            got[-1].tx.outputs,
            (ours.ins[0].outpoint,),
            first_seen_s=1234,
            replaceable=True,
        )
        assert [out.amount_base for out in got[-1].tx.outputs] == [77]
        s.node.pool.clear()
        assert await until(signals, left(ours)) == [TxLeft(ours.txid)]


async def test_a_replacement_is_told_before_what_it_replaces() -> None:
    async with scene(Node()) as s, s.source.signals(s.index) as signals:
        first = tx(OURS)
        s.node.enters(first)
        await until(signals, arrival(first))
        s.index.claim(first.txid, (first.ins[0].outpoint,))
        second = tx(THEIRS, spends=first.ins[0].txid)
        s.node.pool.clear()
        s.node.enters(second)
        arrived, gone = await until(signals, left(first))
        assert isinstance(arrived, TxArrived)
        assert arrived.tx.outputs == ()
        assert arrived.tx.spends == (first.ins[0].outpoint,)
        assert gone == TxLeft(first.txid)


async def test_the_tip_is_told_before_what_its_blocks_took() -> None:
    async with scene(Node()) as s, s.source.signals(s.index) as signals:
        ours = tx(OURS)
        s.node.enters(ours)
        await until(signals, arrival(ours))
        s.node.tip = B_HASH
        s.node.pool.clear()
        assert await until(signals, left(ours)) == [TipMoved(), TxLeft(ours.txid)]


async def test_what_our_invoices_wait_for_is_missed_even_if_never_seen_here() -> None:
    async with scene(Node()) as s:
        s.index.unconfirmed[b"u" * 32] = {uuid4()}
        async with s.source.signals(s.index) as signals:
            await until(signals, lambda signal: signal == TxLeft(b"u" * 32))


async def test_transactions_are_fetched_once() -> None:
    async with scene(Node()) as s:
        fetched: list[str] = []
        raw = s.node._raw
        async with rpc_node(
            {**s.node.methods(), "getrawtransaction": lambda t: (fetched.append(t), raw(t))[1]}
        ) as server:
            source = BitcoinSource(
                JsonRpcClient(server.url, setting="coin.btc"), chain="btc", asset="BTC", log=s.log
            )
            txs = [tx(OURS), *(tx(THEIRS) for _ in range(450))]
            s.node.enters(*txs)
            for _ in range(2):
                snapshot = await source.read_mempool(s.index)
                assert [found.txid for found in snapshot.txs] == [txs[0].txid]
                assert snapshot.txs[0].first_seen_s == 1234
                assert set(snapshot.txids) == {each.txid for each in txs}
            assert len(fetched) == 451
            other = WatchIndex()
            other.watch(THEIRS, uuid4())
            assert len((await source.read_mempool(other)).txs) == 450
            await source.aclose()


async def test_transactions_that_vanish_in_between_are_left_out() -> None:
    node = Node()
    ours, gone = tx(OURS), tx(OURS)
    node.enters(gone, ours)
    methods = node.methods()
    listed = [each.hex() for each in node.pool]
    del node.pool[gone.txid]
    async with rpc_node({**methods, "getrawmempool": lambda _: listed}) as server:
        client = JsonRpcClient(server.url, setting="coin.btc")
        source = BitcoinSource(client, chain="btc", asset="BTC", log=RecordingLog())
        index = WatchIndex()
        index.watch(OURS, uuid4())
        assert [found.txid for found in (await source.read_mempool(index)).txs] == [ours.txid]
        await source.aclose()


async def test_a_mempool_that_is_still_loading_is_not_read() -> None:
    async with scene(Node(loaded=False)) as s:
        with pytest.raises(TransientError, match="still loads its mempool from disk"):
            await s.source.read_mempool(s.index)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("getrawmempool", lambda _: {"a": 1}),
        ("getrawmempool", lambda _: ["zz" * 32]),
        ("getrawmempool", lambda _: ["ab"]),
        ("getrawmempool", lambda _: [7]),
        ("getbestblockhash", "abcd"),
        ("getmempoolinfo", 5),
        ("getrawtransaction", lambda _: "00"),
        ("getrawtransaction", lambda _: tx(OURS).serialise().hex()),
        ("getrawtransaction", lambda _: {"hex": ""}),
        ("getmempoolentry", lambda _: {"time": "now"}),
    ],
)
async def test_garbage_in_the_mempool(method: str, answer: Any) -> None:
    node = Node()
    node.enters(tx(OURS))
    async with rpc_node({**node.methods(), method: answer}) as server:
        client = JsonRpcClient(server.url, setting="coin.btc")
        source = BitcoinSource(client, chain="btc", asset="BTC", log=RecordingLog())
        index = WatchIndex()
        index.watch(OURS, uuid4())
        with pytest.raises(TransientError, match=r"coin\.btc\.daemon\.url .* answered garbage: "):
            await source.read_mempool(index)
        await source.aclose()


async def test_the_iteration_ends_when_the_node_does() -> None:
    async with scene(Node()) as s, s.source.signals(s.index) as signals:
        await until(signals, is_heartbeat)
        s.node.tip = b"short"
        with pytest.raises(TransientError, match="answered garbage"):
            await until(signals, lambda _: False)


async def test_errors_of_the_reader_pass_unwrapped() -> None:
    async with scene(Node()) as s:
        with pytest.raises(PersistentError, match="mine"):
            async with s.source.signals(s.index):
                raise PersistentError("mine")


async def test_a_node_that_is_down_cannot_be_entered() -> None:
    node = Node(tip=b"")
    async with scene(node) as s:
        with pytest.raises(TransientError):
            async with s.source.signals(s.index):
                pytest.fail("entered")


# --- push -----------------------------------------------------------------------------------------


def notifications(publisher: ZmqPublisher, *topics: str) -> list[dict[str, Any]]:
    address = f"tcp://0.0.0.0:{publisher.port}"
    return [{"type": f"pub{topic}", "address": address, "hwm": 1000} for topic in topics]


ALL = ("rawtx", "hashblock", "sequence", "rawblock")


@asynccontextmanager
async def pushed(
    publisher: ZmqPublisher, *topics: str, poll_interval_s: float = 1000
) -> AsyncIterator[tuple[Scene, AsyncIterator[Signal]]]:
    node = Node(zmq=notifications(publisher, *topics))
    at_node = scene(node, poll_interval_s=poll_interval_s)
    async with at_node as s, s.source.signals(s.index) as signals:
        useful = set(topics) & {"rawtx", "hashblock", "sequence"}
        assert await publisher.subscribed(len(useful)) == useful
        yield s, signals


def entered(of: Tx) -> bytes:
    return of.txid + b"A" + bytes(8)


async def test_a_payment_is_pushed() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (s, signals):
            ours, theirs = tx(OURS), tx(THEIRS)
            s.node.enters(ours, theirs)
            for each in (theirs, ours):
                publisher.publish("rawtx", each.serialise())
                publisher.publish("sequence", entered(each))
            assert len(await until(signals, arrival(ours))) == 1


async def test_a_body_after_its_announcement_counts() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (_, signals):
            ours = tx(OURS)
            publisher.publish("sequence", entered(ours))
            publisher.publish("rawtx", ours.serialise())
            await until(signals, arrival(ours))


async def test_a_body_alone_is_no_arrival() -> None:
    """Bodies are repeated for every transaction of a block that comes or goes."""
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (s, signals):
            mined, mark = tx(OURS), tx(OURS)
            s.node.enters(mark)
            publisher.publish("rawtx", coinbase(TxOut(5, OURS)).serialise())
            publisher.publish("rawtx", mined.serialise())
            publisher.publish("rawtx", mark.serialise())
            publisher.publish("sequence", entered(mark))
            assert len(await until(signals, arrival(mark))) == 1
            s.node.enters(mined)
            publisher.publish("sequence", entered(mined))  # back after a reorg
            assert len(await until(signals, arrival(mined))) == 1


async def test_a_removal_waits_for_its_replacement() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (s, signals):
            first = tx(OURS)
            s.node.enters(first)
            publisher.publish("rawtx", first.serialise())
            publisher.publish("sequence", entered(first))
            await until(signals, arrival(first))
            second = tx(OURS, spends=first.ins[0].txid, amount=900)
            s.node.pool = {second.txid: second}
            publisher.publish("sequence", first.txid + b"R" + bytes(8))
            publisher.publish("sequence", tx(THEIRS).txid + b"R" + bytes(8))
            publisher.publish("rawtx", second.serialise())
            publisher.publish("sequence", entered(second))
            arrived, _ = await until(signals, left(first))
            assert arrival(second)(arrived)


async def test_what_comes_back_at_once_did_not_leave() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (s, signals):
            ours, mark = tx(OURS), tx(OURS)
            s.node.enters(ours)
            for each in (ours, mark):
                publisher.publish("rawtx", each.serialise())
            publisher.publish("sequence", entered(ours))
            publisher.publish("sequence", ours.txid + b"R" + bytes(8))
            publisher.publish("sequence", entered(ours))
            publisher.publish("sequence", entered(mark))
            publisher.publish("sequence", mark.txid + b"R" + bytes(8))
            got = await until(signals, left(mark))
            assert TxLeft(ours.txid) not in got


async def test_blocks_move_the_tip() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (s, signals):
            s.node.tip = B_HASH
            publisher.publish("sequence", B_HASH + b"C")
            publisher.publish("hashblock", B_HASH)
            assert await until(signals, lambda x: x == TipMoved()) == [TipMoved()]
            s.node.tip = A_HASH
            publisher.publish("sequence", B_HASH + b"D")
            assert await until(signals, lambda x: x == TipMoved()) == [TipMoved()]


async def test_a_gap_makes_the_mempool_stale() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (s, signals):
            publisher.publish("rawtx", tx(THEIRS).serialise())
            publisher.skip("rawtx", 3)
            publisher.publish("rawtx", tx(THEIRS).serialise())
            got = await until(signals, is_stale)
            assert got == [TipMoved(), MempoolStale("3 rawtx messages were lost")]
            assert s.log.lines == [
                (
                    "warning",
                    "push channel lost messages, reading the mempool again",
                    {"setting": "coin.btc", "topic": "rawtx", "lost": 3},
                )
            ]


async def test_a_counter_that_wraps_around_is_no_gap() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (_, signals):
            last, first = (number.to_bytes(4, "little") for number in (2**32 - 1, 0))
            publisher.publish_raw(b"sequence", B_HASH + b"C", last)
            publisher.publish_raw(b"sequence", A_HASH + b"C", first)
            got = await until(signals, is_heartbeat)
            assert not any(is_stale(signal) for signal in got)


async def test_a_node_that_restarts_its_counter_makes_the_mempool_stale() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (_, signals):
            for number in (7, 0):
                body = tx(THEIRS).serialise()
                publisher.publish_raw(b"rawtx", body, number.to_bytes(4, "little"))
            await until(signals, is_stale)


@pytest.mark.parametrize(
    "frames",
    [
        (b"rawtx", b"\x01\x02", bytes(4)),
        (b"rawtx", tx(OURS).serialise(), bytes(3)),
        (b"rawtx", tx(OURS).serialise()),
        (b"rawtxes", tx(OURS).serialise(), bytes(4)),
        (b"sequence", b"short", bytes(4)),
        (b"sequence", B_HASH + b"A", bytes(4)),
        (b"sequence", B_HASH + b"X", bytes(4)),
        (b"hashblock", b"short", bytes(4)),
    ],
)
async def test_garbage_on_the_push_channel_ends_it(frames: tuple[bytes, ...]) -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (_, signals):
            publisher.publish_raw(*frames)
            text = r"coin\.btc\.(zmq|daemon\.url) .*garbage"
            with pytest.raises(TransientError, match=text):
                await until(signals, lambda _: False)


async def test_a_silent_channel_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitcoin_news, "SILENCE_S", 0.5)
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (s, signals):
            ours = tx(OURS)
            s.node.enters(ours)  # and nobody says so
            s.node.tip = B_HASH
            got = await until(signals, arrival(ours))
            assert got[0] == TipMoved()
            await until(signals, is_stale)
            assert s.log.events("warning") == [
                "push channel is silent about what the node has; polling until it works"
            ]
            assert await publisher.subscribed(3) == {"rawtx", "sequence", "hashblock"}
            publisher.publish("sequence", B_HASH + b"C")
            while not s.log.events("info"):
                await until(signals, is_heartbeat)
            assert s.log.events("info") == ["push channel works again"]


async def test_missing_bodies_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitcoin_news, "SILENCE_S", 0.5)
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (_, signals):
            publisher.publish("sequence", entered(tx(THEIRS)))
            await until(signals, is_stale)


async def test_a_heartbeat_comes_after_what_was_missed() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, *ALL) as (s, signals):
            await until(signals, is_heartbeat)
            ours = tx(OURS)
            s.node.enters(ours)
            entered_at = trio.current_time()
            seen: list[Signal] = []
            with trio.fail_after(20):
                async for signal in signals:
                    seen.append(signal)
                    if isinstance(signal, Heartbeat) and signal.received_at >= entered_at:
                        break
            assert any(arrival(ours)(signal) for signal in seen)


async def test_rawtx_alone_still_needs_polling() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, "rawtx", "rawblock", poll_interval_s=0.05) as (s, signals):
            ours = tx(OURS)
            publisher.publish("rawtx", coinbase(TxOut(5, OURS)).serialise())
            publisher.publish("rawtx", ours.serialise())
            # It is not in the mempool: it was a block's.
            got = await until(signals, left(ours))
            assert arrival(ours)(got[0])
            s.node.tip = B_HASH
            await until(signals, lambda signal: signal == TipMoved())


async def test_sequence_alone_still_needs_polling() -> None:
    with ZmqPublisher() as publisher:
        async with pushed(publisher, "sequence", poll_interval_s=0.05) as (s, signals):
            ours = tx(OURS)
            s.node.enters(ours)
            publisher.publish("sequence", entered(ours))
            await until(signals, arrival(ours))
            publisher.publish("sequence", B_HASH + b"C")
            await until(signals, lambda signal: signal == TipMoved())


async def test_a_publisher_that_cannot_be_reached_is_polled_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.drivers.bitcoin_feed.CONNECT_S", 0.1)
    with ZmqPublisher() as publisher:
        address = publisher.address
    choice = ZmqChoice(endpoints=dict.fromkeys(("rawtx", "sequence", "hashblock"), address))
    async with scene(Node(), zmq=choice) as s, s.source.signals(s.index) as signals:
        ours = tx(OURS)
        s.node.enters(ours)
        await until(signals, arrival(ours))
        (line,) = s.log.lines
        assert line == (
            "warning",
            "push channel cannot be reached; polling until it works",
            {"setting": "coin.btc.zmq", "addresses": address},
        )


async def test_an_address_that_is_none_is_polled_instead() -> None:
    choice = ZmqChoice(endpoints={"rawtx": "tcp://127.0.0.1:nowhere"})
    async with scene(Node(), zmq=choice) as s, s.source.signals(s.index) as signals:
        ours = tx(OURS)
        s.node.enters(ours)
        await until(signals, arrival(ours))
        (line,) = s.log.events("warning")
        assert line.startswith("push channel cannot be reached at tcp://127.0.0.1:nowhere (Inv")


async def test_push_can_be_switched_off() -> None:
    with ZmqPublisher() as publisher:
        node = Node(zmq=notifications(publisher, *ALL))
        at_node = scene(node, zmq=ZmqChoice(enabled=False))
        async with at_node as s, s.source.signals(s.index) as signals:
            ours = tx(OURS)
            node.enters(ours)
            await until(signals, arrival(ours))


@pytest.mark.parametrize(
    ("address", "host", "reached"),
    [
        ("tcp://0.0.0.0:28332", "node.lan", "tcp://node.lan:28332"),
        ("tcp://127.0.0.1:28332", "10.0.0.5", "tcp://10.0.0.5:28332"),
        ("tcp://172.17.0.2:28332", "127.0.0.1", "tcp://127.0.0.1:28332"),
        ("tcp://[::]:28332", "::1", "tcp://[::1]:28332"),
        ("tcp://*:28332", "127.0.0.1", "tcp://127.0.0.1:28332"),
        ("tcp://nowhere", "127.0.0.1", "tcp://nowhere"),
        ("ipc:///run/node.sock", "127.0.0.1", "ipc:///run/node.sock"),
    ],
)
def test_addresses_are_those_of_the_node_we_know(address: str, host: str, reached: str) -> None:
    assert reachable(address, host) == reached
