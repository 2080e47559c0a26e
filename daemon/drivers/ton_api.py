"""The questions the driver has for one server, asked in toncenter's v3 or in its v2.

v3 is an indexer: it knows which transactions a masterchain block brought about, in all workchains.
v2 is a lite server: there shard blocks are followed from one masterchain block to the next, by the
shards that each names and the blocks that come before those.

A masterchain block of an indexer that has not all of its transactions yet (or a replica that lags
behind another) is an IncompleteError; asking again a little later helps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from actors.ports import TransientError
from daemon.drivers import ton_wire as wire
from daemon.drivers.ton_http import NotThereError, TonHttp
from daemon.drivers.ton_wire import BlockId, Header, TonTx, TonWireError

TXS_PER_PAGE = 1000
"""What an indexer gives at most."""
TXS_PER_PAGE_V2 = 256
"""What a lite server gives at most."""
HEADERS_PER_CALL = 1000
_NEWER = 20
"""So many blocks may have come since we heard of the tip."""
MOST_SHARD_BLOCKS = 4096
"""Of one masterchain block; there are some ten as a rule."""
_V2_MASTER_SHARD = str(-(1 << 63))


class IncompleteError(TransientError):
    """The server does not have the block, or not all of it, yet."""


class Api(Protocol):
    """Questions about masterchain blocks. What cannot be true raises DistrustError."""

    @property
    def name(self) -> str:
        """For people: `toncenter v3`."""
        ...

    async def first(self, *, timeout_s: float | None = None) -> tuple[Header, int | None]:
        """(the last block, the seqno of the first that can be read; None if that is all of them).

        Raises NotThereError where the server does not speak this version.
        """
        ...

    async def recent(self) -> list[Header]:
        """The last block, and perhaps some before it, newest first; never empty."""
        ...

    async def headers(
        self, seqnos: range, *, tip: int, after: Header | None = None
    ) -> dict[int, Header]:
        """Those of the blocks that there are, and perhaps later ones.

        `tip` is the seqno of the last, as far as known; `after` is the block before these.
        """
        ...

    async def payments(self, header: Header) -> tuple[TonTx, ...]:
        """The block's transactions that may be payments. Raises IncompleteError."""
        ...

    async def run(
        self, account: bytes, method: str, args: Sequence[str] = ()
    ) -> tuple[int, list[tuple[str, str]]]:
        """(exit code, stack) of a get method; `args` are slices, in base64."""
        ...

    async def jetton_decimals(self, account: bytes) -> int | None:
        """What the server knows of a jetton whose contract does not tell."""
        ...


class V3:
    """An Api of version 3."""

    name = "toncenter v3"

    def __init__(self, node: TonHttp) -> None:
        self._node = node

    async def first(self, *, timeout_s: float | None = None) -> tuple[Header, int | None]:
        answer = await self._node.v3("masterchainInfo", timeout_s=timeout_s)
        with _shaped(self._node):
            last, first = wire.masterchain_info(answer)
        return last, first if first > 1 else None

    async def recent(self) -> list[Header]:
        found = await self._blocks(workchain=wire.MASTERCHAIN, sort="desc", limit=5)
        if not found:
            self._node.garbage("no masterchain block", "")
        return sorted(found, reverse=True)

    async def headers(
        self, seqnos: range, *, tip: int, after: Header | None = None
    ) -> dict[int, Header]:
        found: dict[int, Header] = {}
        if len(seqnos) > 2:
            # There is no asking for a range: it is listed by time, or else from the tip down.
            where: dict[str, Any] = {"sort": "desc", "offset": max(0, tip - seqnos[-1])}
            limit = len(seqnos) + _NEWER
            if after is not None and tip - seqnos[0] > HEADERS_PER_CALL:
                where = {"sort": "asc", "start_utime": after.time_s}
                limit = HEADERS_PER_CALL
            listed = await self._blocks(
                workchain=wire.MASTERCHAIN, limit=min(HEADERS_PER_CALL, limit), **where
            )
            found = {each.seqno: each for each in listed if each.seqno >= seqnos[0]}
        for seqno in seqnos:
            if seqno not in found:
                one = await self._blocks(workchain=wire.MASTERCHAIN, seqno=seqno, sort="desc")
                if not one:
                    break
                if one[0].seqno != seqno:
                    self._node.garbage(f"block {one[0].seqno} instead of {seqno}", "")
                found[seqno] = one[0]
        return found

    async def payments(self, header: Header) -> tuple[TonTx, ...]:
        hashes: set[bytes] = set()
        masters: set[bytes] = set()
        txs: dict[bytes, TonTx] = {}
        while True:
            # Pages may repeat what earlier ones had: only what is new counts for the offset.
            answer = await self._page(header.seqno, len(hashes))
            with _shaped(self._node):
                listed, page = wire.page(answer, header.seqno)
            has_more = listed >= TXS_PER_PAGE and not page.hashes <= hashes
            hashes |= page.hashes
            masters |= page.masters
            txs.update((tx.hash, tx) for tx in page.txs)
            if not has_more:
                break
        await self._check_complete(header, masters=len(masters), count=len(hashes))
        return tuple(txs.values())

    async def run(
        self, account: bytes, method: str, args: Sequence[str] = ()
    ) -> tuple[int, list[tuple[str, str]]]:
        answer = await self._node.v3_post(
            "runGetMethod",
            {
                "address": wire.raw_address(account),
                "method": method,
                "stack": [{"type": "slice", "value": arg} for arg in args],
            },
        )
        with _shaped(self._node):
            return wire.stack(answer)

    async def jetton_decimals(self, account: bytes) -> int | None:
        answer = await self._node.v3("jetton/masters", address=wire.raw_address(account))
        with _shaped(self._node):
            masters = wire.as_list(wire.as_object(answer, "the answer").get("jetton_masters"), "")
            content = masters[0].get("jetton_content") if masters else None
            told = content.get("decimals") if isinstance(content, dict) else None
            return None if told is None else wire.as_int(told, "decimals")

    # --- inner ---

    async def _blocks(self, **query: Any) -> list[Header]:
        answer = await self._node.v3("blocks", **query)
        with _shaped(self._node):
            return wire.headers(answer)

    async def _page(self, seqno: int, offset: int) -> object:
        try:
            return await self._node.v3(
                "transactionsByMasterchainBlock",
                seqno=seqno,
                limit=TXS_PER_PAGE,
                offset=offset,
                sort="asc",
            )
        except NotThereError as error:
            raise IncompleteError(f"{self._node.where} does not have block {seqno} yet") from error

    async def _check_complete(self, header: Header, *, masters: int, count: int) -> None:
        """Raises IncompleteError when transactions are missing, as far as that is seen.

        The masterchain's own come last, and always. Where their number says nothing, or all may
        have ended with a full page, the numbers of all blocks are asked for.
        """
        if header.tx_count is not None and masters < header.tx_count:
            raise IncompleteError(
                f"{self._node.where} gives {masters} of the {header.tx_count} transactions of"
                f" masterchain block {header.seqno}"
            )
        if header.tx_count and count % TXS_PER_PAGE:
            return
        answer = await self._node.v3("blocks", mc_seqno=header.seqno, limit=1000, sort="desc")
        with _shaped(self._node):
            total = wire.total_transactions(answer)
            there = any(each.seqno == header.seqno for each in wire.headers(answer))
        if not there or (total is not None and count < total):
            raise IncompleteError(
                f"{self._node.where} gives {count} of the {total} transactions that masterchain"
                f" block {header.seqno} brought about"
            )


class V2:
    """An Api of version 2."""

    name = "toncenter v2"

    def __init__(self, node: TonHttp) -> None:
        self._node = node
        self._shards_method = "getShards"
        self._shards: dict[int, tuple[BlockId, ...]] = {}

    async def first(self, *, timeout_s: float | None = None) -> tuple[Header, int | None]:
        answer = await self._node.v2("getMasterchainInfo", timeout_s=timeout_s)
        with _shaped(self._node):
            last = wire.block_id(wire.as_object(answer, "the answer").get("last"))
        return await self._header(last.seqno, timeout_s=timeout_s), None

    async def recent(self) -> list[Header]:
        return [(await self.first())[0]]

    async def headers(
        self, seqnos: range, *, tip: int, after: Header | None = None
    ) -> dict[int, Header]:
        del tip, after
        found = {}
        for seqno in seqnos:
            try:
                found[seqno] = await self._header(seqno)
            except NotThereError:
                break
        return found

    async def payments(self, header: Header) -> tuple[TonTx, ...]:
        try:
            blocks = await self._new_shard_blocks(header.seqno)
            own = BlockId(wire.MASTERCHAIN, _V2_MASTER_SHARD, header.seqno, header.hash)
            txs: dict[bytes, TonTx] = {}
            for block in (*blocks, own):
                txs.update((tx.hash, tx) for tx in await self._transactions(block))
        except NotThereError as error:
            raise IncompleteError(str(error)) from error
        return tuple(txs.values())

    async def run(
        self, account: bytes, method: str, args: Sequence[str] = ()
    ) -> tuple[int, list[tuple[str, str]]]:
        answer = await self._node.v2_post(
            "runGetMethod",
            {
                "address": wire.raw_address(account),
                "method": method,
                "stack": [["tvm.Slice", arg] for arg in args],
            },
        )
        with _shaped(self._node):
            return wire.stack(answer)

    async def jetton_decimals(self, account: bytes) -> int | None:
        """None: a lite server knows contracts only."""
        del account
        return None

    # --- inner ---

    async def _header(self, seqno: int, *, timeout_s: float | None = None) -> Header:
        answer = await self._node.v2(
            "getBlockHeader",
            workchain=wire.MASTERCHAIN,
            shard=_V2_MASTER_SHARD,
            seqno=seqno,
            timeout_s=timeout_s,
        )
        with _shaped(self._node):
            found, _ = wire.block_header(answer)
        if found.seqno != seqno:
            self._node.garbage(f"block {found.seqno} instead of {seqno}", "")
        return found

    async def _shards_of(self, seqno: int) -> tuple[BlockId, ...]:
        """The newest block of each shard, as the masterchain block has them."""
        if seqno in self._shards:
            return self._shards[seqno]
        try:
            answer = await self._node.v2(self._shards_method, seqno=seqno)
        except NotThereError:
            # The older implementation calls it so.
            other = "shards" if self._shards_method == "getShards" else "getShards"
            answer = await self._node.v2(other, seqno=seqno)
            self._shards_method = other
        with _shaped(self._node):
            listed = wire.as_list(wire.as_object(answer, "the answer").get("shards"), "shards")
            found = tuple(wire.block_id(each) for each in listed)
        self._shards[seqno] = found
        while len(self._shards) > 64:
            del self._shards[next(iter(self._shards))]
        return found

    async def _new_shard_blocks(self, seqno: int) -> list[BlockId]:
        """Shard blocks that masterchain block `seqno` brings in, each once."""
        if seqno <= 1:
            return list(await self._shards_of(seqno))
        known = {each[:3] for each in await self._shards_of(seqno - 1)}
        waiting = list(await self._shards_of(seqno))
        found: dict[tuple[int, str, int], BlockId] = {}
        while waiting:
            block = waiting.pop()
            if block[:3] in known or block[:3] in found or block.seqno == 0:
                continue
            found[block[:3]] = block
            if len(found) > MOST_SHARD_BLOCKS:
                self._node.garbage(f"shard blocks without end below block {seqno}", "")
            answer = await self._node.v2(
                "getBlockHeader", workchain=block.workchain, shard=block.shard, seqno=block.seqno
            )
            with _shaped(self._node):
                _, previous = wire.block_header(answer)
            waiting.extend(previous)
        return list(found.values())

    async def _transactions(self, block: BlockId) -> list[TonTx]:
        found: list[TonTx] = []
        after: dict[str, Any] = {}
        while True:
            answer = await self._node.v2(
                "getBlockTransactionsExt",
                workchain=block.workchain,
                shard=block.shard,
                seqno=block.seqno,
                count=TXS_PER_PAGE_V2,
                **after,
            )
            with _shaped(self._node):
                txs, last_lt, has_more = wire.page_v2(answer)
            found += txs
            if not has_more:
                return found
            # Transactions are ordered by account, then by logical time.
            mark = {
                "after_lt": last_lt or "",
                "after_hash": txs[-1].account[1:].hex() if txs else "",
            }
            if not txs or mark == after:
                self._node.garbage("a page that does not go on", str(block[:3]))
            after = mark


@contextmanager
def _shaped(node: TonHttp) -> Iterator[None]:
    """What is of another form than the API's makes the pool leave the server."""
    try:
        yield
    except TonWireError as error:
        node.garbage(str(error), "")
