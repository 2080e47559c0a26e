"""The driver for Monero: a node tells blocks and transactions, we find out which of them are ours.

Nothing is asked of a wallet: outputs are found with the private view keys in this process, and no
node learns which of them are looked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from actors.core.assets import Chain
from actors.core.chain_view import BlockRef, consecutive
from actors.core.watch_index import WatchIndex
from actors.ports import Log, MempoolSnapshot, NodeStatus, PersistentError, Signal
from daemon.drivers.blocks_ahead import Spawn
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.monero_blocks import BlockReader, Pace
from daemon.drivers.monero_feed import BLOCK_TOPIC, POOL_TOPIC, MoneroFeed
from daemon.drivers.monero_mempool import MempoolReader
from daemon.drivers.monero_rpc import MoneroRpc
from daemon.drivers.monero_scanner import Scanner, ScannerStatistics
from daemon.drivers.monero_search import Search, ViewKeys
from daemon.drivers.rpc_client import RpcStatistics
from daemon.drivers.signal_buffer import SignalStatistics

PRIVATE_NETWORK = "fakechain"


@dataclass(frozen=True, slots=True)
class MoneroStatistics:
    rpc: RpcStatistics
    signals: SignalStatistics | None
    """Of the last subscription; None before the first."""
    known_txs: int
    """Pool transactions that need not be fetched again, about."""
    blocks_at_once: int
    """How many blocks one request asks for during catch-up."""
    is_pushed: bool
    """Whether the push channel is connected."""
    scanner: ScannerStatistics


class MoneroSource:
    """A ChainSource for Monero.

    `view_keys` gives the distinct private view keys to scan with (32 bytes each); there may be more
    of them at any time. Destinations are as `monero_search` has them (64 bytes), conflict
    keys are key images. `zmq` is the address that the node publishes at (its --zmq-pub), or None.
    The source owns `rpc` and `scanner`, and closes them.
    """

    def __init__(
        self,
        rpc: MoneroRpc,
        *,
        chain: Chain,
        view_keys: ViewKeys,
        log: Log,
        zmq: str | None = None,
        poll_interval_s: float = 1.0,
        scanner: Scanner | None = None,
    ) -> None:
        self._rpc = rpc
        self._chain = chain
        self._log = log
        self._zmq = zmq
        self._poll_interval_s = poll_interval_s
        self._scanner = scanner or Scanner()
        self._search = Search(self._scanner, view_keys, asset=chain.coin, log=log)
        self._mempool = MempoolReader(rpc, self._search)
        self._pace = Pace()
        self._feed: MoneroFeed | None = None

    @property
    def chain(self) -> str:
        return self._chain.id

    def disabled_assets(self) -> Mapping[str, str]:
        return {}

    @property
    def nodes(self) -> MoneroRpc:
        """What the source asks, for those who want to know how each of several nodes fares."""
        return self._rpc

    def use_logins(self, logins: Sequence[Login]) -> None:
        """Credentials changed while running (SIGHUP): one login for each node."""
        self._rpc.use_logins(logins)

    async def status(self) -> NodeStatus:
        rpc = self._rpc
        info = await rpc.info()
        genesis, tip = await rpc.header(0), await rpc.tip()
        if genesis is None:
            raise PersistentError(
                f"{rpc.where} does not give block 0, by which tallyd knows its chain. Point"
                f" {rpc.setting}.daemon.url at a node that keeps all blocks"
            )
        headers_height = max(info.target_height, tip.height)
        syncing = not info.synchronized
        if info.network == PRIVATE_NETWORK and headers_height <= tip.height:
            # It has nobody to be synchronised with.
            syncing = False
        return NodeStatus(
            software=f"monerod {info.version or 'of unknown version'}"
            f"{' (restricted)' if info.restricted else ''}",
            network=info.network,
            genesis=genesis.hash,
            tip=tip,
            headers_height=headers_height,
            syncing=syncing,
            # What a pruned node leaves away are proofs of old transactions, which nobody asks for.
            pruned_below=None,
            push=self._describe(),
        )

    async def tip(self) -> BlockRef:
        return await self._rpc.tip()

    async def block_at(self, height: int) -> BlockRef | None:
        return await self._rpc.header(height)

    async def window(self, tip: BlockRef, count: int) -> tuple[BlockRef, ...]:
        """Up to `count` consecutive blocks ending in `tip`, also when `tip` is no longer active."""
        lowest = max(0, tip.height - count + 1)
        heights = range(lowest, tip.height)
        blocks = await self._rpc.headers(heights) if heights else []
        if len(blocks) == len(heights) and consecutive([*blocks, tip]):
            return (*blocks, tip)
        # The chain moved between the calls: follow the parents, one by one.
        walked = [tip]
        while walked[-1].height > lowest:
            walked.append(await self._rpc.header_of(walked[-1].parent))
        return tuple(reversed(walked))

    def read_blocks(self, heights: range, index: WatchIndex) -> BlockReader:
        """The active chain's blocks in order (see ChainSource.read_blocks and BlockReader)."""
        return BlockReader(
            self._rpc,
            heights,
            index,
            search=self._search,
            pace=self._pace,
            spawn=self._spawn,
        )

    async def read_mempool(self, index: WatchIndex) -> MempoolSnapshot:
        return await self._mempool.snapshot(index)

    async def final_height(self) -> int | None:
        """None: proof of work has depth, no finality."""
        return None

    @asynccontextmanager
    async def signals(self, index: WatchIndex) -> AsyncIterator[AsyncIterator[Signal]]:
        """The node's news (see ChainSource.signals and MoneroFeed)."""
        self._feed = feed = MoneroFeed(
            self._rpc,
            self._mempool,
            index,
            zmq=self._zmq,
            poll_interval_s=self._poll_interval_s,
            log=self._log,
        )
        async with feed as news:
            yield news

    async def aclose(self) -> None:
        await self._scanner.aclose()
        await self._rpc.aclose()

    def statistics(self) -> MoneroStatistics:
        return MoneroStatistics(
            rpc=self._rpc.statistics(),
            signals=self._feed.statistics() if self._feed else None,
            known_txs=len(self._mempool),
            blocks_at_once=self._pace.blocks,
            is_pushed=self._feed is not None and self._feed.is_pushed,
            scanner=self._scanner.statistics(),
        )

    # --- inner ------------------------------------------------------------------------------------

    @property
    def _spawn(self) -> Spawn | None:
        """Starts what ends with the subscription; None without one."""
        nursery = self._feed.nursery if self._feed is not None else None
        return nursery.start_soon if nursery is not None else None

    def _describe(self) -> str:
        poll = f"poll {self._poll_interval_s:g}s"
        return f"zmq {BLOCK_TOPIC}, {POOL_TOPIC}; {poll}" if self._zmq else poll
