"""Several JSON-RPC nodes of one EVM chain as if they were one RpcClient (see endpoint_pool.py)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import trio

from actors.ports import Log, TransientError
from daemon.drivers.endpoint import Endpoint, EndpointHealth, PoolPolicy, Sight
from daemon.drivers.endpoint_pool import NodePool
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.jsonrpc_words import Call, RpcError
from daemon.drivers.jsonrpc_ws import JsonRpcWs
from daemon.drivers.paced_rpc import PATIENCE_S, PacedRpc
from daemon.drivers.rpc_client import HttpRpc, Lost, RpcClient
from daemon.drivers.websocket import WS_PORTS

__all__ = ["EndpointHealth", "EndpointPool", "EvmProbe", "PoolPolicy", "open_endpoints"]

CHECK_TIMEOUT_S = 10.0
PATIENCE_WITH_OTHERS_S = 5.0
"""How long a call waits for its turn at an endpoint that limits it, when there are others."""


class EvmProbe:
    """`chain_id` is what each node must answer to eth_chainId (EIP-695)."""

    def __init__(self, chain_id: int) -> None:
        self._chain_id = chain_id

    @property
    def wanted(self) -> str:
        return f"nodes of chain {self._chain_id}"

    async def look(self, client: RpcClient) -> Sight:
        calls: list[Call] = [("eth_chainId", ()), ("eth_blockNumber", ())]
        answers = await client.batch(calls, timeout_s=CHECK_TIMEOUT_S)
        chain_id, head = (_quantity(answer, client.where) for answer in answers)
        if chain_id != self._chain_id:
            return Sight(head, f"its chain id is {chain_id}, not {self._chain_id}")
        return Sight(head)

    async def hash_at(self, client: RpcClient, height: int) -> str | None:
        question = ("eth_getBlockByNumber", hex(height), False)
        block = await client.call(*question, timeout_s=CHECK_TIMEOUT_S)
        # A node that has pruned the block has no vote.
        if isinstance(block, dict) and isinstance(block.get("hash"), str):
            return str(block["hash"]).lower()
        return None


class EndpointPool(NodePool[RpcClient]):
    """An RpcClient of several endpoints in order of preference, all of the chain `chain_id`."""

    def __init__(
        self,
        clients: Sequence[RpcClient],
        *,
        chain_id: int,
        log: Log,
        policy: PoolPolicy | None = None,
    ) -> None:
        super().__init__(clients, probe=EvmProbe(chain_id), log=log, policy=policy)

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        endpoint = await self._ready()
        with self.judged(endpoint):
            return await endpoint.client.call(method, *params, timeout_s=timeout_s)

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Any]:
        endpoint = await self._ready()
        with self.judged(endpoint):
            return await endpoint.client.batch(calls, timeout_s=timeout_s)

    @asynccontextmanager
    async def subscribe(self, kind: str, *params: Any) -> AsyncIterator[AsyncIterator[Any | Lost]]:
        endpoint = await self._ready()
        async with AsyncExitStack() as stack:
            with self.judged(endpoint):
                news = await stack.enter_async_context(endpoint.client.subscribe(kind, *params))
            yield _News(self, endpoint, news)


class _News:
    """A subscription that ends when the pool switches."""

    def __init__(
        self, pool: EndpointPool, endpoint: Endpoint[RpcClient], news: AsyncIterator[Any | Lost]
    ) -> None:
        self._pool = pool
        self._endpoint = endpoint
        self._news = news
        self._switches = pool.switches

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any | Lost:
        if self._pool.switches == self._switches:
            with trio.CancelScope() as iteration:
                self._endpoint.iterations.add(iteration)
                try:
                    with self._pool.judged(self._endpoint):
                        return await anext(self._news)
                finally:
                    self._endpoint.iterations.discard(iteration)
        raise TransientError(self._pool.switch_text)


def open_endpoints(
    urls: Sequence[str],
    *,
    setting: str,
    chain_id: int,
    log: Log,
    login: Login | None = None,
    timeout_s: float = 30.0,
    policy: PoolPolicy | None = None,
) -> EndpointPool:
    """A pool of paced clients: ws and wss URLs can push, http and https URLs cannot.

    `login` is for the first URL only, which is a person's own node; others bring theirs in the URL,
    so that no password goes to a stranger. Connects to nothing yet. Raises ValueError for a URL
    that is none.
    """
    clients: list[RpcClient] = []
    for place, url in enumerate(urls):
        own = login if place == 0 else None
        plain: RpcClient
        if url.partition("://")[0].lower() in WS_PORTS:
            plain = JsonRpcWs(url, setting=setting, login=own, timeout_s=timeout_s)
        else:
            plain = HttpRpc(url, setting=setting, login=own, timeout_s=timeout_s)
        patience_s = PATIENCE_S if len(urls) == 1 else PATIENCE_WITH_OTHERS_S
        clients.append(PacedRpc(plain, log=log, patience_s=patience_s))
    return EndpointPool(clients, chain_id=chain_id, log=log, policy=policy)


def _quantity(answer: object, where: str) -> int:
    """A number in a batch's answer, or the answer's error raised."""
    if isinstance(answer, RpcError):
        raise answer
    if isinstance(answer, str) and re.fullmatch("0x[0-9a-fA-F]{1,16}", answer):
        return int(answer, 16)
    raise TransientError(
        f"{where} answered garbage: no number: {str(answer)[:80]!r}. Is this an Ethereum-like node?"
    )
