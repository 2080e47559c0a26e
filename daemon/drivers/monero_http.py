"""One monerod over HTTP keep-alive: its JSON-RPC, its other JSON endpoints, its binary ones.

A restricted or synchronising node refuses with HTTP 200 and a `status` that is not OK; here that is
an error like the others. Failures are TransientError and PersistentError, nothing else, with texts
for the person who runs the daemon. Every request may be sent twice: only questions are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import orjson
import trio

from actors.ports import PersistentError, TransientError
from daemon.drivers.endpoint import DistrustError
from daemon.drivers.http_digest import DigestSession, challenges
from daemon.drivers.jsonrpc_http import Answer, HttpConnection, parse_url
from daemon.drivers.jsonrpc_login import Credentials, Login
from daemon.drivers.jsonrpc_words import Advice, NodeWords, RpcError
from daemon.drivers.monero_epee import EpeeError, Section, pack, unpack
from daemon.drivers.rpc_client import RpcStatistics

MAX_ANSWER_BYTES = 128 * 1024 * 1024
"""monerod ends an answer of blocks at 100 MB."""
MONERO_ADVICE = Advice(
    refused="If it runs with --rpc-login, set {setting}.daemon.user and {setting}.daemon.pass to"
    " that login, or write it in its {setting}.daemon.url: http://user:pass@host:port",
    busy="If it stays so, add another endpoint to {setting}.daemon.url, or use a node of your own",
    port="Is this the RPC address of a monerod (port 18081 or 18089 as a rule)?",
)
CONNECTIONS = 3
"""monerod's --rpc-max-connections-per-public-ip, by default."""
_EXAMPLE = "http://127.0.0.1:18081"
_OCTETS = "application/octet-stream"
_UNPACKED_AT_ONCE = 256 * 1024
_NOT_THERE = (404, 405, 501)

T = TypeVar("T")
Json = dict[str, Any]


class NoSuchEndpointError(RpcError):
    """The node, or a proxy before it, does not serve this path."""


class FailedInsideError(TransientError):
    """HTTP 500: the node failed in its own code. Another question for the same may be answered."""


class MoneroHttp:
    """Asks one node; at most `connections` requests are under way at once, more wait their turn.

    `login` goes before the user and password in `url`. Raises ValueError for a URL that is none.
    """

    can_subscribe = False

    def __init__(
        self,
        url: str,
        *,
        setting: str,
        login: Login | None = None,
        timeout_s: float = 30.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        connections: int = CONNECTIONS,
    ) -> None:
        self._address, user, password = parse_url(url, example=_EXAMPLE)
        self.setting = setting
        has_login = login is not None and (login.user is not None or login.password is not None)
        self._login = login if login and has_login else Login(user, password)
        self._credentials = Credentials(self._login, setting=setting)
        self._words = NodeWords(
            self._address, setting=setting, credentials=self._credentials, advice=MONERO_ADVICE
        )
        path, _, query = self._address.target.partition("?")
        self._prefix = path.removesuffix("/").removesuffix("/json_rpc")
        self._query = f"?{query}" if query else ""
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._limiter = trio.CapacityLimiter(connections)
        self._idle: list[_Lane] = []
        self._lanes: list[_Lane] = []
        self._requests = 0
        self._failures = 0

    def use_login(self, login: Login) -> None:
        """Credentials changed while running; requests under way end with the old ones."""
        self._login = self._credentials.login = login
        for lane in self._lanes:
            lane.digest = self._digest()

    @property
    def where(self) -> str:
        """The node, for people: the setting that names it and its address."""
        return self._words.where

    async def rpc(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Json:
        """The result of a JSON-RPC method. Raises RpcError when the node refuses it."""
        asked = {"jsonrpc": "2.0", "id": "0", "method": method, "params": params or {}}

        def read(body: bytes) -> Json:
            answer = self._json(body)
            error = answer.get("error")
            if error is not None:
                refused = self._words.rpc_error(error, method)
                # get_info and others put the status there.
                self._refuse_busy(refused.message)
                raise refused
            return self._ok(answer.get("result"), method)

        return await self._ask("/json_rpc", orjson.dumps(asked), read, timeout_s=timeout_s)

    async def json(self, path: str, fields: Mapping[str, Any]) -> Json:
        """What one of the other JSON endpoints answers. Raises RpcError when the node refuses."""
        return await self._ask(
            path, orjson.dumps(fields), lambda body: self._ok(self._json(body), path)
        )

    async def binary(self, path: str, fields: Mapping[str, Any]) -> Section:
        """What one of the binary endpoints answers. Raises RpcError when the node refuses."""

        def read(body: bytes) -> Section:
            try:
                return unpack(body)
            except EpeeError as error:
                self.garbage(str(error), body)

        body = await self._ask(path, pack(fields), bytes, content_type=_OCTETS)
        with self._counted():
            # Thousands of transactions take longer than others should wait.
            is_long = len(body) > _UNPACKED_AT_ONCE
            section = await trio.to_thread.run_sync(read, body) if is_long else read(body)
            return self._ok(section, path)

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        for lane in self._lanes:
            lane.connection.close()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> RpcStatistics:
        return RpcStatistics(
            calls=self._requests,
            requests=self._requests,
            failures=self._failures,
            bytes_received=sum(lane.connection.bytes_received for lane in self._lanes),
            connections=sum(lane.connection.is_open for lane in self._lanes),
        )

    def garbage(self, what: str, body: bytes | str) -> NoReturn:
        """Raise: the node answered what no monerod answers, or contradicts itself."""
        try:
            self._words.garbage(what, body)
        except TransientError as error:
            raise DistrustError(str(error)) from None

    # --- answers ---

    def _json(self, body: bytes) -> Json:
        try:
            answer = orjson.loads(body)
        except ValueError:
            self.garbage("no JSON", body)
        if not isinstance(answer, dict):
            self.garbage("no object", body)
        return answer

    def _ok(self, answer: Any, asked: str) -> dict[str, Any]:
        if not isinstance(answer, dict):
            self.garbage(f"no object as the result of {asked}", str(answer))
        status = answer.get("status")
        said = status.decode("latin-1") if isinstance(status, bytes) else status
        if not isinstance(said, str):
            self.garbage(f"no status in the answer to {asked}", str(answer)[:200])
        self._refuse_busy(said)
        if said != "OK":
            raise self._words.rpc_error({"code": 0, "message": said}, asked)
        return answer

    def _refuse_busy(self, status: str) -> None:
        if status == "BUSY":
            raise TransientError(
                f"{self.where} is still synchronising with its network (status BUSY). Wait until it"
                " has caught up, or use another node"
            )

    def _check(self, answer: Answer, path: str) -> None:
        status = answer.status
        if status == 401 and not any(challenges(each) for each in answer.challenges):
            raise PersistentError(
                f"{self.where} refuses us (HTTP 401) without a challenge for HTTP Digest, the only"
                " login we know. Is there a proxy with a login of its own before it?"
            )
        if status in _NOT_THERE or (status == 403 and path.endswith(".bin")):
            text = f"{self.where} does not serve {path} (HTTP {status})"
            raise NoSuchEndpointError(status, f"HTTP {status}", text)
        refusal = self._words.status_error(status, answer.body, answer.retry_after)
        if refusal is not None:
            raise refusal
        if status != 200:
            kind = FailedInsideError if status == 500 else TransientError
            raise kind(
                f"{self.where} answered HTTP {status} to {path}: {self._words.shown(answer.body)}."
                " Its log tells more"
            )

    # --- requests ---

    async def _ask(
        self,
        path: str,
        body: bytes,
        read: Callable[[bytes], T],
        *,
        content_type: str = "application/json",
        timeout_s: float | None = None,
    ) -> T:
        target = f"{self._prefix}{path}{self._query}"
        bound_s = self._timeout_s if timeout_s is None else timeout_s
        async with self._limiter:
            lane = self._idle.pop() if self._idle else self._new_lane()
            try:
                with self._failing(bound_s), trio.fail_after(bound_s):
                    answer = await self._exchange(lane, target, body, content_type)
            finally:
                # A lane with an answer still due opens itself anew for its next request.
                self._idle.append(lane)
        with self._counted():
            self._check(answer, path)
            return read(answer.body)

    async def _exchange(self, lane: _Lane, target: str, body: bytes, content_type: str) -> Answer:
        while True:
            digest = lane.digest
            self._requests += 1
            await lane.connection.send(
                body,
                authorization=digest.authorization("POST", target) if digest else None,
                target=target,
                content_type=content_type,
            )
            answer = await lane.connection.receive()
            if answer.status != 401:
                if digest:
                    digest.accepted()
                return answer
            if digest is None or not digest.challenged(answer.challenges):
                # The next request begins anew: the password may have been put right at the node.
                lane.digest = self._digest()
                return answer

    def _new_lane(self) -> _Lane:
        connection = HttpConnection(self._address, max_answer_bytes=self._max_answer_bytes)
        lane = _Lane(connection, self._digest())
        self._lanes.append(lane)
        return lane

    def _digest(self) -> DigestSession | None:
        login = self._login
        if login.user is None and login.password is None:
            return None
        try:
            return DigestSession(login.user or "", login.password or "")
        except ValueError as error:
            raise PersistentError(
                f"{self.where} can not be asked as the user in {self.setting}.daemon.user: {error}"
            ) from None

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


class _Lane:
    """One connection with its login, used by one task at a time."""

    def __init__(self, connection: HttpConnection, digest: DigestSession | None) -> None:
        self.connection = connection
        self.digest = digest
