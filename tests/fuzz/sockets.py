"""A node's websocket made of recorded answers and news, some of its frames damaged; in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from tests.fuzz.mutation import mutated
from tests.fuzz.replay import ANSWER_S

UPGRADE = b"upgrade: websocket"
HEAD_BYTES = 64 * 1024
Hear = Callable[[str], list[Any]]
"""What is sent back for a message: texts as they are, all else as JSON."""


class SocketReplay:
    """Serves one conversation; `spoilt` says which frames are damaged, and with which dice.

    Frames are counted over all connections, so a client that connects again meets an honest peer.
    """

    def __init__(self, hear: Hear, spoilt: Mapping[int, int]) -> None:
        self._hear = hear
        self._spoilt = spoilt
        self._frames = 0
        self.told = bytearray()
        """Every damaged frame, as it was sent."""

    async def serve(self, stream: Any) -> None:
        try:
            await self._talk(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _talk(self, stream: Any) -> None:
        peer = WSConnection(ConnectionType.SERVER)
        text = ""
        while data := await stream.receive_some(65_536):
            peer.receive_data(bytes(data))
            for event in peer.events():
                if isinstance(event, Request):
                    await self._send(stream, peer.send(AcceptConnection()))
                elif isinstance(event, Ping):
                    await self._send(stream, peer.send(event.response()))
                elif isinstance(event, CloseConnection):
                    await self._send(stream, peer.send(event.response()))
                    return
                elif isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        heard, text = text, ""
                        await self._answer(stream, peer, heard)

    async def _answer(self, stream: Any, peer: WSConnection, heard: str) -> None:
        for message in self._hear(heard):
            # Time must pass, or who asks again at once would be answered without end at one moment.
            await trio.sleep(ANSWER_S)
            said = message if isinstance(message, str) else json.dumps(message)
            frame = peer.send(TextMessage(said.encode("utf-8", "replace").decode()))
            await self._send(stream, frame)

    async def _send(self, stream: Any, frame: bytes) -> None:
        seed = self._spoilt.get(self._frames)
        self._frames += 1
        if seed is not None:
            frame = mutated(Random(seed), frame)
            self.told += frame
        await stream.send_all(frame)


class Switch:
    """Both on one port: who asks for a websocket gets it, all others HTTP."""

    def __init__(self, http: Callable[[Any], Any], socket: Callable[[Any], Any]) -> None:
        self._http = http
        self._socket = socket

    async def serve(self, stream: Any) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES:
            try:
                data = await stream.receive_some(65_536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
            if not data:
                break
            head += data
        serve = self._socket if UPGRADE in head.lower() else self._http
        await serve(_Unread(stream, head))


class _Unread:
    """A stream that gives back what was read from it already."""

    def __init__(self, stream: Any, head: bytes) -> None:
        self._stream = stream
        self._head = head

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._head:
            given, self._head = self._head, b""
            await trio.lowlevel.checkpoint()
            return given
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        await self._stream.aclose()
