"""An RpcClient that keeps to the pace its endpoint wants (see pacing.py)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import trio

from actors.ports import Log
from daemon.drivers.jsonrpc_words import BATCH_LIMIT, BusyError, Call, RpcError
from daemon.drivers.pacing import Pacer, RateLimitedError, retry_after_s
from daemon.drivers.rpc_client import Lost, RpcClient, RpcStatistics

ATTEMPTS = 6
PATIENCE_S = 60.0
LIMIT_EXCEEDED = -32005
"""EIP-1474: "Request exceeds defined limit"; said of too many requests and of too large ranges."""
_RATE_CODES = frozenset((LIMIT_EXCEEDED, -32029, -32097, 429))
_RATE_WORDS = re.compile(
    r"rate.?limit|too many requests|request count exceeded|throttl", re.IGNORECASE
)
_SIZE_WORDS = re.compile(
    r"block range|results|response size|too (?:large|big|wide)|logs", re.IGNORECASE
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Refusal:
    told_s: float | None
    why: str


class PacedRpc:
    """`client`, asked no faster than its endpoint wants.

    A call that is refused for the rate is repeated up to ATTEMPTS times; then, or when its turn
    would come later than `patience_s` after the call (assign it at any time), RateLimitedError is
    raised.
    """

    def __init__(self, client: RpcClient, *, log: Log, patience_s: float = PATIENCE_S) -> None:
        self._client = client
        self.pacer = Pacer(client.where, log=log)
        self.patience_s = patience_s
        self._calls_per_batch = BATCH_LIMIT

    @property
    def where(self) -> str:
        return self._client.where

    @property
    def setting(self) -> str:
        return self._client.setting

    @property
    def can_subscribe(self) -> bool:
        return self._client.can_subscribe

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        return await self._paced(
            method, lambda: self._client.call(method, *params, timeout_s=timeout_s)
        )

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Any]:
        """As RpcClient's; split when the endpoint refuses so many at once."""
        results: list[Any] = [None] * len(calls)
        pending = list(range(len(calls)))
        attempts = 0
        until = trio.current_time() + self.patience_s
        while pending:
            chunk = pending[: self._calls_per_batch]
            ticket = await self.pacer.turn(len(chunk), patience_s=until - trio.current_time())
            refusal: _Refusal | None = None
            refused: list[int] = []
            try:
                answers = await self._client.batch([calls[n] for n in chunk], timeout_s=timeout_s)
            except (BusyError, RpcError) as error:
                refusal = _refusal(error, {calls[n][0] for n in chunk})
                if refusal is None:
                    raise
                refused = chunk
            else:
                for number, answer in zip(chunk, answers, strict=True):
                    results[number] = answer
                    if isinstance(answer, RpcError) and (
                        one := _refusal(answer, {calls[number][0]})
                    ):
                        refusal = one
                        refused.append(number)
            attempts = attempts + 1 if len(refused) == len(chunk) else 0
            self._judge(ticket, refusal, attempts=attempts)
            self._calls_per_batch = (
                max(1, len(chunk) // 2) if refusal else min(self._calls_per_batch * 2, BATCH_LIMIT)
            )
            pending = refused + pending[len(chunk) :]
        return results

    @asynccontextmanager
    async def subscribe(self, kind: str, *params: Any) -> AsyncIterator[AsyncIterator[Any | Lost]]:
        async with AsyncExitStack() as stack:
            yield await self._paced(
                "eth_subscribe",
                lambda: stack.enter_async_context(self._client.subscribe(kind, *params)),
            )

    async def aclose(self) -> None:
        await self._client.aclose()

    def statistics(self) -> RpcStatistics:
        pace = self.pacer.statistics()
        own = self._client.statistics()
        return replace(own, refusals=pace.refusals, paced_s=pace.paced_s)

    async def _paced(self, method: str, ask: Callable[[], Awaitable[T]]) -> T:
        attempts = 0
        until = trio.current_time() + self.patience_s
        while True:
            ticket = await self.pacer.turn(patience_s=until - trio.current_time())
            try:
                result = await ask()
            except (BusyError, RpcError) as error:
                refusal = _refusal(error, {method})
                if refusal is None:
                    raise
            else:
                self.pacer.accepted(ticket)
                return result
            attempts += 1
            self._judge(ticket, refusal, attempts=attempts)

    def _judge(self, ticket: float, refusal: _Refusal | None, *, attempts: int) -> None:
        if refusal is None:
            self.pacer.accepted(ticket)
            return
        self.pacer.refused(ticket, told_s=refusal.told_s, why=refusal.why)
        if attempts >= ATTEMPTS:
            raise RateLimitedError(f"{refusal.why} (asked {attempts} times)")


def _refusal(error: BusyError | RpcError, methods: set[str]) -> _Refusal | None:
    """What the endpoint says about our rate; None when the error is about something else."""
    if isinstance(error, BusyError):
        told_s = retry_after_s(error.retry_after) if error.retry_after else None
        is_ours = error.status == 429 or (error.status == 503 and told_s is not None)
        return _Refusal(told_s, str(error)) if is_ours else None
    if not _is_of_rate(error, methods):
        return None
    return _Refusal(_told_s(error.data), str(error))


def _is_of_rate(error: RpcError, methods: set[str]) -> bool:
    if _RATE_WORDS.search(error.message):
        return True
    if error.code == LIMIT_EXCEEDED and "eth_getLogs" in methods:
        # Of logs it is said of ranges that are too large: the caller has to ask for less.
        return False
    return error.code in _RATE_CODES and not _SIZE_WORDS.search(error.message)


def _told_s(data: object) -> float | None:
    """Infura's `data.rate.backoff_seconds`."""
    rate = data.get("rate") if isinstance(data, dict) else None
    told = rate.get("backoff_seconds") if isinstance(rate, dict) else None
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    return max(0.0, float(told))
