"""The calls of a monerod, or of several as if they were one, with every answer's shape checked.

Hashes are bytes in the order that people see. Methods raise TransientError and PersistentError,
nothing else, with texts that name `<setting>.daemon.url`. What a node can not have meant (truncated
hex, other heights than were asked for) is a DistrustError, a TransientError that makes the pool
leave the node at once; nothing of such an answer is handed out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from actors.core.chain_view import BlockRef
from actors.ports import Log, TransientError
from daemon.drivers.endpoint import PoolPolicy, Sight
from daemon.drivers.endpoint_pool import NodePool
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.jsonrpc_words import RpcError
from daemon.drivers.monero_http import MoneroHttp
from daemon.drivers.monero_shapes import NodeInfo, PoolTx, RawBlock, RawTx, Shapes
from daemon.drivers.monero_transfer import TOO_BIG_HEIGHT, MoneroTransfer
from daemon.drivers.pooled_api import PooledApi

__all__ = [
    "HEADERS_PER_CALL",
    "MoneroProbe",
    "MoneroRpc",
    "NodeInfo",
    "PoolTx",
    "RawBlock",
    "RawTx",
    "open_monero",
]

HEADERS_PER_CALL = 1000
"""RESTRICTED_BLOCK_HEADER_RANGE of monerod."""
CHECK_TIMEOUT_S = 10.0

T = TypeVar("T")


class MoneroProbe:
    """`network` is what each node must be of; None: whatever the first one that answers is of."""

    def __init__(self, network: str | None = None) -> None:
        self._network = network

    @property
    def wanted(self) -> str:
        return f"nodes of the {self._network}"

    async def look(self, client: MoneroHttp) -> Sight:
        info = Shapes(client).info(await client.rpc("get_info", timeout_s=CHECK_TIMEOUT_S))
        if self._network is None:
            self._network = info.network
        if info.network != self._network:
            return Sight(info.tip_height, f"its network is {info.network}, not {self._network}")
        return Sight(info.tip_height)

    async def hash_at(self, client: MoneroHttp, height: int) -> str | None:
        asked = {"height": height}
        answer = await client.rpc("get_block_header_by_height", asked, timeout_s=CHECK_TIMEOUT_S)
        return Shapes(client).ref(answer.get("block_header")).hash.hex()


class MoneroRpc(PooledApi[MoneroHttp]):
    """Typed calls to the active node of `pool`, which this owns."""

    UNTRUE_ADVICE = (
        "It is broken or lies, or something between it and us does: use a node of your own"
    )

    def __init__(self, pool: NodePool[MoneroHttp]) -> None:
        super().__init__(pool)
        self._transfers: dict[MoneroHttp, MoneroTransfer] = {}

    # --- chain ---

    async def info(self) -> NodeInfo:
        async def ask(node: MoneroHttp) -> NodeInfo:
            return Shapes(node).info(await node.rpc("get_info"))

        return await self._pool.use(ask, kind="info")

    async def tip(self) -> BlockRef:
        async def ask(node: MoneroHttp) -> BlockRef:
            answer = await node.rpc("get_last_block_header")
            return Shapes(node).ref(answer.get("block_header"))

        return await self._pool.use(ask, kind="header")

    async def header(self, height: int) -> BlockRef | None:
        """The active chain's block; None above the tip."""

        async def ask(node: MoneroHttp) -> BlockRef | None:
            shapes = Shapes(node)
            try:
                answer = await node.rpc("get_block_header_by_height", {"height": height})
            except RpcError as error:
                if error.code == TOO_BIG_HEIGHT:
                    return None
                raise
            found = shapes.ref(answer.get("block_header"))
            if found.height != height:
                shapes.garbage(f"block {found.height} instead of {height}", found.hash.hex())
            return found

        return await self._pool.use(ask, kind="header")

    async def headers(self, heights: range) -> list[BlockRef]:
        """The active chain's blocks at consecutive heights; shorter where the chain ends."""
        assert heights.step == 1, "heights are consecutive"

        async def ask(node: MoneroHttp) -> list[BlockRef]:
            found: list[BlockRef] = []
            for start in range(heights.start, heights.stop, HEADERS_PER_CALL):
                stop = min(start + HEADERS_PER_CALL, heights.stop)
                some = await self._some_headers(node, range(start, stop))
                if found and some:
                    _expect_link(node, found[-1], some[0])
                found += some
                if len(some) < stop - start:
                    break
            return found

        return await self._pool.use(ask, kind="headers")

    async def header_of(self, block_hash: bytes) -> BlockRef:
        """A block by its hash, also when it is no longer active."""

        async def ask(node: MoneroHttp) -> BlockRef:
            shapes = Shapes(node)
            answer = await node.rpc("get_block_header_by_hash", {"hash": block_hash.hex()})
            found = shapes.ref(answer.get("block_header"))
            if found.hash != block_hash:
                shapes.garbage(f"another block than {block_hash.hex()}", found.hash.hex())
            return found

        return await self._pool.use(ask, kind="header")

    async def blocks(self, first_height: int, *, max_blocks: int) -> list[RawBlock]:
        """The active chain's blocks from a height on: at most `max_blocks` (1 to 1000) of them.

        Fewer when a node gives no more at once; none only above the tip. Raises AnswerTooLargeError
        when they are more than 128 MB. Ids and heights are the caller's to compute.
        """

        async def ask(node: MoneroHttp) -> list[RawBlock]:
            return await self._transfer(node).blocks(first_height, max_blocks)

        return await self._pool.use(ask, kind="blocks")

    # --- pool ---

    async def pool_txids(self) -> list[bytes]:
        async def ask(node: MoneroHttp) -> list[bytes]:
            shapes = Shapes(node)
            answer = await node.json("/get_transaction_pool_hashes", {})
            names = shapes.listed(answer, "tx_hashes")
            return [shapes.as_hash(name, "tx_hashes") for name in names]

        return await self._pool.use(ask, kind="pool")

    async def pool_txs(self, txids: Sequence[bytes]) -> list[PoolTx]:
        """Those of the transactions that are in the pool now; others are left out."""

        async def ask(node: MoneroHttp) -> list[PoolTx]:
            return await self._transfer(node).pool(txids)

        return await self._pool.use(ask, kind="txs")

    # --- inner ---

    async def _some_headers(self, node: MoneroHttp, heights: range) -> list[BlockRef]:
        shapes = Shapes(node)
        while heights:
            asked = {"start_height": heights.start, "end_height": heights.stop - 1}
            try:
                answer = await node.rpc("get_block_headers_range", asked)
            except RpcError as error:
                if error.code != TOO_BIG_HEIGHT:
                    raise
                tip = shapes.info(await node.rpc("get_info")).tip_height
                if tip >= heights.stop - 1:
                    # It grew meanwhile, or one of the two answers is wrong.
                    raise
                heights = range(heights.start, max(heights.start, tip + 1))
                continue
            found = [shapes.ref(header) for header in shapes.listed(answer, "headers")]
            if [each.height for each in found] != list(heights):
                shapes.garbage(f"other blocks than {heights.start} to {heights.stop - 1}", "")
            for parent, child in pairwise(found):
                _expect_link(node, parent, child)
            return found
        return []

    def _transfer(self, node: MoneroHttp) -> MoneroTransfer:
        return self._transfers.setdefault(node, MoneroTransfer(node))


def _expect_link(node: MoneroHttp, parent: BlockRef, child: BlockRef) -> None:
    if child.parent != parent.hash:
        # monerod reads the blocks one by one: a reorganisation may come between.
        raise TransientError(
            f"{node.where} gave block {child.height} on another block than {parent.height}: its"
            " chain changed meanwhile"
        )


def open_monero(
    urls: Sequence[str],
    *,
    setting: str,
    log: Log,
    login: Login | None = None,
    timeout_s: float = 30.0,
    network: str | None = None,
    policy: PoolPolicy | None = None,
) -> MoneroRpc:
    """The nodes at `urls`, the preferred one first; connects to nothing yet.

    `login` is for the first URL only, which is a person's own node; others bring theirs in the URL,
    so that no password goes to a stranger. Raises ValueError for a URL that is none.
    """
    clients = [
        MoneroHttp(url, setting=setting, login=login if place == 0 else None, timeout_s=timeout_s)
        for place, url in enumerate(urls)
    ]
    return MoneroRpc(NodePool(clients, probe=MoneroProbe(network), log=log, policy=policy))
