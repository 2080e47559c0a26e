"""JSON-RPC 1.0 and 2.0 over HTTP keep-alive, for nodes of any chain.

The world's failures become TransientError and PersistentError with texts for the person who runs
the daemon: what happened, which setting it was (`<setting>.daemon.url`, ...), what to do. No text
holds a user, a password or a cookie. Every call may be sent twice (a kept-alive connection may turn
out to be closed), so callers only make calls that are safe to repeat: a watch-only daemon asks.

Numbers are exact: JSON fractions arrive as Decimal, never as float.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

import trio

from actors.ports import PersistentError, TransientError
from daemon.drivers.jsonrpc_http import Answer, HttpConnection, parse_url
from daemon.drivers.jsonrpc_login import Credentials, Login
from daemon.drivers.jsonrpc_words import (
    BATCH_LIMIT,
    BITCOIN_ADVICE,
    IN_WARMUP,
    METHOD_NOT_FOUND,
    Advice,
    AnswerTooLargeError,
    BusyError,
    Call,
    NodeWords,
    RpcError,
)

__all__ = [
    "BATCH_LIMIT",
    "IN_WARMUP",
    "MAX_ANSWER_BYTES",
    "METHOD_NOT_FOUND",
    "AnswerTooLargeError",
    "BusyError",
    "Call",
    "JsonRpcClient",
    "JsonRpcStatistics",
    "Lane",
    "Login",
    "RpcError",
    "exact_json",
]

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest honest answers: a 4 MB block is 8 MB of hex, 300 k mempool ids are 20 MB."""


@dataclass(frozen=True, slots=True)
class JsonRpcStatistics:
    calls: int
    requests: int
    """HTTP requests: a batch is one."""
    failures: int
    bytes_received: int
    connections: int
    """Open, idle ones included."""


class JsonRpcClient:
    """Calls one node.

    `setting` is the name under which a person configured it: `coin.btc`. At most `connections`
    requests are under way at once; more wait their turn. Assign `credentials.login` to change it
    while running. `loads` parses answers (ValueError: no JSON); `exact_json` unless given.
    """

    def __init__(
        self,
        url: str,
        *,
        setting: str,
        login: Login | None = None,
        timeout_s: float = 30.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        connections: int = 4,
        advice: Advice = BITCOIN_ADVICE,
        loads: Callable[[bytes], Any] | None = None,
    ) -> None:
        self.address, user, password = parse_url(url)
        self.setting = setting
        self.credentials = Credentials(login or Login(user, password), setting=setting)
        self.words = NodeWords(
            self.address, setting=setting, credentials=self.credentials, advice=advice
        )
        self.timeout_s = timeout_s
        self._loads = loads or exact_json
        self._max_answer_bytes = max_answer_bytes
        self._limiter = trio.CapacityLimiter(connections)
        self._idle: list[Lane] = []
        self._lanes: set[Lane] = set()
        self._next_id = 0
        self._requests = 0
        self._failures = 0
        self._bytes_received = 0

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        """The result of one call. Raises RpcError when the node refuses it."""
        answer = (await self._ask([(method, params)], batch=False, timeout_s=timeout_s))[0]
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Any]:
        """The results in the order of `calls` (at most BATCH_LIMIT); a refused one is its RpcError.

        The node works through them in order, one HTTP request for all.
        """
        return await self._ask(calls, batch=True, timeout_s=timeout_s) if calls else []

    def lane(self) -> Lane:
        """A connection of one's own, for a long poll or for asking ahead; close it after use."""
        lane = Lane(self)
        self._lanes.add(lane)
        return lane

    async def aclose(self) -> None:
        """Close all connections; calls under way fail."""
        for lane in list(self._lanes):
            lane.close()
        self._idle.clear()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> JsonRpcStatistics:
        return JsonRpcStatistics(
            calls=self._next_id,
            requests=self._requests,
            failures=self._failures,
            bytes_received=self._bytes_received + sum(lane.bytes_received for lane in self._lanes),
            connections=sum(lane.is_open for lane in self._lanes),
        )

    async def _ask(
        self, calls: Sequence[Call], *, batch: bool, timeout_s: float | None
    ) -> list[Any]:
        async with self._limiter:
            lane = self._idle.pop() if self._idle else self.lane()
            try:
                await lane.send(calls, batch=batch)
                return await lane.receive(timeout_s=timeout_s)
            finally:
                # A lane with an answer still due opens itself anew for its next request.
                self._idle.append(lane)

    # --- what lanes share ---

    def number(self, count: int) -> range:
        """Fresh request ids."""
        first = self._next_id
        self._next_id += count
        self._requests += 1
        return range(first, first + count)

    def connect(self) -> HttpConnection:
        return HttpConnection(self.address, max_answer_bytes=self._max_answer_bytes)

    def forget(self, lane: Lane) -> None:
        if lane in self._lanes:
            self._lanes.discard(lane)
            self._bytes_received += lane.bytes_received

    @contextmanager
    def failures(self, timeout_s: float) -> Iterator[None]:
        """Turn what goes wrong with a connection into the world's two errors, with a text."""
        limit_bytes = self._max_answer_bytes
        try:
            with self.words.failures(timeout_s=timeout_s, limit_bytes=limit_bytes):
                yield
        except (TransientError, PersistentError):
            self._failures += 1
            raise

    @property
    def where(self) -> str:
        """The node, for people: the setting that names it and its address."""
        return self.words.where

    def decode(
        self, answer: Answer, ids: range, methods: Sequence[str], *, batch: bool
    ) -> list[Any]:
        """Results in the order of `ids`; a refused call is an RpcError in its place."""
        refusal = self.words.status_error(answer.status, answer.body, answer.retry_after)
        if refusal is not None:
            raise refusal
        try:
            parsed = self._loads(answer.body)
        except (ValueError, RecursionError):
            if answer.status != 200:
                raise self.words.transient(
                    f"answered HTTP {answer.status}: {self.words.shown(answer.body)}."
                    " Is this the node's RPC address? Its log tells more"
                ) from None
            self.words.garbage("no JSON", answer.body)
        return self.words.results(parsed, ids, methods, batch=batch, body=answer.body)


class Lane:
    """One connection, used by one task at a time: `send`, then `receive`, in turn.

    Between the two the node already works. A request whose answer was never received is dropped.
    """

    def __init__(self, client: JsonRpcClient) -> None:
        self._client = client
        self._connection = client.connect()
        self._body = b""
        self._ids = range(0)
        self._methods: list[str] = []
        self._batch = False

    @property
    def is_open(self) -> bool:
        return self._connection.is_open

    @property
    def bytes_received(self) -> int:
        return self._connection.bytes_received

    async def send(
        self, calls: Sequence[Call], *, batch: bool = True, timeout_s: float | None = None
    ) -> None:
        """Send a batch, or one call alone."""
        assert batch or len(calls) == 1, "several calls are a batch"
        assert 0 < len(calls) <= BATCH_LIMIT, f"a batch has 1 to {BATCH_LIMIT} calls"
        self._ids = self._client.number(len(calls))
        self._methods = [method for method, _ in calls]
        self._batch = batch
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in zip(self._ids, calls, strict=True)
        ]
        self._body = json.dumps(requests if batch else requests[0], separators=(",", ":")).encode()
        with self._limits(timeout_s):
            await self._connection.send(
                self._body, authorization=self._client.credentials.authorization()
            )

    async def receive(self, *, timeout_s: float | None = None) -> list[Any]:
        """Results in the order of the calls; a refused call is an RpcError in its place."""
        with self._limits(timeout_s):
            answer = await self._connection.receive()
            if answer.status == 401 and self._client.credentials.renew():
                authorization = self._client.credentials.authorization()
                await self._connection.send(self._body, authorization=authorization)
                answer = await self._connection.receive()
            return self._client.decode(answer, self._ids, self._methods, batch=self._batch)

    def close(self) -> None:
        """Close at once; an answer still due is dropped. May be called again."""
        self._connection.close()
        self._client.forget(self)

    @contextmanager
    def _limits(self, timeout_s: float | None) -> Iterator[None]:
        bound = self._client.timeout_s if timeout_s is None else timeout_s
        with self._client.failures(bound), trio.fail_after(bound):
            yield


def exact_json(body: bytes) -> Any:
    """Parsed JSON whose fractions are Decimal. Raises ValueError, RecursionError."""
    return json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
