"""A running gRPC server for the length of a test, and ways to call it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import trio
import trio.testing
from grpclib.client import Channel

from api.grpc.peer import Peer
from api.grpc.server import Server
from tests.helpers.grpc_raw import RawClient
from tests.helpers.grpc_service import Extra, Invoices, Users


class Lines:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []

    def _add(self, event: str, /, **fields: Any) -> None:
        self.entries.append((event, fields))

    debug = info = warning = error = _add

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.entries]


class Running:
    """A server, where it listens, and its handlers."""

    def __init__(self, server: Server, port: int, log: Lines, services: tuple[Any, ...]) -> None:
        self.server = server
        self.port = port
        self.log = log
        self.services = services
        self._streams: list[trio.SocketStream] = []

    @property
    def users(self) -> Users:
        return next(one for one in self.services if isinstance(one, Users))

    @property
    def invoices(self) -> Invoices:
        return next(one for one in self.services if isinstance(one, Invoices))

    async def connect(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self._streams.append(stream)
        return stream

    async def disconnect(self) -> None:
        for stream in self._streams:
            await trio.aclose_forcefully(stream)

    async def grpcio(self, work: Callable[[grpc.Channel], Any], **options: Any) -> Any:
        """Run the work with an official client in a thread of its own."""

        def run() -> Any:
            with grpc.insecure_channel(f"127.0.0.1:{self.port}", **options) as channel:
                return work(channel)

        return await trio.to_thread.run_sync(run)

    async def grpclib(self, work: Callable[[Channel], Awaitable[Any]], *, ssl: Any = None) -> Any:
        """Run the work with a grpclib client on an asyncio loop in a thread of its own."""

        async def run() -> Any:
            channel = Channel("127.0.0.1", self.port, ssl=ssl)
            try:
                return await work(channel)
            finally:
                # close() leaves a TLS goodbye to a loop that asyncio.run is about to close.
                if channel._protocol is not None:
                    channel._protocol.connection._transport.abort()
                channel.close()
                for _ in range(3):
                    await asyncio.sleep(0)

        return await trio.to_thread.run_sync(lambda: asyncio.run(run()))


@asynccontextmanager
async def serving(
    *services: Any, extra: tuple[Any, ...] = (), **options: Any
) -> AsyncIterator[Running]:
    """Serve on a free port of 127.0.0.1; the end is a shutdown with a short grace time."""
    services = (services or (Users(), Invoices(), Extra())) + extra
    log = options.setdefault("log", Lines())
    server = Server(services, **options)
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", 0)
        running = Running(server, addresses[0][1], log, services)
        try:
            yield running
        finally:
            with trio.CancelScope(shield=True):
                await running.disconnect()
                await server.shutdown(grace_s=0.5)


class Alone:
    """A server without a socket: every connection is a pair of memory streams."""

    def __init__(self, server: Server, log: Lines, nursery: trio.Nursery) -> None:
        self.server = server
        self.log = log
        self._nursery = nursery

    async def client(self, *, start: bool = True, **options: Any) -> RawClient:
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.serve_stream, theirs, Peer("memory"))
        raw = RawClient(ours, **options)
        return await raw.start() if start else raw


@asynccontextmanager
async def alone(*services: Any, **options: Any) -> AsyncIterator[Alone]:
    """For tests on a mock clock, which a socket would defeat."""
    log = Lines()
    server = Server(services, log=log, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server._tend)
        yield Alone(server, log, nursery)
        nursery.cancel_scope.cancel()
