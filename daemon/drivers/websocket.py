"""One websocket on Trio (RFC 6455): opened, talked over, closed; every message of bounded size.

trio-websocket, with what it leaves open: a peer that hangs up during the handshake is noticed at
once, its refusal is bounded, TLS failures have a reason, and errors are those of HttpConnection.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable
from typing import NoReturn, cast

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from daemon.drivers.jsonrpc_http import (
    Address,
    ConnectionLostError,
    GarbledError,
    TooLargeError,
    tls_context,
)

WS_PORTS = {"ws": 80, "wss": 443}
"""Scheme → default port."""
OPEN_S = 10.0
CLOSE_S = 1.0
_HANDSHAKE_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_TOO_BIG = 1009
_NOT_CLOSED_IN_ORDER = 1006
_BROKEN = (1002, 1007)
"""Protocol error and text that is not UTF-8, whichever side found it."""
_SHOWN = 80


class RejectedError(Exception):
    """The server answered the handshake with an HTTP status instead of a websocket."""

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.retry_after = retry_after


class WebSocket:
    """An open connection. `send` and `receive` are for one task each, at the same time."""

    def __init__(self, stream: _Stream, connection: trio_websocket.WebSocketConnection) -> None:
        self._stream = stream
        self._connection = connection

    @property
    def bytes_received(self) -> int:
        return self._stream.bytes_received

    @property
    def last_received_at(self) -> float:
        """Monotonic seconds at which the peer last gave a sign of life, be it half a message."""
        return self._stream.last_received_at

    async def send(self, text: str) -> None:
        """Send one text message. A cancelled `send` leaves half of it: close the connection then.

        Raises ConnectionLostError.
        """
        try:
            await self._connection.send_message(text)
        except trio_websocket.ConnectionClosed as error:
            self._explain(error)

    async def receive(self) -> str | bytes:
        """The next message. Raises ConnectionLostError, GarbledError, TooLargeError."""
        try:
            return await self._connection.get_message()
        except trio_websocket.ConnectionClosed as error:
            self._explain(error)

    async def ping(self) -> None:
        """Return when the peer has answered a ping. Raises ConnectionLostError."""
        try:
            await self._connection.ping()
        except trio_websocket.ConnectionClosed as error:
            self._explain(error)

    def _explain(self, error: trio_websocket.ConnectionClosed) -> NoReturn:
        reason = error.reason
        if reason is None:
            raise GarbledError("it breaks the websocket protocol") from None
        words = reason.reason or ""
        if reason.code == _TOO_BIG and words.startswith("Exceeded maximum message size"):
            raise TooLargeError("more than that in one message") from None
        if reason.code in _BROKEN:
            raise GarbledError(f"it breaks the websocket protocol ({words})") from None
        if reason.code == _NOT_CLOSED_IN_ORDER:
            raise ConnectionLostError(self._stream.ended or "closed the connection") from None
        raise ConnectionLostError(
            f"closed the connection (code {reason.code}{f', {words!r}' if words else ''})"
        ) from None


async def run_websocket(
    address: Address,
    talk: Callable[[WebSocket], Awaitable[None]],
    *,
    authorization: str | None,
    max_message_bytes: int,
) -> None:
    """Connect, `talk` until it returns, and close with a farewell of at most CLOSE_S seconds.

    Raises OSError, trio.TooSlowError (after OPEN_S), ConnectionLostError, GarbledError and
    RejectedError; what `talk` raises passes.
    """
    with trio.fail_after(OPEN_S):
        stream = await _connect(address)
    headers = [(b"authorization", authorization.encode())] if authorization else []
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(OPEN_S), trio.CancelScope() as opening:
                stream.on_end = opening.cancel
                # Not connect_websocket: that logs the path, which may hold an access key.
                connection = await trio_websocket.wrap_client_stream(
                    nursery,
                    cast("trio.SocketStream", stream),
                    address.host_header,
                    address.target,
                    extra_headers=headers,
                    max_message_size=max_message_bytes,
                    receive_buffer_size=_READ_BYTES,
                )
            if opening.cancelled_caught:
                raise stream.refusal()
            stream.is_established = True
            try:
                await talk(WebSocket(stream, connection))
            finally:
                with trio.move_on_after(CLOSE_S):
                    await connection.aclose()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failures, rest = group.split(Exception)
        if rest is not None:
            raise rest from None
        assert failures is not None, "a group is not empty"
        raise _most_telling(failures, stream) from None
    finally:
        stream.close()


class _Stream(trio.abc.Stream):
    """A TCP or TLS stream that notes how it goes, and stops a handshake that becomes endless."""

    def __init__(
        self, tcp: trio.SocketStream, inner: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    ) -> None:
        self._tcp = tcp
        self._inner = inner
        self._head = bytearray()
        self.is_established = False
        self.bytes_received = 0
        self.last_received_at = trio.current_time()
        self.ended: str | None = None
        """How the connection came to its end, for people."""
        self.on_end: Callable[[], None] = _nothing

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            data = bytes(await self._inner.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end("reset the connection")
            raise
        if not data:
            self._end("closed the connection")
        self.bytes_received += len(data)
        self.last_received_at = trio.current_time()
        if not self.is_established:
            self._head += data[:_HANDSHAKE_BYTES]
            if len(self._head) > _HANDSHAKE_BYTES:
                self._end("sends without end")
                raise trio.BrokenResourceError
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._inner.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end("reset the connection")
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self._end("closed the connection")
        await self._inner.aclose()

    def close(self) -> None:
        """Close at once; may be called again."""
        self._tcp.socket.close()

    def refusal(self) -> Exception:
        """Why no websocket was opened before the stream ended, as far as what came tells."""
        return self.not_a_websocket() or ConnectionLostError(
            f"{self.ended} instead of opening a websocket"
        )

    def not_a_websocket(self) -> Exception | None:
        """What came instead of an accepted handshake; None when nothing came."""
        if not self._head:
            return None
        if (status := re.match(rb"HTTP/1\.[01] (\d{3})\b", self._head)) and status[1] != b"101":
            body = bytes(self._head.partition(b"\r\n\r\n")[2])
            return RejectedError(int(status[1]), body, None)
        shown = bytes(self._head[:_SHOWN]).decode("latin-1")
        return GarbledError(f"no websocket handshake but {shown!r}")

    def _end(self, how: str) -> None:
        self.ended = self.ended or how
        self.on_end()


async def _connect(address: Address) -> _Stream:
    tcp = await trio.open_tcp_stream(address.host, address.port)
    if address.scheme != "wss":
        return _Stream(tcp, tcp)
    tls = trio.SSLStream(tcp, tls_context(), server_hostname=address.host, https_compatible=True)
    is_open = False
    try:
        await tls.do_handshake()
        is_open = True
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        why = cause.reason or str(cause) if isinstance(cause, ssl.SSLError) else "it hung up"
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message
        raise ConnectionLostError(f"agreed on no TLS connection ({why})") from None
    finally:
        if not is_open:
            tcp.socket.close()
    return _Stream(tcp, tls)


def _most_telling(failures: ExceptionGroup[Exception], stream: _Stream) -> Exception:
    """The first of `failures`; what the library could not read comes last."""
    told = [_translated(leaf, stream) for leaf in _leaves(failures)]
    return min(told, key=lambda error: isinstance(error, GarbledError))


def _leaves(error: Exception) -> list[Exception]:
    if isinstance(error, ExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _translated(error: Exception, stream: _Stream) -> Exception:
    if isinstance(error, trio_websocket.ConnectionRejected):
        headers = dict(error.headers)
        retry_after = headers.get(b"retry-after")
        return RejectedError(
            error.status_code,
            bytes(error.body or b""),
            retry_after.decode("latin-1")[:40] if retry_after else None,
        )
    # ValueError: header values that are no text.
    if isinstance(error, ProtocolError | h11.ProtocolError | ValueError):
        if stream.is_established:
            return GarbledError("it breaks the websocket protocol")
        return stream.not_a_websocket() or GarbledError("no websocket handshake")
    return error


def _nothing() -> None:
    pass
