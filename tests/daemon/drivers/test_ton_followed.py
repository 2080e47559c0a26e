"""The chain watcher on the TON driver: each block told once, in order, whatever the server does."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from actors.chain_watcher import ChainWatcher, WatchPolicy
from actors.core.chain_events import BlockConnected, BlocksDisconnected, ChainEvent, MempoolChanged
from actors.core.chain_view import ChainView
from actors.ports import TransientError
from daemon.drivers import ton_blocks, ton_mempool
from daemon.drivers.endpoint import PoolPolicy
from daemon.drivers.ton import TonSource
from tests.helpers.recording_log import RecordingLog
from tests.helpers.ton import COIN_BASE, TonPeer
from tests.helpers.ton_shop import Shop, away, source_of
from tests.helpers.virtual_clock import VirtualClock

ENOUGH_S = 20


@pytest.fixture(scope="module")
def running() -> Iterator[TonPeer]:
    with TonPeer() as peer:
        peer.mine(3)
        yield peer


@pytest.fixture
def peer(running: TonPeer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TonPeer]:
    monkeypatch.setattr(ton_blocks, "RETRY_S", 0.05)
    monkeypatch.setattr(ton_mempool, "_LOOK_S", 0.02)
    yield running
    running.set(lag_v3=0, empty_unknown=False, repeat=0)
    running.set_shards(1)
    running.command("faults", faults=[])


class Told:
    """An audience that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[ChainEvent] = []
        self.beats = 0
        self._news = trio.Event()

    async def tell(self, event: ChainEvent, _view: ChainView) -> None:
        self.events.append(event)
        self._stir()

    async def read_up_to(self, _as_of_ms: int, _view: ChainView) -> None:
        self.beats += 1
        self._stir()

    async def final_up_to(self, height: int, _view: ChainView) -> None:
        raise AssertionError(f"nothing was asked about block {height}")

    async def save(self, _view: ChainView) -> None:
        await trio.lowlevel.checkpoint()

    def pushed(self, latency_s: float) -> None:
        assert latency_s >= 0

    @property
    def heights(self) -> list[int]:
        return [each.block.height for each in self.events if isinstance(each, BlockConnected)]

    @property
    def amounts(self) -> list[int]:
        """In blocks."""
        return [
            output.amount_base
            for each in self.events
            if isinstance(each, BlockConnected)
            for tx in each.txs
            for output in tx.outputs
        ]

    async def until(self, reached: Callable[[], bool]) -> None:
        with trio.fail_after(ENOUGH_S):
            while not reached():
                await self._news.wait()

    def _stir(self) -> None:
        self._news.set()
        self._news = trio.Event()


class Followed:
    """A watcher that begins anew when the driver fails, as its supervisor would have it."""

    def __init__(self, source: TonSource, shop: Shop, view: ChainView) -> None:
        self.told = Told()
        self.failures: list[str] = []
        self.watcher = ChainWatcher(
            source,
            shop.index,
            view,
            self.told,
            clock=VirtualClock(),
            log=RecordingLog(),
            policy=WatchPolicy(lag_patience_s=60),
        )

    async def run(self) -> None:
        while True:
            try:
                await self.watcher.run()
            except* TransientError as group:
                self.failures.append(str(group.exceptions[0]))
            await trio.sleep(0.05)


@asynccontextmanager
async def followed(
    peer: TonPeer, shop: Shop, view: ChainView | None = None, *others: str, **options: Any
) -> AsyncIterator[Followed]:
    async with source_of(*others, peer.url, shop=shop, **options) as source:
        start = view or ChainView((await source.tip(),))
        one = Followed(source, shop, start)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            yield one
            nursery.cancel_scope.cancel()


def disconnected(events: list[ChainEvent]) -> list[ChainEvent]:
    """At a start it is said that no block is above the tip: that is none."""
    return [one for one in events if isinstance(one, BlocksDisconnected) and one.depth]


async def pay_and_mine(peer: TonPeer, wallet: Any, amounts: range) -> None:
    for amount in amounts:
        await away(peer.pay, wallet, COIN_BASE + amount)
        await away(peer.mine)


async def test_payments_are_told_once_in_order_live(peer):
    wallet = await away(peer.wallet, "live")
    shop, since = Shop(wallet.account), await away(peer.height)
    async with followed(peer, shop) as one:
        await pay_and_mine(peer, wallet, range(8))
        await one.told.until(lambda: len(one.told.amounts) == 8)
        last = await away(peer.height)
        await one.told.until(lambda: one.told.heights[-1:] == [last])
    assert one.told.amounts == [COIN_BASE + amount for amount in range(8)]
    assert one.told.heights == list(range(since + 1, last + 1))
    assert not [
        each for each in one.told.events if isinstance(each, BlocksDisconnected) and each.depth
    ]
    in_blocks = {tx.txid for e in one.told.events if isinstance(e, BlockConnected) for tx in e.txs}
    early = {tx.txid for e in one.told.events if isinstance(e, MempoolChanged) for tx in e.added}
    assert early <= in_blocks


async def test_shard_blocks_made_during_a_downtime_are_read_without_a_gap(peer):
    wallet = await away(peer.wallet, "away")
    shop = Shop(wallet.account)
    async with followed(peer, shop) as one:
        await one.told.until(lambda: one.told.beats > 0)
        view = one.watcher.view
    await away(peer.set_shards, 4, blocks=3)
    await pay_and_mine(peer, wallet, range(30))
    await away(peer.set_shards, 2)
    await away(peer.mine, 5)
    last = await away(peer.height)
    async with followed(peer, shop, view) as one:
        await one.told.until(lambda: one.told.heights[-1:] == [last])
    assert one.told.heights == list(range(view.tip.height + 1, last + 1))
    assert one.told.amounts == [COIN_BASE + amount for amount in range(30)]


async def test_an_indexer_that_goes_back_takes_nothing_back(peer):
    wallet = await away(peer.wallet, "lagging")
    shop = Shop(wallet.account)
    async with followed(peer, shop) as one:
        await pay_and_mine(peer, wallet, range(3))
        await one.told.until(lambda: len(one.told.amounts) == 3)
        peer.set(lag_v3=3)
        before = -1
        with trio.fail_after(20):  # what lags says nothing of now, once what was asked has come
            while one.told.beats != before:
                before = one.told.beats
                await trio.sleep(0.5)
        await pay_and_mine(peer, wallet, range(3, 5))
        peer.set(lag_v3=0)
        await one.told.until(lambda: len(one.told.amounts) == 5)
    assert one.told.amounts == [COIN_BASE + amount for amount in range(5)]
    assert not [
        each for each in one.told.events if isinstance(each, BlocksDisconnected) and each.depth
    ]


async def test_servers_that_fail_now_and_then_lose_nothing(peer):
    wallet = await away(peer.wallet, "failing")
    shop, since = Shop(wallet.account), await away(peer.height)
    async with followed(peer, shop) as one:
        for number in range(12):
            await away(peer.pay, wallet, COIN_BASE + number)
            fault = ({"status": 500, "body": "{}"}, {"close": True}, {"status": 200, "body": "?"})
            path = ("transactionsByMasterchainBlock", "blocks")[number % 2]
            await away(peer.fail, path, times=2, **fault[number % 3])
            await away(peer.mine)
            await one.told.until(lambda n=number: len(one.told.amounts) == n + 1)
        last = await away(peer.height)
    assert one.failures
    assert one.told.amounts == [COIN_BASE + number for number in range(12)]
    assert one.told.heights == list(range(since + 1, last + 1))


async def test_a_server_that_restarts_is_followed_on():
    with TonPeer() as peer:
        wallet = await away(peer.wallet, "restarted")
        shop = Shop(wallet.account)
        async with followed(peer, shop) as one:
            await pay_and_mine(peer, wallet, range(2))
            await one.told.until(lambda: len(one.told.amounts) == 2)
            await away(peer.restart)
            await pay_and_mine(peer, wallet, range(2, 4))
            await one.told.until(lambda: len(one.told.amounts) == 4)
    assert one.told.amounts == [COIN_BASE + amount for amount in range(4)]
    assert not [
        each for each in one.told.events if isinstance(each, BlocksDisconnected) and each.depth
    ]


@pytest.mark.parametrize(("first", "second"), [("v3", "v2"), ("v2", "v3"), ("v3", "v3")])
async def test_the_chain_goes_on_at_the_next_server_whatever_it_speaks(first, second):
    quick = PoolPolicy(failures=1, check_every_s=0.1, first_absence_s=60.0)
    with TonPeer(v3=second == "v3") as peer:
        mirror = await away(peer.mirror, v3=first == "v3")
        wallet = await away(peer.wallet, "moved")
        shop, since = Shop(wallet.account), await away(peer.height)
        url = f"http://127.0.0.1:{mirror.port}"
        async with followed(peer, shop, None, url, policy=quick) as one:
            await pay_and_mine(peer, wallet, range(3))
            await one.told.until(lambda: len(one.told.amounts) == 3)
            await away(mirror.fail, status=503, times=1_000_000)
            await pay_and_mine(peer, wallet, range(3, 6))
            await one.told.until(lambda: len(one.told.amounts) == 6)
            last = await away(peer.height)
            await one.told.until(lambda: one.told.heights[-1:] == [last])
    assert one.told.amounts == [COIN_BASE + amount for amount in range(6)]
    assert one.told.heights == list(range(since + 1, last + 1))
