"""One HTTP/2 connection: reading it, its calls, its end."""

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.stream
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.metadata import decode_timeout
from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from h2.stream import StreamInputs

from api.grpc import frames
from api.grpc.call import Call
from api.grpc.codec import ACCEPT_ENCODING, ENCODINGS
from api.grpc.inbox import Inbox
from api.grpc.outlet import Outlet
from api.grpc.peer import Peer
from api.grpc.pipe import Pipe
from api.grpc.serving import Serving
from api.grpc.status import CallError, error_trailers

READ_BYTES = 65_536
MAX_TIMEOUT_CHARACTERS = 9  # eight digits and a unit
_CONFIG = h2.config.H2Configuration(
    client_side=False,
    header_encoding=False,
    # gRPC asks for little of HTTP's header rules, and `_on_request` checks that.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
)


class _State(h2.connection.H2Connection):
    """h2 remembers how calls ended, for frames still under way: 65 536 of each connection, 12 MB.

    A peer that calls all day has them all; no more can be under way than may be open.
    """

    MAX_CLOSED_STREAMS = 2048


class Connection:
    """Serves the calls of one peer until the peer leaves, breaks the protocol or is closed.

    Whatever a peer sends ends at most its own connection. Handlers run in this connection's
    nursery, so none outlives its client.
    """

    def __init__(self, serving: Serving, transport: trio.abc.Stream, peer: Peer) -> None:
        self._serving = serving
        self._transport = transport
        self._peer = peer
        self._state = _http2(serving)
        self._pipe = Pipe(
            self._state,
            transport,
            high_water_bytes=serving.limits.connection_outbound_bytes,
            counters=serving.counters,
        )
        self._calls: dict[int, Call] = {}
        self._running = 0
        self._over = False
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._idle = trio.Event()
        self._draining = False
        self._opened_at_s = self._received_at_s = trio.current_time()
        self._pinged_at_s: float | None = None
        self._greeted = False

    @property
    def streams(self) -> int:
        """Calls in progress."""
        return len(self._calls)

    @property
    def waiting(self) -> int:
        """Streams whose reader is behind."""
        return len(self._pipe.pending)

    async def run(self) -> None:
        """Serve until the end. Exceptions of the transport are an end like any other."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self._pipe.collect()
                    self._nursery.start_soon(self._pipe.run)
                    await self._read()
                    self._over = True
                    self._abandon_all()
                    self._pipe.close()
                    # A last word such as GOAWAY is worth a moment, not more.
                    self._scope.deadline = trio.current_time() + 1
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer is gone, which is how most connections end
        finally:
            self._over = True
            self._abandon_all()
            self._idle.set()

    def refuse(self) -> None:
        """Take no further calls."""
        self._draining = True

    def drain(self) -> None:
        """Refuse further calls, end server streams, let unary calls finish."""
        self.refuse()
        for call in list(self._calls.values()):
            if call.method.server_streaming:
                call.end(GRPCError(Status.CANCELLED, call.method.closed_text), after_queued=True)
        if not self._calls:
            self._idle.set()

    async def until_idle(self) -> None:
        """Wait until a drained connection has no call left."""
        await self._idle.wait()

    def end_calls(self, error: GRPCError) -> None:
        """End what is still in progress."""
        for call in list(self._calls.values()):
            call.end(error)
            call.outlet.flush_end()

    def say_goodbye(self) -> None:
        """Send GOAWAY: a peer without calls closes the connection then."""
        frame = frames.goaway(self._state.highest_inbound_stream_id, ErrorCodes.NO_ERROR)
        self._pipe.put(frame, size_bytes=len(frame))

    def close(self) -> None:
        """End the connection now."""
        self._scope.cancel()

    def tend(self) -> None:
        """Periodic care: ping a silent peer, close a dead one, cut off readers that stall."""
        now_s, limits = trio.current_time(), self._serving.limits
        if self._over:
            return
        if not self._greeted:
            if now_s - self._opened_at_s >= limits.handshake_timeout_s:
                self._serving.counters.connections_failed += 1
                self.close()
            return
        for outlet in list(self._pipe.pending):
            if now_s - outlet.progress_at_s >= limits.stall_timeout_s:
                self._calls[outlet.stream_id].cut_off()
        if self._pinged_at_s is None:
            if now_s - self._received_at_s >= limits.keepalive_interval_s:
                self._pinged_at_s = now_s
                self._state.ping(b"tallykee")
                self._pipe.collect()
        elif now_s - self._pinged_at_s >= limits.keepalive_timeout_s:
            self._serving.counters.keepalive_deaths += 1
            self.close()

    async def _read(self) -> None:
        counters = self._serving.counters
        while True:
            data = await self._transport.receive_some(READ_BYTES)
            if not data:
                return
            self._received_at_s = trio.current_time()
            self._pinged_at_s = None  # whatever came, the peer lives
            counters.bytes_in += len(data)
            try:
                events = self._state.receive_data(data)
            except h2.exceptions.ProtocolError:
                counters.connections_failed += 1
                self._pipe.collect()
                return
            # Before anything else is said: acknowledged settings bind what follows.
            self._pipe.collect()
            for event in events:
                self._on_event(event)
            self._pipe.collect()
            await self._pipe.until_not_flooded()

    def _on_event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived():
                self._on_data(event)
            case h2.events.RequestReceived():
                self._on_request(event)
            case h2.events.StreamEnded():
                call = self._calls.get(event.stream_id)
                if call is not None:
                    try:
                        call.inbox.end()
                    except GRPCError as error:
                        call.end(error)
            case h2.events.StreamReset():
                call = self._calls.get(event.stream_id)
                if call is not None:
                    self._serving.counters.streams_reset_by_peer += 1
                    call.abandon()
            case h2.events.WindowUpdated():
                self._on_window(event.stream_id)
            case h2.events.RemoteSettingsChanged():
                self._greeted = True
                self._pipe.pump()
            case h2.events.ConnectionTerminated():
                # The peer opens no further calls, but may wait for answers (RFC 9113, 6.8);
                # h2 would take it for the end.
                self._state.state_machine.state = ConnectionState.CLIENT_OPEN
            case _:
                pass

    def _on_window(self, stream_id: int | None) -> None:
        call = self._calls.get(stream_id) if stream_id else None
        if call is None:
            self._pipe.pump()
            return
        while not self._pipe.full and call.outlet.drain():
            pass

    def _on_data(self, event: h2.events.DataReceived) -> None:
        assert event.flow_controlled_length is not None
        call = self._calls.get(event.stream_id)
        if call is None:
            self._credit(event.stream_id, event.flow_controlled_length)
            return
        inbox = call.inbox
        try:
            inbox.feed(event.data or b"", credit_bytes=event.flow_controlled_length)
        except GRPCError as error:
            self._credit(event.stream_id, event.flow_controlled_length)
            call.end(error)
            return
        held = inbox.held_bytes
        limit = self._serving.limits.connection_inbound_bytes
        # Summing costs a pass over the calls, so only large ones ask for it.
        if held > READ_BYTES and sum(c.inbox.held_bytes for c in self._calls.values()) > limit:
            call.end(
                CallError(
                    Status.RESOURCE_EXHAUSTED,
                    f"Unread requests on this connection exceed {limit} bytes.",
                    reason="CONNECTION_BUFFER_FULL",
                )
            )

    def _on_request(self, event: h2.events.RequestReceived) -> None:
        limits, counters = self._serving.limits, self._serving.counters
        stream_id = event.stream_id
        assert stream_id is not None
        stream = self._state.streams.get(stream_id)
        if stream is None or stream.closed:
            return  # reset in the same breath, and perhaps forgotten by h2 already
        if (
            self._draining
            or len(self._calls) >= limits.streams_per_connection
            # Handlers of reset calls may take a moment to clean up: they count too.
            or self._running >= limits.streams_per_connection
        ):
            counters.streams_refused += 1
            self._refuse(stream)
            return
        counters.streams += 1
        headers: list[tuple[bytes, bytes]] = event.headers
        fields = dict(headers)
        outlet = self._outlet(stream, fields)
        http_status = _http_status(fields)
        if http_status is not None:
            outlet.reject(http_status)
            return
        try:
            call = self._call(stream_id, headers, fields, outlet)
        except GRPCError as error:
            counters.statuses[error.status.name] += 1
            outlet.abort(error_trailers(error))
            return
        self._calls[stream_id] = call
        self._running += 1
        assert self._nursery is not None
        self._nursery.start_soon(self._run, call)

    def _call(
        self,
        stream_id: int,
        headers: list[tuple[bytes, bytes]],
        fields: dict[bytes, bytes],
        outlet: Outlet,
    ) -> Call:
        """Check what the headers ask for; raises the GRPCError that refuses it."""
        limits = self._serving.limits
        size = sum(len(name) + len(value) + 32 for name, value in headers)
        if size > limits.header_bytes:
            raise CallError(
                Status.RESOURCE_EXHAUSTED,
                f"Request headers of {size} bytes exceed the limit of {limits.header_bytes}.",
                reason="HEADERS_TOO_LARGE",
            )
        path = fields[b":path"].decode("latin-1")
        method = self._serving.methods.get(path)
        if method is None:
            raise GRPCError(Status.UNIMPLEMENTED, f"Method {path[:200]} is not served here.")
        encoding = fields.get(b"grpc-encoding", b"identity").decode("latin-1")
        if encoding not in ENCODINGS:
            raise CallError(
                Status.UNIMPLEMENTED,
                f"Compression {encoding[:50]!r} is not supported; use gzip or identity.",
                headers=[ACCEPT_ENCODING],
            )
        return Call(
            self._serving,
            method,
            headers=headers,
            peer=self._peer,
            inbox=Inbox(
                limit_bytes=limits.message_bytes,
                gzip=encoding == "gzip",
                credit=lambda size_bytes: self._credit(stream_id, size_bytes),
            ),
            outlet=outlet,
            timeout_s=_timeout_s(fields.get(b"grpc-timeout")),
        )

    def _outlet(self, stream: h2.stream.H2Stream, fields: dict[bytes, bytes]) -> Outlet:
        limits = self._serving.limits
        return Outlet(
            self._pipe,
            stream,
            gzip=b"gzip" in fields.get(b"grpc-accept-encoding", b""),
            gzip_above_bytes=limits.compress_above_bytes,
            limit_bytes=limits.stream_outbound_bytes,
            on_end=self._on_end,
            overflow=self._on_overflow,
        )

    async def _run(self, call: Call) -> None:
        try:
            await call.run()
        finally:
            self._running -= 1

    def _refuse(self, stream: h2.stream.H2Stream) -> None:
        """Turn a call away unseen: the client may repeat it elsewhere (RFC 9113, 8.7)."""
        stream.state_machine.process_input(StreamInputs.SEND_RST_STREAM)
        frame = frames.rst_stream(stream.stream_id, ErrorCodes.REFUSED_STREAM)
        self._pipe.put(frame, size_bytes=len(frame))

    def _on_end(self, outlet: Outlet) -> None:
        call = self._calls.pop(outlet.stream_id, None)
        if call is not None:
            call.inbox.discard()
        if self._draining and not self._calls:
            self._idle.set()

    def _on_overflow(self, outlet: Outlet) -> None:
        self._calls[outlet.stream_id].cut_off()

    def _abandon_all(self) -> None:
        for call in list(self._calls.values()):
            call.abandon()

    def _credit(self, stream_id: int, size_bytes: int) -> None:
        if size_bytes:
            self._state.acknowledge_received_data(size_bytes, stream_id)
            self._pipe.collect()


def _http2(serving: Serving) -> h2.connection.H2Connection:
    """Protocol state that has announced our limits."""
    limits = serving.limits
    state = _State(_CONFIG)
    values = {
        SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams_per_connection,
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.header_bytes,
        SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
    }
    state.local_settings = Settings(client=False, initial_values=values)
    state.initiate_connection()
    state.increment_flow_control_window(
        limits.connection_window_bytes - state.inbound_flow_control_window
    )
    # A client may open calls before it has read the announcement. h2 would end its connection;
    # up to twice the limit are refused one by one instead, and headers likewise.
    values[SettingCodes.MAX_CONCURRENT_STREAMS] *= 2
    state.local_settings = Settings(client=False, initial_values=values)
    state.decoder.max_header_list_size = 4 * limits.header_bytes
    return state


def _http_status(fields: dict[bytes, bytes]) -> int | None:
    """The HTTP error for a request that is no gRPC call (grpc/doc/http-grpc-status-mapping.md)."""
    if fields.get(b":method") != b"POST":
        return 405
    if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
        return 415
    return None if b":path" in fields else 400


def _timeout_s(value: bytes | None) -> float | None:
    if value is None:
        return None
    text = value.decode("latin-1")
    try:
        timeout_s = float(decode_timeout(text[: MAX_TIMEOUT_CHARACTERS + 1]))
    except ValueError:
        timeout_s = None
    if timeout_s is None or len(text) > MAX_TIMEOUT_CHARACTERS:
        raise GRPCError(
            Status.INVALID_ARGUMENT, f"grpc-timeout {text[:20]!r} is no duration such as 500m."
        )
    return timeout_s
