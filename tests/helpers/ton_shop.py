"""A shop that is paid on a TON test peer, and the driver that watches it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

import trio

from actors.core.assets import Asset, Chain
from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex
from actors.ports import Signal
from daemon.drivers.ton import TonSource
from daemon.drivers.ton_cells import read_decimals
from daemon.drivers.ton_rpc import open_ton
from daemon.drivers.ton_wire import stack as stack_of
from tests.helpers.recording_log import RecordingLog
from tests.helpers.ton import TonAddress, TonPeer

T = TypeVar("T")
TON = Chain("ton", "TON", "ton", "TON", 5, 1)
COIN = Asset("TON", "ton", "TON", "Toncoin", 9)
POLL_S = 0.05


async def away(blocking: Callable[..., T], *args: Any, **options: Any) -> T:
    return await trio.to_thread.run_sync(partial(blocking, *args, **options))


def jetton_asset(master: TonAddress, *, exponent: int = 6, name: str = "USDT_TON") -> Asset:
    return Asset(name, "ton", "USDT", "Tether", exponent, contract=master.account)


def decimals_of(peer: TonPeer, master: TonAddress) -> int:
    """What the contract itself says."""
    asked = {"address": master.address, "method": "get_jetton_data", "stack": []}
    _, stack = stack_of(peer.post("/api/v3/runGetMethod", asked))
    told = read_decimals(stack[3][1])
    assert told is not None, "the contract tells"
    return told


class Shop:
    """Destinations of open invoices."""

    def __init__(self, *destinations: bytes) -> None:
        self.index = WatchIndex()
        self.invoices: dict[bytes, UUID] = {}
        for destination in destinations:
            self.open(destination)

    def open(self, destination: bytes) -> None:
        self.invoices[destination] = uuid4()
        self.index.watch(destination, self.invoices[destination])


def commented(account: TonAddress, comment: str) -> bytes:
    """The destination of an invoice that shares its account."""
    return account.account + b"\0" + comment.encode()


@asynccontextmanager
async def source_of(
    *urls: str,
    jettons: tuple[Asset, ...] = (),
    shop: Shop | None = None,
    log: RecordingLog | None = None,
    network: str = "mainnet",
    poll_interval_s: float = POLL_S,
    **pool: Any,
) -> AsyncIterator[TonSource]:
    """A driver of the servers; with `shop` it listens to their stream."""
    log = log or RecordingLog()
    source = TonSource(
        open_ton(urls, setting="coin.ton", log=log, network=network, timeout_s=10, **pool),
        chain=TON,
        assets=(COIN, *jettons),
        log=log,
        poll_interval_s=poll_interval_s,
        open_destinations=shop.invoices.keys if shop else None,
    )
    try:
        yield source
    finally:
        await source.aclose()


async def read(
    source: TonSource, heights: range, shop: Shop
) -> list[tuple[BlockRef, tuple[ChainTx, ...]]]:
    return [each async for each in source.read_blocks(heights, shop.index)]


async def paid(
    source: TonSource, peer: TonPeer, shop: Shop, *, since: int
) -> list[tuple[Any, ...]]:
    """(destination, asset, amount, output index) of all payments above the height `since`."""
    tip = await away(peer.height)
    blocks = await read(source, range(since + 1, tip + 1), shop)
    assert [block.height for block, _ in blocks] == list(range(since + 1, tip + 1))
    return [
        (output.destination, output.asset, output.amount_base, output.outpoint.index)
        for _, txs in blocks
        for tx in txs
        for output in tx.outputs
    ]


async def until(signals: AsyncIterator[Signal], wanted: Callable[[Signal], bool]) -> Signal:
    """The first such signal, within ten seconds."""
    with trio.fail_after(10):
        async for signal in signals:
            if wanted(signal):
                return signal
    raise AssertionError("the signals ended")
