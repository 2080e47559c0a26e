"""MoneroRpc on real monerods: plain, restricted, with a login, and one that dies under a call."""

import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial

import pytest
import trio

from actors.ports import PersistentError, TransientError
from daemon.drivers.endpoint import PoolPolicy
from daemon.drivers.endpoint_pool import NodePool
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.monero_epee import EpeeError, pack, unpack
from daemon.drivers.monero_http import MoneroHttp
from daemon.drivers.monero_rpc import MoneroProbe, MoneroRpc, RawBlock, open_monero
from daemon.drivers.monero_transfer import MoneroTransfer, Way
from daemon.drivers.monero_wire import parse_block, parse_tx
from tests.helpers import epee
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import COIN_BASE, MoneroNode
from tests.helpers.recording_log import RecordingLog
from tests.nodes.install import find, how_to_install

away = trio.to_thread.run_sync
LOGIN = ("shop", 'pass "word"')


def opened(*urls: str, **options: object) -> MoneroRpc:
    return open_monero(urls, setting="coin.xmr", log=RecordingLog(), **options)  # type: ignore[arg-type]


@pytest.fixture(params=["unrestricted", "restricted"])
def url(request: pytest.FixtureRequest, xmr_node: MoneroNode) -> str:
    """Each of the shared node's two RPC ports in turn."""
    if request.param == "restricted":
        return xmr_node.url
    return f"http://127.0.0.1:{xmr_node.rpc_port}"


@pytest.fixture
async def rpc(url: str) -> AsyncIterator[MoneroRpc]:
    rpc = opened(url)
    yield rpc
    await rpc.aclose()


@pytest.fixture(scope="module")
def paid(xmr_node: MoneroNode, xmr_wallet: MoneroWallet) -> int:
    """The height of a block with three transactions; the tip is 5 above."""
    for _ in range(3):
        xmr_wallet.pay(xmr_wallet.address(0, 1), COIN_BASE // 100)
    xmr_node.mine(6)
    return xmr_node.height() - 5


def check(block: RawBlock, node: MoneroNode, height: int) -> None:
    """The block is the node's, and all its transactions are there with the right ids."""
    parsed = parse_block(block.blob)
    told = node.block(height)
    assert parsed.height == height
    assert parsed.hash.hex() == told["block_header"]["hash"]
    assert [txid.hex() for txid in parsed.txids] == told.get("tx_hashes", [])
    computed = [parse_tx(tx.blob, prunable_hash=tx.prunable_hash).txid for tx in block.txs]
    assert computed == list(parsed.txids)


async def test_status_and_headers(xmr_node: MoneroNode, paid: int, rpc: MoneroRpc) -> None:
    info = await rpc.info()
    tip = await rpc.tip()
    assert (info.tip_height, info.tip_hash) == (tip.height, tip.hash)
    assert (tip.height, tip.hash.hex()) == (xmr_node.height(), xmr_node.tip())
    assert info.network == "fakechain"
    assert info.synchronized
    assert info.target_height == tip.height
    assert (info.version is None) == info.restricted
    assert await rpc.header(tip.height) == tip
    assert await rpc.header(tip.height + 1) is None
    found = await rpc.headers(range(paid, tip.height + 50))
    assert [each.height for each in found] == list(range(paid, tip.height + 1))
    assert found[-1] == tip
    assert await rpc.header_of(found[0].hash) == found[0]
    assert await rpc.headers(range(tip.height + 1, tip.height + 9)) == []
    with pytest.raises(TransientError, match="can't get block by hash"):
        await rpc.header_of(bytes(32))


async def test_a_block_that_was_displaced_is_found_by_its_hash(
    xmr_node: MoneroNode, rpc: MoneroRpc
) -> None:
    old, new = await away(partial(xmr_node.reorg, 1))
    found = await rpc.header_of(bytes.fromhex(old[0]))
    assert found.hash.hex() == old[0]
    now = await rpc.header(found.height)
    assert now is not None
    assert now.hash.hex() == new[0]
    assert now.parent == found.parent


@pytest.mark.parametrize("way", [None, *Way])
async def test_blocks_by_every_way(
    way: Way | None, url: str, xmr_node: MoneroNode, paid: int
) -> None:
    node = MoneroHttp(url, setting="coin.xmr")
    transfer = MoneroTransfer(node)
    transfer._way = way
    for first, count in ((paid, 1), (paid - 1, 4), (0, 3), (xmr_node.height(), 10)):
        blocks = await transfer.blocks(first, count)
        assert len(blocks) == min(count, xmr_node.height() - first + 1)
        for height, block in enumerate(blocks, first):
            check(block, xmr_node, height)
    assert [len(block.txs) for block in await transfer.blocks(paid, 2)] == [3, 0]
    assert await transfer.blocks(xmr_node.height() + 1, 10) == []
    await node.aclose()


async def test_the_pool(xmr_node: MoneroNode, xmr_wallet: MoneroWallet, rpc: MoneroRpc) -> None:
    pay = partial(xmr_wallet.pay, xmr_wallet.address(0, 1), COIN_BASE // 100)
    txids = {bytes.fromhex(await away(pay)) for _ in range(2)}
    try:
        # A transaction that the node holds back is not told by its restricted port.
        assert set(await rpc.pool_txids()) <= txids
        seen = await rpc.pool_txids()
        others = [n.to_bytes(32, "big") for n in range(150)]
        found = await rpc.pool_txs([*others, *seen])
        assert [each.txid for each in found] == seen
        for each in found:
            assert parse_tx(each.blob, prunable_hash=each.prunable_hash).txid == each.txid
            assert not each.double_spend_seen
        info = await rpc.info()
        assert info.pool_size == len(seen)
        if not info.restricted:
            assert set(seen) == txids
            assert all(each.received_s for each in found)
    finally:
        await away(xmr_node.mine)
    assert await rpc.pool_txids() == []
    assert await rpc.pool_txs(list(txids)) == [], "they are in a block now"
    (block,) = await rpc.blocks(xmr_node.height(), max_blocks=1)
    check(block, xmr_node, xmr_node.height())
    assert set(parse_block(block.blob).txids) == txids


async def test_a_double_spend_is_told(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet, rpc: MoneroRpc
) -> None:
    address = xmr_wallet.address(0, 1)
    first, second = [
        await away(partial(xmr_wallet.transfer, {address: COIN_BASE // n}, relay=False))
        for n in (100, 50)
    ]
    assert set(first.key_images) & set(second.key_images), "the wallet chose the same outputs"
    try:
        await away(partial(xmr_wallet.relay, first))
        assert (await away(partial(xmr_node.send_raw, second.blob_hex)))["double_spend"]
        unrestricted = opened(f"http://127.0.0.1:{xmr_node.rpc_port}")
        (told,) = await unrestricted.pool_txs([bytes.fromhex(first.txid)])
        assert told.double_spend_seen
        await unrestricted.aclose()
        assert all(each.double_spend_seen for each in await rpc.pool_txs([told.txid]))
    finally:
        await away(xmr_node.flush_pool)


# --- login ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[MoneroNode]:
    if find("xmr") is None:
        pytest.skip(how_to_install("xmr"))
    with MoneroNode(login=LOGIN, restricted=True, zmq=False) as node:
        node.mine(3)
        yield node


async def test_the_nodes_login(guarded: MoneroNode) -> None:
    for rpc in (
        opened(guarded.url, login=Login(*LOGIN)),
        opened(guarded.url.replace("://", "://shop:pass%20%22word%22@")),
    ):
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(rpc.tip)
        assert len(await rpc.blocks(1, max_blocks=3)) == 3
        assert await rpc.pool_txids() == []
        # One challenge for each connection, and no more.
        assert rpc.statistics().requests <= 35 + rpc.statistics().connections
        await rpc.aclose()
        assert (await rpc.tip()).height == 3, "closed connections are opened again"
        await rpc.aclose()


@pytest.mark.parametrize("login", [None, Login("shop", "guess"), Login("shopper", LOGIN[1])])
async def test_the_wrong_login(login: Login | None, guarded: MoneroNode) -> None:
    rpc = opened(guarded.url, login=login)
    with pytest.raises(PersistentError, match=r"coin\.xmr\.daemon\.user and coin\.xmr\.daemon\."):
        await rpc.tip()
    await rpc.aclose()


# --- several nodes --------------------------------------------------------------------------------


@pytest.fixture
def twins() -> Iterator[tuple[MoneroNode, MoneroNode]]:
    """Two nodes with the same three blocks."""
    if find("xmr") is None:
        pytest.skip(how_to_install("xmr"))
    with MoneroNode(zmq=False) as first, MoneroNode(zmq=False) as second:
        first.mine(3)
        copy_blocks(first, second)
        yield first, second


def copy_blocks(source: MoneroNode, target: MoneroNode) -> None:
    for height in range(target.height() + 1, source.height() + 1):
        blob = source.block(height)["blob"]
        # Its params are a list, which the helper's keywords do not make.
        target.client.post("/json_rpc", jsonrpc="2.0", id="0", method="submit_block", params=[blob])
    assert target.tip() == source.tip()


async def test_the_second_node_takes_over_from_one_killed_under_a_call(
    twins: tuple[MoneroNode, MoneroNode],
) -> None:
    first, second = twins
    log = RecordingLog()
    policy = PoolPolicy(failures=1, first_absence_s=0.0, check_every_s=0.1)
    rpc = open_monero([first.url, second.url], setting="coin.xmr", log=log, policy=policy)
    blocks = await rpc.blocks(1, max_blocks=3)
    assert first.url in rpc.where
    assert first._process is not None
    os.kill(first._process.pid, signal.SIGSTOP)
    caught: list[str] = []

    async def ask() -> None:
        with pytest.raises(TransientError) as error:
            await rpc.blocks(1, max_blocks=3)
        caught.append(str(error.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await away(first.kill)
    assert f"coin.xmr.daemon.url ({first.url})" in caught[0]
    assert await rpc.blocks(1, max_blocks=3) == blocks
    assert second.url in rpc.where
    await away(first.start)
    with trio.fail_after(60), pytest.raises(TransientError, match=f"returned to .*{first.url}"):
        await rpc.watch()
    assert await rpc.blocks(1, max_blocks=3) == blocks
    assert first.url in rpc.where
    await rpc.aclose()


async def test_a_node_behind_is_left(twins: tuple[MoneroNode, MoneroNode]) -> None:
    _, second = twins
    policy = PoolPolicy(lag_blocks=5, lag_s=0.0, check_every_s=0.1)
    clients = [MoneroHttp(node.url, setting="coin.xmr") for node in twins]
    pool = NodePool(clients, probe=MoneroProbe("fakechain"), log=RecordingLog(), policy=policy)
    rpc = MoneroRpc(pool)
    assert (await rpc.tip()).height == 3
    await pool.check()
    assert [each.state for each in rpc.health()] == ["active", "standby"]
    await away(partial(second.mine, 5))
    with trio.fail_after(60), pytest.raises(TransientError, match="5 blocks behind"):
        await rpc.watch()
    assert (await rpc.tip()).height == 8
    await rpc.aclose()


# --- portable storage -----------------------------------------------------------------------------


def real_answers(node: MoneroNode, height: int) -> list[bytes]:
    asked: list[tuple[str, dict[str, object]]] = [
        ("/get_blocks.bin", {"start_height": height, "prune": True}),
        ("/get_blocks.bin", {"start_height": height, "prune": False}),
        ("/get_blocks_by_height.bin", {"heights": [1, height]}),
        ("/get_blocks_by_height.bin", {"heights": [10**9]}),
    ]
    return [node.client.send(path, pack(fields))[1] for path, fields in asked]


def test_real_answers_come_through_unharmed(xmr_node: MoneroNode, paid: int) -> None:
    for answer in real_answers(xmr_node, paid):
        section = unpack(answer)
        assert section == epee.unpack(answer)
        if b"Error" not in section["status"]:
            assert _repacked(section) == section


def _repacked(section: dict[str, object]) -> dict[str, object]:
    return unpack(pack(section))


def test_damaged_real_answers_are_refused_or_read_and_nothing_else(
    xmr_node: MoneroNode, paid: int
) -> None:
    dice = random.Random(4)
    for answer in real_answers(xmr_node, paid):
        for _ in range(300):
            damaged = bytearray(answer)
            for _ in range(dice.randint(1, 4)):
                damaged[dice.randrange(9, len(damaged))] = dice.randrange(256)
            for each in (bytes(damaged), answer[: dice.randrange(len(answer))]):
                with suppress(EpeeError):
                    unpack(each)
