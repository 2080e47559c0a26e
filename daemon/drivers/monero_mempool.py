"""What the driver remembers of a node's pool, so that no transaction is fetched or scanned twice.

Nothing here matters: a forgotten transaction is fetched again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import trio

from actors.core.chain_events import ChainTx
from actors.core.watch_index import WatchIndex
from actors.ports import MempoolSnapshot
from daemon.drivers.monero_rpc import MoneroRpc, PoolTx
from daemon.drivers.monero_search import Search, Sought
from daemon.drivers.monero_wire import ParsedTx, WireError, parse_tx
from daemon.drivers.txid_set import TxidSet

KNOWN_LIMIT = 500_000
CONCERNING_LIMIT = 50_000
FETCHED_AT_ONCE = 100
"""What a restricted node gives in one answer."""
RECHECKED_AT_ONCE = 100


class MempoolReader:
    """Fetches, scans and matches the transactions of one node's pool, each once.

    `contested` are those that concern us and of which the node saw a rival: they stay so until they
    leave the pool, since a node never takes that mark off.
    """

    def __init__(self, rpc: MoneroRpc, search: Search, *, known_limit: int = KNOWN_LIMIT) -> None:
        self._rpc = rpc
        self._search = search
        self._index: WatchIndex | None = None
        self._view_keys: frozenset[bytes] = frozenset()
        self._foreign = TxidSet(known_limit)
        self._concerning: dict[bytes, ChainTx] = {}
        self._fetching = trio.Lock()
        self._rechecked_from = 0
        self.contested: set[bytes] = set()

    def __len__(self) -> int:
        """How many transactions are remembered, about."""
        return len(self._foreign) + len(self._concerning)

    async def snapshot(self, index: WatchIndex) -> MempoolSnapshot:
        txids = await self.listing()
        found = await self.fetch(txids, index)
        in_pool = frozenset(txids)
        return MempoolSnapshot(
            txids=in_pool, txs=tuple(found), contested=frozenset(self.contested & in_pool)
        )

    async def listing(self) -> list[bytes]:
        """Every transaction of the pool."""
        txids = await self._rpc.pool_txids()
        self._foreign.keep_only(set(txids))
        return txids

    async def fetch(self, txids: Iterable[bytes], index: WatchIndex) -> list[ChainTx]:
        """Those of `txids` that concern us and are not contested; what is gone is left out."""
        ordered = list(txids)
        # One at a time: the second finds what the first has fetched.
        async with self._fetching:
            unknown = self.unknown(ordered, index)
            for at in range(0, len(unknown), FETCHED_AT_ONCE):
                await self._fetch(unknown[at : at + FETCHED_AT_ONCE], index)
            found = (self._concerning.get(txid) for txid in ordered)
            return [tx for tx in found if tx is not None and tx.txid not in self.contested]

    async def recheck(self, txids: Collection[bytes]) -> None:
        """Ask about rivals of some of our transactions, in turn with each call."""
        ours = [txid for txid in txids if txid not in self.contested]
        if not ours:
            return
        if self._rechecked_from >= len(ours):
            self._rechecked_from = 0
        some = ours[self._rechecked_from :][:RECHECKED_AT_ONCE]
        self._rechecked_from += len(some)
        for answer in await self._rpc.pool_txs(some):
            if answer.double_spend_seen:
                self.contested.add(answer.txid)

    def unknown(self, txids: Iterable[bytes], index: WatchIndex) -> list[bytes]:
        """Those that have to be fetched."""
        self._watch(index)
        return [
            txid for txid in txids if txid not in self._foreign and txid not in self._concerning
        ]

    def concerning_txids(self) -> Sequence[bytes]:
        return tuple(self._concerning)

    def forget(self, txid: bytes) -> None:
        """It left the pool; should it come back, it is fetched again."""
        self._concerning.pop(txid, None)
        self._foreign.discard(txid)
        self.contested.discard(txid)

    async def _fetch(self, txids: Sequence[bytes], index: WatchIndex) -> None:
        view_keys = self._view_keys
        answers = await self._rpc.pool_txs(txids)
        sought = [Sought(self._parse(answer)) for answer in answers]
        await self._search.scan(sought, view_keys)
        if index is not self._index or view_keys is not self._view_keys:
            # Another reader's question came in between; what was found here may lack something.
            return
        for one, answer in zip(sought, answers, strict=True):
            match = self._search.match(one, index)
            if match is None:
                self._foreign.add(answer.txid)
                continue
            if answer.double_spend_seen:
                self.contested.add(answer.txid)
            self._note(replace(match, first_seen_s=answer.received_s))

    def _parse(self, answer: PoolTx) -> ParsedTx:
        try:
            tx = parse_tx(answer.blob, prunable_hash=answer.prunable_hash)
        except WireError as error:
            raise self._rpc.distrust(
                f"gave transaction {answer.txid.hex()} garbled: {error}"
            ) from None
        if tx.txid != answer.txid:
            raise self._rpc.distrust(f"gave another transaction when asked for {answer.txid.hex()}")
        return tx

    def _note(self, tx: ChainTx) -> None:
        if len(self._concerning) >= CONCERNING_LIMIT:
            oldest = next(iter(self._concerning))
            del self._concerning[oldest]
            self.contested.discard(oldest)
        self._concerning[tx.txid] = tx

    def _watch(self, index: WatchIndex) -> None:
        """Begin anew when there is more to look for than before."""
        view_keys = self._search.view_keys()
        if index is not self._index or view_keys != self._view_keys:
            self._index = index
            self._view_keys = view_keys
            self._foreign.clear()
            self._concerning.clear()
            self.contested.clear()
