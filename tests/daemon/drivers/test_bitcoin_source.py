"""Blocks, tips and status from a scripted node: garbage, pruned blocks, reorgs at bad moments."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from actors.core.chain_view import BlockRef, consecutive
from actors.core.watch_index import WatchIndex
from actors.ports import ChainSource, PersistentError, TransientError
from daemon.drivers import bitcoin_blocks
from daemon.drivers.bitcoin import BitcoinSource
from daemon.drivers.jsonrpc import JsonRpcClient, Login
from tests.helpers.bitcoin_tx import Block, TxOut, coinbase
from tests.helpers.http_node import HttpNode, RpcFault, rpc_node
from tests.helpers.recording_log import RecordingLog

OURS = b"\x00\x14" + b"o" * 20


def chain_of(
    length: int, *, salt: int = 0, parent: bytes = bytes(32), bulk: int = 0
) -> list[Block]:
    """Blocks whose coinbase pays (height + salt) to us."""
    blocks: list[Block] = []
    for height in range(length):
        outs = [TxOut(height + salt, OURS)]
        outs += [TxOut(0, b"\x6a" + bytes(70)) for _ in range(bulk // 80)]
        blocks.append(
            Block(
                (coinbase(*outs, height=height),),
                parent=blocks[-1].hash[::-1] if blocks else parent,
                header_rest=struct.pack("<II", salt, height),
            )
        )
    return blocks


class Chain:
    """A scripted node's blocks; stale ones stay readable by hash."""

    def __init__(self, blocks: list[Block]) -> None:
        self.active: list[Block] = []
        self.known: dict[str, tuple[int, Block]] = {}
        self.take(blocks)

    def take(self, blocks: list[Block]) -> None:
        self.active = blocks
        self.known |= {block.hash.hex(): (n, block) for n, block in enumerate(blocks)}

    def methods(self) -> dict[str, Any]:
        return {
            "getbestblockhash": self._tip,
            "getblockhash": self._hash,
            "getblockheader": self._header,
            "getblock": lambda block_hash, _: self.known[block_hash][1].serialise().hex(),
            "getblockchaininfo": lambda: {
                "chain": "regtest",
                "blocks": len(self.active) - 1,
                "headers": len(self.active) + 4,
                "bestblockhash": self.active[-1].hash.hex(),
                "difficulty": 4.6565423739069247e-10,
                "initialblockdownload": True,
                "pruned": True,
                "pruneheight": 3,
            },
            "getnetworkinfo": {"subversion": "/Satoshi:29.0.0/"},
        }

    def ref(self, height: int) -> BlockRef:
        block = self.active[height]
        return BlockRef(height, block.hash, block.parent[::-1], block.time_s)

    def _tip(self) -> str:
        return self.active[-1].hash.hex()

    def _hash(self, height: int) -> Any:
        if height >= len(self.active):
            return RpcFault(-8, "Block height out of range")
        return self.active[height].hash.hex()

    def _header(self, block_hash: str, verbose: bool) -> Any:
        height, block = self.known[block_hash]
        return {"height": height} if verbose else block.header().hex()


@asynccontextmanager
async def source_of(
    methods: dict[str, Any], **options: Any
) -> AsyncIterator[tuple[BitcoinSource, HttpNode]]:
    async with rpc_node(methods) as node:
        client = JsonRpcClient(node.url, setting="coin.btc", **options)
        source = BitcoinSource(client, chain="btc", asset="BTC", log=RecordingLog())
        try:
            yield source, node
        finally:
            await source.aclose()


def our_index() -> WatchIndex:
    index = WatchIndex()
    index.watch(OURS, uuid4())
    return index


def test_it_is_a_chain_source() -> None:
    client = JsonRpcClient("http://127.0.0.1:1", setting="coin.btc")
    source: ChainSource = BitcoinSource(client, chain="btc", asset="BTC", log=RecordingLog())
    assert source.chain == "btc"


async def test_status_is_what_the_node_says() -> None:
    chain = Chain(chain_of(9))
    async with source_of(chain.methods()) as (source, _):
        status = await source.status()
    assert status.software == "/Satoshi:29.0.0/"
    assert status.network == "regtest"
    assert status.genesis == chain.active[0].hash
    assert status.tip == chain.ref(8)
    assert status.headers_height == 13
    assert status.syncing
    assert status.pruned_below == 3
    assert status.push == "long-poll, poll 1s"


@pytest.mark.parametrize(("network", "syncing"), [("regtest", False), ("main", True)])
async def test_an_old_tip_is_no_sign_of_syncing_where_blocks_come_by_command(
    network: str, syncing: bool
) -> None:
    chain = Chain(chain_of(9))
    methods = chain.methods()
    info = methods["getblockchaininfo"]()
    methods["getblockchaininfo"] = {**info, "chain": network, "headers": 8}
    async with source_of(methods) as (source, _):
        assert (await source.status()).syncing is syncing


async def test_tip_and_blocks_by_height() -> None:
    chain = Chain(chain_of(5))
    async with source_of(chain.methods()) as (source, _):
        assert await source.tip() == chain.ref(4)
        assert await source.block_at(2) == chain.ref(2)
        assert await source.block_at(5) is None


async def test_a_window_ends_in_its_tip() -> None:
    chain = Chain(chain_of(10))
    async with source_of(chain.methods()) as (source, _):
        tip = chain.ref(9)
        assert await source.window(tip, 4) == tuple(chain.ref(n) for n in range(6, 10))
        assert len(await source.window(tip, 100)) == 10
        assert await source.window(tip, 1) == (tip,)


async def test_a_window_of_a_stale_tip_follows_its_parents() -> None:
    chain = Chain(chain_of(10))
    stale = chain.ref(9)
    chain.take([*chain.active[:6], *chain_of(3, salt=7, parent=chain.active[5].hash[::-1])])
    async with source_of(chain.methods()) as (source, _):
        window = await source.window(stale, 8)
    assert window[-1] == stale
    assert len(window) == 8
    assert consecutive(window)


async def test_blocks_come_in_order_and_ahead() -> None:
    chain = Chain(chain_of(700))
    async with source_of(chain.methods()) as (source, node):
        read = [found async for found in source.read_blocks(range(1, 700), our_index())]
        assert [block for block, _ in read] == [chain.ref(n) for n in range(1, 700)]
        assert [txs[0].outputs[0].amount_base for _, txs in read] == list(range(1, 700))
        # 64 at once at most, 2 of hashes.
        assert len(node.requests) < 30
        assert node.connections == 2


async def test_large_blocks_are_asked_for_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitcoin_blocks, "AHEAD_BYTES", 10_000)
    chain = Chain(chain_of(8, bulk=20_000))
    async with source_of(chain.methods()) as (source, node):
        assert len([b async for b in source.read_blocks(range(8), our_index())]) == 8
        assert (
            max(len(request.calls) for request in node.requests if b'getblock"' in request.body)
            == 1
        )


async def test_a_batch_that_is_too_large_is_halved() -> None:
    small, large = chain_of(20), chain_of(60, bulk=40_000)
    large[0] = small[-1]
    blocks = [*small, *chain_of(20, salt=1, parent=small[-1].hash[::-1], bulk=40_000)]
    async with source_of(Chain(blocks).methods(), max_answer_bytes=200_000) as (source, _):
        read = [block async for block, _ in source.read_blocks(range(40), WatchIndex())]
    assert [block.height for block in read] == list(range(40))


async def test_a_block_larger_than_the_limit_is_an_error() -> None:
    chain = Chain(chain_of(3, bulk=40_000))
    async with source_of(chain.methods(), max_answer_bytes=10_000) as (source, _):
        with pytest.raises(TransientError, match="more than we accept"):
            await source.read_blocks(range(3), WatchIndex()).__anext__()


async def test_reading_ends_with_the_chain() -> None:
    chain = Chain(chain_of(5))
    async with source_of(chain.methods()) as (source, _):
        read = [block async for block, _ in source.read_blocks(range(2, 50), WatchIndex())]
        assert [block.height for block in read] == [2, 3, 4]
        assert [b async for b in source.read_blocks(range(7, 9), WatchIndex())] == []
        assert [b async for b in source.read_blocks(range(0), WatchIndex())] == []


async def test_a_reorg_while_reading_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitcoin_blocks, "_HASHES_AT_ONCE", 4)
    chain = Chain(chain_of(12))
    async with source_of(chain.methods()) as (source, _):
        reader = source.read_blocks(range(1, 12), WatchIndex())
        await reader.__anext__()
        chain.take([*chain.active[:3], *chain_of(12, salt=9, parent=chain.active[2].hash[::-1])])
        rest = [block async for block, _ in reader]
        assert consecutive(rest)
        assert rest[-1].height < 11


async def test_a_block_is_matched_when_it_is_handed_over() -> None:
    chain = Chain(chain_of(6))
    index = WatchIndex()
    async with source_of(chain.methods()) as (source, _):
        reader = source.read_blocks(range(6), index)
        assert (await reader.__anext__())[1] == ()
        index.watch(OURS, uuid4())
        assert len((await reader.__anext__())[1]) == 1
        # Left in the middle: its connection is closed with it.
        del reader


async def test_two_readers_do_not_disturb_each_other() -> None:
    chain = Chain(chain_of(30))
    async with source_of(chain.methods()) as (source, _):
        one, other = (source.read_blocks(range(30), WatchIndex()) for _ in range(2))
        for height in range(30):
            assert (await one.__anext__())[0] == chain.ref(height)
            assert (await other.__anext__())[0] == chain.ref(height)
        one.close()
        other.close()


async def test_a_pruned_block_needs_a_person() -> None:
    methods = Chain(chain_of(5)).methods()
    methods["getblock"] = RpcFault(-1, "Block not available (pruned data)")
    async with source_of(methods) as (source, _):
        reader = source.read_blocks(range(1, 5), WatchIndex())
        text = r"coin\.btc\.daemon\.url .* has pruned block 1, which was not read yet\. Point coin"
        with pytest.raises(PersistentError, match=text):
            await reader.__anext__()
        with pytest.raises(StopAsyncIteration):
            await reader.__anext__()


OTHER = chain_of(3, salt=5)[2]
TORN = chain_of(3)[1].serialise()


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("getblockhash", 5),
        ("getblockhash", "ab"),
        ("getblock", {"hash": 1}),
        ("getblock", "no hex"),
        ("getblock", "abcd"),
        ("getblock", OTHER.serialise().hex()),
        ("getblock", TORN[:-3].hex()),
        ("getblock", (TORN + b"x").hex()),
    ],
)
async def test_garbage_instead_of_blocks(method: str, answer: Any) -> None:
    methods = {**Chain(chain_of(3)).methods(), method: answer}
    async with source_of(methods) as (source, _):
        text = r"coin\.btc\.daemon\.url .*answered garbage: .*Is this a Bitcoin-family node"
        with pytest.raises(TransientError, match=text) as caught:
            await source.read_blocks(range(1, 3), WatchIndex()).__anext__()
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("getblockchaininfo", []),
        ("getblockchaininfo", {"bestblockhash": "ab"}),
        ("getblockchaininfo", {"bestblockhash": "ab" * 32, "blocks": -1}),
        ("getnetworkinfo", None),
        ("getzmqnotifications", {"type": "pubrawtx"}),
        ("getzmqnotifications", [{"type": "pubrawtx"}]),
        ("getblockheader", lambda *_: "00" * 80),
        ("getblockheader", lambda *_: 7),
    ],
)
async def test_garbage_instead_of_status(method: str, answer: Any) -> None:
    methods = {**Chain(chain_of(3)).methods(), method: answer}
    async with source_of(methods) as (source, _):
        with pytest.raises(TransientError, match="answered garbage"):
            await source.status()


async def test_credentials_can_be_changed_while_running() -> None:
    async with source_of(Chain(chain_of(2)).methods()) as (source, node):
        source.use_login(Login("new", "words"))
        await source.tip()
        assert node.requests[-1].login == "new:words"
        assert source.statistics().rpc.failures == 0
