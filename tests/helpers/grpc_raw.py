"""A gRPC client on bare h2, for what well-behaved clients never do."""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import trio
from h2.settings import SettingCodes

from tests.helpers.grpc_service import REGISTER


def prefixed(body: bytes, *, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(body)) + body


def request(user_id: str) -> bytes:
    """A RegisterUserRequest, framed."""
    text = user_id.encode()
    size = bytearray()
    length = len(text)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return prefixed(b"\x0a" + bytes(size) + text if text else b"")


@dataclass
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        text = {**self.headers, **self.trailers}.get("grpc-status")
        return None if text is None else int(text)

    @property
    def text(self) -> str:
        return {**self.headers, **self.trailers}.get("grpc-message", "")

    @property
    def messages(self) -> list[bytes]:
        found, rest = [], bytes(self.data)
        while rest:
            _, size = struct.unpack(">BI", rest[:5])
            found.append(rest[5 : 5 + size])
            rest = rest[5 + size :]
        return found


class RawClient:
    """Speaks HTTP/2 on a Trio stream; acknowledges data only while ``reading``."""

    def __init__(self, stream: trio.abc.Stream, *, window_bytes: int | None = None) -> None:
        self.stream = stream
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        if window_bytes is not None:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window_bytes})
            self.h2.clear_outbound_data_buffer()
            self.h2.local_settings.acknowledge()
            self.h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window_bytes
        self.answers: dict[int, Answer] = {}
        self.events: list[h2.events.Event] = []
        self.reading = True
        self.closed = False

    async def start(self) -> "RawClient":
        self.h2.initiate_connection()
        await self.flush()
        return self

    async def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            await self.stream.send_all(data)

    async def open(
        self,
        path: str = REGISTER,
        *,
        body: bytes | None = None,
        end: bool = True,
        headers: Iterable[tuple[str, str]] = (),
        replace: dict[str, str] | None = None,
    ) -> int:
        """Start a call; without body only the headers are sent."""
        stream_id = self.h2.get_next_available_stream_id()
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "test",
            "te": "trailers",
            "content-type": "application/grpc",
        } | (replace or {})
        self.answers[stream_id] = Answer()
        self.h2.send_headers(stream_id, [*fields.items(), *headers])
        await self.flush()
        if body is not None:
            await self.send(stream_id, body, end=end)
        return stream_id

    async def send(self, stream_id: int, body: bytes, *, end: bool = False) -> None:
        """Send a payload within the server's flow control."""
        while body:
            room = min(self.h2.local_flow_control_window(stream_id), 16384, len(body))
            if room == 0:
                await self.step()
                continue
            self.h2.send_data(stream_id, body[:room])
            body = body[room:]
            await self.flush()
        if end:
            self.h2.end_stream(stream_id)
            await self.flush()

    async def step(self) -> None:
        """Take what has arrived once."""
        data = await self.stream.receive_some(65536)
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self.events.append(event)
            answer = self.answers.get(getattr(event, "stream_id", None) or 0)
            match event:
                case h2.events.ResponseReceived():
                    answer.headers = dict(event.headers)
                case h2.events.TrailersReceived():
                    answer.trailers = dict(event.headers)
                case h2.events.DataReceived():
                    answer.data += event.data
                    if self.reading:
                        self.h2.acknowledge_received_data(
                            event.flow_controlled_length, event.stream_id
                        )
                case h2.events.StreamEnded():
                    answer.ended = True
                case h2.events.StreamReset():
                    answer.reset = event.error_code
                case _:
                    pass
        await self.flush()

    async def until(self, ready: Callable[[], bool]) -> None:
        """Read until it holds; fails the test when the connection ends first."""
        with trio.fail_after(100):
            while not ready():
                assert not self.closed, "the server closed the connection"
                await self.step()

    async def answer(self, stream_id: int) -> Answer:
        """The complete answer to one call."""
        found = self.answers[stream_id]
        await self.until(lambda: found.ended or found.reset is not None)
        return found

    async def unary(self, user_id: str, **options) -> Answer:
        """One RegisterUser call."""
        return await self.answer(await self.open(body=request(user_id), **options))

    async def until_closed(self) -> None:
        """Read until the server has closed the connection."""
        with trio.fail_after(100):
            while not self.closed:
                try:
                    await self.step()
                except trio.BrokenResourceError:
                    self.closed = True

    def saw(self, kind: type) -> bool:
        return any(isinstance(event, kind) for event in self.events)
