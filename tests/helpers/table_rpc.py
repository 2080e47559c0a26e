"""An RpcClient that answers from a table, and pushes what a test says. No socket, no delay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from actors.ports import TransientError
from daemon.drivers.jsonrpc import METHOD_NOT_FOUND
from daemon.drivers.jsonrpc_words import Call, RpcError
from daemon.drivers.rpc_client import RpcStatistics
from daemon.drivers.subscription import Subscription


def refusal(message: str = "Method not found", code: int = METHOD_NOT_FOUND) -> RpcError:
    return RpcError(code, message, f"coin.eth.daemon.url (fake) refused: {message} (error {code})")


@dataclass
class TableRpc:
    """`methods`: name → answer, or a function of the params; an exception is its refusal.

    A failure in `failures` is raised by the next requests, one each.
    """

    methods: dict[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("newHeads", "newPendingTransactions")
    """What can be subscribed to."""
    can_subscribe: bool = False
    knows_bodies: bool = True
    setting: str = "coin.eth"
    where: str = "coin.eth.daemon.url (fake)"
    requests: list[list[Call]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    largest_batch: int = 1000
    closed: bool = False
    pushes: dict[str, Subscription] = field(default_factory=dict)

    @property
    def calls(self) -> list[str]:
        return [method for request in self.requests for method, _ in request]

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        answer = (await self._ask([(method, params)]))[0]
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Any]:
        if len(calls) > self.largest_batch:
            self.requests.append(list(calls))
            raise refusal("batch too large", -32600)
        return await self._ask(list(calls))

    @asynccontextmanager
    async def subscribe(self, kind: str, *params: Any) -> AsyncIterator[AsyncIterator[Any]]:
        await trio.lowlevel.checkpoint()
        if kind not in self.kinds or (params and not self.knows_bodies):
            raise refusal("no such subscription", -32602)
        self.pushes[kind] = subscription = Subscription()
        yield subscription

    def push(self, kind: str, item: Any) -> None:
        """Have the node push; an exception ends the connection."""
        if isinstance(item, Exception):
            self.pushes[kind].fail(lambda: item)
        else:
            self.pushes[kind].put(item)

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()

    def statistics(self) -> RpcStatistics:
        return RpcStatistics(calls=len(self.calls), requests=len(self.requests))

    async def _ask(self, calls: list[Call]) -> list[Any]:
        self.requests.append(calls)
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        return [self._answer(method, params) for method, params in calls]

    def _answer(self, method: str, params: tuple[Any, ...]) -> Any:
        if method not in self.methods:
            return refusal()
        given = self.methods[method]
        try:
            return given(*params) if callable(given) else given
        except TransientError as error:
            return error
