"""The gRPC server: grpclib and betterproto2 services on Trio, no asyncio loop anywhere."""

import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from actors.ports import Log
from api.grpc.connection import Connection
from api.grpc.descriptors import load
from api.grpc.health import NOT_SERVING, Health, service_names
from api.grpc.limits import Limits
from api.grpc.peer import Peer
from api.grpc.reflection import reflection_services
from api.grpc.serving import Interceptor, Servicer, Serving, methods_of
from api.grpc.tls import peer_of

TEND_INTERVAL_S = 1.0
LINGER_S = 1.0
"""At the end a peer gets so long to close its side, so that no last byte is lost to a reset."""
TELL_HEALTH_S = 0.05
"""Whoever watches the health is told of the end, before that stream ends as well."""
GOODBYE_DELAY_S = 0.1
"""Between the last answer and GOAWAY. Clients built on h2, grpclib among them, take GOAWAY for the
end of the connection and drop the answers they have not handed over yet; that is also why GOAWAY
comes after the calls, which are refused in the meantime, and not before them."""
CLOSE_S = 0.2
"""For TLS's goodbye to a peer that may not be reading any more."""

Address = tuple[Any, ...]


class ListenError(Exception):
    """The server cannot listen where it was told to; the text names the address and settings."""


class Server:
    """Serves gRPC over HTTP/2 on TCP, with TLS when given a context.

    Beside the given services it serves grpc.health.v1 (``health``, to be set by the daemon; all
    NOT_SERVING at first and again from the start of the shutdown) and, when asked to, reflection.
    ``closed_texts`` maps method paths to the text of the CANCELLED status that ends these streams
    when the server stops. ``parts`` are names that health knows beside the services', also to be
    set by the daemon. ``interceptors`` are asked in turn before any handler. A server runs
    once. See ``docs/adr/0002-grpc-server.md`` for why this is not grpclib's own server.
    """

    def __init__(
        self,
        services: Iterable[Servicer],
        *,
        log: Log,
        reflection: bool = False,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        interceptors: Sequence[Interceptor] = (),
        closed_texts: Mapping[str, str] | None = None,
        parts: Iterable[str] = (),
    ) -> None:
        given = list(services)
        names = service_names(path for service in given for path in service.__mapping__())
        self.health = Health((*names, *parts))
        given.append(self.health)
        if reflection:
            given += reflection_services(load(), (*names, "grpc.health.v1.Health"))
        self._serving = Serving(
            methods=methods_of(given, closed_texts or {}),
            limits=limits or Limits(),
            log=log,
            interceptors=tuple(interceptors),
        )
        self._tls = tls
        self._connections: set[Connection] = set()
        self._accepting = trio.CancelScope()
        self._everything = trio.CancelScope()
        self._emptied = trio.Event()
        self._stopping = False
        self._handshaking = 0
        self._refusing = False

    async def serve(
        self,
        host: str | None,
        port: int,
        *,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and serve until ``shutdown`` has ended.

        ``started()`` means listening, and hands over the bound addresses. Host None is every
        interface, port 0 any free one. Raises ListenError.
        """
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            where = f"{host or '*'}:{port}"
            raise ListenError(
                f"cannot listen for gRPC on {where} (SERVER_HOST, SERVER_PORT): {error}"
            ) from error
        await self.serve_listeners(listeners, task_status=task_status)

    async def serve_listeners(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """The same on open listeners, which are closed at the end."""
        with self._everything:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tend)
                async with trio.open_nursery() as connections:
                    with self._accepting:
                        task_status.started([one.socket.getsockname() for one in listeners])
                        await trio.serve_listeners(
                            self._accept, list(listeners), handler_nursery=connections
                        )
                nursery.cancel_scope.cancel()

    async def serve_stream(self, transport: trio.abc.Stream, peer: Peer) -> None:
        """Serve one connection that somebody else accepted, and close it at its end."""
        connection = Connection(self._serving, transport, peer)
        self._serving.counters.connections += 1
        self._connections.add(connection)
        try:
            await connection.run()
        except Exception as error:
            self._serving.counters.connections_failed += 1
            self._serving.log.error(
                "a gRPC connection failed", peer=str(peer), error=repr(error), exc_info=error
            )
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._emptied.set()
            with trio.move_on_after(CLOSE_S) as scope:
                scope.shield = True
                await transport.aclose()

    async def shutdown(self, *, grace_s: float = 5.0) -> None:
        """Stop within the grace time: no new connection or call, streams ended, calls drained.

        Server streams end with CANCELLED and their closing text at once; other calls may finish
        and are ended with UNAVAILABLE when a fifth of the grace time is left. Returns when all
        connections are closed; ``serve`` returns then too.
        """
        self._stopping = True
        self._accepting.cancel()
        self.health.set(NOT_SERVING)
        end_at_s = trio.current_time() + grace_s
        for connection in self._connections:
            connection.refuse()
        if self._connections:
            await trio.sleep(TELL_HEALTH_S)
        for connection in list(self._connections):
            connection.drain()
        with trio.move_on_at(end_at_s - grace_s / 5):
            for connection in list(self._connections):
                await connection.until_idle()
        for connection in list(self._connections):
            connection.end_calls(GRPCError(Status.UNAVAILABLE, "The server is stopping."))
        if self._connections:
            await trio.sleep(GOODBYE_DELAY_S)
        for connection in list(self._connections):
            connection.say_goodbye()
        with trio.move_on_at(min(end_at_s, trio.current_time() + LINGER_S)):
            while self._connections:
                self._emptied = trio.Event()
                await self._emptied.wait()
        for connection in list(self._connections):
            connection.close()
        self._everything.cancel()

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Certificates for new connections from now on; those that are open keep theirs."""
        assert self._tls is not None, "plain TCP does not become TLS while running"
        self._tls = context

    def statistics(self) -> dict[str, Any]:
        """Figures since the start, and what is open now. ``statuses`` counts calls by status."""
        counters = self._serving.counters
        figures = {field.name: getattr(counters, field.name) for field in fields(counters)}
        figures["statuses"] = dict(counters.statuses)
        figures["connections_open"] = len(self._connections)
        figures["streams_open"] = sum(one.streams for one in self._connections)
        figures["streams_waiting"] = sum(one.waiting for one in self._connections)
        return figures

    async def _accept(self, socket_stream: trio.SocketStream) -> None:
        limits, counters = self._serving.limits, self._serving.counters
        if len(self._connections) + self._handshaking >= limits.connections or self._stopping:
            counters.connections_refused += 1
            if not self._refusing:  # one line per flood; the figures have the rest
                self._serving.log.warning(
                    "gRPC connections are refused: too many are open", limit=limits.connections
                )
            self._refusing = True
            await trio.aclose_forcefully(socket_stream)
            return
        self._refusing = False
        try:
            address = _address(socket_stream.socket.getpeername())
        except OSError:  # gone before it was looked at
            await trio.aclose_forcefully(socket_stream)
            return
        if self._tls is None:
            await self.serve_stream(socket_stream, Peer(address))
            return
        stream = trio.SSLStream(socket_stream, self._tls, server_side=True, https_compatible=True)
        self._handshaking += 1
        try:
            with trio.fail_after(limits.handshake_timeout_s):
                await stream.do_handshake()
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            counters.connections_failed += 1
            reason = str(error.__cause__ or error) or type(error).__name__
            self._serving.log.warning("a TLS handshake failed", peer=address, reason=reason)
            await trio.aclose_forcefully(socket_stream)
            return
        finally:
            self._handshaking -= 1
        await self.serve_stream(stream, peer_of(stream, address))

    async def _tend(self) -> None:
        while True:
            await trio.sleep(TEND_INTERVAL_S)
            for connection in list(self._connections):
                connection.tend()


def _address(name: Address) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
