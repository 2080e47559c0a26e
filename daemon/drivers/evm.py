"""The driver for Ethereum, BNB Smart Chain and every chain whose nodes speak as theirs do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from actors.core.assets import Asset, Chain
from actors.core.chain_view import BlockRef, consecutive
from actors.core.watch_index import WatchIndex
from actors.ports import Log, MempoolSnapshot, NodeStatus, PersistentError, Signal
from daemon.drivers.evm_blocks import BlockReader, Pace
from daemon.drivers.evm_feed import EvmFeed, Quiet, open_pending
from daemon.drivers.evm_internal import InternalPayments, OpenDestinations, Way
from daemon.drivers.evm_mempool import PendingPool
from daemon.drivers.evm_rpc import EvmRpc, header_call
from daemon.drivers.evm_wire import Assets
from daemon.drivers.jsonrpc_words import RpcError
from daemon.drivers.rpc_client import CannotSubscribeError, RpcClient, RpcStatistics
from daemon.drivers.signal_buffer import SignalStatistics

SYNC_SLACK_BLOCKS = 5
"""A node may call itself syncing while it follows the tip this closely."""


@dataclass(frozen=True, slots=True)
class EvmStatistics:
    rpc: RpcStatistics
    signals: SignalStatistics | None
    """Of the last subscription; None before the first."""
    known_txs: int
    """Mempool transactions that concern us."""
    blocks_at_once: int
    """How many blocks one request asks for during catch-up."""


class EvmSource:
    """A ChainSource for one EVM chain.

    `assets` are the chain's native coin and the tokens that count; `chain_id` is what the node must
    answer (EIP-155). The source owns `client` and closes it. `finality` is the block tag (`safe`,
    `finalized`) that `final_height` asks for. `open_destinations` gives the addresses of open
    invoices, for nodes that do not trace (see evm_internal); `internal_way` forces one way.
    Conflict keys are sender and nonce (28 bytes): one of two transactions with the same is mined.
    """

    def __init__(  # noqa: PLR0913 - what a chain is, what counts on it, and how it is followed
        self,
        client: RpcClient,
        *,
        chain: Chain,
        assets: Sequence[Asset],
        log: Log,
        chain_id: int,
        poll_interval_s: float = 1.0,
        finality: str | None = None,
        open_destinations: OpenDestinations | None = None,
        internal_way: Way | None = None,
    ) -> None:
        self._client = client
        self._chain = chain
        self._chain_id = chain_id
        self._tokens = tuple(asset for asset in assets if asset.contract is not None)
        self._log = log
        self._poll_interval_s = poll_interval_s
        self._finality = finality
        self._rpc = EvmRpc(client, chain.id)
        self._assets = self._counting(self._tokens)
        self._pool = PendingPool(self._rpc, self._assets)
        self._internal = InternalPayments(
            self._rpc,
            chain.coin,
            way=internal_way,
            open_destinations=open_destinations,
            log=log,
        )
        self._pace = Pace()
        self._quiet = Quiet()
        self._feed: EvmFeed | None = None
        self._disabled: dict[str, str] = {}
        self._final: tuple[bytes, int | None] | None = None
        self._tip: bytes | None = None

    @property
    def chain(self) -> str:
        return self._chain.id

    def disabled_assets(self) -> Mapping[str, str]:
        """Asset id → why it cannot be asked for now; as of the last `status`."""
        return MappingProxyType(self._disabled)

    async def status(self) -> NodeStatus:
        """Ask the node who it is, and check that it is what the configuration says."""
        rpc = self._rpc
        rpc.forget_limits()
        chain_id, syncing, software, genesis, latest = await rpc.many(
            [
                ("eth_chainId", ()),
                ("eth_syncing", ()),
                ("web3_clientVersion", ()),
                header_call("0x0"),
                header_call("latest"),
            ]
        )
        self._check_chain_id(rpc.as_quantity(rpc.result(chain_id)))
        first, tip = rpc.header_in(genesis, 0), rpc.ref(rpc.result(latest))
        if first is None:
            raise PersistentError(
                f"{rpc.where} does not give block 0, by which tallyd knows its chain. Point"
                f" {rpc.client.setting}.daemon.url at a node that keeps all block headers"
            )
        self._pool.forget_abilities()
        self._pace.has_block_receipts = True
        await self._internal.probe()
        await self._check_tokens()
        is_syncing, highest = self._progress(rpc.result(syncing), tip)
        return NodeStatus(
            software="unknown" if isinstance(software, RpcError) else str(software)[:100],
            network=str(self._chain_id),
            genesis=first.hash,
            tip=tip,
            headers_height=highest,
            syncing=is_syncing,
            pruned_below=None,
            push=await self._describe(),
        )

    async def tip(self) -> BlockRef:
        tip = await self._rpc.tip()
        self._tip = tip.hash
        return tip

    async def block_at(self, height: int) -> BlockRef | None:
        return await self._rpc.header(height)

    async def window(self, tip: BlockRef, count: int) -> tuple[BlockRef, ...]:
        """Up to `count` consecutive blocks ending in `tip`, also when `tip` is no longer active."""
        lowest = max(0, tip.height - count + 1)
        found = await self._rpc.headers(range(lowest, tip.height))
        blocks = [block for block in found if block is not None]
        if len(blocks) == len(found) and consecutive([*blocks, tip]):
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
            self._assets,
            internal=self._internal,
            pace=self._pace,
            spawn=self._spawn if self._feed is not None and self._feed.nursery else None,
        )

    async def read_mempool(self, index: WatchIndex) -> MempoolSnapshot:
        """What the node still knows as pending of ours; other transactions are not listed."""
        return await self._pool.snapshot(index)

    async def final_height(self) -> int | None:
        """The height of the block with the configured tag; None without one.

        Asked once per tip: finality follows the tip.
        """
        if self._finality is None:
            return None
        if self._final is None or self._final[0] != self._tip or self._tip is None:
            tip, height = self._tip or b"", await self._rpc.height_of_tag(self._finality)
            if height is None and (self._final is None or self._final[1] is not None):
                self._log.warning(
                    "node knows no such block tag: invoices that wait for it do not settle. Set a"
                    " number of confirmations for the chain, or use another node",
                    chain=self._chain.id,
                    tag=self._finality,
                )
            self._final = tip, height
        return self._final[1]

    @asynccontextmanager
    async def signals(self, index: WatchIndex) -> AsyncIterator[AsyncIterator[Signal]]:
        """The node's news (see ChainSource.signals and EvmFeed)."""
        self._feed = feed = EvmFeed(
            self._rpc,
            self._pool,
            index,
            block_time_s=self._chain.block_time_s,
            poll_interval_s=self._poll_interval_s,
            quiet=self._quiet,
            log=self._log,
        )
        async with feed as news:
            yield news

    async def aclose(self) -> None:
        await self._client.aclose()

    def statistics(self) -> EvmStatistics:
        return EvmStatistics(
            rpc=self._client.statistics(),
            signals=self._feed.statistics() if self._feed else None,
            known_txs=len(self._pool),
            blocks_at_once=self._pace.blocks,
        )

    # --- inner ------------------------------------------------------------------------------------

    def _spawn(self, run: Callable[[], Any]) -> None:
        assert self._feed is not None, "a feed lends its nursery"
        assert self._feed.nursery is not None, "blocks are read while the feed runs"
        self._feed.nursery.start_soon(run)

    def _check_chain_id(self, found: int) -> None:
        if found != self._chain_id:
            raise PersistentError(
                f"{self._rpc.where} is on chain id {found}, but {self._chain.id} is chain id"
                f" {self._chain_id}. Point {self._rpc.client.setting}.daemon.url at a node of"
                f" {self._chain.name}, or correct the chain id in the asset file"
            )

    def _progress(self, syncing: object, tip: BlockRef) -> tuple[bool, int]:
        """(is it syncing, highest block it knows) as eth_syncing tells them."""
        if syncing is False:
            return False, tip.height
        told = self._rpc.as_object(syncing)
        current = self._rpc.as_quantity(told.get("currentBlock", hex(tip.height)))
        highest = self._rpc.as_quantity(told.get("highestBlock", hex(current)))
        # Some name a height of 0 until they have found anybody to ask.
        return highest - current > SYNC_SLACK_BLOCKS or highest == 0, max(highest, tip.height)

    def _counting(self, tokens: Sequence[Asset]) -> Assets:
        contracts = {
            "0x" + asset.contract.hex(): asset.id for asset in tokens if asset.contract is not None
        }
        return Assets(native=self._chain.coin, tokens=contracts)

    async def _check_tokens(self) -> None:
        """Compare the tokens with their contracts.

        One with other decimals is not counted at all: its amounts would be wrong by powers of ten.
        One whose contract is not there or does not tell has only no new invoices: a node that is
        mistaken for a moment must not lose a payment.
        """
        contracts = [asset.contract for asset in self._tokens if asset.contract is not None]
        if not contracts:
            return
        disabled, wrong = {}, set()
        found = await self._rpc.decimals(contracts)
        for asset, contract, (has_code, decimals) in zip(
            self._tokens, contracts, found, strict=True
        ):
            where = f"the contract 0x{contract.hex()} of {asset.id}"
            if not has_code:
                disabled[asset.id] = f"{where} does not exist on chain id {self._chain_id}"
            elif decimals is None:
                disabled[asset.id] = f"{where} does not answer decimals()"
            elif decimals != asset.exponent:
                disabled[asset.id] = (
                    f"{where} has {decimals} decimals, but the asset file says {asset.exponent}"
                )
                wrong.add(asset.id)
        for asset_id, reason in disabled.items():
            if self._disabled.get(asset_id) != reason:
                self._log.error("asset disabled", asset=asset_id, reason=reason)
        for asset_id in self._disabled.keys() - disabled.keys():
            self._log.info("asset enabled again", asset=asset_id)
        self._disabled = disabled
        self._assets = self._counting([a for a in self._tokens if a.id not in wrong])
        self._pool.assets = self._assets

    async def _describe(self) -> str:
        way = self._internal.way
        internal = f"internal payments by {way.value if way else 'nothing'}"
        with suppress(CannotSubscribeError):
            if self._client.can_subscribe:
                async with AsyncExitStack() as stack:
                    pending, _ = await open_pending(self._rpc, stack)
                return f"websocket newHeads, {pending.value}; {internal}"
        return f"poll {self._poll_interval_s:g}s; {internal}"
