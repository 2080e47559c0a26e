"""The driver for Bitcoin Core and Knots (22 or later), Litecoin Core (0.21) and their like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from actors.core.chain_view import BlockRef, consecutive
from actors.core.watch_index import WatchIndex
from actors.ports import Log, MempoolSnapshot, NodeStatus, Signal
from daemon.drivers.bitcoin_blocks import BlockReader
from daemon.drivers.bitcoin_feed import MEMPOOL_TOPICS, TIP_TOPICS, BitcoinFeed
from daemon.drivers.bitcoin_mempool import MempoolReader
from daemon.drivers.bitcoin_rpc import BitcoinRpc
from daemon.drivers.bitcoin_zmq import reachable
from daemon.drivers.jsonrpc import JsonRpcClient, JsonRpcStatistics, Login
from daemon.drivers.signal_buffer import SignalStatistics

TOPICS = ("sequence", "rawtx", "hashblock")


@dataclass(frozen=True, slots=True)
class ZmqChoice:
    """What the setting `coin.<chain>.zmq` says.

    Enabled without endpoints: ask the node. Otherwise topic (rawtx, hashblock, sequence) → address,
    used as it stands.
    """

    enabled: bool = True
    endpoints: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class BitcoinStatistics:
    rpc: JsonRpcStatistics
    signals: SignalStatistics | None
    """Of the last subscription; None before the first."""
    known_txs: int
    """Mempool transactions that need not be fetched again, about."""


class BitcoinSource:
    """A ChainSource for one Bitcoin-family node.

    `chain` and `asset` are ids (`btc`, `BTC`). The source owns `client` and closes it.
    `poll_interval_s` is for what the node cannot push. Conflict keys are the serialised outpoints
    (36 bytes) that a transaction spends; a coinbase has none. MWEB payments are invisible here, but
    a peg-out pays a script through its block's HogEx transaction and is reported as its output.
    """

    def __init__(
        self,
        client: JsonRpcClient,
        *,
        chain: str,
        asset: str,
        log: Log,
        zmq: ZmqChoice | None = None,
        poll_interval_s: float = 1.0,
    ) -> None:
        self._client = client
        self._chain = chain
        self._asset = asset
        self._log = log
        self._zmq = zmq or ZmqChoice()
        self._poll_interval_s = poll_interval_s
        self._rpc = BitcoinRpc(client)
        self._mempool = MempoolReader(self._rpc, asset)
        self._feed: BitcoinFeed | None = None

    @property
    def chain(self) -> str:
        return self._chain

    def use_login(self, login: Login) -> None:
        """Credentials changed while running (SIGHUP)."""
        self._client.credentials.login = login

    async def status(self) -> NodeStatus:
        rpc = self._rpc
        answers = await self._client.batch(
            [("getblockchaininfo", ()), ("getnetworkinfo", ()), ("getblockhash", (0,))]
        )
        info, network, genesis = (rpc.result(answer) for answer in answers)
        info, network = rpc.as_object(info), rpc.as_object(network)
        tip = await rpc.header(
            rpc.as_hash(info.get("bestblockhash")), rpc.as_whole(info.get("blocks"))
        )
        syncing, pruned = info.get("initialblockdownload"), info.get("pruned")
        if not isinstance(syncing, bool) or not isinstance(pruned, bool):
            rpc.garbage("getblockchaininfo without initialblockdownload and pruned", info)
        headers_height = rpc.as_whole(info.get("headers"))
        if info.get("chain") == "regtest" and headers_height <= tip.height:
            # It mines only when told to: an old tip, which the flag is made of, says nothing there.
            syncing = False
        return NodeStatus(
            software=str(network.get("subversion"))[:100],
            network=str(info.get("chain"))[:20],
            genesis=rpc.as_hash(genesis),
            tip=tip,
            headers_height=headers_height,
            syncing=syncing,
            pruned_below=rpc.as_whole(info.get("pruneheight", 0)) if pruned else None,
            push=self._describe(await self._endpoints()),
        )

    async def final_height(self) -> int | None:
        """None: proof of work has depth, no finality."""
        return None

    def disabled_assets(self) -> Mapping[str, str]:
        return {}

    async def tip(self) -> BlockRef:
        return await self._rpc.tip()

    async def block_at(self, height: int) -> BlockRef | None:
        hashes = await self._rpc.block_hashes([height])
        return await self._rpc.header(hashes[0], height) if hashes else None

    async def window(self, tip: BlockRef, count: int) -> tuple[BlockRef, ...]:
        """Up to `count` consecutive blocks ending in `tip`, also when `tip` is no longer active."""
        lowest = max(0, tip.height - count + 1)
        heights = range(lowest, tip.height)
        hashes = await self._rpc.block_hashes(heights)
        blocks = await self._rpc.headers(list(zip(heights, hashes, strict=False)))
        if len(blocks) == len(heights) and consecutive([*blocks, tip]):
            return (*blocks, tip)
        # The chain moved between the calls: follow the parents, one by one.
        walked = [tip]
        while walked[-1].height > lowest:
            child = walked[-1]
            walked.append(await self._rpc.header(child.parent, child.height - 1))
        return tuple(reversed(walked))

    def read_blocks(self, heights: range, index: WatchIndex) -> BlockReader:
        """The active chain's blocks in order (see ChainSource.read_blocks and BlockReader)."""
        # What is mined has left the mempool; while it is pushed, nobody lists it to find that out.
        return BlockReader(self._rpc, heights, index, self._asset, mined=self._mempool.forget)

    async def read_mempool(self, index: WatchIndex) -> MempoolSnapshot:
        return await self._mempool.snapshot(index)

    @asynccontextmanager
    async def signals(self, index: WatchIndex) -> AsyncIterator[AsyncIterator[Signal]]:
        """The node's news (see ChainSource.signals and BitcoinFeed)."""
        self._feed = feed = BitcoinFeed(
            self._rpc,
            self._mempool,
            index,
            endpoints=await self._endpoints(),
            poll_interval_s=self._poll_interval_s,
            log=self._log,
        )
        async with feed as news:
            yield news

    async def aclose(self) -> None:
        await self._client.aclose()

    def statistics(self) -> BitcoinStatistics:
        return BitcoinStatistics(
            rpc=self._client.statistics(),
            signals=self._feed.statistics() if self._feed else None,
            known_txs=len(self._mempool),
        )

    async def _endpoints(self) -> dict[str, str]:
        """Topic → ZMQ address; only topics that we have a use for."""
        if not self._zmq.enabled:
            return {}
        if self._zmq.endpoints:
            return dict(self._zmq.endpoints)
        host = self._client.address.host
        offered = await self._rpc.zmq_addresses()
        return {topic: reachable(offered[topic], host) for topic in TOPICS if topic in offered}

    def _describe(self, endpoints: Mapping[str, str]) -> str:
        ways = [f"zmq {','.join(sorted(endpoints))}"] if endpoints else []
        if not TIP_TOPICS & endpoints.keys():
            ways.append("long-poll")
        if not endpoints.keys() >= MEMPOOL_TOPICS:
            ways.append(f"poll {self._poll_interval_s:g}s")
        return ", ".join(ways)
