"""The answers of one call, from messages to frames, bounded for slow readers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import h2.stream
import trio
from h2.errors import ErrorCodes
from h2.stream import StreamInputs

from api.grpc import frames
from api.grpc.codec import ACCEPT_ENCODING, Encoded
from api.grpc.status import RESPONSE, Header

if TYPE_CHECKING:  # the two halves of one mechanism; at run time only the pipe is handed in
    from api.grpc.pipe import Pipe

_FRAME_HEADER_BYTES = 9
_GZIP = ("grpc-encoding", "gzip")


class Outlet:
    """The sending half of one call.

    ``push`` is what a broadcaster calls: synchronous, never blocks, never raises for a reader's
    sake. A reader whose buffer is full is cut off by ``overflow``, with a status that says so.
    """

    __slots__ = (
        "_drained",
        "_gzip",
        "_gzip_above_bytes",
        "_limit_bytes",
        "_offset",
        "_on_end",
        "_overflow",
        "_pipe",
        "_queue",
        "_queued_bytes",
        "_started",
        "_stream",
        "_tail",
        "_trailers",
        "ended",
        "messages",
        "progress_at_s",
        "stream_id",
    )

    def __init__(
        self,
        pipe: Pipe,
        stream: h2.stream.H2Stream,
        *,
        gzip: bool,
        gzip_above_bytes: int,
        limit_bytes: int,
        on_end: Callable[[Outlet], None],
        overflow: Callable[[Outlet], None],
    ) -> None:
        self._pipe = pipe
        self._stream = stream
        self._gzip = gzip
        self._gzip_above_bytes = gzip_above_bytes
        self._limit_bytes = limit_bytes
        self._on_end = on_end
        self._overflow = overflow
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._offset = 0
        self._started = False
        self._trailers: list[Header] | None = None
        self._drained: trio.Event | None = None
        self.stream_id = stream.stream_id
        self._tail = frames.data_tail(self.stream_id)
        self.ended = False
        self.messages = 0
        self.progress_at_s = 0.0

    @property
    def closed(self) -> bool:
        """Nothing can be pushed any more."""
        return self.ended or self._trailers is not None

    @property
    def started(self) -> bool:
        """The response headers are out."""
        return self._started

    @property
    def queued_bytes(self) -> int:
        """What was pushed and waits for the reader."""
        return self._queued_bytes

    def start(self, extra: Iterable[Header] = ()) -> None:
        """Send the response headers, once."""
        assert not self._started
        assert not self.ended
        self._started = True
        headers: list[Header] = list(RESPONSE)
        if self._gzip:
            headers.append(_GZIP)
        headers.extend(extra)
        self._put_headers(headers, end_stream=False)

    def no_gzip(self) -> None:
        """Announce no compression: called before ``start`` where none will be used."""
        self._gzip = False

    def push(self, encoded: Encoded) -> bool:
        """Send or queue one message; False when the stream is over or was cut off just now."""
        if self.ended or self._trailers is not None:
            return False
        frame = encoded.frame
        size = len(frame)
        if self._gzip and size >= self._gzip_above_bytes:
            frame = encoded.gzipped
            size = len(frame)
        if not self._started:
            self.start()
        self.messages += 1
        stream, pipe = self._stream, self._pipe
        if (
            not self._queue
            and size <= frames.FRAME_BYTES
            and size <= stream.outbound_flow_control_window
            and size <= pipe.h2.outbound_flow_control_window
            and not pipe.full
        ):
            stream.outbound_flow_control_window -= size
            pipe.h2.outbound_flow_control_window -= size
            pipe.put(
                size.to_bytes(3, "big"), self._tail, frame, size_bytes=size + _FRAME_HEADER_BYTES
            )
            return True
        return self._enqueue(frame)

    async def until_drained(self) -> None:
        """Wait until everything pushed has gone to the connection, or the stream is over."""
        while self._queue and not self.ended:
            if self._drained is None:
                self._drained = trio.Event()
            await self._drained.wait()

    def finish(self, trailers: list[Header]) -> None:
        """End the stream after what is queued."""
        if self.closed:
            return
        if self._queue:
            self._trailers = trailers
        else:
            self._end(trailers)

    def abort(self, trailers: list[Header]) -> None:
        """End the stream now and drop what is queued."""
        if not self.ended:
            self._end(trailers)

    def flush_end(self) -> None:
        """End a finished stream now: what a slow reader has not taken is dropped."""
        if not self.ended and self._trailers is not None:
            self._end(self._trailers)

    def reject(self, http_status: int) -> None:
        """Answer something that is not a gRPC call at all."""
        self._put_headers([(":status", str(http_status)), ACCEPT_ENCODING], end_stream=True)
        self._close()

    def drop(self) -> None:
        """The peer is gone: free everything, send nothing."""
        if not self.ended:
            self._close(silent=True)

    def drain(self) -> bool:
        """Send one frame of what is queued; False when the windows or an empty queue forbid."""
        if not self._queue:
            return False
        stream, state = self._stream, self._pipe.h2
        room = min(
            stream.outbound_flow_control_window,
            state.outbound_flow_control_window,
            frames.FRAME_BYTES,
        )
        if room <= 0:
            return False
        message = self._queue[0]
        size = min(len(message) - self._offset, room)
        part = memoryview(message)[self._offset : self._offset + size]
        stream.outbound_flow_control_window -= size
        state.outbound_flow_control_window -= size
        self._pipe.put(frames.length(size), self._tail, part, size_bytes=size + _FRAME_HEADER_BYTES)
        self._offset += size
        self._queued_bytes -= size
        self.progress_at_s = trio.current_time()
        # The stream goes to the end of the line, or out of it.
        self._pipe.pending.pop(self, None)
        if self._offset == len(message):
            self._queue.popleft()
            self._offset = 0
        if self._queue:
            self._pipe.pending[self] = None
        else:
            self._empty()
        return True

    def _enqueue(self, frame: bytes) -> bool:
        if self._queue and self._queued_bytes + len(frame) > self._limit_bytes:
            self._overflow(self)
            return False
        if not self._queue:
            self.progress_at_s = trio.current_time()
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._pipe.pending[self] = None
        while not self._pipe.full and self.drain():
            pass
        return True

    def _empty(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None
        if self._trailers is not None:
            self._end(self._trailers)

    def _end(self, trailers: list[Header]) -> None:
        headers = trailers if self._started else [*RESPONSE, *trailers]
        self._put_headers(headers, end_stream=True)
        self._close()

    def _put_headers(self, headers: list[Header], *, end_stream: bool) -> None:
        block = self._pipe.h2.encoder.encode(headers)
        frame = frames.headers(self.stream_id, block, end_stream=end_stream)
        self._pipe.put(frame, size_bytes=len(frame))

    def _close(self, *, silent: bool = False) -> None:
        self.ended = True
        self._queue.clear()
        self._queued_bytes = 0
        self._pipe.pending.pop(self, None)
        if self._drained is not None:
            self._drained.set()
            self._drained = None
        # h2 did not see what was sent; it must know that the stream is over, or it would count
        # it as open for ever.
        machine = self._stream.state_machine
        if not silent and not self._stream.closed:
            machine.process_input(StreamInputs.SEND_END_STREAM)
            if not self._stream.closed:
                # The peer has not ended its side: tell it that nobody reads the rest.
                machine.process_input(StreamInputs.SEND_RST_STREAM)
                frame = frames.rst_stream(self.stream_id, ErrorCodes.NO_ERROR)
                self._pipe.put(frame, size_bytes=len(frame))
        self._on_end(self)
