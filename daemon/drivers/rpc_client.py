"""What a driver may ask of a node whose API is JSON-RPC, whatever carries it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import orjson

from actors.ports import TransientError
from daemon.drivers.jsonrpc import JsonRpcClient
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.jsonrpc_words import EVM_ADVICE, Advice, Call

__all__ = ["Call", "CannotSubscribeError", "HttpRpc", "Lost", "RpcClient", "RpcStatistics"]


@dataclass(frozen=True, slots=True)
class Lost:
    """Stands in a subscription where `count` news were dropped: the reader was too slow."""

    count: int


@dataclass(frozen=True, slots=True)
class RpcStatistics:
    calls: int = 0
    requests: int = 0
    """Messages to the node: a batch is one."""
    failures: int = 0
    bytes_received: int = 0
    connections: int = 0
    """Open, idle ones included."""
    subscriptions: int = 0
    """Open now."""
    notifications: int = 0
    lost: int = 0
    """News dropped because their reader was too slow."""
    refusals: int = 0
    """Requests refused because we sent too many."""
    paced_s: float = 0.0
    """Seconds that requests were held back."""

    def __add__(self, other: Self) -> RpcStatistics:
        """Field by field."""
        names = (each.name for each in fields(self))
        return RpcStatistics(*(getattr(self, name) + getattr(other, name) for name in names))


class CannotSubscribeError(TransientError):
    """This endpoint cannot push. Transient: another one of the chain's may be asked by now."""


class RpcClient(Protocol):
    """One node's JSON-RPC API, or several nodes of one chain as if they were one.

    Failures are TransientError and PersistentError, nothing else; an error object is an RpcError,
    which is a TransientError. Every call may be sent twice.
    """

    @property
    def where(self) -> str:
        """The node, for people: the setting that names it and its address, without keys."""
        ...

    @property
    def setting(self) -> str:
        """The chain's: `coin.eth`."""
        ...

    @property
    def can_subscribe(self) -> bool: ...

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        """The result of one call. Raises RpcError when the node refuses it."""
        ...

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Any]:
        """The results in the order of `calls` (at most BATCH_LIMIT); a refused one is its RpcError.

        Raises RpcError when the node refuses the batch as a whole.
        """
        ...

    def subscribe(
        self, kind: str, *params: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any | Lost]]:
        """The node's news (`eth_subscribe`, EIP-1193): each `params.result`, or Lost.

        Entering means: subscribed; raises RpcError when the node knows no such `kind`, and
        CannotSubscribeError where nothing can be pushed. Iterating raises TransientError after the
        connection failed and what came before has been read.
        """
        ...

    async def aclose(self) -> None: ...

    def statistics(self) -> RpcStatistics: ...


class HttpRpc:
    """An RpcClient over HTTP, which cannot push."""

    can_subscribe = False

    def __init__(
        self,
        url: str,
        *,
        setting: str,
        login: Login | None = None,
        timeout_s: float = 30.0,
        connections: int = 4,
        advice: Advice = EVM_ADVICE,
    ) -> None:
        # orjson: an EVM node's fractions do not matter, and its logs are many.
        self._client = JsonRpcClient(
            url,
            setting=setting,
            login=login,
            timeout_s=timeout_s,
            connections=connections,
            advice=advice,
            loads=orjson.loads,
        )
        self.setting = setting

    @property
    def where(self) -> str:
        return self._client.where

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        return await self._client.call(method, *params, timeout_s=timeout_s)

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Any]:
        return await self._client.batch(calls, timeout_s=timeout_s)

    def subscribe(
        self, kind: str, *_params: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any | Lost]]:
        raise CannotSubscribeError(
            f"{self.where} is spoken to over HTTP, which cannot push {kind}. Set a ws:// or wss://"
            f" URL in {self.setting}.daemon.url for that"
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    def statistics(self) -> RpcStatistics:
        own = self._client.statistics()
        return RpcStatistics(
            calls=own.calls,
            requests=own.requests,
            failures=own.failures,
            bytes_received=own.bytes_received,
            connections=own.connections,
        )
