"""A Monero node that lies, truncates or breaks off, beside an honest one: nothing is lost."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
import trio

from actors.chain_watcher import ChainWatcher, WatchPolicy
from actors.core.chain_events import BlockConnected, ChainEvent, MempoolChanged
from actors.core.chain_view import BlockRef, ChainView
from actors.core.watch_index import WatchIndex
from actors.ports import TransientError
from daemon.drivers.endpoint import PoolPolicy
from daemon.drivers.monero import MoneroSource
from daemon.drivers.monero_rpc import open_monero
from daemon.drivers.monero_wire import parse_block
from tests.daemon.drivers.test_monero_source import MONERO, OTHER, US
from tests.helpers import fake_monerod as fakes
from tests.helpers.fake_monerod import FakeMonerod, fake_monerod
from tests.helpers.monero_data import Block, Pays, Tx, block, chain_of, tx
from tests.helpers.recording_log import RecordingLog
from tests.helpers.virtual_clock import VirtualClock

KNOWN, LENGTH = 4, 12
PAID = tx("paid", Pays(OTHER, 1), Pays(US, 5))
POOLED = tx("pooled", Pays(US, 7))


@dataclass(frozen=True)
class Served:
    """A block as the scripted node wants it, with its real id."""

    height: int
    parent: bytes
    blob: bytes
    hash: bytes
    txs: tuple[Tx, ...]


def served(made: Block) -> Served:
    parsed = parse_block(made.blob)
    return Served(parsed.height, parsed.parent, made.blob, parsed.hash, made.txs)


def blocks() -> list[Served]:
    chain = chain_of(KNOWN + 2)
    chain.append(block("paid", len(chain), chain[-1].hash, tx("foreign", Pays(OTHER, 2)), PAID))
    return [served(each) for each in chain_of(LENGTH, start=chain)]


@dataclass
class Shop:
    """Whom the watcher tells."""

    connected: list[BlockRef] = field(default_factory=list)
    paid: list[int] = field(default_factory=list)
    pooled: list[bytes] = field(default_factory=list)
    saved: list[ChainView] = field(default_factory=list)
    is_current: trio.Event = field(default_factory=trio.Event)

    async def tell(self, event: ChainEvent, view: ChainView) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(event, BlockConnected):
            self.connected.append(event.block)
            self.paid += [out.amount_base for each in event.txs for out in each.outputs]
        elif isinstance(event, MempoolChanged):
            self.pooled += [each.txid for each in event.added]

    async def read_up_to(self, as_of_ms: int, view: ChainView) -> None:
        await trio.lowlevel.checkpoint()
        self.is_current.set()

    async def final_up_to(self, height: int, view: ChainView) -> None:
        raise AssertionError("Monero has no finality")

    async def save(self, view: ChainView) -> None:
        await trio.lowlevel.checkpoint()
        self.saved.append(view)

    def pushed(self, latency_s: float) -> None:
        assert latency_s >= 0


def ref(one: Served) -> BlockRef:
    parsed = parse_block(one.blob)
    return BlockRef(one.height, one.hash, one.parent, parsed.timestamp)


def swap_payment(*, to: Tx) -> fakes.Fault:
    """The payment's bytes are another transaction's, in blocks and in the pool."""

    async def fault(request: fakes.Request, body: bytes) -> None:
        whole, other = PAID.blob + PAID.prunable, to.blob + to.prunable
        assert len(whole) == len(other)
        await request.answer(body.replace(whole, other))

    return fault


async def shifted(request: fakes.Request, body: bytes) -> None:
    """Blocks of one height more than asked for."""
    node = FakeMonerod(blocks=blocks()[1:])  # type: ignore[arg-type]
    await request.answer(node._answer(request)[1])


BLOCKS = "/get_blocks_by_height.bin"
FAULTS: dict[str, dict[str, fakes.Fault]] = {
    "blocks broken off": {BLOCKS: fakes.cut},
    "other heights": {BLOCKS: shifted},
    "another payment": {BLOCKS: swap_payment(to=tx("diap", Pays(OTHER, 9), Pays(US, 9)))},
    "a garbled header": {"get_last_block_header": fakes.replaced(b'"hash": "', b'"hash": "zz')},
    "cut hex in the pool": {
        "/get_transactions": fakes.replaced(b'"pruned_as_hex": "02', b'"pruned_as_hex": "0')
    },
    "another pool payment": {
        "/get_transactions": fakes.replaced(POOLED.blob.hex()[-40:].encode(), b"00" * 20)
    },
    "no pool": {"/get_transaction_pool_hashes": fakes.raw(b"{")},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_is_lost_and_another_node_is_tried(fault: str) -> None:
    shop, index, log = Shop(), WatchIndex(), RecordingLog()
    index.watch(US.destination, uuid4())
    chain = blocks()
    async with AsyncExitStack() as stack:
        liar, honest = [
            await stack.enter_async_context(
                fake_monerod(
                    blocks=list(chain),
                    pool={POOLED.txid: POOLED},
                    rpc_version=(3, 14),
                )
            )
            for _ in range(2)
        ]
        liar.faults |= FAULTS[fault]
        source = MoneroSource(
            open_monero(
                [liar.url, honest.url],
                setting="coin.xmr",
                log=log,
                policy=PoolPolicy(failures=1),
            ),
            chain=MONERO,
            view_keys=lambda: [US.view_key],
            log=log,
        )
        stack.push_async_callback(source.aclose)
        start = ChainView((ref(chain[KNOWN - 1]),))
        watcher = ChainWatcher(
            source, index, start, shop, clock=VirtualClock(), log=log, policy=WatchPolicy()
        )
        with trio.fail_after(20):
            failures = await follow(watcher, shop)
    assert failures
    assert all("coin.xmr.daemon.url" in each for each in failures)
    assert "left endpoint" in [line.event for line in log.lines]
    assert shop.connected == [ref(each) for each in chain[KNOWN:]]
    assert shop.paid == [5]
    assert set(shop.pooled) == {POOLED.txid}
    assert watcher.view.tip == ref(chain[-1])


async def follow(watcher: ChainWatcher, shop: Shop) -> list[str]:
    """Run it until it is current, again after each failure; returns these."""
    failures: list[str] = []
    while not shop.is_current.is_set():
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watcher.run)
                await shop.is_current.wait()
                nursery.cancel_scope.cancel()
        except* TransientError as group:
            failures.append(str(group.exceptions))
            assert all(view.tip in shop.connected for view in shop.saved)
    return failures
