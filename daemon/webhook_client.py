"""Sends webhooks: HTTP/1.1 (h11) on Trio, over TLS that is verified, to addresses that are judged.

One request, one answer, within one time limit that covers all of it: look-up, connection, TLS,
request, the head of the answer. What follows the head is read only to use the connection again, and
no more of it than a little. Redirects are not followed. Nothing is raised but cancellation: what
went wrong is in the answer, in words for whoever runs the receiver.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from uuid import UUID

import h11
import trio

from actors.ports import WallClock
from actors.webhook_sending import Answer
from daemon.webhook_guard import Address, Guard, Target, TargetRefusedError

TIMEOUT_S = 10.0
MAX_HEAD = 16 * 1024
MAX_BODY = 64 * 1024
"""Of an answer; a connection with more to say is closed."""
DRAIN_S = 1.0
IDLE_S = 30.0
"""How long a connection is kept for the next event."""
MOST_IDLE = 8
"""Connections kept per endpoint."""
MOST_ADDRESSES = 4
"""Of a name that are tried, one after the other."""
CONNECT_S = 4.0
"""For one of several addresses."""

Resolver = Callable[[str, int], Awaitable[list[Address]]]


class _SendError(Exception):
    """The request came to nothing; the text is for people."""


class _StaleError(_SendError):
    """A connection that was kept had been closed by the other side: nothing was answered on it."""


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses that the system's resolver knows. Raises OSError when there are none."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return [ip_address(text) for text in texts]


@dataclass(slots=True, eq=False)
class _Connection:
    stream: trio.abc.Stream
    protocol: h11.Connection
    target: Target
    idle_since: float = 0.0
    used: bool = False

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


class WebhookClient:
    """Keeps a few connections per endpoint; for one Trio thread."""

    def __init__(
        self,
        guard: Guard,
        *,
        clock: WallClock,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver = resolve,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._guard = guard
        self._clock = clock
        self._tls = tls or ssl.create_default_context()
        self._resolve = resolver
        self._timeout_s = timeout_s
        self._idle: dict[UUID, deque[_Connection]] = {}

    async def post(
        self, endpoint_id: UUID, url: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """POST `body`; the answer, or why there was none."""
        started = trio.current_time()
        try:
            with trio.fail_after(self._timeout_s):
                response = await self._exchange(endpoint_id, url, headers, body)
        except trio.TooSlowError:
            return _failed(started, f"no answer within {self._timeout_s:g} s")
        except (TargetRefusedError, _SendError) as error:
            return _failed(started, str(error))
        status = response.status_code
        return Answer(
            status=status,
            error=_complaint(status, response),
            latency_ms=_since_ms(started),
            retry_after_s=self._retry_after_s(response),
        )

    async def forget(self, endpoint_id: UUID) -> None:
        """Close the connections kept for the endpoint."""
        for connection in self._idle.pop(endpoint_id, ()):
            await connection.close()

    async def aclose(self) -> None:
        for endpoint_id in list(self._idle):
            await self.forget(endpoint_id)

    def idle_connections(self) -> int:
        return sum(map(len, self._idle.values()))

    # --- one exchange -----------------------------------------------------------------------------

    async def _exchange(
        self, endpoint_id: UUID, url: str, headers: Mapping[str, str], body: bytes
    ) -> h11.Response:
        target = self._guard.parse(url)
        while (connection := await self._kept(endpoint_id, target)) is not None:
            try:
                return await self._request(endpoint_id, connection, headers, body)
            except _StaleError:
                continue
        connection = await self._connect(target)
        return await self._request(endpoint_id, connection, headers, body)

    async def _kept(self, endpoint_id: UUID, target: Target) -> _Connection | None:
        kept = self._idle.get(endpoint_id)
        while kept:
            connection = kept.pop()
            age_s = trio.current_time() - connection.idle_since
            if connection.target == target and age_s <= IDLE_S:
                return connection
            await connection.close()
        return None

    async def _request(
        self,
        endpoint_id: UUID,
        connection: _Connection,
        headers: Mapping[str, str],
        body: bytes,
    ) -> h11.Response:
        reusable = False
        try:
            response = await self._converse(connection, headers, body)
            reusable = await self._drained(connection)
            return response
        finally:
            kept = self._idle.setdefault(endpoint_id, deque()) if reusable else deque()
            if reusable and len(kept) < MOST_IDLE:
                connection.idle_since = trio.current_time()
                kept.append(connection)
            else:
                with trio.CancelScope(shield=True):
                    await connection.close()

    async def _converse(
        self, connection: _Connection, headers: Mapping[str, str], body: bytes
    ) -> h11.Response:
        """Send the request and read the head of its answer."""
        protocol, stream = connection.protocol, connection.stream
        first_use, connection.used = not connection.used, True
        request = h11.Request(
            method="POST",
            target=connection.target.path,
            headers=[
                ("Host", connection.target.authority),
                ("Content-Length", str(len(body))),
                *headers.items(),
            ],
        )
        sent = (
            protocol.send(request),
            protocol.send(h11.Data(data=body)),
            protocol.send(h11.EndOfMessage()),
        )
        answered = False
        try:
            with suppress(trio.BrokenResourceError):
                # A receiver may answer before it has read all and close: its answer is what counts.
                await stream.send_all(b"".join(part for part in sent if part))
            while True:
                event = protocol.next_event()
                if event is h11.NEED_DATA:
                    data = await stream.receive_some(65536)
                    answered = answered or bool(data)
                    protocol.receive_data(bytes(data))
                elif isinstance(event, h11.Response):
                    return event
                elif not isinstance(event, h11.InformationalResponse):
                    raise _SendError("the connection was closed before an answer came")
        except h11.RemoteProtocolError as error:
            if not answered:
                raise self._closed(first_use=first_use) from None
            raise _SendError(f"the answer is no HTTP/1.1: {error}") from None
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._closed(first_use=first_use or answered) from None

    @staticmethod
    def _closed(*, first_use: bool) -> _SendError:
        kind = _SendError if first_use else _StaleError
        return kind("the connection was closed before an answer came")

    async def _drained(self, connection: _Connection) -> bool:
        """Read the rest of the answer; whether the connection is good for another request."""
        protocol = connection.protocol
        left = MAX_BODY
        broken = (h11.RemoteProtocolError, OSError, trio.BrokenResourceError)
        with trio.move_on_after(DRAIN_S), suppress(*broken):
            while left > 0:
                event = protocol.next_event()
                if event is h11.NEED_DATA:
                    data = await connection.stream.receive_some(16384)
                    if not data:
                        return False
                    protocol.receive_data(bytes(data))
                elif isinstance(event, h11.Data):
                    left -= len(event.data)
                else:
                    break
        if protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
            return False
        protocol.start_next_cycle()
        return True

    # --- connecting -------------------------------------------------------------------------------

    async def _connect(self, target: Target) -> _Connection:
        addresses = await self._addresses(target)
        for address in addresses:
            # All of them: a name with one private address is not half trustworthy.
            self._guard.check(address, tls=target.tls)
        problem = ""
        for n, address in enumerate(addresses[:MOST_ADDRESSES], 1):
            last = n == min(len(addresses), MOST_ADDRESSES)
            with trio.move_on_after(float("inf") if last else CONNECT_S):
                try:
                    stream = await self._dial(target, address)
                except (OSError, trio.BrokenResourceError) as error:
                    problem = _why(error)
                    continue
                return _Connection(
                    stream,
                    h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=MAX_HEAD),
                    target,
                )
        where = f"{target.host} ({', '.join(map(str, addresses[:MOST_ADDRESSES]))})"
        raise _SendError(f"cannot connect to {where} port {target.port}: {problem or 'too slow'}")

    async def _addresses(self, target: Target) -> list[Address]:
        try:
            return [ip_address(target.host)]
        except ValueError:
            pass
        try:
            found = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            found, why = [], f": {_why(error)}"
        else:
            why = ""
        if not found:
            raise _SendError(f"the name {target.host} cannot be looked up{why}")
        return found

    async def _dial(self, target: Target, address: Address) -> trio.abc.Stream:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        dialled = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            await dialled.connect((str(address), target.port))
        except BaseException:
            dialled.close()
            raise
        plain = trio.SocketStream(dialled)
        if not target.tls:
            return plain
        secured = trio.SSLStream(
            plain, self._tls, server_hostname=target.host.rstrip("."), https_compatible=True
        )
        try:
            await secured.do_handshake()
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(plain)
            raise
        return secured

    def _retry_after_s(self, response: h11.Response) -> float | None:
        """Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
        text = _header(response, b"retry-after")
        if text is None:
            return None
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            at_s = parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError, OverflowError):
            return None
        return max(0.0, at_s - self._clock.now_ms() / 1000)


def _header(response: h11.Response, wanted: bytes) -> str | None:
    for name, value in response.headers:
        if name == wanted:
            return bytes(value).decode("latin-1").strip()
    return None


def _complaint(status: int, response: h11.Response) -> str | None:
    """What is wrong with an answer of this status, for people; None for 2xx."""
    if 200 <= status <= 299:
        return None
    if 300 <= status <= 399:
        to = (_header(response, b"location") or "")[:200]
        where = f" to {to!r}" if to else ""
        return f"HTTP {status}: redirects{where} are not followed; register the final URL"
    if status == 410:
        return "HTTP 410: the receiver says that it is gone for good"
    return f"HTTP {status}"


def _why(error: Exception) -> str:
    """In words; an SSL failure hides behind what Trio makes of it."""
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed ({cause.reason or 'closed'})"
    if isinstance(cause, OSError):
        return cause.strerror or type(cause).__name__
    return "the connection was closed"


def _since_ms(started: float) -> int:
    return round((trio.current_time() - started) * 1000)


def _failed(started: float, error: str) -> Answer:
    return Answer(status=None, error=error, latency_ms=_since_ms(started))
