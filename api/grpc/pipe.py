"""The outgoing bytes of one connection: one buffer, one writer, streams taking turns."""

import h2.connection
import trio

from api.grpc.outlet import Outlet
from api.grpc.serving import Counters


class Pipe:
    """Collects frames from all streams and writes them in batches.

    ``put`` is synchronous, so a broadcaster reaches a thousand streams without a task switch and
    the writer task sends what gathered in one call per connection.
    """

    __slots__ = (
        "_closing",
        "_counters",
        "_high_water_bytes",
        "_idle",
        "_parts",
        "_room",
        "_transport",
        "_wakeup",
        "h2",
        "pending",
        "size_bytes",
    )

    def __init__(
        self,
        state: h2.connection.H2Connection,
        transport: trio.abc.SendStream,
        *,
        high_water_bytes: int,
        counters: Counters,
    ) -> None:
        self.h2 = state
        self._transport = transport
        self._high_water_bytes = high_water_bytes
        self._parts: list[bytes | memoryview] = []
        self._wakeup = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._idle = False
        self._closing = False
        self.size_bytes = 0
        self._counters = counters
        self.pending: dict[Outlet, None] = {}
        """Streams with something to send that the windows or the buffer held back."""

    @property
    def full(self) -> bool:
        """Streams must wait until the writer has caught up."""
        return self.size_bytes >= self._high_water_bytes

    def put(self, *parts: bytes | memoryview, size_bytes: int) -> None:
        """Add frames that together have the given size."""
        self._parts += parts
        self.size_bytes += size_bytes
        if self._idle:
            self._wake()

    def collect(self) -> None:
        """Take over what h2 wants to send: it must precede anything put later."""
        data = self.h2.data_to_send()
        if data:
            self.put(data, size_bytes=len(data))

    def close(self) -> None:
        """Let ``run`` end once everything is written."""
        self._closing = True
        if self._idle:
            self._wake()

    async def run(self) -> None:
        """Write until closed; raises trio.BrokenResourceError when the peer is gone."""
        while True:
            while not self._parts:
                if self._closing:
                    return
                self._idle = True
                await self._wakeup.park()
            data = b"".join(self._parts)
            self._parts.clear()
            await self._transport.send_all(data)
            self.size_bytes -= len(data)
            self._counters.bytes_out += len(data)
            self._room.unpark_all()
            if self.pending:
                self.pump()

    async def until_not_flooded(self) -> None:
        """Wait while the peer asks for more answers than it reads.

        DATA never exceeds the high-water mark by much, so what does is answers to pings, settings
        and refused calls.
        """
        while self.size_bytes > 4 * self._high_water_bytes:
            await self._room.park()

    def pump(self) -> None:
        """Send what the windows allow, one frame per stream in turn."""
        progressed = True
        while progressed and self.pending:
            progressed = False
            for outlet in list(self.pending):
                if self.full:
                    return
                progressed |= outlet.drain()

    def _wake(self) -> None:
        self._idle = False
        self._wakeup.unpark_all()
