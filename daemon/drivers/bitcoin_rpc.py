"""The calls of a Bitcoin-family node that we need, with every answer's shape checked.

Hashes are bytes in the order that people see. Methods raise TransientError (also for answers of a
wrong shape) and PersistentError, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from actors.core.chain_view import BlockRef
from actors.ports import PersistentError, TransientError
from daemon.drivers.bitcoin_wire import HEADER_BYTES, WireError, block_ref
from daemon.drivers.jsonrpc import (
    BATCH_LIMIT,
    METHOD_NOT_FOUND,
    AnswerTooLargeError,
    Call,
    JsonRpcClient,
    RpcError,
)

HASH_BYTES = 32
_MISC_ERROR = -1
_NOT_FOUND = -5
_OUT_OF_RANGE = -8
TXS_PER_BATCH = 200

PoolSize = tuple[int, int]
"""A mempool's transactions and virtual bytes; two equal ones hold the same, most likely."""


class BitcoinRpc:
    """Typed calls over a JsonRpcClient."""

    def __init__(self, client: JsonRpcClient) -> None:
        self.client = client
        self._txs_per_batch = TXS_PER_BATCH

    # --- chain ---

    async def tip_hash(self) -> bytes:
        return self.as_hash(await self.client.call("getbestblockhash"))

    async def tip(self) -> BlockRef:
        """The tip, consistent in itself."""
        tip_hash = await self.tip_hash()
        info = self.as_object(await self.client.call("getblockheader", tip_hash.hex(), True))  # noqa: FBT003 - the RPC's own parameter
        height = self.as_whole(info.get("height"))
        return await self.header(tip_hash, height)

    async def header(self, block_hash: bytes, height: int) -> BlockRef:
        """The block `block_hash`, which the caller knows to be at `height`."""
        answer = await self.client.call("getblockheader", block_hash.hex(), False)  # noqa: FBT003 - the RPC's own parameter
        return self.ref(self.as_bytes(answer), block_hash, height)

    async def headers(self, blocks: Sequence[tuple[int, bytes]]) -> list[BlockRef]:
        """The headers of (height, hash) pairs, in their order."""
        calls: list[Call] = [
            ("getblockheader", (block_hash.hex(), False)) for _, block_hash in blocks
        ]
        answers = await self._batches(calls)
        return [
            self.ref(self.as_bytes(self.result(answer)), block_hash, height)
            for (height, block_hash), answer in zip(blocks, answers, strict=True)
        ]

    async def block_hashes(self, heights: Sequence[int]) -> list[bytes]:
        """The active chain's hashes; shorter than `heights` where the chain ends."""
        calls: list[Call] = [("getblockhash", (height,)) for height in heights]
        hashes: list[bytes] = []
        for answer in await self._batches(calls):
            if isinstance(answer, RpcError) and answer.code == _OUT_OF_RANGE:
                break
            hashes.append(self.as_hash(self.result(answer)))
        return hashes

    def block(self, answer: object, block_hash: bytes, height: int) -> bytes:
        """A raw block out of a `getblock <hash> 0` answer, its header checked."""
        if isinstance(answer, RpcError):
            if answer.code == _MISC_ERROR and "pruned" in answer.message:
                raise PersistentError(
                    f"{self.where} has pruned block {height}, which was not read yet. Point"
                    f" {self.client.setting}.daemon.url at a node that still has it, or let this"
                    " node download it again (start it with -reindex and prune=0)"
                ) from answer
            raise answer
        raw = self.as_bytes(answer)
        self.ref(raw[:HEADER_BYTES], block_hash, height)
        return raw

    # --- mempool ---

    async def mempool(self) -> tuple[PoolSize, bytes, list[bytes], bytes]:
        """(size, tip before, txids, tip after): with equal tips the list belongs to that tip.

        Raises TransientError while the node still loads its mempool from disk.
        """
        answers = await self.client.batch(
            [
                ("getmempoolinfo", ()),
                ("getbestblockhash", ()),
                ("getrawmempool", (False,)),
                ("getbestblockhash", ()),
            ]
        )
        info, before, txids, after = (self.result(answer) for answer in answers)
        pool = self.as_object(info)
        if pool.get("loaded") is False:
            raise TransientError(
                f"{self.where} still loads its mempool from disk. Wait until it is done"
            )
        return (
            self._pool_size(pool),
            self.as_hash(before),
            self._txids(txids),
            self.as_hash(after),
        )

    async def entered_s(self, txids: Sequence[bytes]) -> list[int | None]:
        """Unix times at which transactions entered the mempool; None for those that left it."""
        calls: list[Call] = [("getmempoolentry", (txid.hex(),)) for txid in txids]
        return [
            None
            if _is_gone(answer)
            else self.as_whole(self.as_object(self.result(answer)).get("time"))
            for answer in await self._batches(calls)
        ]

    async def pulse(self) -> tuple[bytes, PoolSize]:
        """The tip's hash and the mempool's size."""
        tip, info = await self.client.batch([("getbestblockhash", ()), ("getmempoolinfo", ())])
        pool_size = self._pool_size(self.as_object(self.result(info)))
        return self.as_hash(self.result(tip)), pool_size

    async def transactions(self, txids: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """(txid, raw) of as many leading `txids` as one answer holds; at least one.

        Raw is empty where the transaction is gone. The rest is the caller's next call.
        """
        while True:
            wanted = txids[: self._txs_per_batch]
            calls: list[Call] = [("getrawtransaction", (txid.hex(),)) for txid in wanted]
            try:
                answers = await self.client.batch(calls)
            except AnswerTooLargeError:
                if len(wanted) == 1:
                    raise
                self._txs_per_batch = len(wanted) // 2
                continue
            self._txs_per_batch = min(self._txs_per_batch * 2, TXS_PER_BATCH)
            return [
                (txid, b"" if _is_gone(answer) else self.as_bytes(self.result(answer)))
                for txid, answer in zip(wanted, answers, strict=True)
            ]

    # --- node ---

    async def zmq_addresses(self) -> dict[str, str]:
        """Topic → the address the node publishes it on; empty when it has no ZMQ."""
        try:
            answer = await self.client.call("getzmqnotifications")
        except RpcError as error:
            if error.code == METHOD_NOT_FOUND:
                return {}
            raise
        addresses: dict[str, str] = {}
        for row in self.as_list(answer):
            entry = self.as_object(row)
            kind, address = entry.get("type"), entry.get("address")
            if not isinstance(kind, str) or not isinstance(address, str):
                self.garbage("getzmqnotifications without type and address", row)
            addresses.setdefault(kind.removeprefix("pub"), address)
        return addresses

    # --- shapes ---

    @property
    def where(self) -> str:
        return self.client.where

    def result(self, answer: Any) -> Any:
        """An answer of a batch, or its error raised."""
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def as_hash(self, value: object) -> bytes:
        raw = self.as_bytes(value)
        if len(raw) != HASH_BYTES:
            self.garbage("a hash that has not 32 bytes", value)
        return raw

    def as_bytes(self, value: object) -> bytes:
        if isinstance(value, str):
            with suppress(ValueError):
                return bytes.fromhex(value)
        return self.garbage("no hexadecimal text", value)

    def as_whole(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.garbage("no whole number", value)
        return value

    def as_object(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.garbage("no object", value)
        return value

    def as_list(self, value: object) -> list[Any]:
        if not isinstance(value, list):
            self.garbage("no list", value)
        return value

    def ref(self, header: bytes, block_hash: bytes, height: int) -> BlockRef:
        """The header's identity, which must be `block_hash`."""
        try:
            ref = block_ref(header, height)
        except WireError as error:
            self.garbage(str(error), header.hex())
        if ref.hash != block_hash:
            self.garbage(f"another block than {block_hash.hex()}", header.hex())
        return ref

    def garbage(self, what: str, value: object) -> NoReturn:
        raise TransientError(
            f"{self.where} answered garbage: {what}: {str(value)[:80]!r}. Is this a Bitcoin-family"
            " node's RPC port?"
        )

    def _pool_size(self, info: dict[str, Any]) -> PoolSize:
        return self.as_whole(info.get("size")), self.as_whole(info.get("bytes"))

    def _txids(self, value: object) -> list[bytes]:
        texts = self.as_list(value)
        size = 2 * HASH_BYTES
        if not all(isinstance(text, str) and len(text) == size for text in texts):
            self.garbage("getrawmempool with something that is no txid", texts[:2])
        joined = self.as_bytes("".join(texts))
        return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]

    async def _batches(self, calls: Sequence[Call]) -> list[Any]:
        answers: list[Any] = []
        for at in range(0, len(calls), BATCH_LIMIT):
            answers += await self.client.batch(calls[at : at + BATCH_LIMIT])
        return answers


def _is_gone(answer: object) -> bool:
    return isinstance(answer, RpcError) and answer.code == _NOT_FOUND
