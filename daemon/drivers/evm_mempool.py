"""What of a node's mempool concerns us, as far as the node shows its mempool at all.

EVM nodes differ: some list it (txpool_content), some show what the next block would hold (the
pending block), public endpoints mostly neither. But each says of a single transaction whether it
knows it, so those that we wait for are asked for one by one.

Nothing here matters: what is forgotten is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from actors.core.chain_events import ChainTx
from actors.core.watch_index import WatchIndex
from actors.ports import MempoolSnapshot
from daemon.drivers.evm_rpc import EvmRpc
from daemon.drivers.evm_wire import Assets, Json, WireError, match_pending, quantity
from daemon.drivers.jsonrpc_words import AnswerTooLargeError, RpcError

CONCERNING_LIMIT = 50_000


class Listing(Enum):
    """How a node shows its mempool."""

    POOL = "txpool_content"
    PENDING_BLOCK = "the pending block"
    NONE = "nothing"


class PendingPool:
    """The transactions of one node's mempool that concern us."""

    def __init__(self, rpc: EvmRpc, assets: Assets) -> None:
        self.assets = assets
        self.listing: Listing | None = None
        """None until probed."""
        self.pending_block: bool | None = None
        """Whether the node shows a pending block; None until probed."""
        self.must_list = True
        """Whether something may be there that was never pushed; set by who knows of a loss."""
        self.is_pushed = False
        """Whether the node pushes what comes, so that one listing is enough."""
        self._rpc = rpc
        self._index: WatchIndex | None = None
        self._concerning: dict[bytes, ChainTx] = {}

    def __len__(self) -> int:
        return len(self._concerning)

    def forget_abilities(self) -> None:
        """Another node may answer from now on."""
        self.listing = self.pending_block = None
        self.must_list = True

    async def snapshot(self, index: WatchIndex) -> MempoolSnapshot:
        """What the node has of ours; `txids` holds no others."""
        # A busy node's list has some 20 MB: it is read again only for a reason. The reason is
        # taken first: another loss may come while the list is read.
        must_list, self.must_list = self.must_list, False
        listed = await self._listed(index) if must_list or not self.is_pushed else []
        found = {tx.txid: tx for tx in listed}
        tracked = [txid for txid in self.tracked(index) if txid not in found]
        for tx in self.match(await self._still_pending(tracked), index):
            found[tx.txid] = tx
        return MempoolSnapshot(txids=frozenset(found), txs=tuple(found.values()))

    def tracked(self, index: WatchIndex) -> list[bytes]:
        """Those whose disappearance matters."""
        self._watch(index)
        return [*index.unconfirmed, *(t for t in self._concerning if t not in index.unconfirmed)]

    async def left(self, txids: list[bytes]) -> list[bytes]:
        """Those of `txids` that are not in the mempool any more: forgotten, or in a block.

        Whoever has read that block does not wait for them, unless they were pushed so late that
        they were taken for new after it, with a promise that nothing will ever keep.
        """
        answers = await self._rpc.transactions(txids)
        gone = [
            txid
            for txid, tx in zip(txids, answers, strict=True)
            if tx is None or tx.get("blockHash") is not None
        ]
        for txid in gone:
            self._concerning.pop(txid, None)
        return gone

    async def fetch(self, txids: list[bytes], index: WatchIndex) -> list[ChainTx]:
        """Those of `txids` that concern us, in order; what is gone meanwhile is left out."""
        return self.match(await self._still_pending(txids), index)

    async def listed_in_pending_block(self, index: WatchIndex) -> list[ChainTx]:
        """What of the next block concerns us; empty where the node does not show it."""
        if self.pending_block is False:
            return []
        pending, latest = await self._rpc.many(
            [
                ("eth_getBlockByNumber", ("pending", True)),
                ("eth_getBlockByNumber", ("latest", False)),
            ]
        )
        tip = self._rpc.ref(self._rpc.result(latest))
        txs = None
        if isinstance(pending, dict):
            try:
                # Some nodes answer their newest block, whose transactions are not pending.
                if quantity(pending.get("number")) > tip.height:
                    txs = pending.get("transactions")
            except WireError as error:
                self._rpc.garbage(f"the pending block: {error}", pending)
            if txs is None and self.pending_block is None:
                self.pending_block = False
        else:
            self.pending_block = False
        if txs is None:
            return []
        self.pending_block = True
        if not isinstance(txs, list):
            self._rpc.garbage("the pending block without transactions", txs)
        return self.match(txs, index)

    def match(self, txs: Iterable[object], index: WatchIndex) -> list[ChainTx]:
        """Those that concern us, remembered. Raises TransientError for what is no transaction."""
        self._watch(index)
        found = []
        for tx in txs:
            try:
                match = match_pending(self._rpc.as_object(tx), index, self.assets)
            except WireError as error:
                self._rpc.garbage(str(error), tx)
            if match is not None:
                self._note(match)
                found.append(match)
        return found

    def forget(self, txid: bytes) -> None:
        self._concerning.pop(txid, None)

    async def _listed(self, index: WatchIndex) -> list[ChainTx]:
        if self.listing in (None, Listing.POOL):
            try:
                pool = await self._rpc.client.call("txpool_content")
            except (RpcError, AnswerTooLargeError):
                self.listing = None
            else:
                self.listing = Listing.POOL
                return self.match(self._pooled(pool), index)
        found = await self.listed_in_pending_block(index)
        self.listing = Listing.PENDING_BLOCK if self.pending_block else Listing.NONE
        return found

    def _pooled(self, pool: object) -> Iterator[object]:
        """Those that could go into the next block; queued ones wait for another first."""
        by_sender = self._rpc.as_object(pool).get("pending")
        for by_nonce in self._rpc.as_object(by_sender).values():
            yield from self._rpc.as_object(by_nonce).values()

    async def _still_pending(self, txids: list[bytes]) -> list[Json]:
        answers = await self._rpc.transactions(txids)
        return [tx for tx in answers if tx is not None and tx.get("blockHash") is None]

    def _note(self, tx: ChainTx) -> None:
        if len(self._concerning) >= CONCERNING_LIMIT:
            del self._concerning[next(iter(self._concerning))]
        self._concerning[tx.txid] = tx

    def _watch(self, index: WatchIndex) -> None:
        if index is not self._index:
            self._index = index
            self._concerning.clear()
