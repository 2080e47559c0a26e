"""A MoneroRpc without a network: blocks and a pool that a test sets, and whatever lie it wants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import trio

from actors.core.chain_view import BlockRef
from actors.ports import TransientError
from daemon.drivers.endpoint import DistrustError
from daemon.drivers.monero_rpc import NodeInfo, PoolTx, RawBlock, RawTx
from daemon.drivers.monero_wire import parse_block
from daemon.drivers.rpc_client import RpcStatistics
from tests.helpers.monero_data import Block, Tx, block, chain_of

RECEIVED_S = 1_700_000_000


@dataclass
class FakeMonero:
    """Answers like one node; `calls` names what was asked."""

    blocks_held: list[Block] = field(default_factory=lambda: chain_of(5))
    pool: dict[bytes, Tx] = field(default_factory=dict)
    contested: set[bytes] = field(default_factory=set)
    """Transactions of which it saw a rival."""
    failures: list[Exception] = field(default_factory=list)
    """What the next requests raise."""
    calls: list[str] = field(default_factory=list)
    doctor: Callable[[list[RawBlock]], list[RawBlock]] = field(default=lambda raws: raws)
    """What it does to the blocks that it gives."""
    pool_doctor: Callable[[list[PoolTx]], list[PoolTx]] = field(default=lambda txs: txs)
    before: Callable[[str], Any] | None = None
    """Awaited before each answer, with what was asked."""
    distrusted: list[str] = field(default_factory=list)
    switch: trio.Event = field(default_factory=trio.Event)
    network: str = "fakechain"
    synchronized: bool = True
    target_height: int = 0
    restricted: bool = False
    setting: str = "coin.xmr"
    where: str = "coin.xmr.daemon.url (http://node)"

    # --- what tests do ---

    def mine(self, *txs: Tx, seed: str = "main", coinbase: Sequence[Any] = ()) -> Block:
        """A block with these transactions; they leave the pool."""
        height = len(self.blocks_held)
        made = block(seed, height, self.blocks_held[-1].hash, *txs, coinbase=coinbase)
        self.blocks_held.append(made)
        for tx in txs:
            self.pool.pop(tx.txid, None)
        return made

    def add(self, *txs: Tx) -> None:
        for tx in txs:
            self.pool[tx.txid] = tx

    def count(self, call: str) -> int:
        return self.calls.count(call)

    # --- MoneroRpc ---

    async def info(self) -> NodeInfo:
        await self._pass("info")
        return NodeInfo(
            tip_height=len(self.blocks_held) - 1,
            tip_hash=self.blocks_held[-1].hash,
            target_height=max(self.target_height, len(self.blocks_held) - 1),
            network=self.network,
            version=None if self.restricted else "0.18.4.0-release",
            restricted=self.restricted,
            synchronized=self.synchronized,
            pool_size=len(self.pool),
        )

    async def tip(self) -> BlockRef:
        await self._pass("tip")
        return self._ref(len(self.blocks_held) - 1)

    async def header(self, height: int) -> BlockRef | None:
        await self._pass("header")
        return self._ref(height) if height < len(self.blocks_held) else None

    async def headers(self, heights: range) -> list[BlockRef]:
        await self._pass("headers")
        return [self._ref(height) for height in heights if height < len(self.blocks_held)]

    async def header_of(self, block_hash: bytes) -> BlockRef:
        await self._pass("header_of")
        for height in range(len(self.blocks_held)):
            if self._ref(height).hash == block_hash:
                return self._ref(height)
        raise TransientError("no such block")

    async def blocks(self, first_height: int, *, max_blocks: int) -> list[RawBlock]:
        await self._pass("blocks")
        some = self.blocks_held[first_height : first_height + max_blocks]
        return self.doctor([raw(one) for one in some])

    async def pool_txids(self) -> list[bytes]:
        await self._pass("pool_txids")
        return list(self.pool)

    async def pool_txs(self, txids: Sequence[bytes]) -> list[PoolTx]:
        await self._pass("pool_txs")
        assert len(txids) <= 100, "a restricted node gives no more"
        return self.pool_doctor(
            [self._pooled(txid, self.pool[txid]) for txid in txids if txid in self.pool]
        )

    async def watch(self) -> NoReturn:
        await self.switch.wait()
        raise TransientError("left one node for another")

    def distrust(self, what: str) -> DistrustError:
        self.distrusted.append(what)
        return DistrustError(f"{self.where} {what}")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def statistics(self) -> RpcStatistics:
        return RpcStatistics(calls=len(self.calls))

    # --- inner ---

    def _pooled(self, txid: bytes, tx: Tx) -> PoolTx:
        return PoolTx(txid, tx.blob, tx.prunable_hash, txid in self.contested, RECEIVED_S)

    def _ref(self, height: int) -> BlockRef:
        parsed = parse_block(self.blocks_held[height].blob)
        return BlockRef(height, parsed.hash, parsed.parent, parsed.timestamp)

    async def _pass(self, call: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.before is not None:
            await self.before(call)
        self.calls.append(call)
        if self.failures:
            raise self.failures.pop(0)


def raw(block: Block) -> RawBlock:
    return RawBlock(block.blob, tuple(RawTx(tx.blob, tx.prunable_hash) for tx in block.txs))


def without_last_tx(raws: list[RawBlock]) -> list[RawBlock]:
    return [one._replace(txs=one.txs[:-1]) for one in raws]
