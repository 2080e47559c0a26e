"""The bounded way of news from a driver to its watcher."""

import pytest
import trio

from actors.core.chain_events import ChainTx
from actors.ports import (
    Heartbeat,
    MempoolStale,
    Signal,
    TipMoved,
    TransientError,
    TxArrived,
    TxLeft,
)
from daemon.drivers.signal_buffer import SignalBuffer


async def take(buffer: SignalBuffer, count: int) -> list[Signal]:
    return [await buffer.__anext__() for _ in range(count)]


async def test_signals_keep_their_order() -> None:
    buffer = SignalBuffer()
    signals = [TipMoved(), TxLeft(b"a"), TipMoved(), Heartbeat(1.0), TxLeft(b"b")]
    for signal in signals:
        buffer.put(signal)
    assert await take(buffer, 5) == signals


async def test_neighbours_that_say_the_same_are_joined() -> None:
    buffer = SignalBuffer()
    for signal in (TipMoved(), TipMoved(), Heartbeat(1.0), Heartbeat(2.0), TxLeft(b"a")):
        buffer.put(signal)
    assert await take(buffer, 3) == [TipMoved(), Heartbeat(2.0), TxLeft(b"a")]


async def test_a_reader_that_falls_behind_is_told_to_look_for_itself() -> None:
    buffer = SignalBuffer(limit=3)
    arrived = [TxArrived(ChainTx(bytes([n]), (), ()), 0.0) for n in range(5)]
    for signal in arrived[:4]:
        buffer.put(signal)
    assert await take(buffer, 3) == [
        TipMoved(),
        MempoolStale("more than 3 news waited to be read"),
        arrived[3],
    ]
    assert buffer.statistics().overflows == 1
    assert buffer.statistics().most_waiting == 3
    buffer.put(arrived[4])
    assert await take(buffer, 1) == [arrived[4]]
    assert buffer.statistics().delivered == 4


async def test_the_failure_comes_after_what_waits() -> None:
    buffer = SignalBuffer()
    buffer.put(TipMoved())
    buffer.fail(TransientError("first"))
    buffer.fail(TransientError("second"))
    buffer.put(TxLeft(b"too late"))
    assert await take(buffer, 1) == [TipMoved()]
    for _ in range(2):
        with pytest.raises(TransientError, match="first"):
            await buffer.__anext__()


async def test_a_waiting_reader_is_woken() -> None:
    buffer = SignalBuffer()
    got: list[Signal] = []

    async def read() -> None:
        while True:
            try:
                got.append(await buffer.__anext__())
            except TransientError:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for signal in (TipMoved(), TxLeft(b"a")):
            await trio.testing.wait_all_tasks_blocked()
            buffer.put(signal)
        await trio.testing.wait_all_tasks_blocked()
        buffer.fail(TransientError("over"))
    assert got == [TipMoved(), TxLeft(b"a")]
