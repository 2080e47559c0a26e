"""Serves the application with Hypercorn's HTTP on Trio streams that we accept and close ourselves.

Hypercorn's own worker has no boundary around a connection, no limit on their number, and sends in a
shield: a reader that takes nothing would hold up the end of the process. Here a connection ends
alone, whatever its peer does, and all of them end in time.
"""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState
from hypercorn.utils import wrap_app

from api.rest.app import RestApp
from api.rest.departures import Departures
from api.rest.streaming import Body, Line, send_body

BACKLOG = 256
GRACE_S = 3.0
"""After the long-polls have ended: for what is still being answered."""
IDLE_S = 75.0
"""A connection that asks nothing for so long is closed; polling clients keep theirs."""
REST_AFTER_S = 2.0
"""A connection that asks nothing for so long is kept without what serves requests: browsers keep
theirs for minutes."""
HEADER_BYTES = 16 * 1024

Address = tuple[str, int]


class HttpListenError(Exception):
    """The address cannot be listened on; the text names the settings and what to do."""


class Stop(Protocol):
    """Something that can be waited for: `trio.Event`."""

    async def wait(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpStatistics:
    open: int
    accepted: int
    refused: int
    """Closed at once, because as many as the limit were open."""
    failed: int
    """Ended by a fault in serving them."""


class _NoTask:
    """Instead of the task that Hypercorn has beside each connection, to end it when it is idle."""

    async def restart(self, *_: object) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""


class _Connection(TCPServer):
    """Hypercorn's, which ends when the peer is gone, or has asked nothing for a while."""

    def __init__(self, line: Line, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.line = line
        self.idle_task = _NoTask()  # type: ignore[assignment]
        self.quiet = trio.CancelScope()
        """The wait for what the peer sends: cancelled to have a look at how things are."""
        self._idle_since_s: float | None = trio.current_time()
        """None while something is being answered."""

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._idle_since_s = trio.current_time() if event.idle else None
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        while not self._is_over() and not self.line.resting:
            with trio.move_on_after(REST_AFTER_S) as self.quiet:
                try:
                    data = bytes(await self.stream.receive_some(MAX_RECV))
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
            if self.quiet.cancelled_caught:
                self.line.resting = self._may_rest()
                continue
            await self.protocol.handle(RawData(data))
            if not data:
                break
        if not self.line.resting:
            await self.protocol.handle(Closed())
            await self._let_go()

    def _is_over(self) -> bool:
        http = self.protocol.protocol
        if self._idle_since_s is None and isinstance(http, H2Protocol) and http.idle:
            # It says so when a request has ended, and not before the first.
            self._idle_since_s = trio.current_time()
        if self._idle_since_s is None:
            return False
        idle_s = trio.current_time() - self._idle_since_s
        return idle_s >= IDLE_S or self.context.terminated.is_set()

    async def _let_go(self) -> None:
        """End answers that wait for room in HTTP/2: nobody is there any more to make it."""
        http = self.protocol.protocol
        if isinstance(http, H2Protocol):
            for waiting in tuple(http.stream_buffers.values()):
                await waiting.close()

    def _may_rest(self) -> bool:
        """Whether there is no request, nor a part of one; HTTP/2 has settings to be kept."""
        http = self.protocol.protocol
        return (
            isinstance(http, H11Protocol)
            and isinstance(http.connection, h11.Connection)
            and http.connection.our_state is h11.IDLE
            and http.connection.their_state is h11.IDLE
            and not http.connection.trailing_data[0]
        )

    async def _close(self) -> None:
        if not self.line.kept:
            await super()._close()


class HttpServer:
    """One listener and its connections; runs once."""

    def __init__(self, app: RestApp) -> None:
        self._app = app
        self._log = app.edge.log
        self._max_connections = app.edge.limits.connections
        self._config = _config()
        self._context = WorkerContext(None)
        self._wrapped = wrap_app(app, 0, "asgi")
        self._departures = Departures()
        self._talking: set[_Connection] = set()
        self._resting: set[trio.CancelScope] = set()
        self._open: set[trio.SocketStream] = set()
        self._emptied = trio.Event()
        self._accepted = self._refused = self._failed = 0
        self._refusing = False

    async def serve(
        self,
        host: str,
        port: int,
        *,
        shutdown: Stop,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and serve until `shutdown`, then end within about GRACE_S.

        `started()` means listening, and hands over the bound addresses (host, port). Port 0 is any
        free one. At shutdown waiting long-polls are answered at once. Raises HttpListenError.
        """
        with ExitStack() as sockets:
            bound = await _bind(host, port, sockets)
            listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in bound]
            async with trio.open_nursery() as connections:
                await connections.start(self._departures.run)
                connections.start_soon(self._app.keep_up)
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(
                            trio.serve_listeners,
                            self._serve_connection,
                            listeners,
                            handler_nursery=connections,
                        )
                    )
                    task_status.started([one.getsockname()[:2] for one in bound])
                    await shutdown.wait()
                    accepting.cancel_scope.cancel()
                await self._end()
                connections.cancel_scope.cancel()

    def statistics(self) -> HttpStatistics:
        return HttpStatistics(len(self._open), self._accepted, self._refused, self._failed)

    async def _end(self) -> None:
        """Answer what waits, close what idles, let the rest finish for a while."""
        self._app.end_waits()
        await self._context.terminated.set()
        for scope in (*self._resting, *(one.quiet for one in self._talking)):
            scope.cancel()
        with trio.move_on_after(GRACE_S):
            while self._open:
                self._emptied = trio.Event()
                await self._emptied.wait()
        for stream in tuple(self._open):
            await trio.aclose_forcefully(stream)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        if len(self._open) >= self._max_connections:
            self._refused += 1
            if not self._refusing:  # one line per flood; the figures have the rest
                self._log.warning("http connections refused", limit=self._max_connections)
            self._refusing = True
            await trio.aclose_forcefully(stream)
            return
        self._refusing = False
        self._accepted += 1
        self._open.add(stream)
        try:
            line = await self._talk(stream)
            while line.resting and await self._wakes(stream):
                line = await self._talk(stream)
            if line.body is not None:
                await self._send(stream, line.body)
        except Exception as error:  # noqa: BLE001 - the boundary: one bad peer ends one connection
            self._failed += 1
            self._log.warning("an http connection failed", error=repr(error), exc_info=error)
        finally:
            self._open.discard(stream)
            if not self._open:
                self._emptied.set()
            await trio.aclose_forcefully(stream)

    async def _send(self, stream: trio.SocketStream, body: Body) -> None:
        """What is left to send, until the peer goes."""
        fd = stream.socket.fileno()
        with trio.CancelScope() as sending:
            gone = sending.cancel
            self._departures.watch(fd, gone)
            try:
                await send_body(stream, body)
            finally:
                self._departures.forget(fd, gone)

    async def _talk(self, stream: trio.SocketStream) -> Line:
        """Answer requests until the connection is closed, rests, or has but a body left to send."""
        line = Line(stream)
        state: Any = ConnectionState(LifespanState({Line.NAME: line}))
        connection = _Connection(line, self._wrapped, self._config, self._context, state, stream)
        self._talking.add(connection)
        try:
            with line.talking:
                await connection
        finally:
            self._talking.discard(connection)
        # Its parts hold one another, and a body is sent for hours: leave them to no collector.
        vars(connection).clear()
        return line

    async def _wakes(self, stream: trio.SocketStream) -> bool:
        """Wait until a resting connection is used again; not if it ends first, one way or other."""
        if self._context.terminated.is_set():
            return False
        with trio.move_on_after(IDLE_S - REST_AFTER_S) as resting:
            self._resting.add(resting)
            try:
                await trio.lowlevel.wait_readable(stream.socket)
                return bool(await stream.socket.recv(1, socket.MSG_PEEK))
            except (trio.ClosedResourceError, OSError):
                return False
            finally:
                self._resting.discard(resting)
        return False


async def serve(
    app: RestApp,
    host: str,
    port: int,
    *,
    shutdown: Stop,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """`HttpServer.serve` for those who need no figures of it."""
    await HttpServer(app).serve(host, port, shutdown=shutdown, task_status=task_status)


def _config() -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_S
    config.h11_max_incomplete_size = HEADER_BYTES
    config.h2_max_header_list_size = HEADER_BYTES
    return config


async def _bind(host: str, port: int, sockets: ExitStack) -> list[socket.socket]:
    """Listening sockets on every address of `host`; a free port is the same one on all."""
    try:
        found = await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise HttpListenError(
            f"http.host (TALLY_HTTP_HOST) is {host!r}, which is no address here: {error.strerror}"
        ) from error
    bound: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        one = sockets.enter_context(socket.socket(family, kind, protocol))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            one.bind((address[0], port, *address[2:]))
            one.listen(BACKLOG)
        except OSError as error:
            raise HttpListenError(
                f"cannot listen for HTTP on {host}:{port}: {error.strerror}. Set http.port"
                " (TALLY_HTTP_PORT) to a free port, or http.host (TALLY_HTTP_HOST) to an address"
                " of this machine"
            ) from error
        one.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        bound.append(one)
        port = one.getsockname()[1]
    return bound
