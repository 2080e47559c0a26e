"""A Monero node's news under a mock clock: what is asked for, and what the channel hastens."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
import trio

from actors.core.watch_index import WatchIndex
from actors.ports import Heartbeat, Signal, TipMoved, TransientError, TxArrived, TxLeft
from daemon.drivers import monero_feed, monero_mempool
from daemon.drivers.monero import MoneroSource
from tests.daemon.drivers.test_monero_source import MONERO, OTHER, US, index_of, source_of
from tests.helpers.fake_monero import FakeMonero
from tests.helpers.monero_data import Pays, payee, tx
from tests.helpers.recording_log import RecordingLog
from tests.helpers.zmq_publisher import ZmqPublisher

Clock = trio.testing.MockClock
PAID = tx("paid", Pays(US, 5))
FOREIGN = tx("foreign", Pays(OTHER, 5))


@pytest.fixture
def node() -> FakeMonero:
    return FakeMonero()


async def take(news: AsyncIterator[Signal], *, for_s: float) -> list[Signal]:
    """What is told within that time; heartbeats are left out."""
    found: list[Signal] = []
    with trio.move_on_after(for_s):
        while True:
            signal = await anext(news)
            if not isinstance(signal, Heartbeat):
                found.append(signal)
    return found


def arrived(signals: list[Signal]) -> list[bytes]:
    return [signal.tx.txid for signal in signals if isinstance(signal, TxArrived)]


def wait_for(index: WatchIndex, *txids: bytes) -> None:
    for txid in txids:
        index.unconfirmed[txid] = set()


# --- asked for ---


async def test_a_block_is_told_once(node: FakeMonero, autojump_clock: Clock) -> None:
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        assert await take(news, for_s=3) == []
        node.mine()
        assert await take(news, for_s=3) == [TipMoved()]


async def test_popped_blocks_are_told(node: FakeMonero, autojump_clock: Clock) -> None:
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        await take(news, for_s=0.5)
        node.blocks_held.pop()
        assert await take(news, for_s=3) == [TipMoved()]


async def test_a_payment_is_told_once_with_its_dates(
    node: FakeMonero, autojump_clock: Clock
) -> None:
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        await take(news, for_s=0.5)
        node.add(FOREIGN, PAID)
        (signal,) = await take(news, for_s=3)
        assert isinstance(signal, TxArrived)
        assert signal.tx.txid == PAID.txid
        assert signal.tx.first_seen_s == 1_700_000_000
        assert signal.received_at == 1.0
        assert node.count("pool_txs") == 3  # the fetch, and two looks for a rival


async def test_what_leaves_is_told_after_the_tip(node: FakeMonero, autojump_clock: Clock) -> None:
    node.add(PAID, FOREIGN)
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        assert arrived(await take(news, for_s=0.5)) == [PAID.txid]
        node.mine(PAID, FOREIGN)
        assert await take(news, for_s=3) == [TipMoved(), TxLeft(PAID.txid)]


async def test_what_comes_back_is_told_again(node: FakeMonero, autojump_clock: Clock) -> None:
    node.add(PAID)
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        await take(news, for_s=0.5)
        node.mine(PAID)
        await take(news, for_s=1)
        node.blocks_held.pop()
        node.add(PAID)
        told = await take(news, for_s=2)
        assert arrived(told) == [PAID.txid]
        assert TipMoved() in told


async def test_what_we_wait_for_and_is_absent_is_told_at_every_look(
    node: FakeMonero, autojump_clock: Clock
) -> None:
    index = index_of(US)
    wait_for(index, bytes(32))
    async with source_of(node) as source, source.signals(index) as news:
        assert await take(news, for_s=2.5) == 3 * [TxLeft(bytes(32))]


async def test_a_rival_is_told_until_nobody_waits(node: FakeMonero, autojump_clock: Clock) -> None:
    node.add(PAID)
    index = index_of(US)
    async with source_of(node) as source, source.signals(index) as news:
        assert arrived(await take(news, for_s=0.5)) == [PAID.txid]
        wait_for(index, PAID.txid)
        assert await take(news, for_s=1) == []
        node.contested.add(PAID.txid)
        assert await take(news, for_s=2) == 2 * [TxLeft(PAID.txid)]
        assert (await source.read_mempool(index)).contested == {PAID.txid}
        index.unconfirmed.clear()
        assert await take(news, for_s=3) == []


async def test_one_that_is_contested_from_the_beginning_never_arrives(
    node: FakeMonero, autojump_clock: Clock
) -> None:
    node.add(PAID)
    node.contested.add(PAID.txid)
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        assert await take(news, for_s=3) == []


async def test_rivals_are_looked_for_in_turn(
    node: FakeMonero, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monero_mempool, "RECHECKED_AT_ONCE", 2)
    many = [tx(f"p{n}", Pays(US, 5)) for n in range(5)]
    node.add(*many)
    index = index_of(US)
    async with source_of(node) as source, source.signals(index) as news:
        assert len(arrived(await take(news, for_s=0.5))) == 5
        wait_for(index, *(each.txid for each in many))
        node.contested.update(each.txid for each in many)
        told = await take(news, for_s=3)
        assert {signal.txid for signal in told if isinstance(signal, TxLeft)} == node.contested


async def test_a_heartbeat_dates_from_before_the_look(
    node: FakeMonero, autojump_clock: Clock
) -> None:
    async def slow(call: str) -> None:
        if call == "pool_txids":
            await trio.sleep(0.2)

    node.before = slow
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        beats: list[Heartbeat] = []
        with trio.move_on_after(3):
            async for signal in news:
                assert isinstance(signal, Heartbeat)
                beats.append(signal)
                assert trio.current_time() == pytest.approx(signal.received_at + 0.2)
        assert [beat.received_at for beat in beats] == [0.0, 1.0, 2.0]


async def test_a_long_pool_does_not_hold_up_blocks(
    node: FakeMonero, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monero_feed, "FETCHED_AT_ONCE", 2)
    node.add(*(tx(f"f{n}", Pays(OTHER, 5)) for n in range(6)), PAID)

    async def slow(call: str) -> None:
        if call == "pool_txs":
            await trio.sleep(1)

    node.before = slow
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        node.mine()
        with trio.fail_after(2):
            told = [await anext(news), await anext(news)]
        assert told[0] == TipMoved()
        assert told[1] == Heartbeat(0.0)
        assert arrived(await take(news, for_s=6)) == [PAID.txid]


async def test_half_of_the_time_is_the_nodes(node: FakeMonero, autojump_clock: Clock) -> None:
    began: list[float] = []

    async def slow(call: str) -> None:
        if call == "pool_txids":
            began.append(trio.current_time())
            await trio.sleep(3)

    node.before = slow
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        await take(news, for_s=13)
    assert began == [0, 6, 12]


async def test_a_new_view_key_has_the_pool_looked_at_again(
    node: FakeMonero, autojump_clock: Clock
) -> None:
    later = payee("later", of="another shop")
    node.add(tx("later", Pays(later, 5)))
    keys, index = [US.view_key], index_of(US, later)
    async with source_of(node, keys=keys) as source, source.signals(index) as news:
        assert await take(news, for_s=1.5) == []
        keys.append(later.view_key)
        assert len(arrived(await take(news, for_s=1.5))) == 1


# --- failures ---


@pytest.mark.parametrize("at", ["entering", "later"])
async def test_a_node_that_does_not_answer_is_told(
    node: FakeMonero, autojump_clock: Clock, at: str
) -> None:
    async with source_of(node) as source:
        if at == "entering":
            node.failures = [TransientError("timed out")]
            with pytest.raises(TransientError, match="timed out"):
                async with source.signals(index_of(US)):
                    pass
            return
        async with source.signals(index_of(US)) as news:
            await take(news, for_s=0.5)
            node.failures = [TransientError("timed out")]
            with pytest.raises(TransientError, match="timed out"):
                await take(news, for_s=3)


async def test_another_node_ends_the_news(node: FakeMonero, autojump_clock: Clock) -> None:
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        await take(news, for_s=0.5)
        node.switch.set()
        with pytest.raises(TransientError, match="left one node for another"):
            await take(news, for_s=3)


async def test_a_pool_of_lies_ends_the_news(node: FakeMonero, autojump_clock: Clock) -> None:
    node.add(PAID)
    node.pool_doctor = lambda txs: [each._replace(blob=FOREIGN.blob) for each in txs]
    async with source_of(node) as source, source.signals(index_of(US)) as news:
        with pytest.raises(TransientError, match="another transaction"):
            await take(news, for_s=3)


# --- being told: real time, because ZMQ has its own ---


BLOCK = b'json-minimal-chain_main:{"first_height":5,"first_prev_id":"00","ids":["00"]}'


def pool_message(txid: bytes) -> bytes:
    return b'json-full-txpool_add:[{"id":"' + txid.hex().encode() + b'","version":2}]'


def pushed_source(node: FakeMonero, address: str, log: RecordingLog | None = None) -> MoneroSource:
    return MoneroSource(
        node,  # type: ignore[arg-type]
        chain=MONERO,
        view_keys=lambda: [US.view_key],
        log=log or RecordingLog(),
        zmq=address,
        poll_interval_s=3600,
    )


@pytest.fixture
def no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked for but when the channel wakes us."""
    monkeypatch.setattr(monero_feed, "BEAT_S", 3600)


async def until(news: AsyncIterator[Signal], last: Callable[[Signal], bool]) -> Signal:
    with trio.fail_after(30):
        async for signal in news:
            if last(signal):
                return signal
    raise AssertionError("the news ended")


async def is_up(source: MoneroSource, news: AsyncIterator[Signal]) -> None:
    """The look that follows the connection is over."""
    while not source.statistics().is_pushed:
        await until(news, lambda signal: isinstance(signal, Heartbeat))


@pytest.mark.usefixtures("no_beat")
async def test_the_channel_wakes_us(node: FakeMonero) -> None:
    with ZmqPublisher() as publisher:
        source = pushed_source(node, publisher.address)
        async with aclosing(source), source.signals(index_of(US)) as news:
            await publisher.subscribed(2)
            await is_up(source, news)
            assert (await source.status()).push == (
                "zmq json-minimal-chain_main, json-full-txpool_add; poll 3600s"
            )
            node.mine()
            publisher.publish_raw(BLOCK)
            await until(news, lambda signal: signal == TipMoved())
            node.add(PAID)
            before = trio.current_time()
            publisher.publish_raw(pool_message(PAID.txid))
            signal = await until(news, lambda signal: isinstance(signal, TxArrived))
            assert isinstance(signal, TxArrived)
            assert before <= signal.received_at <= trio.current_time()


@pytest.mark.usefixtures("no_beat")
@pytest.mark.parametrize(
    "frames",
    [
        [BLOCK, BLOCK, BLOCK],
        [pool_message(PAID.txid), pool_message(PAID.txid)],
        [pool_message(bytes(32))],
        [b"json-full-txpool_add:nonsense"],
        [b'json-full-txpool_add:{"id":5}'],
        [b'json-full-txpool_add:[{"id":5}]'],
        [b'json-full-txpool_add:[{"id":"' + b"zz" * 32 + b'"}]'],
        [b"json-full-txpool_add"],
    ],
)
async def test_whatever_the_channel_says_is_only_a_reason_to_ask(
    node: FakeMonero, frames: list[bytes]
) -> None:
    with ZmqPublisher() as publisher:
        source = pushed_source(node, publisher.address)
        async with aclosing(source), source.signals(index_of(US)) as news:
            await publisher.subscribed(2)
            await is_up(source, news)
            node.add(PAID)
            for frame in frames:
                publisher.publish_raw(frame)
            signal = await until(news, lambda signal: isinstance(signal, TxArrived))
            assert isinstance(signal, TxArrived)
            node.mine()
            publisher.publish_raw(BLOCK)
            told: list[Signal] = []
            await until(news, lambda signal: told.append(signal) or signal == TipMoved())
            assert not any(isinstance(signal, TxArrived) for signal in told)


async def test_a_lost_channel_is_said_once_and_costs_only_time(
    node: FakeMonero, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monero_feed, "BEAT_S", 0.05)
    log = RecordingLog()

    def said() -> list[tuple[str, Any]]:
        return [(line.event.partition(";")[0], line.fields["setting"]) for line in log.lines]

    with ZmqPublisher() as publisher:
        source = pushed_source(node, publisher.address, log)
        async with aclosing(source), source.signals(index_of(US)) as news:
            await publisher.subscribed(2)
            await is_up(source, news)
            publisher.close()
            while source.statistics().is_pushed:
                await until(news, lambda signal: isinstance(signal, Heartbeat))
            node.add(PAID)
            await until(news, lambda signal: isinstance(signal, TxArrived))
            node.mine()
            await until(news, lambda signal: signal == TipMoved())
            assert said() == [("push channel was lost", "coin.xmr.zmq.pub")]
            with ZmqPublisher(port=publisher.port):
                while not source.statistics().is_pushed:
                    await until(news, lambda signal: isinstance(signal, Heartbeat))
            assert said()[1:2] == [("push channel works again", "coin.xmr.zmq.pub")]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://not an address"])
async def test_a_channel_that_is_none_is_said_and_costs_only_time(
    node: FakeMonero, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monero_feed, "BEAT_S", 0.05)
    monkeypatch.setattr(monero_feed, "CONNECT_S", 0.05)
    log = RecordingLog()
    source = pushed_source(node, address, log)
    async with aclosing(source), source.signals(index_of(US)) as news:
        node.add(PAID)
        await until(news, lambda signal: isinstance(signal, TxArrived))
        while not log.lines:
            await until(news, lambda signal: isinstance(signal, Heartbeat))
        (line,) = log.lines
        assert "cannot be reached" in line.event
        assert "--zmq-pub" in line.event
