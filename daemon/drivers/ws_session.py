"""One websocket connection to a node, with the requests and subscriptions under way on it.

It runs in a system task of Trio's, because a driver has no nursery of its own: answers have to be
read, and pings sent, also while nobody asks. Nothing is raised there: a failure, and also a bug, is
told to everybody who waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import trio

from daemon.drivers.jsonrpc_http import ConnectionLostError
from daemon.drivers.jsonrpc_login import Credentials
from daemon.drivers.jsonrpc_words import Call, NodeWords, RpcError
from daemon.drivers.rpc_client import RpcStatistics
from daemon.drivers.subscription import Subscription
from daemon.drivers.websocket import OPEN_S, RejectedError, WebSocket, run_websocket

PING_S = 15.0
PONG_S = 15.0
LATE_LIMIT = 10_000
EARLY_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    message_bytes: int
    requests: int
    """Requests that wait to be sent."""


@dataclass(slots=True)
class _Request:
    ids: range
    methods: list[str]
    is_batch: bool
    subscription: Subscription | None
    done: trio.Event = field(default_factory=trio.Event)
    answers: list[Any] | None = None
    failure: Exception | None = None


class Session:
    """`start` it once; `ask` on it until `has_ended`."""

    def __init__(self, words: NodeWords, credentials: Credentials, *, limits: Limits) -> None:
        self._words = words
        self._credentials = credentials
        self._limits = limits
        self._outgoing, self._outbox = trio.open_memory_channel[str](limits.requests)
        self._requests: dict[int, _Request] = {}
        self._late: dict[int, bool] = {}
        """Ids whose answers nobody waits for any more; true for subscriptions."""
        self._subscriptions: dict[str | int, Subscription] = {}
        self._early: list[tuple[str | int, Any]] = []
        """News that came before the answer that names their subscription."""
        self._failure: Exception | None = None
        self._socket: WebSocket | None = None
        self._scope = trio.CancelScope()
        self._open = trio.Event()
        self._closed = trio.Event()
        self._next_id = 0
        self._sent = 0
        self._notifications = 0
        self._lost = 0

    def start(self) -> None:
        """Begin to connect."""
        trio.lowlevel.spawn_system_task(self._run, name=f"websocket of {self._words.where}")

    @property
    def has_ended(self) -> bool:
        return self._failure is not None

    async def wait_open(self) -> None:
        """Return when requests can be sent. Raises why not, if so."""
        await self._open.wait()
        if self._failure is not None:
            raise self.error()

    async def ask(
        self, calls: Sequence[Call], *, batch: bool, subscription: Subscription | None
    ) -> list[Any]:
        """Results in the order of the calls; a refused call is an RpcError in its place."""
        ids = self._number(len(calls))
        request = _Request(ids, [method for method, _ in calls], batch, subscription)
        text = _encoded(ids, calls, batch=batch)
        self._requests.update(dict.fromkeys(ids, request))
        try:
            await self._outgoing.send(text)
            await request.done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self.error() from None
        finally:
            if not request.done.is_set():
                self._abandon(request)
        if request.failure is not None:
            raise request.failure
        if request.answers is None:
            raise self.error()
        return request.answers

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop the news; the node is told, but its answer not waited for."""
        for number, other in list(self._subscriptions.items()):
            if other is subscription:
                self._lost += subscription.lost
                del self._subscriptions[number]
                self._tell_unsubscribed(number)

    async def close(self) -> None:
        """End, with a farewell to the node if it listens."""
        self._end(ConnectionLostError("connection was closed by us"))
        self._scope.cancel()
        await self._closed.wait()

    def error(self) -> Exception:
        """A new error that tells why the session ended."""
        failure = self._failure
        assert failure is not None, "asked of a session that has ended"
        told = self._words.told(failure, timeout_s=OPEN_S, limit_bytes=self._limits.message_bytes)
        if told is None:
            told_bug = AssertionError(f"bug in the websocket session: {failure!r}")
            told_bug.__cause__ = failure
            return told_bug
        return told

    def statistics(self) -> RpcStatistics:
        is_open = self._open.is_set() and not self.has_ended
        lost = sum(each.lost for each in self._subscriptions.values())
        return RpcStatistics(
            calls=self._next_id,
            requests=self._sent,
            bytes_received=self._socket.bytes_received if self._socket else 0,
            connections=int(is_open),
            subscriptions=len(self._subscriptions),
            notifications=self._notifications,
            lost=self._lost + lost,
        )

    # --- the task ---

    async def _run(self) -> None:
        try:
            with self._scope:
                await run_websocket(
                    self._words.address,
                    self._talk,
                    authorization=self._credentials.authorization(),
                    max_message_bytes=self._limits.message_bytes,
                )
        except Exception as error:  # noqa: BLE001 - the boundary of a system task: Trio would end the process
            self._end(error)
        finally:
            self._end(ConnectionLostError("connection was closed by us"))
            self._closed.set()

    async def _talk(self, socket: WebSocket) -> None:
        self._socket = socket
        self._open.set()
        with trio.CancelScope() as self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, socket)
                    nursery.start_soon(self._write, socket)
                    nursery.start_soon(self._keep_alive, socket)
            except* Exception as group:  # noqa: BLE001 - the same boundary: before the farewell, which takes a while
                self._end(_first(group))

    async def _read(self, socket: WebSocket) -> None:
        while True:
            message = await socket.receive()
            try:
                parsed = orjson.loads(message)
            except orjson.JSONDecodeError:
                self._words.garbage("no JSON", message)
            if isinstance(parsed, list):
                self._hear_batch(parsed, message)
            elif not isinstance(parsed, dict):
                self._words.garbage("neither an object nor a list", message)
            elif "method" in parsed:
                self._hear_news(parsed, message)
            else:
                self._hear_answer(parsed, message)

    async def _write(self, socket: WebSocket) -> None:
        async for text in self._outbox:
            await socket.send(text)
            self._sent += 1

    async def _keep_alive(self, socket: WebSocket) -> None:
        while True:
            await trio.sleep_until(socket.last_received_at + PING_S)
            began = trio.current_time()
            if began < socket.last_received_at + PING_S:
                continue
            with trio.move_on_after(PONG_S):
                await socket.ping()
            # A pong waits behind a long message, which is a sign of life as well.
            if socket.last_received_at < began:
                raise ConnectionLostError(f"answers no ping for {PONG_S:g} s")

    def _end(self, failure: Exception) -> None:
        """Tell everybody; the first failure counts."""
        if self._failure is not None:
            return
        if isinstance(failure, RejectedError):
            failure = self._rejected(failure)
        self._failure = failure
        self._outgoing.close()
        self._outbox.close()
        for request in self._requests.values():
            request.done.set()
        self._requests.clear()
        for subscription in self._subscriptions.values():
            subscription.fail(self.error)
            self._lost += subscription.lost
        self._subscriptions.clear()
        self._open.set()

    def _give_up(self, failure: Exception) -> None:
        """End from outside the session's own tasks."""
        self._end(failure)
        self._scope.cancel()

    def _rejected(self, error: RejectedError) -> Exception:
        told = self._words.status_error(error.status, error.body, error.retry_after)
        return told or self._words.transient(
            f"answered HTTP {error.status} instead of opening a websocket:"
            f" {self._words.shown(error.body)}. Many nodes have websockets on another port or path;"
            " without them use http://"
        )

    # --- what the node says ---

    def _hear_answer(self, parsed: dict[str, Any], message: str | bytes) -> None:
        number = parsed.get("id")
        if number is None:
            self._hear_unnumbered(parsed, message)
        elif (request := self._request(number)) is not None:
            self._finish(request, parsed, message)
        else:
            self._hear_late(parsed, message)

    def _hear_batch(self, parsed: list[Any], message: str | bytes) -> None:
        if not parsed or not all(isinstance(item, dict) for item in parsed):
            self._words.garbage("no JSON-RPC answer", message)
        number = parsed[0].get("id")
        if number is None and len(parsed) == 1:
            self._hear_unnumbered(parsed[0], message)
        elif (request := self._request(number)) is not None:
            self._finish(request, parsed, message)
        else:
            for item in parsed:
                self._hear_late(item, message)

    def _finish(self, request: _Request, parsed: Any, message: str | bytes) -> None:
        answers = None
        try:
            answers = self._words.results(
                parsed, request.ids, request.methods, batch=request.is_batch, body=message
            )
        except RpcError as refusal:
            request.failure = refusal
        if request.subscription is not None and answers is not None:
            self._subscribed(request.subscription, answers[0], message)
        request.answers = answers
        self._forget(request)
        request.done.set()

    def _hear_unnumbered(self, parsed: dict[str, Any], message: str | bytes) -> None:
        """An error object for a request that the node could not read."""
        error = parsed.get("error")
        waiting = {request.ids.start: request for request in self._requests.values()}
        if error is None or not waiting:
            self._words.garbage("an answer to no request of ours", message)
        first = next(iter(waiting.values()))
        refusal = self._words.rpc_error(error, first.methods[0])
        if len(waiting) > 1 or self._late:
            raise self._words.transient(
                f"refused a request without saying which: {refusal.message} (error {refusal.code})"
            )
        first.failure = refusal
        self._forget(first)
        first.done.set()

    def _hear_late(self, parsed: dict[str, Any], message: str | bytes) -> None:
        """An answer that nobody waits for any more, or one that nobody ever asked for."""
        number = parsed.get("id")
        if type(number) is not int or number not in self._late:
            self._words.garbage("an answer to no request of ours", message)
        if self._late.pop(number) and isinstance(name := parsed.get("result"), str | int):
            self._tell_unsubscribed(name)

    def _hear_news(self, parsed: dict[str, Any], message: str | bytes) -> None:
        params = parsed.get("params")
        if not isinstance(params, dict) or "result" not in params:
            self._words.garbage("news without a result", message)
        name = params.get("subscription")
        if not isinstance(name, str | int):
            self._words.garbage("news of no subscription", message)
        self._notifications += 1
        if (subscription := self._subscriptions.get(name)) is not None:
            subscription.put(params["result"])
        elif any(request.subscription for request in self._requests.values()):
            if len(self._early) == EARLY_LIMIT:
                raise self._words.transient("sends news instead of answers")
            self._early.append((name, params["result"]))
        # Else the node has not yet heard that we unsubscribed.

    def _subscribed(self, subscription: Subscription, name: Any, message: str | bytes) -> None:
        if isinstance(name, RpcError):
            return
        if not isinstance(name, str | int) or name in self._subscriptions:
            self._words.garbage("no new subscription", message)
        # Here, not in the task that asked: the next message may already be this one's news.
        self._subscriptions[name] = subscription
        for early, result in self._early:
            if early == name:
                subscription.put(result)
        self._early = [each for each in self._early if each[0] != name]

    # --- requests ---

    def _number(self, count: int) -> range:
        first = self._next_id
        self._next_id += count
        return range(first, first + count)

    def _request(self, number: object) -> _Request | None:
        # Not isinstance: true is no id.
        return self._requests.get(number) if type(number) is int else None

    def _forget(self, request: _Request) -> None:
        for number in request.ids:
            self._requests.pop(number, None)
        if self._early and not any(each.subscription for each in self._requests.values()):
            self._early = []

    def _abandon(self, request: _Request) -> None:
        self._forget(request)
        self._late.update(dict.fromkeys(request.ids, request.subscription is not None))
        if len(self._late) > LATE_LIMIT:
            self._give_up(self._words.transient(f"left {len(self._late)} calls unanswered"))

    def _tell_unsubscribed(self, name: str | int) -> None:
        ids = self._number(1)
        text = _encoded(ids, [("eth_unsubscribe", (name,))], batch=False)
        # With a full outbox or a closed one the node keeps sending what is then ignored.
        with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._outgoing.send_nowait(text)
            self._late[ids.start] = False


def _encoded(ids: range, calls: Sequence[Call], *, batch: bool) -> str:
    requests = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in zip(ids, calls, strict=True)
    ]
    return orjson.dumps(requests if batch else requests[0]).decode()


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
