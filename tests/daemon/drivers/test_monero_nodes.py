"""The driver on real Monero nodes, with monero-wallet-rpc as the customer."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import trio

from actors.core.assets import Chain
from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef, consecutive
from actors.core.watch_index import WatchIndex
from actors.ports import (
    Heartbeat,
    PersistentError,
    Signal,
    TipMoved,
    TransientError,
    TxArrived,
    TxLeft,
)
from daemon.drivers.endpoint import PoolPolicy
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.monero import MoneroSource
from daemon.drivers.monero_rpc import open_monero
from tests.helpers.monero_address import decode
from tests.helpers.monero_data import destination
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import COIN_BASE, NOBODY, MoneroNode
from tests.helpers.recording_log import RecordingLog
from tests.helpers.tcp_relay import tcp_relay
from tests.nodes.install import find, how_to_install

T = TypeVar("T")
MONERO = Chain("xmr", "Monero", "monero", "XMR", 120, 10, unlock_blocks=10)
AMOUNT = 12_345_678


async def away(blocking: Callable[..., T], *args: Any, **options: Any) -> T:
    return await trio.to_thread.run_sync(partial(blocking, *args, **options))


def plain_url(node: MoneroNode) -> str:
    return f"http://127.0.0.1:{node.rpc_port}"


class Shop:
    """Subaddresses of the paying wallet itself: its change goes to another address."""

    def __init__(self, wallet: MoneroWallet, minors: int = 1) -> None:
        self.wallet = wallet
        self.view_key = wallet.view_key()
        self.addresses = [wallet.address(0, 1 + n) for n in range(minors)]
        self.destinations = [self.destination(address) for address in self.addresses]
        self.index = WatchIndex()
        for each in self.destinations:
            self.index.watch(each, uuid4())

    def destination(self, address: str) -> bytes:
        return destination(decode(address).spend, self.view_key)

    def is_paid(self, amount_base: int = AMOUNT) -> bytes:
        return bytes.fromhex(self.wallet.pay(self.addresses[0], amount_base))


@pytest.fixture
def shop(xmr_wallet: MoneroWallet) -> Shop:
    return Shop(xmr_wallet)


@asynccontextmanager
async def source_of(
    shop: Shop, *urls: str, log: RecordingLog | None = None, zmq: str | None = None, **pool: Any
) -> AsyncIterator[MoneroSource]:
    log = log or RecordingLog()
    source = MoneroSource(
        open_monero(urls, setting="coin.xmr", log=log, timeout_s=20, **pool),
        chain=MONERO,
        view_keys=lambda: [shop.view_key],
        log=log,
        zmq=zmq,
        poll_interval_s=0.2,
    )
    try:
        yield source
    finally:
        await source.aclose()


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


async def read(
    source: MoneroSource, heights: range, index: WatchIndex
) -> list[tuple[BlockRef, tuple[ChainTx, ...]]]:
    return [found async for found in source.read_blocks(heights, index)]


@pytest.fixture(params=["plain", "restricted"])
def url(request: pytest.FixtureRequest, xmr_node: MoneroNode) -> str:
    """Of both ports of one node."""
    return xmr_node.url if request.param == "restricted" else plain_url(xmr_node)


# --- one node -------------------------------------------------------------------------------------


async def test_status(url: str, xmr_node: MoneroNode, shop: Shop) -> None:
    async with source_of(shop, url, zmq=xmr_node.zmq_endpoint) as source:
        status = await source.status()
        assert status.network == "fakechain"
        assert status.genesis.hex() == await away(xmr_node.block_hash, 0)
        assert status.tip == await source.tip()
        assert status.tip.hash.hex() == await away(xmr_node.tip)
        assert status.headers_height == status.tip.height == await away(xmr_node.height)
        assert not status.syncing
        restricted = url == xmr_node.url
        assert status.software.startswith("monerod of" if restricted else "monerod 0.18.")
        assert status.software.endswith("(restricted)") is restricted
        assert "txpool_add" in status.push
        window = await source.window(status.tip, 5)
        assert consecutive(window)
        assert (len(window), window[-1]) == (5, status.tip)
        assert await source.block_at(window[0].height) == window[0]
        assert await source.block_at(status.tip.height + 1) is None


@pytest.mark.parametrize("push", [True, False])
async def test_a_payment_is_seen_and_mined(
    url: str, xmr_node: MoneroNode, xmr_wallet: MoneroWallet, push: bool
) -> None:
    shop = await away(Shop, xmr_wallet, 2)
    zmq = xmr_node.zmq_endpoint if push else None
    async with source_of(shop, url, zmq=zmq) as source, source.signals(shop.index) as signals:
        payouts = [(shop.addresses[0], AMOUNT), (shop.addresses[1], 7), (shop.addresses[0], 8)]
        txid = bytes.fromhex((await away(xmr_wallet.transfer, payouts)).txid)
        arrived = (await until(signals, arrival(txid)))[-1]
        assert isinstance(arrived, TxArrived)
        found = {(o.destination, o.amount_base, o.asset) for o in arrived.tx.outputs}
        assert found == {
            (shop.destinations[0], AMOUNT, "XMR"),
            (shop.destinations[1], 7, "XMR"),
            (shop.destinations[0], 8, "XMR"),
        }
        snapshot = await source.read_mempool(shop.index)
        assert txid in snapshot.txids
        assert [tx.txid for tx in snapshot.txs] == [txid]
        assert (snapshot.txs[0].first_seen_s is None) == (url == xmr_node.url)
        assert not snapshot.contested

        (block_hash,) = await away(xmr_node.mine)
        told = await until(signals, lambda signal: signal == TxLeft(txid))
        assert TipMoved() in told
        tip = await source.tip()
        assert tip.hash.hex() == block_hash
        ((block, (mined,)),) = await read(source, range(tip.height, tip.height + 1), shop.index)
        assert block == tip
        assert mined.outputs == arrived.tx.outputs
        assert mined.spends == arrived.tx.spends
        assert txid not in (await source.read_mempool(shop.index)).txids


async def test_a_coinbase_is_found_and_locked(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet
) -> None:
    shop = await away(Shop, xmr_wallet)
    main = shop.destination(await away(xmr_wallet.address))
    shop.index.watch(main, uuid4())
    await away(xmr_node.mine, 1, await away(xmr_wallet.address))
    async with source_of(shop, plain_url(xmr_node)) as source:
        tip = await source.tip()
        ((_, (found,)),) = await read(source, range(tip.height, tip.height + 1), shop.index)
    (output,) = found.outputs
    assert output.destination == main
    assert output.amount_base > COIN_BASE // 10
    assert output.unlock_height == tip.height + 60 - 1


async def test_a_branch_displaces_a_payment(xmr_node: MoneroNode, shop: Shop) -> None:
    async with source_of(shop, xmr_node.url) as source, source.signals(shop.index) as signals:
        txid = await away(shop.is_paid)
        await until(signals, arrival(txid))
        await away(xmr_node.mine)
        await until(signals, lambda signal: signal == TxLeft(txid))
        old, _ = await away(xmr_node.reorg, 1)
        told = await until(signals, arrival(txid))
        if TipMoved() not in told:
            await until(signals, is_tip)
        tip = await source.tip()
        ((first, nothing), (second, _)) = await read(
            source, range(tip.height - 1, tip.height + 1), shop.index
        )
        assert (nothing, second) == ((), tip)
        assert first.hash.hex() not in old
        await away(xmr_node.mine)


async def test_popped_blocks_are_noticed(xmr_node: MoneroNode, shop: Shop) -> None:
    """The node says nothing of it."""
    zmq = xmr_node.zmq_endpoint
    async with (
        source_of(shop, xmr_node.url, zmq=zmq) as source,
        source.signals(shop.index) as signals,
    ):
        txid = await away(shop.is_paid)
        await until(signals, arrival(txid))
        await away(xmr_node.mine, 2)
        await until(signals, lambda signal: signal == TxLeft(txid))
        height = await away(xmr_node.pop, 2)
        await until(signals, arrival(txid))
        assert (await source.tip()).height == height
        await away(xmr_node.mine, 2)
        await until(signals, lambda signal: signal == TxLeft(txid))


async def test_a_double_spend_is_contested_until_the_block_decides(
    url: str, xmr_node: MoneroNode, xmr_wallet: MoneroWallet, shop: Shop
) -> None:
    ours, rival = [
        await away(xmr_wallet.transfer, {address: AMOUNT}, relay=False)
        for address in (shop.addresses[0], NOBODY)
    ]
    txid, rival_txid = bytes.fromhex(ours.txid), bytes.fromhex(rival.txid)
    images = tuple(map(bytes.fromhex, ours.key_images))
    async with source_of(shop, url) as source, source.signals(shop.index) as signals:
        await away(xmr_wallet.relay, ours)
        (*_, arrived) = await until(signals, arrival(txid))
        assert isinstance(arrived, TxArrived)
        assert set(arrived.tx.spends) == set(images)
        # What the router does with it.
        shop.index.unconfirmed[txid] = {uuid4()}
        shop.index.claim(txid, arrived.tx.spends)
        await away(xmr_node.send_raw, rival.blob_hex)
        await until(signals, lambda signal: signal == TxLeft(txid))
        snapshot = await source.read_mempool(shop.index)
        assert (snapshot.txs, snapshot.contested) == ((), {txid})
        assert txid in snapshot.txids

        await away(xmr_node.flush_pool, ours.txid)
        await away(xmr_wallet.relay, rival)
        (*_, replaced) = await until(signals, arrival(rival_txid))
        assert isinstance(replaced, TxArrived)
        assert replaced.tx.outputs == ()
        assert set(replaced.tx.spends) & set(images)
        snapshot = await source.read_mempool(shop.index)
        assert [tx.txid for tx in snapshot.txs] == [rival_txid]
        assert txid not in snapshot.txids
        assert not snapshot.contested
        await away(xmr_node.mine)
        tip = await source.tip()
        ((_, (mined,)),) = await read(source, range(tip.height, tip.height + 1), shop.index)
        assert mined.txid == rival_txid
    await away(xmr_wallet.refresh)


async def test_what_is_flushed_is_told(xmr_node: MoneroNode, shop: Shop) -> None:
    async with source_of(shop, xmr_node.url) as source, source.signals(shop.index) as signals:
        txid = await away(shop.is_paid)
        await until(signals, arrival(txid))
        await away(xmr_node.flush_pool, txid.hex())
        await until(signals, lambda signal: signal == TxLeft(txid))
        assert txid not in (await source.read_mempool(shop.index)).txids
    await away(shop.wallet.rpc, "rescan_spent")


async def test_a_channel_that_is_cut_costs_only_time(xmr_node: MoneroNode, shop: Shop) -> None:
    log = RecordingLog()
    async with tcp_relay("127.0.0.1", xmr_node.zmq_port) as relay:
        zmq = f"tcp://127.0.0.1:{relay.port}"
        async with (
            source_of(shop, xmr_node.url, zmq=zmq, log=log) as source,
            source.signals(shop.index) as signals,
        ):
            while not source.statistics().is_pushed:
                await until(signals, is_heartbeat)
            relay.cut()
            while source.statistics().is_pushed:
                await until(signals, is_heartbeat)
            await until(signals, arrival(await away(shop.is_paid)))
            relay.mend()
            while not source.statistics().is_pushed:
                await until(signals, is_heartbeat)
            relay.freeze()
            await away(xmr_node.mine)
            await until(signals, is_tip)
    told = [line.event.partition(";")[0] for line in log.lines if "push" in line.event]
    assert told == ["push channel was lost", "push channel works again"]


async def test_many_blocks_are_read_ahead(xmr_node: MoneroNode, shop: Shop) -> None:
    async with source_of(shop, xmr_node.url) as source, source.signals(shop.index):
        tip = await source.tip()
        found = await read(source, range(tip.height + 1), shop.index)
        blocks = [block for block, _ in found]
        assert [block.height for block in blocks] == list(range(tip.height + 1))
        assert consecutive(blocks)
        assert blocks[-1] == tip
        assert await read(source, range(tip.height + 1, tip.height + 9), shop.index) == []


# --- nodes of our own -----------------------------------------------------------------------------


@pytest.fixture
def own_nodes() -> Iterator[tuple[MoneroNode, MoneroNode]]:
    if find("xmr") is None:
        pytest.skip(how_to_install("xmr"))
    with MoneroNode() as one, MoneroNode(zmq=False) as other:
        yield one, other


def copy_blocks(giver: MoneroNode, taker: MoneroNode) -> None:
    for height in range(1, giver.height() + 1):
        blob = giver.block(height)["blob"]
        taker.post("/json_rpc", jsonrpc="2.0", id="0", method="submit_block", params=[blob])
    assert taker.tip() == giver.tip()


async def test_a_node_that_restarts(
    own_nodes: tuple[MoneroNode, MoneroNode], xmr_wallet: MoneroWallet
) -> None:
    shop = await away(Shop, xmr_wallet)
    node, _ = own_nodes
    async with source_of(shop, plain_url(node), zmq=node.zmq_endpoint) as source:
        async with source.signals(shop.index) as signals:
            await until(signals, is_heartbeat)
            await away(node.mine, 3)
            await away(node.stop)
            with pytest.raises(TransientError, match=r"coin\.xmr\.daemon\.url"):
                await until(signals, lambda _: False)
        with pytest.raises(TransientError, match=r"coin\.xmr\.daemon\.url"):
            await source.tip()
        await away(node.start)
        async with source.signals(shop.index) as signals:
            await until(signals, is_heartbeat)
            tip = await source.tip()
            assert tip.height == 3
            assert len(await read(source, range(1, 4), shop.index)) == 3


async def test_another_node_takes_over(
    own_nodes: tuple[MoneroNode, MoneroNode], xmr_wallet: MoneroWallet
) -> None:
    """Two nodes of one network; what one of them says is never continued with the other's."""
    shop = await away(Shop, xmr_wallet)
    first, second = own_nodes
    await away(first.mine, 5)
    await away(copy_blocks, first, second)
    async with source_of(
        shop, plain_url(first), plain_url(second), policy=PoolPolicy(failures=1)
    ) as source:
        async with source.signals(shop.index) as signals:
            await until(signals, is_heartbeat)
            tip = await source.tip()
            await away(first.stop)
            with pytest.raises(TransientError):
                await until(signals, lambda _: False)
        async with source.signals(shop.index) as signals:
            await until(signals, is_heartbeat)
            assert await source.tip() == tip
            await away(second.mine)
            await until(signals, is_tip)
            assert len(await read(source, range(1, 7), shop.index)) == 6


async def test_a_login_that_is_put_right_while_running(
    xmr_wallet: MoneroWallet, own_login_node: MoneroNode
) -> None:
    shop = await away(Shop, xmr_wallet)
    node = own_login_node
    assert node.login is not None
    user, password = node.login
    async with source_of(shop, f"http://{user}:wrong@127.0.0.1:{node.rpc_port}") as source:
        with pytest.raises(PersistentError, match=r"coin\.xmr\.daemon\.(user|pass)"):
            await source.status()
        source.use_logins([Login(user, password)])
        assert (await source.status()).tip.height == 0
        source.use_logins([Login(user, "wrong")])
        with pytest.raises(PersistentError, match=r"coin\.xmr\.daemon\.(user|pass)"):
            await source.tip()


@pytest.fixture
def own_login_node() -> Iterator[MoneroNode]:
    if find("xmr") is None:
        pytest.skip(how_to_install("xmr"))
    with MoneroNode(zmq=False, login=("shop", "a-long-password")) as node:
        yield node
