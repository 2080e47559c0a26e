"""A TCP relay on Trio that tests can cut, freeze and mend."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio


class TcpRelay:
    """Forwards connections to one target; `port` is where it listens."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._streams: set[trio.SocketStream] = set()
        self._is_cut = False
        self._flows = trio.Event()
        self._flows.set()
        self.port = 0

    def cut(self) -> None:
        """End all connections, and every new one at once."""
        self._is_cut = True
        for stream in self._streams:
            stream.socket.close()

    def freeze(self) -> None:
        """Keep all connections open, but let nothing through any more."""
        self._flows = trio.Event()

    def mend(self) -> None:
        """Work again."""
        self._is_cut = False
        self._flows.set()

    async def serve(self, stream: trio.SocketStream) -> None:
        if self._is_cut:
            return
        async with (
            await trio.open_tcp_stream(*self._target) as target,
            trio.open_nursery() as nursery,
        ):
            both = {stream, target}
            self._streams |= both
            nursery.start_soon(self._pump, stream, target, nursery.cancel_scope)
            nursery.start_soon(self._pump, target, stream, nursery.cancel_scope)
        self._streams -= both

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for data in source:
                await self._flows.wait()
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def tcp_relay(host: str, port: int) -> AsyncIterator[TcpRelay]:
    """Relay to host:port until left."""
    relay = TcpRelay(host, port)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_tcp, relay.serve, 0, host="127.0.0.1", handler_nursery=nursery)
        )
        relay.port = listeners[0].socket.getsockname()[1]
        yield relay
        nursery.cancel_scope.cancel()
