"""The driver for TON: toncenter's HTTP API tells of masterchain blocks and what is in them.

Heights are the masterchain's sequence numbers, hashes its blocks' root hashes. A transaction in a
masterchain block is final, in whichever workchain it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType

from actors.core.assets import Asset, Chain
from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef, consecutive
from actors.core.watch_index import WatchIndex
from actors.ports import Log, MempoolSnapshot, NodeStatus, Signal, TransientError
from daemon.drivers.blocks_ahead import Spawn
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.rpc_client import RpcStatistics
from daemon.drivers.signal_buffer import SignalStatistics
from daemon.drivers.ton_blocks import BlockReader, Pace
from daemon.drivers.ton_feed import TonFeed
from daemon.drivers.ton_jettons import Jettons
from daemon.drivers.ton_match import Matcher
from daemon.drivers.ton_mempool import Mempool, OpenDestinations
from daemon.drivers.ton_rpc import TonRpc


@dataclass(frozen=True, slots=True)
class TonStatistics:
    rpc: RpcStatistics
    signals: SignalStatistics | None
    """Of the last subscription; None before the first."""
    known_txs: int
    """Transactions that a shard has and no masterchain block yet."""
    blocks_at_once: int
    """How many blocks are asked for at once during catch-up."""
    is_pushed: bool
    """Whether the stream is connected."""
    jetton_wallets: int
    """Accounts watched for jettons."""


class TonSource:
    """A ChainSource for TON.

    `assets` are the chain's coin and the jettons that count (`contract` is the master: workchain
    and account id). Destinations are accounts (33 bytes), with a zero byte and a comment where one
    account serves many invoices. There are no conflict keys: what is in a block excludes nothing.
    `open_destinations` gives the destinations of open invoices, to subscribe to. The source owns
    `rpc` and closes it.
    """

    def __init__(
        self,
        rpc: TonRpc,
        *,
        chain: Chain,
        assets: Sequence[Asset],
        log: Log,
        poll_interval_s: float = 1.0,
        open_destinations: OpenDestinations | None = None,
    ) -> None:
        self._rpc = rpc
        self._chain = chain
        self._log = log
        self._poll_interval_s = poll_interval_s
        self._jettons = Jettons(rpc, assets, log=log)
        self._matcher = Matcher(rpc, self._jettons, chain.coin)
        self._mempool = Mempool(rpc, self._matcher, open_destinations=open_destinations, log=log)
        self._pace = Pace()
        self._feed: TonFeed | None = None

    @property
    def chain(self) -> str:
        return self._chain.id

    def disabled_assets(self) -> Mapping[str, str]:
        """Asset id → why it cannot be asked for now; as of the last `status`."""
        return MappingProxyType(self._jettons.disabled)

    def use_logins(self, logins: Sequence[Login]) -> None:
        """API keys changed while running (SIGHUP): one login for each server."""
        self._rpc.use_logins(logins)

    async def status(self) -> NodeStatus:
        """Ask the server who it is, and check its network and the jettons."""
        name, tip, first = await self._rpc.describe()
        await self._jettons.check()
        network = self._rpc.network
        poll = f"poll {self._poll_interval_s:g}s"
        return NodeStatus(
            software=name,
            network=network.name,
            # Few servers still give the first blocks; which network it is they all tell.
            genesis=network.zero_state,
            tip=tip,
            headers_height=tip.height,
            syncing=False,
            pruned_below=first,
            push=f"stream; {poll}" if self._mempool.is_live else poll,
        )

    async def tip(self) -> BlockRef:
        """As of the last look of the feed, which asks for nothing else; else asked for."""
        if self._feed is not None and self._feed.tip is not None:
            return self._feed.tip
        return (await self._rpc.tip())[0]

    async def block_at(self, height: int) -> BlockRef | None:
        return await self._rpc.block(height)

    async def window(self, tip: BlockRef, count: int) -> tuple[BlockRef, ...]:
        """Up to `count` consecutive blocks ending in `tip`; fewer where the server has no more."""
        lowest = max(1, tip.height - count + 1)
        found = await self._rpc.blocks(range(lowest, tip.height))
        if not found and lowest < tip.height:
            # A server that keeps only the last blocks.
            _, _, first = await self._rpc.describe()
            found = await self._rpc.blocks(range(max(lowest, first or 1), tip.height))
        if not consecutive([*found, tip]):
            raise TransientError(
                f"{self._rpc.where} gave blocks that do not lead to block {tip.height}: it answers"
                " from replicas that differ. It is asked again"
            )
        return (*found, tip)

    def read_blocks(
        self, heights: range, index: WatchIndex
    ) -> AsyncIterator[tuple[BlockRef, tuple[ChainTx, ...]]]:
        """The masterchain's blocks in order (see ChainSource.read_blocks and BlockReader)."""
        return BlockReader(
            self._rpc,
            heights,
            index,
            matcher=self._matcher,
            mempool=self._mempool,
            pace=self._pace,
            spawn=self._spawn,
        )

    async def read_mempool(self, index: WatchIndex) -> MempoolSnapshot:
        """What the stream told of since it is connected, and no block has yet."""
        del index
        return self._mempool.snapshot()

    async def final_height(self) -> int | None:
        """None: a masterchain block is final at once, so one confirmation says it."""
        return None

    @asynccontextmanager
    async def signals(self, index: WatchIndex) -> AsyncIterator[AsyncIterator[Signal]]:
        """The server's news (see ChainSource.signals and TonFeed)."""
        self._feed = feed = TonFeed(
            self._rpc,
            self._mempool,
            index,
            poll_interval_s=self._poll_interval_s,
            block_time_s=self._chain.block_time_s,
            log=self._log,
        )
        async with feed as news:
            assert feed.nursery is not None, "entered"
            feed.nursery.start_soon(self._jettons.run_checks)
            yield news

    async def aclose(self) -> None:
        await self._rpc.aclose()

    def statistics(self) -> TonStatistics:
        return TonStatistics(
            rpc=self._rpc.statistics(),
            signals=self._feed.statistics() if self._feed else None,
            known_txs=len(self._mempool),
            blocks_at_once=self._pace.blocks,
            is_pushed=self._mempool.is_live,
            jetton_wallets=len(self._matcher),
        )

    @property
    def _spawn(self) -> Spawn | None:
        """Starts what ends with the subscription; None without one."""
        nursery = self._feed.nursery if self._feed is not None else None
        return nursery.start_soon if nursery is not None else None
