"""JSON-RPC 2.0 over a websocket: pipelined calls, batches and subscriptions (EIP-1193) at once.

An RpcClient. It connects when it is first asked, and again when asked after the connection failed;
what was under way then fails. One answer that cannot be right ends the connection for all, because
nothing that comes after it can be trusted to belong to its request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio

from actors.ports import PersistentError, TransientError
from daemon.drivers.jsonrpc import BATCH_LIMIT, MAX_ANSWER_BYTES
from daemon.drivers.jsonrpc_http import parse_url
from daemon.drivers.jsonrpc_login import Credentials, Login
from daemon.drivers.jsonrpc_words import EVM_ADVICE, Advice, Call, NodeWords, RpcError
from daemon.drivers.rpc_client import Lost, RpcStatistics
from daemon.drivers.subscription import BUFFER_LIMIT, Subscription
from daemon.drivers.websocket import WS_PORTS
from daemon.drivers.ws_session import Limits, Session

REQUESTS_AT_ONCE = 256


class JsonRpcWs:
    """An RpcClient over ws:// or wss://.

    `setting` is the name under which a person configured the chain: `coin.eth`. At most
    REQUESTS_AT_ONCE requests are under way at once; more wait their turn, in order. Raises
    ValueError for a URL that is none.
    """

    can_subscribe = True

    def __init__(
        self,
        url: str,
        *,
        setting: str,
        login: Login | None = None,
        timeout_s: float = 30.0,
        max_message_bytes: int = MAX_ANSWER_BYTES,
        buffer_limit: int = BUFFER_LIMIT,
        advice: Advice = EVM_ADVICE,
    ) -> None:
        address, user, password = parse_url(url, ports=WS_PORTS, example="ws://127.0.0.1:8546")
        self.setting = setting
        self.timeout_s = timeout_s
        credentials = Credentials(login or Login(user, password), setting=setting)
        self._credentials = credentials
        self._words = NodeWords(address, setting=setting, credentials=credentials, advice=advice)
        self._limits = Limits(message_bytes=max_message_bytes, requests=REQUESTS_AT_ONCE)
        self._buffer_limit = buffer_limit
        self._limiter = trio.CapacityLimiter(REQUESTS_AT_ONCE)
        self._session: Session | None = None
        self._failures = 0
        self._past = RpcStatistics()

    @property
    def where(self) -> str:
        return self._words.where

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        """The result of one call. Raises RpcError when the node refuses it."""
        with self._bounds(timeout_s):
            session = await self._connected()
            answers = await self._ask(session, [(method, params)], batch=False)
        return _checked(answers[0])

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Any]:
        """The results in the order of `calls` (at most BATCH_LIMIT); a refused one is its RpcError.

        Raises RpcError when the node refuses the batch as a whole.
        """
        assert len(calls) <= BATCH_LIMIT, f"a batch has at most {BATCH_LIMIT} calls"
        if not calls:
            return []
        with self._bounds(timeout_s):
            return await self._ask(await self._connected(), calls, batch=True)

    @asynccontextmanager
    async def subscribe(self, kind: str, *params: Any) -> AsyncIterator[AsyncIterator[Any | Lost]]:
        """The node's news; see RpcClient. Leaving unsubscribes, without waiting for an answer."""
        subscription = Subscription(self._buffer_limit)
        call = ("eth_subscribe", (kind, *params))
        with self._bounds(None):
            session = await self._connected()
            answers = await self._ask(session, [call], batch=False, subscription=subscription)
        _checked(answers[0])
        try:
            yield subscription
        finally:
            session.unsubscribe(subscription)

    async def aclose(self) -> None:
        """Close the connection; what is under way fails. A later call opens a new one."""
        if self._session is not None:
            await self._session.close()

    def statistics(self) -> RpcStatistics:
        own = RpcStatistics(failures=self._failures) + self._past
        return own if self._session is None else own + self._session.statistics()

    # --- inner ---

    @contextmanager
    def _bounds(self, timeout_s: float | None) -> Iterator[None]:
        bound_s = self.timeout_s if timeout_s is None else timeout_s
        limit_bytes = self._limits.message_bytes
        try:
            with (
                self._words.failures(timeout_s=bound_s, limit_bytes=limit_bytes),
                trio.fail_after(bound_s),
            ):
                yield
        except (TransientError, PersistentError):
            self._failures += 1
            raise

    async def _ask(
        self,
        session: Session,
        calls: Sequence[Call],
        *,
        batch: bool,
        subscription: Subscription | None = None,
    ) -> list[Any]:
        async with self._limiter:
            return await session.ask(calls, batch=batch, subscription=subscription)

    async def _connected(self) -> Session:
        """The open connection, or a new one; several callers wait for the same attempt."""
        session = self._session
        if session is None or session.has_ended:
            if session is not None:
                self._past += session.statistics()
            session = Session(self._words, self._credentials, limits=self._limits)
            self._session = session
            session.start()
        await session.wait_open()
        return session


def _checked(answer: Any) -> Any:
    if isinstance(answer, RpcError):
        raise answer
    return answer
