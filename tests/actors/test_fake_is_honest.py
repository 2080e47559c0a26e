"""The fake chain and a real node tell the same story: one script, one watcher, both worlds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from actors.core.chain_events import BlockConnected, BlocksDisconnected, ChainEvent, MempoolChanged
from actors.core.chain_view import ChainView
from actors.core.events import Terms
from actors.ports import ChainSource
from daemon.drivers.bitcoin import BitcoinSource
from daemon.drivers.jsonrpc import JsonRpcClient, Login
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.fake_chain import FakeChain, FakeTx
from tests.helpers.recording_log import RecordingLog
from tests.helpers.virtual_clock import VirtualClock
from tests.helpers.watched_chain import WatchedChain

AMOUNT = 12_345
Verb = tuple[Any, ...]


class Ear:
    """Hears what the watcher tells; transactions are numbered as they are first heard of."""

    def __init__(self, it: WatchedChain) -> None:
        self.verbs: list[Verb] = []
        self._numbers: dict[bytes, int] = {}
        self._news = trio.Event()
        self._tell = it.supervisor.tell
        it.supervisor.tell = self.tell
        self.current = trio.Event()
        """The watcher knows all that its node does."""
        self._read_up_to = it.supervisor.read_up_to
        it.supervisor.read_up_to = self.read_up_to

    async def read_up_to(self, as_of_ms: int, view: ChainView) -> None:
        await self._read_up_to(as_of_ms, view)
        self.current.set()

    async def tell(self, event: ChainEvent, view: ChainView) -> None:
        await self._tell(event, view)
        verb = self._verb(event)
        # A mempool may be told again at any time: that is no news.
        if verb and (verb[0] != "mempool" or verb not in self.verbs):
            self.verbs.append(verb)
        self._news.set()
        self._news = trio.Event()

    async def until(self, heard: Callable[[], bool]) -> None:
        with trio.fail_after(30):
            while not heard():
                await self._news.wait()

    def _verb(self, event: ChainEvent) -> Verb | None:
        match event:
            case BlockConnected():
                return ("connected", *(self._pays(tx) for tx in event.txs))
            case BlocksDisconnected() if event.depth:  # at a start it says that there is none
                return ("disconnected", event.depth)
            case MempoolChanged():
                added = tuple(self._pays(tx) for tx in event.added)
                removed = tuple((self._number(tx.txid), tx.reason) for tx in event.removed)
                return ("mempool", added, removed) if added or removed else None

    def _pays(self, tx) -> tuple[int, tuple[int, ...]]:
        return self._number(tx.txid), tuple(out.amount_base for out in tx.outputs)

    def _number(self, txid: bytes) -> int:
        return self._numbers.setdefault(txid, len(self._numbers) + 1)


async def story_of_the_fake(it: WatchedChain, ear: Ear, terms: Terms) -> None:
    node = it.node

    async def heard(count: int) -> None:
        await ear.until(lambda: len(ear.verbs) >= count)

    tx: FakeTx = node.pay(terms.destination, AMOUNT)
    await heard(1)
    bump = node.pay(terms.destination, AMOUNT, replaces=tx)
    await heard(2)
    node.mine(bump)
    await heard(3)
    node.reorg(1)
    await heard(6)
    node.mine(bump)
    await heard(7)
    node.mine_empty()
    await heard(8)


async def story_of_the_real(node: BitcoinNode, address: str, ear: Ear) -> None:
    async def after(count: int, act: Callable[..., Any], *args: Any) -> Any:
        done = await trio.to_thread.run_sync(partial(act, *args))
        await ear.until(lambda: len(ear.verbs) >= count)
        return done

    txid = await after(1, node.pay, address, AMOUNT)
    await after(2, node.replace, txid)
    await after(3, node.mine)
    await after(6, node.reorg, 1)
    await after(7, node.mine)
    await after(8, node.mine_empty)


async def play(source: ChainSource | None, destination: bytes, story) -> tuple[list[Verb], list]:
    """Follow one invoice through the story; the verbs told and the facts recorded."""
    clock = VirtualClock()
    fake = FakeChain(clock=clock, height=30, heartbeat_s=0.05)
    async with trio.open_nursery() as nursery:
        it = WatchedChain(nursery, clock=clock, node=fake, source=source)
        await it.start()
        ear = Ear(it)
        with trio.fail_after(30):
            await ear.current.wait()
        terms = await it.create(AMOUNT, destination=destination)
        await story(it, ear, terms)
        kinds = await it.kinds(terms)
        await it.stop()
    await it.check()
    return ear.verbs, kinds


async def test_a_real_node_and_the_fake_tell_the_same_story(btc_node: BitcoinNode):
    address = await trio.to_thread.run_sync(btc_node.new_address)
    info = await trio.to_thread.run_sync(btc_node.rpc, "getaddressinfo", address)
    source = BitcoinSource(
        JsonRpcClient(
            btc_node.url, setting="coin.btc", login=Login(btc_node.user, btc_node.password)
        ),
        chain="btc",
        asset="BTC",
        log=RecordingLog(),
    )
    try:
        real = await play(
            source,
            bytes.fromhex(info["scriptPubKey"]),
            lambda it, ear, terms: story_of_the_real(btc_node, address, ear),
        )
    finally:
        await source.aclose()
    fake = await play(None, b"script", story_of_the_fake)
    assert fake == real
    assert real[1] == [
        "invoice.created",
        "payment.seen",
        "invoice.covered",
        "payment.seen",
        "payment.displaced",
        "payment.included",
        "payment.disconnected",
        "payment.included",
        "invoice.settled",
    ]
