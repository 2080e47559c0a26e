"""What the driver remembers of a node's mempool, so that no transaction is fetched twice.

Nothing here matters: a forgotten transaction is fetched again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import trio

from actors.core.chain_events import ChainTx
from actors.core.watch_index import WatchIndex
from actors.ports import MempoolSnapshot
from daemon.drivers.bitcoin_rpc import TXS_PER_BATCH, BitcoinRpc, PoolSize
from daemon.drivers.bitcoin_wire import ParsedTx, WireError, match_tx, parse_tx
from daemon.drivers.txid_set import TxidSet

KNOWN_LIMIT = 500_000
CONCERNING_LIMIT = 50_000


@dataclass(frozen=True, slots=True)
class Listing:
    """The mempool's transactions as the node lists them: parents before children."""

    ordered: list[bytes]
    txids: set[bytes]
    tip: bytes
    is_of_tip: bool
    """Whether the list belongs to `tip`; if not, a block came meanwhile."""
    pool_size: PoolSize
    """As it was right before the list was made."""


class MempoolReader:
    """Fetches and matches transactions of one node's mempool, each once."""

    def __init__(self, rpc: BitcoinRpc, asset: str, *, known_limit: int = KNOWN_LIMIT) -> None:
        self._rpc = rpc
        self._asset = asset
        self._index: WatchIndex | None = None
        self._foreign = TxidSet(known_limit)
        self._concerning: dict[bytes, ChainTx] = {}
        self._fetching = trio.Lock()

    async def snapshot(self, index: WatchIndex) -> MempoolSnapshot:
        listing = await self.listing()
        found = await self.fetch(listing.ordered, index)
        return MempoolSnapshot(txids=frozenset(listing.txids), txs=tuple(found))

    async def listing(self) -> Listing:
        pool_size, before, ordered, after = await self._rpc.mempool()
        txids = set(ordered)
        self._foreign.keep_only(txids)
        return Listing(
            ordered=ordered,
            txids=txids,
            tip=after,
            is_of_tip=before == after,
            pool_size=pool_size,
        )

    async def fetch(self, txids: Iterable[bytes], index: WatchIndex) -> list[ChainTx]:
        """Those of `txids` that concern us, in order; what is gone meanwhile is left out."""
        self._watch(index)
        ordered = list(txids)
        # One at a time: the second finds what the first has fetched.
        async with self._fetching:
            return await self._fetch(ordered, index)

    async def _fetch(self, ordered: list[bytes], index: WatchIndex) -> list[ChainTx]:
        unknown = self.unknown(ordered)
        found = {txid: tx for txid in ordered if (tx := self._concerning.get(txid)) is not None}
        at = 0
        while at < len(unknown):
            answers = await self._rpc.transactions(unknown[at : at + TXS_PER_BATCH])
            at += len(answers)
            for txid, raw in answers:
                if raw:
                    match = match_tx(self.read(raw, txid), index, self._asset)
                    self.note(txid, match)
                    if match is not None:
                        found[txid] = match
        await self._date(found)
        return [found[txid] for txid in ordered if txid in found]

    async def _date(self, found: dict[bytes, ChainTx]) -> None:
        """Add when the node first saw each, where that is not known yet."""
        undated = [txid for txid, tx in found.items() if tx.first_seen_s is None]
        times = await self._rpc.entered_s(undated)
        for txid, entered_s in zip(undated, times, strict=True):
            if entered_s is not None:
                found[txid] = replace(found[txid], first_seen_s=entered_s)
                if txid in self._concerning:
                    self._concerning[txid] = found[txid]

    def unknown(self, txids: Iterable[bytes]) -> list[bytes]:
        return [
            txid for txid in txids if txid not in self._foreign and txid not in self._concerning
        ]

    def read(self, raw: bytes, txid: bytes | None = None) -> ParsedTx:
        """Parse what the node sent, which must be `txid` if given (MWEB ids cannot be checked)."""
        try:
            tx = parse_tx(raw)
        except WireError as error:
            self._rpc.garbage(f"a transaction that cannot be read ({error})", raw[:40].hex())
        if txid is not None and tx.txid is not None and tx.txid != txid:
            self._rpc.garbage(f"another transaction than {txid.hex()}", tx.txid.hex())
        return tx

    def pushed(self, raw: bytes, index: WatchIndex) -> tuple[ParsedTx, ChainTx | None]:
        """Read and remember a transaction that the node sent by itself."""
        self._watch(index)
        tx = self.read(raw)
        match = None if tx.is_coinbase else match_tx(tx, index, self._asset)
        if tx.txid is not None and not tx.is_coinbase:
            self.note(tx.txid, match)
        return tx, match

    def note(self, txid: bytes, match: ChainTx | None) -> None:
        if match is None:
            self._foreign.add(txid)
            return
        if len(self._concerning) >= CONCERNING_LIMIT:
            del self._concerning[next(iter(self._concerning))]
        self._concerning[txid] = match

    def __len__(self) -> int:
        """How many transactions are remembered, about."""
        return len(self._foreign) + len(self._concerning)

    def knows(self, txid: bytes) -> bool:
        return txid in self._foreign or txid in self._concerning

    def concerning(self, txid: bytes) -> ChainTx | None:
        return self._concerning.get(txid)

    def concerning_txids(self) -> Sequence[bytes]:
        return tuple(self._concerning)

    def forget(self, txid: bytes) -> None:
        """It left the mempool; should it come back, it is fetched again."""
        self._concerning.pop(txid, None)
        self._foreign.discard(txid)

    def _watch(self, index: WatchIndex) -> None:
        if index is not self._index:
            self._index = index
            self._foreign.clear()
            self._concerning.clear()
