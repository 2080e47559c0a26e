"""Getting blocks and transactions from a monerod, by the way that its version serves best.

Ways to get blocks, the first that the node's RPC version has
  PRUNED  get_blocks.bin without the prunable parts, but with their hashes: a fifth of the bytes,
          and every transaction's id can be computed. RPC 3.18: before, the hashes are left out.
  WHOLE   get_blocks.bin with everything. RPC 3.16: earlier nodes know no `max_block_count`, and
          send up to a thousand blocks whatever was asked for.
  EXACT   get_blocks_by_height.bin.
  PLAIN   get_block and get_transactions in JSON, with hashes of the prunable parts: slow. For nodes
          that have pruned them, and where a proxy does not let the binary endpoints through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import trio

from actors.ports import PersistentError, TransientError
from daemon.drivers.jsonrpc_words import AnswerTooLargeError, RpcError
from daemon.drivers.monero_epee import Section
from daemon.drivers.monero_http import FailedInsideError, Json, MoneroHttp, NoSuchEndpointError
from daemon.drivers.monero_shapes import HASH_BYTES, NO_HASH, PoolTx, RawBlock, RawTx, Shapes
from daemon.drivers.monero_wire import WireError, parse_block

TXS_PER_CALL = 100
"""RESTRICTED_TRANSACTIONS_COUNT of monerod."""
BLOCKS_PER_CALL = 1000
"""RESTRICTED_BLOCK_COUNT and COMMAND_RPC_GET_BLOCKS_FAST_MAX_BLOCK_COUNT of monerod."""
PLAIN_BLOCKS = 10
TOO_BIG_HEIGHT = -2
_PARSED_AT_ONCE = 30
"""Blocks looked through before others have their turn: some 2 ms."""
_VERSION_1 = b"\x01"
"""Begins a transaction of version 1: its id covers all of it, so that it can not do with a part."""


class Way(Enum):
    PRUNED = (3, 18)
    WHOLE = (3, 16)
    EXACT = (0, 0)
    PLAIN = None


class MoneroTransfer:
    """One node's blocks and transactions. Nothing is handed out that is incomplete."""

    def __init__(self, node: MoneroHttp) -> None:
        self._node = node
        self.shapes = Shapes(node)
        self._way: Way | None = None

    async def blocks(self, first: int, count: int) -> list[RawBlock]:
        """The active chain's blocks from `first` on: at most `count`, none above the tip.

        Fewer than are there when they are large, but one at least.
        """
        assert 0 < count <= BLOCKS_PER_CALL, f"1 to {BLOCKS_PER_CALL} blocks a call"
        try:
            if self._way is None:
                self._way = await self._best_way()
            if self._way is not Way.PLAIN:
                return await self._binary(self._way, first, count)
        except NoSuchEndpointError:
            self._way = Way.PLAIN
        except AnswerTooLargeError:
            raise
        except (RpcError, FailedInsideError):
            # Above the tip, or pruned: the plain way tells which.
            pass
        except TransientError:
            # It may be another version after this.
            self._way = None
            raise
        return await self._plain(first, count)

    async def pool(self, txids: Sequence[bytes]) -> list[PoolTx]:
        """Those of the transactions that are in the pool."""
        found: list[PoolTx] = []
        for entry, raw in await self._transactions(txids):
            if not self.shapes.flag(entry, "in_pool"):
                continue
            found.append(
                PoolTx(
                    txid=self.shapes.hash(entry, "tx_hash"),
                    blob=raw.blob,
                    prunable_hash=raw.prunable_hash,
                    double_spend_seen=self.shapes.flag(entry, "double_spend_seen"),
                    received_s=self.shapes.whole(entry, "received_timestamp") or None,
                )
            )
        return found

    # --- ways ---

    async def _best_way(self) -> Way:
        answer = await self._node.rpc("get_version")
        version = self.shapes.whole(answer, "version")
        spoken = (version >> 16, version & 0xFFFF)
        return next(way for way in Way if way.value is not None and spoken >= way.value)

    async def _binary(self, way: Way, first: int, count: int) -> list[RawBlock]:
        # From height 0 get_blocks.bin wants hashes, and answers nothing when it knows all of them.
        if way is Way.EXACT or first == 0:
            return await self._exact(range(first, first + count))
        asked = {
            "start_height": first,
            "prune": way is Way.PRUNED,
            "max_block_count": count,
            "requested_info": 0,
        }
        answer = await self._node.binary("/get_blocks.bin", asked)
        if answer.get("start_height") != first:
            self.shapes.garbage(f"blocks from another height than {first}", _named_fields(answer))
        blocks = self._blocks(answer)[:count]
        if any(_is_half(tx) for block in blocks for tx in block.txs):
            # Transactions of version 1 have no prunable hash.
            return await self._exact(range(first, first + len(blocks)))
        return blocks

    async def _exact(self, heights: range) -> list[RawBlock]:
        asked = {"heights": list(heights)}
        answer = await self._node.binary("/get_blocks_by_height.bin", asked)
        blocks = self._blocks(answer)
        if len(blocks) != len(heights):
            what = f"{len(blocks)} blocks instead of {len(heights)}"
            self.shapes.garbage(what, _named_fields(answer))
        for n, block in enumerate(blocks):
            if len(block.txs) != self._named(block.blob):
                # Transactions that the node has pruned are left out here without a word.
                return await self._plain(heights.start, len(heights))
            if n % _PARSED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return blocks

    def _named(self, blob: bytes) -> int:
        """How many transactions a block names."""
        try:
            return len(parse_block(blob).txids)
        except WireError as error:
            self.shapes.garbage(f"a block that is none: {error}", blob[:80].hex())

    def _blocks(self, answer: Section) -> list[RawBlock]:
        blocks = [self._block(entry) for entry in self.shapes.listed(answer, "blocks")]
        if not blocks:
            self.shapes.garbage("no blocks, and no reason", _named_fields(answer))
        return blocks

    def _block(self, entry: Any) -> RawBlock:
        blob = entry.get("block") if isinstance(entry, dict) else None
        if not isinstance(blob, bytes):
            self.shapes.garbage("a block that is none", entry)
        is_pruned = entry.get("pruned") is True
        txs = self.shapes.listed(entry, "txs")
        return RawBlock(blob, tuple(self._tx(tx, is_pruned=is_pruned) for tx in txs))

    def _tx(self, entry: Any, *, is_pruned: bool) -> RawTx:
        if not is_pruned:
            if not isinstance(entry, bytes):
                self.shapes.garbage("a transaction that is none", entry)
            return RawTx(entry, None)
        blob = entry.get("blob") if isinstance(entry, dict) else None
        prunable = entry.get("prunable_hash") if isinstance(entry, dict) else None
        if not isinstance(blob, bytes) or not isinstance(prunable, bytes):
            self.shapes.garbage("a pruned transaction that is none", entry)
        if len(prunable) != HASH_BYTES:
            self.shapes.garbage("a hash of another length", entry)
        return RawTx(blob, prunable)

    async def _plain(self, first: int, count: int) -> list[RawBlock]:
        blocks: list[RawBlock] = []
        for height in range(first, first + min(count, PLAIN_BLOCKS)):
            try:
                answer = await self._node.rpc("get_block", {"height": height})
            except RpcError as error:
                if error.code == TOO_BIG_HEIGHT:
                    break
                raise
            ref = self.shapes.ref(answer.get("block_header"))
            if ref.height != height:
                self.shapes.garbage(
                    f"block {ref.height} instead of {height}", _named_fields(answer)
                )
            names = self.shapes.listed(answer, "tx_hashes")
            txids = [self.shapes.as_hash(name, "tx_hashes") for name in names]
            found = await self._transactions(txids)
            txs = {self.shapes.hash(entry, "tx_hash"): raw for entry, raw in found}
            if not all(txid in txs for txid in txids):
                self.shapes.garbage(f"not all transactions of block {height}", names)
            raws = tuple(txs[txid] for txid in txids)
            if any(_is_half(raw) for raw in raws):
                raise PersistentError(
                    f"{self._node.where} has pruned transactions of block {height}, which was not"
                    f" read yet. Point {self._node.setting}.daemon.url at a node that still has"
                    " them, one that runs without --prune-blockchain"
                )
            blocks.append(RawBlock(self.shapes.hex(answer, "blob"), raws))
        return blocks

    # --- transactions ---

    async def _transactions(self, txids: Sequence[bytes]) -> list[tuple[Json, RawTx]]:
        """(entry, transaction) of those that the node knows, pruned where that does."""
        found = [
            (entry, RawTx(self.shapes.hex(entry, "pruned_as_hex"), self._prunable_hash(entry)))
            for entry in await self._entries(txids, prune=True)
        ]
        halves = [self.shapes.hash(entry, "tx_hash") for entry, raw in found if _is_half(raw)]
        whole: dict[bytes, RawTx] = {}
        for entry in await self._entries(halves, prune=False):
            # Empty: the node has pruned it.
            if blob := self.shapes.hex(entry, "as_hex"):
                whole[self.shapes.hash(entry, "tx_hash")] = RawTx(blob, None)
        if not whole:
            return found
        return [(entry, whole.get(self.shapes.hash(entry, "tx_hash"), raw)) for entry, raw in found]

    def _prunable_hash(self, entry: Json) -> bytes:
        return self.shapes.hash(entry, "prunable_hash")

    async def _entries(self, txids: Iterable[bytes], *, prune: bool) -> list[Json]:
        wanted = list(dict.fromkeys(txids))
        entries: list[Json] = []
        for at in range(0, len(wanted), TXS_PER_CALL):
            chunk = wanted[at : at + TXS_PER_CALL]
            asked = {"txs_hashes": [txid.hex() for txid in chunk], "prune": prune}
            answer = await self._node.json("/get_transactions", asked)
            unseen = set(chunk)
            for entry in self.shapes.listed(answer, "txs"):
                if not isinstance(entry, dict):
                    self.shapes.garbage("a transaction that is none", entry)
                txid = self.shapes.hash(entry, "tx_hash")
                if txid not in unseen:
                    self.shapes.garbage("a transaction nobody asked for", entry)
                unseen.discard(txid)
                entries.append(entry)
        return entries


def _named_fields(answer: Section) -> str:
    """What an answer has, for an error's text: the values may be large."""
    return ", ".join(answer)[:200]


def _is_half(tx: RawTx) -> bool:
    """Whether it came pruned and without what its id can be computed from."""
    if tx.prunable_hash is None:
        return False
    return tx.prunable_hash == NO_HASH or tx.blob.startswith(_VERSION_1)
