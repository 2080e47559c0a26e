"""An RpcClient without a network: a chain of made-up blocks, and whatever failure a test sets."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from daemon.drivers.rpc_client import Call, CannotSubscribeError, Lost, RpcStatistics
from daemon.drivers.subscription import Subscription


@dataclass
class FakeRpc:
    """Answers like one node of a chain; `name` tells nodes apart."""

    name: str
    chain_id: int = 1
    head: int = 100
    branch: str = "main"
    """Nodes on the same branch have the same blocks."""
    can_subscribe: bool = True
    failure: Exception | None = None
    """What every request raises."""
    answers: dict[str, Any] = field(default_factory=dict)
    """Method → result, function of the params, or exception."""
    calls: list[str] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    before: Callable[[], Any] | None = None
    """Awaited before each request."""
    is_closed: bool = False
    setting: str = "coin.eth"

    @property
    def where(self) -> str:
        return f"coin.eth.daemon.url (ws://{self.name})"

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        await self._pass(method)
        answer = self._answer(method, params)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Any]:
        await self._pass(*(method for method, _ in calls))
        return [self._answer(method, params) for method, params in calls]

    @asynccontextmanager
    async def subscribe(self, kind: str, *params: Any) -> AsyncIterator[AsyncIterator[Any | Lost]]:
        await self._pass("eth_subscribe")
        if not self.can_subscribe:
            raise CannotSubscribeError(f"{self.where} is spoken to over HTTP")
        subscription = Subscription()
        self.subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self.subscriptions.remove(subscription)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_closed = True

    def statistics(self) -> RpcStatistics:
        return RpcStatistics(calls=len(self.calls))

    async def _pass(self, *methods: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.before is not None:
            await self.before()
        self.calls.extend(methods)
        if self.failure is not None:
            raise self.failure

    def _answer(self, method: str, params: tuple[Any, ...]) -> Any:
        if method in self.answers:
            answer = self.answers[method]
            return answer(*params) if callable(answer) else answer
        if method == "eth_chainId":
            return hex(self.chain_id)
        if method == "eth_blockNumber":
            return hex(self.head)
        if method == "eth_getBlockByNumber":
            return {"number": params[0], "hash": f"0x{self.branch}{params[0]}"}
        return self.name
