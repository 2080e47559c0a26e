"""JSON-RPC 1.0 and 2.0 over HTTP keep-alive, for nodes of any chain.

The world's failures become TransientError and PersistentError with texts for the person who runs
the daemon: what happened, which setting it was (`<setting>.daemon.url`, ...), what to do. No text
holds a user, a password or a cookie. Every call may be sent twice (a kept-alive connection may turn
out to be closed), so callers only make calls that are safe to repeat: a watch-only daemon asks.

Numbers are exact: JSON fractions arrive as Decimal, never as float.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

import trio

from actors.ports import PersistentError, TransientError
from daemon.drivers.jsonrpc_http import (
    Answer,
    ConnectionLostError,
    GarbledError,
    HttpConnection,
    TooLargeError,
    parse_url,
)
from daemon.drivers.jsonrpc_login import Credentials, Login

__all__ = [
    "BATCH_LIMIT",
    "IN_WARMUP",
    "MAX_ANSWER_BYTES",
    "METHOD_NOT_FOUND",
    "AnswerTooLargeError",
    "Call",
    "JsonRpcClient",
    "JsonRpcStatistics",
    "Lane",
    "Login",
    "RpcError",
]

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest honest answers: a 4 MB block is 8 MB of hex, 300 k mempool ids are 20 MB."""
BATCH_LIMIT = 1000
IN_WARMUP = -28
METHOD_NOT_FOUND = -32601
_SHOWN = 80

Call = tuple[str, tuple[Any, ...]]
"""(method, params)."""


class RpcError(TransientError):
    """The node answered this call with a JSON-RPC error object."""

    def __init__(self, code: int, message: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.message = message
        """The node's words, shortened; without credentials."""


class AnswerTooLargeError(TransientError):
    """The answer is larger than the limit; asking for less at a time may help."""


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
    while running.
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
    ) -> None:
        self.address, user, password = parse_url(url)
        self.setting = setting
        self.credentials = Credentials(login or Login(user, password), setting=setting)
        self.timeout_s = timeout_s
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

    # --- failures, in words ---

    @contextmanager
    def failures(self, timeout_s: float) -> Iterator[None]:
        """Turn what goes wrong with a connection into the world's two errors, with a text."""
        try:
            yield
        except trio.TooSlowError:
            self._fail(
                f"did not answer within {timeout_s:g} s. Is the node overloaded? Raise"
                f" {self.setting}.rpc_timeout_s if it needs longer"
            )
        except (ConnectionLostError, trio.ClosedResourceError) as error:
            self._fail(f"{error or 'closed'}. Did the node stop? Its log tells why")
        except GarbledError as error:
            self._fail(f"answered garbage: {error}. Is this the node's RPC port?")
        except TooLargeError as error:
            self._failures += 1
            raise AnswerTooLargeError(
                f"{self.where} answered with more than we accept ({error}, the limit is"
                f" {self._max_answer_bytes}). Is this the node's RPC port?"
            ) from None
        except OSError as error:
            reason = _reason(error)
            self._fail(
                f"cannot be reached: {reason}. Is the node running, and are host and port"
                " those of its RPC server?"
            )
        except (TransientError, PersistentError):
            self._failures += 1
            raise

    @property
    def where(self) -> str:
        """The node, for people: the setting that names it and its address."""
        return f"{self.setting}.daemon.url ({self.address.display})"

    def _fail(self, what: str) -> NoReturn:
        self._failures += 1
        raise TransientError(f"{self.where} {what}") from None

    def decode(
        self, answer: Answer, ids: range, methods: Sequence[str], *, batch: bool
    ) -> list[Any]:
        """Results in the order of `ids`; a refused call is an RpcError in its place."""
        self._refuse_status(answer)
        try:
            parsed = json.loads(answer.body, parse_float=Decimal, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            if answer.status != 200:
                raise TransientError(
                    f"{self.where} answered HTTP {answer.status}: {self._shown(answer.body)}."
                    " Is this the node's RPC address? Its log tells more"
                ) from None
            self._garbage("no JSON", answer.body)
        if isinstance(parsed, dict) and (not batch or parsed.get("error") is not None):
            error = parsed.get("error")
            if error is not None and (batch or parsed.get("id") is None):
                raise self._rpc_error(error, methods[0])
            parsed = [parsed]
        if not isinstance(parsed, list):
            self._garbage("neither an object nor a list", answer.body)
        results: dict[int, Any] = {}
        for item in parsed:
            if not isinstance(item, dict) or not isinstance(item.get("id"), int):
                self._garbage("no JSON-RPC answer", answer.body)
            number = item["id"]
            if number not in ids or number in results:
                self._garbage("an answer to another request", answer.body)
            error = item.get("error")
            if error is not None:
                results[number] = self._rpc_error(error, methods[number - ids.start])
            elif "result" in item:
                results[number] = item["result"]
            else:
                self._garbage("neither result nor error", answer.body)
        if len(results) != len(ids):
            self._garbage(f"{len(results)} answers to {len(ids)} calls", answer.body)
        return [results[number] for number in ids]

    def _refuse_status(self, answer: Answer) -> None:
        if answer.status in (401, 403):
            name = self.setting
            raise PersistentError(
                f"{self.where} refuses us (HTTP {answer.status}). Check {name}.daemon.user and"
                f" {name}.daemon.pass, or {name}.cookie_file, and that the node allows this"
                " machine (rpcallowip) and these calls (rpcwhitelist)"
            )
        if answer.status in (429, 502, 503, 504):
            wait = f"; it asks us to wait {answer.retry_after!r}" if answer.retry_after else ""
            raise TransientError(
                f"{self.where} is too busy (HTTP {answer.status}:"
                f" {self._shown(answer.body)}){wait}. If it stays so, raise the node's"
                " rpcworkqueue and rpcthreads"
            )

    def _garbage(self, what: str, body: bytes) -> NoReturn:
        raise TransientError(
            f"{self.where} answered garbage: {what} in {len(body)} bytes that begin"
            f" {self._shown(body)}. Is this the node's RPC port?"
        ) from None

    def _rpc_error(self, error: object, method: str) -> RpcError:
        code = error.get("code") if isinstance(error, dict) else None
        message = error.get("message") if isinstance(error, dict) else error
        if not isinstance(code, int):
            code = 0
        message = self.credentials.redacted(str(message)[:300])
        if code == IN_WARMUP:
            text = f"{self.where} is still starting: {message}. Wait until the node is ready"
        else:
            text = f"{self.where} refused {method}: {message} (error {code})"
        return RpcError(code, message, text)

    def _shown(self, body: bytes) -> str:
        return repr(self.credentials.redacted(body[:_SHOWN].decode("latin-1")))


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


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _reason(error: OSError) -> str:
    """Why: trio says that all attempts failed, and has their errors as the cause."""
    cause: BaseException | None = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    inner = cause if isinstance(cause, OSError) else error
    if inner.errno is not None and not isinstance(inner, socket.gaierror):
        return os.strerror(inner.errno)
    return inner.strerror or str(inner)
