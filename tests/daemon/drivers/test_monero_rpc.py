"""MoneroRpc against a scripted node: what it asks, and what faults and lies come to."""

import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trustme

from actors.ports import PersistentError, TransientError
from daemon.drivers.endpoint import DistrustError, PoolPolicy
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.jsonrpc_words import AnswerTooLargeError, RpcError
from daemon.drivers.monero_http import MoneroHttp
from daemon.drivers.monero_rpc import MoneroRpc, RawBlock, RawTx, open_monero
from daemon.drivers.monero_wire import parse_block
from tests.helpers.fake_monerod import (
    NO_HASH,
    Block,
    DigestGate,
    FakeMonerod,
    Fault,
    Tx,
    answer_with,
    cut,
    fake_monerod,
    old_tx,
    once,
    raw,
    rct_tx,
    replaced,
    says,
    status,
)
from tests.helpers.http_node import Request, http_node
from tests.helpers.ports import free_port
from tests.helpers.recording_log import RecordingLog


class Opened:
    """A MoneroRpc on fakes, with its log."""

    def __init__(self, *nodes: FakeMonerod | str, **options: object) -> None:
        urls = [each if isinstance(each, str) else each.url for each in nodes]
        self.log = RecordingLog()
        self.rpc: MoneroRpc = open_monero(urls, setting="coin.xmr", log=self.log, **options)

    @property
    def states(self) -> list[str]:
        return [each.state for each in self.rpc.health()]


Opening = Callable[..., Opened]


@pytest.fixture
async def opening() -> AsyncIterator[Opening]:
    """Opened, but closed after the test."""
    made: list[Opened] = []

    def open_one(*nodes: FakeMonerod | str, **options: object) -> Opened:
        made.append(Opened(*nodes, **options))
        return made[-1]

    yield open_one
    for each in made:
        await each.rpc.aclose()


def whole(block: Block) -> RawBlock:
    return RawBlock(block.blob, tuple(RawTx(tx.pruned + tx.prunable, None) for tx in block.txs))


def pruned(block: Block) -> RawBlock:
    return RawBlock(block.blob, tuple(RawTx(tx.pruned, tx.prunable_hash) for tx in block.txs))


# --- answers --------------------------------------------------------------------------------------


async def test_the_nodes_standing(opening: Opening) -> None:
    async with fake_monerod() as node:
        rpc = opening(node).rpc
        info = await rpc.info()
        assert info.tip_height == info.target_height == 9
        assert info.tip_hash == node.blocks[-1].hash
        assert info.network == "fakechain"
        assert info.version == "0.18.4.0-fake"
        assert (info.restricted, info.synchronized, info.pool_size) == (False, True, 0)
        assert rpc.where == f"coin.xmr.daemon.url ({node.url})"
        assert rpc.setting == "coin.xmr"
        node.is_restricted = True
        node.faults["get_info"] = says(target_height=100, synchronized=False)
        info = await rpc.info()
        assert (info.target_height, info.version) == (99, None)
        assert (info.restricted, info.synchronized) == (True, False)
        await rpc.aclose()
        assert rpc.statistics().connections == 0


async def test_headers(opening: Opening) -> None:
    async with fake_monerod() as node:
        rpc = opening(node).rpc
        tip = await rpc.tip()
        assert (tip.height, tip.hash, tip.parent) == (9, node.blocks[9].hash, node.blocks[8].hash)
        assert tip.time_s == 1_700_000_009
        assert await rpc.header(9) == tip
        assert await rpc.header(10) is None
        assert await rpc.header_of(tip.hash) == tip
        assert await rpc.headers(range(9, 10)) == [tip]
        assert [each.height for each in await rpc.headers(range(4, 50))] == [4, 5, 6, 7, 8, 9]
        assert await rpc.headers(range(10, 20)) == []
        assert await rpc.headers(range(5, 5)) == []
        with pytest.raises(RpcError, match="can't get block by hash"):
            await rpc.header_of(NO_HASH)


async def test_many_headers_of_a_restricted_node(opening: Opening) -> None:
    async with fake_monerod(is_restricted=True) as node:
        node.extend(*[()] * 2500)
        found = await opening(node).rpc.headers(range(2509))
    assert [each.hash for each in found] == [block.hash for block in node.blocks[:2509]]
    assert node.asked.count("get_block_headers_range") == 3


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ((3, 14), "/get_blocks_by_height.bin"),
        ((3, 16), "/get_blocks.bin"),
        ((3, 18), "/get_blocks.bin"),
        ((4, 0), "/get_blocks.bin"),
    ],
)
async def test_blocks_come_the_best_way_of_the_nodes_version(
    opening: Opening, version: tuple[int, int], path: str
) -> None:
    async with fake_monerod(rpc_version=version) as node:
        rpc = opening(node).rpc
        blocks = await rpc.blocks(6, max_blocks=3)
        form = pruned if version >= (3, 18) else whole
        assert blocks == [form(block) for block in node.blocks[6:9]]
        assert await rpc.blocks(9, max_blocks=1) == [form(node.blocks[9])]
        assert node.asked == ["get_info", "get_version", path, path]
        assert await rpc.blocks(0, max_blocks=8) == [whole(block) for block in node.blocks[:8]]
        assert await rpc.blocks(8, max_blocks=5) in (
            [form(block) for block in node.blocks[8:]],
            [pruned(block) for block in node.blocks[8:]],
        )
        assert await rpc.blocks(10, max_blocks=5) == []


@pytest.mark.parametrize("version", [(3, 14), (3, 16), (3, 18)])
async def test_blocks_of_a_pruned_node(opening: Opening, version: tuple[int, int]) -> None:
    async with fake_monerod(rpc_version=version, is_pruned=True) as node:
        blocks = await opening(node).rpc.blocks(6, max_blocks=4)
        assert blocks == [pruned(block) for block in node.blocks[6:]]


@pytest.mark.parametrize("version", [(3, 14), (3, 16), (3, 18)])
async def test_what_a_pruned_node_has_lost_is_told(
    opening: Opening, version: tuple[int, int]
) -> None:
    async with fake_monerod(rpc_version=version, is_pruned=True) as node:
        node.extend((rct_tx("d"), old_tx("e")))
        with pytest.raises(PersistentError, match=r"pruned transactions of block 10.*--prune-b"):
            await opening(node).rpc.blocks(10, max_blocks=1)


@pytest.mark.parametrize("version", [(3, 14), (3, 16), (3, 18)])
async def test_old_transactions_come_whole(opening: Opening, version: tuple[int, int]) -> None:
    async with fake_monerod(rpc_version=version) as node:
        node.extend((rct_tx("d"), old_tx("e")))
        (block,) = await opening(node).rpc.blocks(10, max_blocks=1)
        assert block == whole(node.blocks[10])


@pytest.mark.parametrize("version", [(3, 14), (3, 16), (3, 18)])
async def test_a_node_that_fails_inside_is_asked_another_way(
    version: tuple[int, int], opening: Opening
) -> None:
    """As one that has pruned what get_blocks.bin needs."""
    async with fake_monerod(rpc_version=version) as node:
        failing = raw(b"", status=500)
        node.faults |= dict.fromkeys(("/get_blocks.bin", "/get_blocks_by_height.bin"), failing)
        rpc = opening(node).rpc
        assert await rpc.blocks(7, max_blocks=2) == [pruned(b) for b in node.blocks[7:9]]
        node.faults.clear()
        assert await rpc.blocks(7, max_blocks=1)
        assert node.asked[-1].endswith(".bin"), "it is given another chance"


@pytest.mark.parametrize("hidden", [403, 404, 405])
async def test_a_node_whose_binary_endpoints_a_proxy_hides(hidden: int, opening: Opening) -> None:
    async with fake_monerod() as node:
        node.extend((*map(rct_tx, map(str, range(250))), old_tx("e")))
        node.faults["/get_blocks_by_height.bin"] = raw(b"no", status=hidden)
        rpc = opening(node).rpc
        assert await rpc.blocks(7, max_blocks=2) == [pruned(b) for b in node.blocks[7:9]]
        (block,) = await rpc.blocks(10, max_blocks=1)
        assert block.txs[:250] == pruned(node.blocks[10]).txs[:250]
        assert block.txs[250] == whole(node.blocks[10]).txs[250]
        assert sum(name.endswith(".bin") for name in node.asked) == 1
        assert len(await rpc.blocks(0, max_blocks=1000)) == 10, "as many as it can at once"


async def test_the_pool(opening: Opening) -> None:
    async with fake_monerod(is_restricted=True) as node:
        rpc = opening(node).rpc
        assert await rpc.pool_txids() == []
        txs = [rct_tx(f"p{n}") for n in range(230)]
        txs.append(old_tx("old"))
        node.pool = {tx.txid: tx for tx in txs}
        node.contested = {txs[1].txid}
        assert await rpc.pool_txids() == [tx.txid for tx in txs]
        mined, gone = node.blocks[7].txs[0].txid, bytes(32)
        asked = [gone, mined, *node.pool]
        found = await rpc.pool_txs(asked + asked)
        assert [each.txid for each in found] == [tx.txid for tx in txs]
        assert found[0][1:] == (txs[0].pruned, txs[0].prunable_hash, False, None)
        assert found[1].double_spend_seen
        assert found[230][1:3] == (txs[230].pruned + txs[230].prunable, None)
        assert node.asked.count("/get_transactions") == 4, "three, and one for the old ones"
        node.is_restricted = False
        assert (await rpc.pool_txs([txs[0].txid]))[0].received_s == 1_700_000_000
        assert await rpc.pool_txs([]) == []


async def test_connections_are_kept_and_few(opening: Opening) -> None:
    async with fake_monerod() as node:
        rpc = opening(node).rpc
        for _ in range(5):
            await rpc.tip()
        assert len(node.connections) == 1
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(rpc.tip)
        assert len(node.connections) <= 3
        assert rpc.statistics().connections <= 3
        assert rpc.statistics().requests == 26


async def test_a_url_with_a_path_and_a_query(opening: Opening) -> None:
    async with fake_monerod() as node:
        targets: list[str] = []

        async def proxy(request: Request) -> object:
            targets.append(request.target)
            request.target = "/" + request.target.split("/")[-1].split("?")[0]
            return await node.behave(request)

        async with http_node(proxy) as server:
            rpc = opening(f"{server.url}/my/node/json_rpc?apikey=verysecretkey").rpc
            await rpc.tip()
            await rpc.pool_txids()
            assert "verysecretkey" not in rpc.where
    assert set(targets) == {
        "/my/node/json_rpc?apikey=verysecretkey",
        "/my/node/get_transaction_pool_hashes?apikey=verysecretkey",
    }


# --- faults ---------------------------------------------------------------------------------------

Ask = Callable[[MoneroRpc], Awaitable[object]]
TXID = rct_tx("p").txid


def ask_info(rpc: MoneroRpc) -> Awaitable[object]:
    return rpc.info()


def ask_header(rpc: MoneroRpc) -> Awaitable[object]:
    return rpc.header(7)


def ask_headers(rpc: MoneroRpc) -> Awaitable[object]:
    return rpc.headers(range(6, 10))


def ask_blocks(rpc: MoneroRpc) -> Awaitable[object]:
    return rpc.blocks(7, max_blocks=3)


def ask_txids(rpc: MoneroRpc) -> Awaitable[object]:
    return rpc.pool_txids()


def ask_txs(rpc: MoneroRpc) -> Awaitable[object]:
    return rpc.pool_txs([TXID])


QUESTIONS: list[tuple[str, Ask]] = [
    ("get_info", ask_info),
    ("get_block_header_by_height", ask_header),
    ("get_block_headers_range", ask_headers),
    ("/get_blocks_by_height.bin", ask_blocks),
    ("/get_transaction_pool_hashes", ask_txids),
    ("/get_transactions", ask_txs),
]
_h = [Block(0, NO_HASH)]


async def refused(node: FakeMonerod, name: str, fault: Fault, ask: Ask) -> Exception:
    """The error that the fault comes to; afterwards the node answers again."""
    node.pool[TXID] = rct_tx("p")
    opened = Opened(node)
    honest = await ask(opened.rpc)
    node.faults[name] = fault
    with pytest.raises((TransientError, PersistentError)) as caught:
        await ask(opened.rpc)
    node.faults.clear()
    assert await ask(opened.rpc) == honest, "a fault does not outlive its call"
    assert f"coin.xmr.daemon.url ({node.url})" in str(caught.value)
    await opened.rpc.aclose()
    return caught.value


@pytest.mark.parametrize(("name", "ask"), QUESTIONS)
@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (status("BUSY"), TransientError, "still synchronising"),
        (raw(b""), DistrustError, "answered garbage"),
        (raw(b"<html>"), DistrustError, "answered garbage"),
        (raw(b"[]"), DistrustError, "answered garbage"),
        (raw(b"{}"), DistrustError, "answered garbage"),
        (raw(b'{"result":{}}'), DistrustError, "answered garbage"),
        (raw(b"\xff\xfe"), DistrustError, "answered garbage"),
        (raw(b"oops", status=500), TransientError, "HTTP 500"),
        (raw(b"oops", status=503), TransientError, "too busy"),
        (cut, TransientError, "answered garbage|closed the connection"),
    ],
)
async def test_a_fault_is_told_and_nothing_handed_out(
    name: str, ask: Ask, fault: Fault, kind: type[Exception], text: str
) -> None:
    async with fake_monerod() as node:
        if name.endswith(".bin"):
            # Else it would be asked another way.
            node.faults["get_block"] = raw(b"oops", status=500)
        error = await refused(node, name, fault, ask)
    assert isinstance(error, kind)
    assert any(part in str(error) for part in text.split("|"))


@pytest.mark.parametrize(("name", "ask"), [each for each in QUESTIONS if "blocks" not in each[0]])
async def test_a_node_that_does_not_let_us_in(name: str, ask: Ask) -> None:
    async with fake_monerod() as node:
        error = await refused(node, name, raw(b"oops", status=403), ask)
    assert isinstance(error, PersistentError)
    assert "refuses us (HTTP 403)" in str(error)


@pytest.mark.parametrize(("name", "ask"), [each for each in QUESTIONS if "blocks" not in each[0]])
async def test_a_status_that_is_not_ok_is_a_refusal(name: str, ask: Ask) -> None:
    async with fake_monerod() as node:
        error = await refused(node, name, status("Failed, whatever"), ask)
    assert isinstance(error, RpcError)
    assert "Failed, whatever" in str(error)


HEIGHT_7 = b'"height": 7'


@pytest.mark.parametrize(
    ("name", "ask", "fault"),
    [
        ("get_info", ask_info, says(height=0)),
        ("get_info", ask_info, says(height=-1)),
        ("get_info", ask_info, says(height="10")),
        ("get_info", ask_info, says(nettype="moonnet")),
        ("get_info", ask_info, says(top_block_hash="ab" * 31)),
        ("get_info", ask_info, says(top_block_hash="ab" * 31 + "a")),
        ("get_info", ask_info, says(synchronized=1)),
        ("get_block_header_by_height", ask_header, replaced(HEIGHT_7, b'"height": 8')),
        ("get_block_header_by_height", ask_header, replaced(HEIGHT_7, b'"height": -7')),
        ("get_block_header_by_height", ask_header, replaced(HEIGHT_7, b'"height": true')),
        ("get_block_header_by_height", ask_header, replaced(b'"hash": "', b'"hash": "00')),
        ("get_block_header_by_height", ask_header, says(block_header=None)),
        ("get_block_headers_range", ask_headers, replaced(HEIGHT_7, b'"height": 6')),
        ("get_block_headers_range", ask_headers, says(headers=[])),
        ("get_block_headers_range", ask_headers, says(headers=5)),
        ("get_block_headers_range", ask_headers, says(headers=[5, 6, 7, 8])),
        ("/get_transaction_pool_hashes", ask_txids, says(tx_hashes=["ab"])),
        ("/get_transaction_pool_hashes", ask_txids, says(tx_hashes=[5])),
        ("/get_transactions", ask_txs, says(txs=[{"tx_hash": "ab" * 32}])),
        ("/get_transactions", ask_txs, replaced(b'"pruned_as_hex": "', b'"pruned_as_hex": "0')),
        ("/get_transactions", ask_txs, replaced(b'"prunable_hash": "', b'"prunable_hash": "00')),
        ("/get_transactions", ask_txs, replaced(b'"in_pool": true', b'"in_pool": 1')),
        ("/get_transactions", ask_txs, replaced(b"double_spend_seen", b"double_spend_sean")),
    ],
)
async def test_a_lie_or_a_truncation_makes_the_node_distrusted(
    name: str, ask: Ask, fault: Fault
) -> None:
    async with fake_monerod() as node:
        assert isinstance(await refused(node, name, fault, ask), DistrustError)


async def test_two_answers_for_one_transaction_are_a_lie() -> None:
    async with fake_monerod() as node:
        node.pool[TXID] = rct_tx("p")
        entry = {"tx_hash": TXID.hex(), "pruned_as_hex": "02", "prunable_hash": "11" * 32}
        error = await refused(node, "/get_transactions", says(txs=[entry, entry]), ask_txs)
    assert "nobody asked for" in str(error)


async def test_headers_that_do_not_hang_together_are_no_answer() -> None:
    async with fake_monerod() as node:
        parent = node.blocks[7].hash.hex().encode()
        fault = replaced(b'"prev_hash": "' + parent, b'"prev_hash": "' + b"ee" * 32)
        error = await refused(node, "get_block_headers_range", fault, ask_headers)
    assert "its chain changed meanwhile" in str(error)


@pytest.mark.parametrize("version", [(3, 14), (3, 16), (3, 18)])
async def test_lies_in_blocks(version: tuple[int, int]) -> None:
    async with fake_monerod(rpc_version=version) as node:
        path = "/get_blocks_by_height.bin" if version == (3, 14) else "/get_blocks.bin"
        lies = [
            raw(b"\x01\x11\x01\x01\x01\x01\x02\x01\x01\x04\x06status\x0a\x08OK"),
            replaced(b"\x05block\x0a", b"\x05blocc\x0a"),
            replaced(b"blocks\x8c", b"blocks\x8d"),
        ]
        if version != (3, 14):
            lies.append(replaced(b"start_height\x05\x07", b"start_height\x05\x08"))
        if version == (3, 18):
            lies.append(replaced(b"prunable_hash", b"prunable_hush"))
        for lie in lies:
            assert isinstance(await refused(node, path, lie, ask_blocks), DistrustError)


async def test_a_block_too_few_is_a_lie(opening: Opening) -> None:
    async with fake_monerod() as node:
        short: list[bytes] = []

        async def keep(request: Request, body: bytes) -> None:
            short.append(body)
            await request.answer(body)

        node.faults["/get_blocks_by_height.bin"] = keep
        await opening(node).rpc.blocks(8, max_blocks=1)
        fault = raw(short[0])
        error = await refused(node, "/get_blocks_by_height.bin", fault, ask_blocks)
    assert "1 blocks instead of 3" in str(error)


async def test_an_answer_over_the_limit() -> None:
    async with fake_monerod() as node:
        client = MoneroHttp(node.url, setting="coin.xmr", max_answer_bytes=1000)
        with pytest.raises(AnswerTooLargeError, match=r"coin\.xmr\.daemon\.url"):
            await client.rpc("get_block_headers_range", {"start_height": 0, "end_height": 9})
        assert (await client.rpc("get_version"))["version"] > 0
        await client.aclose()


async def test_a_node_that_does_not_answer_in_time(
    opening: Opening, autojump_clock: trio.testing.MockClock
) -> None:
    async def silent(request: Request, body: bytes) -> None:
        await trio.sleep(100)

    async with fake_monerod() as node:
        rpc = opening(node, timeout_s=5.0).rpc
        await rpc.tip()
        node.faults["get_last_block_header"] = once(silent)
        with pytest.raises(TransientError, match=r"did not answer within 5 s.*rpc_timeout_s"):
            await rpc.tip()
        assert (await rpc.tip()).height == 9


async def test_nobody_there(opening: Opening) -> None:
    rpc = opening(f"http://127.0.0.1:{free_port()}").rpc
    with pytest.raises(TransientError, match="cannot be reached: Connection refused"):
        await rpc.tip()


@pytest.mark.parametrize("url", ["", "127.0.0.1:18081", "ftp://x"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:18081"):
        Opened(url)


# --- several nodes --------------------------------------------------------------------------------


async def test_the_next_node_answers_after_a_lie_and_watch_says_so(opening: Opening) -> None:
    async with fake_monerod() as a, fake_monerod() as b:
        opened = opening(a, b)
        rpc = opened.rpc
        assert len(await rpc.blocks(7, max_blocks=3)) == 3
        a.faults["/get_blocks_by_height.bin"] = raw(b"\x01\x11")
        with pytest.raises(DistrustError):
            await rpc.blocks(7, max_blocks=3)
        assert opened.states[0] == "left"
        assert len(await rpc.blocks(7, max_blocks=3)) == 3
        assert opened.states == ["left", "active"]
        assert rpc.where == f"coin.xmr.daemon.url ({b.url})"


async def test_what_the_caller_finds_untrue_makes_it_leave_too(opening: Opening) -> None:
    async with fake_monerod() as a, fake_monerod() as b:
        opened = opening(a, b)
        await opened.rpc.tip()
        error = opened.rpc.distrust("gave block 5 in a form that is none")
        assert isinstance(error, TransientError)
        assert f"coin.xmr.daemon.url ({a.url}) gave block 5" in str(error)
        await opened.rpc.tip()
        assert opened.states == ["left", "active"]
        reason = opened.rpc.health()[0].reason
        assert reason is not None
        assert "gave block 5" in reason


async def test_watch_ends_when_the_active_node_is_left(opening: Opening) -> None:
    async with fake_monerod() as a, fake_monerod() as b:
        opened = opening(a, b)
        await opened.rpc.tip()
        ended: list[str] = []

        async def watch(task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            with pytest.raises(TransientError) as caught:
                await opened.rpc.watch()
            ended.append(str(caught.value))

        async with trio.open_nursery() as nursery:
            await nursery.start(watch)
            await trio.testing.wait_all_tasks_blocked()
            opened.rpc.distrust("lies")
    assert "left" in ended[0]
    assert "lies" in ended[0]


async def test_one_that_breaks_off_large_answers_is_left_though_small_ones_come(
    opening: Opening, autojump_clock: trio.testing.MockClock
) -> None:
    async with fake_monerod() as a, fake_monerod() as b:
        opened = opening(a, b, policy=PoolPolicy(failures=3))
        await opened.rpc.tip()
        a.faults["/get_blocks_by_height.bin"] = cut
        fails = 0
        while opened.rpc.health()[0].state == "active":
            with pytest.raises(TransientError):
                await opened.rpc.blocks(7, max_blocks=3)
            assert (await opened.rpc.info()).tip_height == 9
            fails += 1
            assert fails < 4
            # Failures at the same moment count as one.
            await trio.sleep(0.6)
        assert len(await opened.rpc.blocks(7, max_blocks=3)) == 3


async def test_all_nodes_must_be_of_one_network(opening: Opening) -> None:
    async with fake_monerod() as a, fake_monerod(network="stagenet") as b:
        opened = opening(a, b)
        await opened.rpc.tip()
        a.faults["get_last_block_header"] = raw(b"no", status=401)
        with pytest.raises(PersistentError):
            await opened.rpc.tip()
        # The other chain is never asked; the one that failed is the last resort.
        with pytest.raises(PersistentError):
            await opened.rpc.tip()
        reasons = [each.reason for each in opened.rpc.health()]
        assert reasons[1] == "its network is stagenet, not fakechain"
        assert "get_last_block_header" not in b.asked


async def test_the_network_may_be_told(opening: Opening) -> None:
    async with fake_monerod() as node:
        rpc = opening(node, network="mainnet").rpc
        with pytest.raises(PersistentError, match=r"its network is fakechain, not mainnet\. Corr"):
            await rpc.tip()
        assert node.asked == ["get_info"]


async def test_one_on_a_fork_is_outvoted(opening: Opening) -> None:
    async with fake_monerod() as a, fake_monerod() as b, fake_monerod() as c:
        for node in (b, c):
            node.blocks = [Block(0, b"\x01" * 32)]
            node.extend(*[()] * 9)
        opened = opening(a, b, c, policy=PoolPolicy(fork_depth=2, check_every_s=0.01))
        assert (await opened.rpc.tip()).hash == a.blocks[-1].hash
        with pytest.raises(TransientError, match="it is on a fork: its block 7"):
            await opened.rpc.watch()
        assert (await opened.rpc.tip()).hash == b.blocks[-1].hash


async def test_a_busy_one_is_left_for_another(opening: Opening) -> None:
    async with fake_monerod() as a, fake_monerod() as b:
        opened = opening(a, b, policy=PoolPolicy(failures=1))
        await opened.rpc.tip()
        a.faults["get_last_block_header"] = status("BUSY")
        with pytest.raises(TransientError, match="still synchronising"):
            await opened.rpc.tip()
        assert (await opened.rpc.tip()).height == 9
        assert opened.states == ["left", "active"]


# --- login ----------------------------------------------------------------------------------------

LOGIN = Login("user", "pass word")


@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess"])
async def test_a_login_costs_one_challenge_for_each_connection(
    opening: Opening, algorithm: str
) -> None:
    gate = DigestGate("user", "pass word", algorithm=algorithm, opaque="o p")
    async with fake_monerod(digest=gate) as node:
        rpc = opening(node, login=LOGIN).rpc
        for _ in range(20):
            await rpc.tip()
        await rpc.blocks(7, max_blocks=2)
        assert gate.challenges == 1


@pytest.mark.parametrize("says_stale", [True, False])
async def test_a_nonce_that_is_over_is_renewed(opening: Opening, says_stale: bool) -> None:
    gate = DigestGate("user", "pass word", uses=3, says_stale=says_stale)
    async with fake_monerod(digest=gate) as node:
        rpc = opening(node, login=LOGIN).rpc
        for _ in range(10):
            await rpc.tip()
        assert gate.challenges == 4


async def test_a_login_survives_a_lost_connection(opening: Opening) -> None:
    gate = DigestGate("user", "pass word")
    async with fake_monerod(digest=gate) as node:
        rpc = opening(node, login=LOGIN).rpc
        await rpc.tip()
        node.faults["get_last_block_header"] = once(cut)
        with pytest.raises(TransientError):
            await rpc.tip()
        assert (await rpc.tip()).height == 9
        assert gate.challenges == 2


@pytest.mark.parametrize("login", [None, Login("user", "guessed it"), Login("guest", "pass word")])
async def test_a_login_that_is_refused(opening: Opening, login: Login | None) -> None:
    gate = DigestGate("user", "pass word")
    async with fake_monerod(digest=gate) as node:
        opened = opening(node, login=login)
        with pytest.raises(PersistentError, match=r"coin\.xmr\.daemon\.user and coin\.xmr\.d") as e:
            await opened.rpc.tip()
        assert "HTTP 401" in str(e.value)
        assert "guess" not in str(e.value)
        assert "guess" not in str(opened.log.lines)
        assert gate.challenges <= 2
        with pytest.raises(PersistentError):
            await opened.rpc.tip()
        assert gate.challenges <= 4


@pytest.mark.parametrize("user", ["us%0aer", "us%C3%A9r"])
async def test_a_user_that_no_header_can_hold(user: str, opening: Opening) -> None:
    async with fake_monerod() as node:
        url = node.url.replace("://", f"://{user}:pw@")
        with pytest.raises(PersistentError, match=r"coin\.xmr\.daemon\.user: .* printable ASCII"):
            await opening(url).rpc.tip()
        assert node.asked == []


async def test_a_password_put_right_at_the_node_works_at_once(opening: Opening) -> None:
    async with fake_monerod(digest=DigestGate("user", "other")) as node:
        rpc = opening(node, login=LOGIN).rpc
        with pytest.raises(PersistentError):
            await rpc.tip()
        node.digest = DigestGate("user", "pass word")
        assert (await rpc.tip()).height == 9


async def test_the_password_is_never_sent_in_clear_nor_where_it_was_not_meant_to_go(
    opening: Opening,
) -> None:
    gate = DigestGate("user", "pass word")
    other = DigestGate("you", "secret two")
    async with fake_monerod(digest=gate) as a, fake_monerod(digest=other) as b:
        url = b.url.replace("http://", "http://you:secret%20two@")
        opened = opening(a, url, login=LOGIN, policy=PoolPolicy(failures=1))
        await opened.rpc.tip()
        opened.rpc.distrust("lies")
        assert (await opened.rpc.tip()).height == 9
        assert opened.states == ["left", "active"]
        sent = [each for each in (*a.logins, *b.logins) if each]
        assert sent
        assert all(each.startswith("Digest ") for each in sent)
        assert "pass word" not in str(sent)
        assert "secret two" not in str([*sent, opened.log.lines, opened.rpc.health()])


async def test_a_proxy_that_wants_basic_is_not_told_the_password(opening: Opening) -> None:
    seen: list[str | None] = []

    async def basic(request: Request, _: bytes) -> None:
        seen.append(request.headers.get("authorization"))
        headers = {"WWW-Authenticate": 'Basic realm="x"'}
        await answer_with(request, b"", status=401, headers=headers)

    async with fake_monerod() as node:
        node.faults["get_info"] = basic
        with pytest.raises(PersistentError, match="without a challenge for HTTP Digest"):
            await opening(node, login=LOGIN).rpc.tip()
    assert seen == [None]


def test_the_fakes_blocks_are_blocks() -> None:
    tx = Tx(b"\x02x")
    block = Block(300, hashlib.sha256(b"p").digest(), (tx,))
    parsed = parse_block(block.blob)
    assert (parsed.height, parsed.parent, parsed.txids) == (300, block.parent, (tx.txid,))


async def test_https(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async with fake_monerod() as node, trio.open_nursery() as nursery:
        port = int(node.url.rpartition(":")[2])

        async def relay(stream: trio.SocketStream) -> None:
            outer = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            inner = await trio.open_tcp_stream("127.0.0.1", port)
            async with outer, inner:
                with suppress(trio.BrokenResourceError):
                    while request := await outer.receive_some():
                        await inner.send_all(request)
                        await outer.send_all(await inner.receive_some())

        serve = partial(trio.serve_tcp, relay, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        url = f"https://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(TransientError, match=r"agreed on no TLS connection \(.*certificate"):
            await opening(url).rpc.tip()
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        monkeypatch.setattr("daemon.drivers.jsonrpc_http.tls_context", lambda: trusting)
        assert (await opening(url).rpc.tip()).height == 9
        nursery.cancel_scope.cancel()
