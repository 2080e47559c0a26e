"""The calls of an EVM node that we need, with every answer's shape checked.

Hashes are bytes in the order that people see. Methods raise TransientError (also for answers of a
wrong shape) and PersistentError, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from actors.core.chain_view import BlockRef
from actors.ports import PersistentError, TransientError
from daemon.drivers.evm_wire import HASH_BYTES, Json, WireError, block_ref, data, quantity
from daemon.drivers.jsonrpc_words import AnswerTooLargeError, Call, RpcError
from daemon.drivers.rpc_client import RpcClient

CALLS_AT_ONCE = 200
_DECIMALS = "0x313ce567"
_REVERTED_CODES = (3, -32015)
_REVERTED_WORDS = ("revert", "invalid opcode", "vm execution", "out of gas", "bad jump")
_PRUNED = 4444
"""EIP-4444: the node has dropped the history asked for."""


class EvmRpc:
    """Typed calls over an RpcClient."""

    def __init__(self, client: RpcClient, chain: str) -> None:
        self.client = client
        self.chain = chain
        self._calls_at_once = CALLS_AT_ONCE

    async def many(self, calls: Sequence[Call]) -> list[Any]:
        """The results of any number of calls, an RpcError in the place of a refused one.

        A node that refuses a batch as a whole is asked in smaller ones from then on, at last one by
        one.
        """
        answers: list[Any] = []
        while len(answers) < len(calls):
            wanted = calls[len(answers) : len(answers) + self._calls_at_once]
            if self._calls_at_once == 1:
                answers.append(await self._alone(wanted[0]))
                continue
            try:
                answers += await self.client.batch(wanted)
            except (RpcError, AnswerTooLargeError):
                self._calls_at_once = max(1, len(wanted) // 2)
        return answers

    def forget_limits(self) -> None:
        """Another node may answer from now on."""
        self._calls_at_once = CALLS_AT_ONCE

    async def _alone(self, call: Call) -> Any:
        method, params = call
        try:
            return await self.client.call(method, *params)
        except RpcError as error:
            return error

    # --- chain ---

    async def chain_id(self) -> int:
        return self.as_quantity(await self.client.call("eth_chainId"))

    async def tip(self) -> BlockRef:
        block = await self.client.call("eth_getBlockByNumber", "latest", False)  # noqa: FBT003 - the RPC's own parameter
        return self.ref(block)

    async def header(self, height: int) -> BlockRef | None:
        """The active chain's block; None above the tip."""
        return (await self.headers([height]))[0]

    async def headers(self, heights: Sequence[int]) -> list[BlockRef | None]:
        answers = await self.many([header_call(hex(height)) for height in heights])
        return [
            self.header_in(answer, height) for answer, height in zip(answers, heights, strict=True)
        ]

    async def header_of(self, block_hash: bytes) -> BlockRef:
        """A block by its hash, also when it is no longer active."""
        call = ("eth_getBlockByHash", "0x" + block_hash.hex(), False)
        found = self.ref(await self.client.call(*call))
        if found.hash != block_hash:
            self.garbage(f"another block than {block_hash.hex()}", found.hash.hex())
        return found

    async def height_of_tag(self, tag: str) -> int | None:
        """The height that `safe` or `finalized` names; None where the node knows no such thing."""
        (answer,) = await self.many([header_call(tag)])
        if answer is None or isinstance(answer, RpcError):
            return None
        return self.ref(answer).height

    def refuse_pruned(self, answer: object, height: int) -> None:
        """Raise PersistentError if the node says that it has dropped the block."""
        if isinstance(answer, RpcError) and (
            answer.code == _PRUNED or "pruned history" in answer.message.lower()
        ):
            raise PersistentError(
                f"{self.where} has dropped block {height}, which was not read yet. Point"
                f" {self.client.setting}.daemon.url at a node that still has it"
            ) from answer

    # --- transactions ---

    async def transactions(self, txids: Sequence[bytes]) -> list[Json | None]:
        """What the node knows of each: the transaction object, or None."""
        calls: list[Call] = [("eth_getTransactionByHash", ("0x" + txid.hex(),)) for txid in txids]
        values = [self.result(answer) for answer in await self.many(calls)]
        return [None if value is None else self.as_object(value) for value in values]

    # --- state ---

    async def decimals(self, contracts: Sequence[bytes]) -> list[tuple[bool, int | None]]:
        """(has code, what decimals() answers or None) of each contract."""
        calls: list[Call] = []
        for contract in contracts:
            address = "0x" + contract.hex()
            calls.append(("eth_getCode", (address, "latest")))
            calls.append(("eth_call", ({"to": address, "data": _DECIMALS}, "latest")))
        found: list[tuple[bool, int | None]] = []
        answers = await self.many(calls)
        for code, answer in zip(answers[::2], answers[1::2], strict=True):
            has_code = self.as_data(self.result(code)) != b""
            found.append((has_code, self._word(answer)))
        return found

    def _word(self, answer: object) -> int | None:
        if isinstance(answer, RpcError):
            words = answer.message.lower()
            if answer.code in _REVERTED_CODES or any(word in words for word in _REVERTED_WORDS):
                return None
            raise answer
        word = self.as_data(answer)
        return int.from_bytes(word, "big") if len(word) == 32 else None

    # --- shapes ---

    @property
    def where(self) -> str:
        return self.client.where

    def result(self, answer: Any) -> Any:
        """An answer of a batch, or its error raised."""
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def ref(self, block: object) -> BlockRef:
        try:
            return block_ref(block)
        except WireError as error:
            self.garbage(str(error), block)

    def as_hash(self, value: object) -> bytes:
        try:
            return data(value, HASH_BYTES)
        except WireError as error:
            self.garbage(str(error), value)

    def as_data(self, value: object) -> bytes:
        try:
            return data(value)
        except WireError as error:
            self.garbage(str(error), value)

    def as_quantity(self, value: object) -> int:
        try:
            return quantity(value)
        except WireError as error:
            self.garbage(str(error), value)

    def as_object(self, value: object) -> Json:
        if not isinstance(value, dict):
            self.garbage("no object", value)
        return value

    def garbage(self, what: str, value: object) -> NoReturn:
        raise TransientError(
            f"{self.where} answered garbage: {what}: {str(value)[:80]!r}. Is this the address of an"
            " EVM node's JSON-RPC?"
        )

    def header_in(self, answer: object, height: int) -> BlockRef | None:
        self.refuse_pruned(answer, height)
        block = self.result(answer)
        if block is None:
            return None
        found = self.ref(block)
        if found.height != height:
            self.garbage(f"block {found.height} instead of {height}", found.hash.hex())
        return found


def header_call(which: str) -> Call:
    return ("eth_getBlockByNumber", (which, False))
