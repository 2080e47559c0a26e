"""One server that speaks toncenter's HTTP API, v3 or v2, over kept-alive connections.

Requests keep to the pace that the server wants (see pacing.py). Failures are TransientError and
PersistentError, nothing else, with texts for the person who runs the daemon. Every request may be
sent twice: only questions are asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode

import orjson
import trio

from actors.ports import Log, PersistentError, TransientError
from daemon.drivers.endpoint import DistrustError
from daemon.drivers.jsonrpc_http import Address, Answer, HttpConnection, parse_url
from daemon.drivers.jsonrpc_login import Credentials, Login
from daemon.drivers.jsonrpc_words import Advice, BusyError, NodeWords, RpcError
from daemon.drivers.pacing import Pacer, RateLimitedError, retry_after_s
from daemon.drivers.rpc_client import RpcStatistics

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""A page of 1000 transactions has some 3 MB."""
TON_ADVICE = Advice(
    refused="It wants an API key: set {setting}.daemon.api_key to it (for an endpoint after the"
    " first, write it in its {setting}.daemon.url: https://:KEY@host)",
    busy="If it stays so, get an API key with a higher limit, add another endpoint to"
    " {setting}.daemon.url, or run an indexer of your own",
    port="Is this a server of toncenter's HTTP API, such as https://toncenter.com?",
)
CONNECTIONS = 3
ATTEMPTS = 6
PATIENCE_S = 60.0
PATIENCE_WITH_OTHERS_S = 5.0
"""How long a call waits for its turn at an endpoint that limits it, when there are others."""
_EXAMPLE = "https://toncenter.com"
_BASES = ("/jsonRPC", "/api/v2", "/api/v3")
_NOT_THERE = (404, 405, 501)
_GET_METHOD = "/runGetMethod"
_LITE_SERVER_ERROR = 542
_LITE_SERVER_WORDS = ("LITE_SERVER", "not in db", "not applied", "cannot find block", "not found")


class NotThereError(RpcError):
    """The server has no such block, or no such endpoint (HTTP 404 and the like)."""


class TonHttp:
    """Asks one server; at most `connections` requests are under way at once, more wait their turn.

    `url` is the server's, with or without `/api/v2` or `/api/v3`. The password of `login`, or else
    the one in the URL, is the API key, sent as X-API-Key; a user without a password is one too.
    Raises ValueError for a URL that is none.
    """

    can_subscribe = False

    def __init__(
        self,
        url: str,
        *,
        setting: str,
        log: Log,
        login: Login | None = None,
        timeout_s: float = 30.0,
        patience_s: float = PATIENCE_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        connections: int = CONNECTIONS,
    ) -> None:
        self._address, user, password = parse_url(url, example=_EXAMPLE)
        self.setting = setting
        has_login = login is not None and (login.user is not None or login.password is not None)
        self._credentials = Credentials(
            _as_key(login if login and has_login else Login(user, password)), setting=setting
        )
        self._words = NodeWords(
            self._address, setting=setting, credentials=self._credentials, advice=TON_ADVICE
        )
        path, _, query = self._address.target.partition("?")
        path = path.rstrip("/")
        for base in _BASES:
            path = path.removesuffix(base)
        self._prefix = path
        self._query = parse_qsl(query, keep_blank_values=True)
        self.pacer = Pacer(self.where, log=log)
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._limiter = trio.CapacityLimiter(connections)
        self._idle: list[HttpConnection] = []
        self._lanes: list[HttpConnection] = []
        self._calls = self._requests = self._failures = 0

    @property
    def where(self) -> str:
        """The server, for people: the setting that names it and its address."""
        return self._words.where

    def words_of(self, address: Address) -> NodeWords:
        """Puts the failures of another connection to the server in words."""
        return NodeWords(
            address, setting=self.setting, credentials=self._credentials, advice=TON_ADVICE
        )

    @property
    def api_key(self) -> str | None:
        return self._credentials.login.password

    @property
    def stream_address(self) -> Address:
        """Where the streaming websocket would be; it takes the key in its query."""
        scheme = "wss" if self._address.scheme == "https" else "ws"
        key = [("api_key", self.api_key)] if self.api_key else []
        query = urlencode([*self._query, *key])
        target = f"{self._prefix}/api/streaming/v2/ws{f'?{query}' if query else ''}"
        return replace(self._address, scheme=scheme, target=target)

    def use_login(self, login: Login) -> None:
        """The key changed while running; requests under way end with the old one."""
        self._credentials.login = _as_key(login)

    async def v3(self, path: str, *, timeout_s: float | None = None, **query: Any) -> Any:
        """What a GET of v3 answers. Raises NotThereError, and RpcError when it is refused."""
        asked = [(name, str(each)) for name, value in query.items() for each in _listed(value)]
        return await self._ask(f"/api/v3/{path}", query=asked, timeout_s=timeout_s)

    async def v3_post(self, path: str, fields: Mapping[str, Any]) -> Any:
        """What a POST of v3 answers. Raises NotThereError, and RpcError when it is refused."""
        return await self._ask(f"/api/v3/{path}", body=orjson.dumps(fields))

    async def v2(self, method: str, *, timeout_s: float | None = None, **params: Any) -> Any:
        """The result of a method of v2. Raises NotThereError, and RpcError when it is refused."""
        asked = [(name, str(value)) for name, value in params.items() if value is not None]
        answer = await self._ask(f"/api/v2/{method}", query=asked, timeout_s=timeout_s)
        return self._result(answer, method)

    async def v2_post(self, method: str, fields: Mapping[str, Any]) -> Any:
        """As `v2`, for methods that take lists."""
        return self._result(await self._ask(f"/api/v2/{method}", body=orjson.dumps(fields)), method)

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        for lane in self._lanes:
            lane.close()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> RpcStatistics:
        pace = self.pacer.statistics()
        return RpcStatistics(
            calls=self._calls,
            requests=self._requests,
            failures=self._failures,
            bytes_received=sum(lane.bytes_received for lane in self._lanes),
            connections=sum(lane.is_open for lane in self._lanes),
            refusals=pace.refusals,
            paced_s=pace.paced_s,
        )

    def garbage(self, what: str, shown: bytes | str) -> NoReturn:
        """Raise: the server answered what no toncenter answers, or contradicts itself."""
        try:
            self._words.garbage(what, shown)
        except TransientError as error:
            raise DistrustError(str(error)) from None

    # --- inner ---

    def _result(self, answer: Any, method: str) -> Any:
        if not isinstance(answer, dict) or answer.get("ok") is not True or "result" not in answer:
            self.garbage(f"no result of {method}", str(answer)[:200])
        return answer["result"]

    async def _ask(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        text = urlencode([*self._query, *query])
        target = f"{self._prefix}{path}{f'?{text}' if text else ''}"
        bound_s = self._timeout_s if timeout_s is None else timeout_s
        self._calls += 1
        attempts = 0
        until = trio.current_time() + self._patience_s
        while True:
            ticket = await self.pacer.turn(patience_s=until - trio.current_time())
            answer = await self._exchange(target, body, bound_s)
            try:
                with self._counted():
                    parsed = self._checked(answer, path)
            except BusyError as busy:
                told_s = retry_after_s(busy.retry_after) if busy.retry_after else None
                if busy.status != 429 and not (busy.status == 503 and told_s is not None):
                    raise
                attempts += 1
                self.pacer.refused(ticket, told_s=told_s, why=str(busy))
                if attempts >= ATTEMPTS:
                    raise RateLimitedError(f"{busy} (asked {attempts} times)") from None
            else:
                self.pacer.accepted(ticket)
                return parsed

    async def _exchange(self, target: str, body: bytes | None, bound_s: float) -> Answer:
        key = self.api_key
        headers = [("Accept", "application/json"), *([("X-API-Key", key)] if key else [])]
        async with self._limiter:
            lane = self._idle.pop() if self._idle else self._new_lane()
            try:
                with self._failing(bound_s), trio.fail_after(bound_s):
                    self._requests += 1
                    await lane.send(body, target=target, headers=headers)
                    return await lane.receive()
            finally:
                # A lane with an answer still due opens itself anew for its next request.
                self._idle.append(lane)

    def _checked(self, answer: Answer, path: str) -> Any:
        status = answer.status
        refusal = self._words.status_error(status, answer.body, answer.retry_after)
        if refusal is not None:
            raise refusal
        if status == 200:
            try:
                return orjson.loads(answer.body)
            except ValueError:
                self.garbage(f"no JSON to {path}", answer.body)
        said = _said(answer.body)
        shown = self._words.shown(said or answer.body)
        is_unknown = status in {500, _LITE_SERVER_ERROR} and any(
            words in said for words in _LITE_SERVER_WORDS
        )
        if status in _NOT_THERE or is_unknown:
            text = f"{self.where} has no answer to {path} (HTTP {status}: {shown})"
            raise NotThereError(status, said, text)
        # What a contract answers to nonsense is told as the server's own failure.
        is_contracts = status == 500 and bool(said) and path.endswith(_GET_METHOD)
        if 400 <= status < 500 or status == _LITE_SERVER_ERROR or is_contracts:
            text = f"{self.where} refused {path} (HTTP {status}: {shown})"
            raise RpcError(status, said, text)
        raise self._words.transient(
            f"answered HTTP {status} to {path}: {shown}. Its log tells more"
        )

    def _new_lane(self) -> HttpConnection:
        lane = HttpConnection(self._address, max_answer_bytes=self._max_answer_bytes)
        self._lanes.append(lane)
        return lane

    @contextmanager
    def _failing(self, timeout_s: float) -> Iterator[None]:
        with (
            self._counted(),
            self._words.failures(timeout_s=timeout_s, limit_bytes=self._max_answer_bytes),
        ):
            yield

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except RpcError:
            raise
        except (TransientError, PersistentError):
            self._failures += 1
            raise


def _as_key(login: Login) -> Login:
    """A login whose password is the API key."""
    return Login(None, login.password or login.user or None)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _said(body: bytes) -> str:
    """The words of an error, in either version's form; nothing when there are none."""
    try:
        parsed = orjson.loads(body)
    except ValueError:
        return ""
    said = parsed.get("error") if isinstance(parsed, dict) else None
    if said is None and isinstance(parsed, dict):
        said = parsed.get("result")
    return said[:300] if isinstance(said, str) else ""
