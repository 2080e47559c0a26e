"""The process that reads all that is told over HTTP: server-sent events, webhooks, and polls.

Trio and plain sockets. Webhooks are verified as Standard Webhooks says, by code that shares nothing
with the daemon's, before they are answered.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any

import orjson
import trio

from tests.helpers.event_source import EventSource
from tests.helpers.receiver import is_signed
from tests.load.team import Board, Count, Faults, Heard, Merchant, digest_of

RETRY_S = 0.2
POLLS_PER_EVENT = 0.25
LONG_POLL_S = 3
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
_TIMEOUT_S = 30
_OPEN = ("PENDING", "PENDING_MEMPOOL")
_DATED_BACK = ("invoice.deadline_reached", "invoice.expired")
"""Their instant is the one up to which the chain had been read, up to a second before."""
_KEPT = 20
"""Invoices of a merchant that are followed by polling: the newest."""

Timed = list[tuple[int, float]]
"""(CLOCK_MONOTONIC in ns, milliseconds)."""


@dataclass(frozen=True)
class EarReport:
    sent: Heard
    """By server-sent events."""
    hooked: Heard
    """By webhooks."""
    hook_ms: Timed
    """From the instant that an event has to its webhook's arrival."""
    poll_ms: Timed
    unchanged: int
    """Polls that were answered 304."""
    faults: tuple[dict[str, int], dict[str, list[str]]]


def work(
    report: Connection,
    board: Board,
    http_port: int,
    rate_per_s: float,
) -> None:
    """Says the webhook port, takes the merchants, says "ready", takes "go" and "stop".

    Answers with an EarReport. `rate_per_s` is of events.
    """
    trio.run(_Ears(report, board, http_port, rate_per_s).run)


class _Ears:
    def __init__(self, report: Connection, board: Board, http_port: int, rate_per_s: float) -> None:
        self._report = report
        self._board = board
        self._port = http_port
        self._polls_per_s = rate_per_s * POLLS_PER_EVENT
        self._faults = Faults(board, Count.EAR_FAULTS)
        self._sent = Heard()
        self._hooked = Heard()
        self._hook_ms: Timed = []
        self._poll_ms: Timed = []
        self._unchanged = 0
        self._listening = 0
        self._all_listen = trio.Event()
        self._secrets: dict[str, str] = {}
        self._newest: dict[int, deque[str]] = {}
        self._places: dict[int, str] = {}

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=512)
            nursery.start_soon(trio.serve_listeners, self._receive, listeners)
            self._report.send(listeners[0].socket.getsockname()[1])
            merchants: Sequence[Merchant] = await self._hear()
            self._secrets = {f"/{one.number}": one.hook_secret for one in merchants}
            self._newest = {one.number: deque(maxlen=_KEPT) for one in merchants}
            for merchant in merchants:
                nursery.start_soon(self._follow, merchant, len(merchants))
            await self._all_listen.wait()
            self._report.send("ready")
            assert await self._hear() == "go"
            for merchant in merchants:
                nursery.start_soon(self._poll, merchant, len(merchants) / self._polls_per_s)
            assert await self._hear() == "stop"
            nursery.cancel_scope.cancel()
        self._report.send(
            EarReport(
                self._sent,
                self._hooked,
                self._hook_ms,
                self._poll_ms,
                self._unchanged,
                (self._faults.counts, self._faults.words),
            )
        )

    async def _hear(self) -> Any:
        return await trio.to_thread.run_sync(self._report.recv)

    # --- server-sent events -----------------------------------------------------------------------

    async def _follow(self, merchant: Merchant, count: int) -> None:
        """One merchant's stream; a break is a fault, and is gone on from all the same."""
        first = True
        while True:
            headers = {
                "Accept": "text/event-stream",
                "Authorization": merchant.bearer,
                "Last-Event-ID": self._places.get(merchant.number, "0"),
            }
            try:
                async with aclosing(await self._connect()) as stream:
                    source = EventSource(stream)
                    await source.ask("/v1/events", headers)
                    if first:
                        first = False
                        self._listening += 1
                        if self._listening == count:
                            self._all_listen.set()
                    await self._read(source, merchant)
            except (OSError, EOFError, trio.BrokenResourceError) as error:
                self._faults.add("SSE: broke", repr(error))
            await trio.sleep(RETRY_S)

    async def _read(self, source: EventSource, merchant: Merchant) -> None:
        """Until the stream ends."""
        if source.status != 200:
            self._faults.add("SSE: refused", source.head)
            return
        while (block := await source.block()) is not None:
            if block.id is not None:
                self._places[merchant.number] = block.id
            if block.event == "error":
                self._faults.add("SSE: hung up on", block.data)
            elif block.data is not None:
                self._take_sent(block.data, merchant)
        self._faults.add("SSE: ended", merchant.number)

    def _take_sent(self, event: dict[str, Any], merchant: Merchant) -> None:
        if event["user_id"] != merchant.user_id:
            self._faults.add("SSE: another merchant's event", event["id"])
        if self._take(self._sent, "SSE", event):
            self._board[Count.SENT] += 1
            if event["type"] == "invoice.created":
                self._newest[merchant.number].append(event["invoice_id"])
        else:
            self._faults.add("SSE: an event twice", event["id"])

    def _take(self, heard: Heard, wire: str, event: dict[str, Any]) -> bool:
        try:
            return heard.take(event["seq"], digest_of(event), time.monotonic_ns())
        except ValueError as error:
            self._faults.add(f"{wire}: two events of one number", error)
            return False

    async def _connect(self) -> trio.SocketStream:
        socket = trio.socket.socket()
        try:
            await socket.connect(("127.0.0.1", self._port))
        except BaseException:
            socket.close()
            raise
        return trio.SocketStream(socket)

    # --- webhooks ---------------------------------------------------------------------------------

    async def _receive(self, stream: trio.SocketStream) -> None:
        """HTTP/1.1 with kept connections; a request is a head and as many bytes as it says."""
        pending = b""
        async with aclosing(stream):
            try:
                while data := await stream.receive_some(65_536):
                    pending += data
                    while (request := _request(pending)) is not None:
                        path, headers, body, pending = request
                        await stream.send_all(self._answer(path, headers, body))
            except trio.BrokenResourceError as error:
                self._faults.add("webhook: connection broke", repr(error))

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> bytes:
        now_s = time.time()
        secret = self._secrets.get(path)
        if secret is None or not is_signed(secret, headers, body, now_s=now_s):
            self._faults.add("webhook: not signed", (path, headers))
            return _REFUSED
        event = orjson.loads(body)
        if event["seq"] is None:
            self._faults.add("webhook: a notice", event)
        elif self._take(self._hooked, "webhook", event):
            self._board[Count.HOOKED] += 1
            if event["type"] not in _DATED_BACK:
                self._hook_ms.append((time.monotonic_ns(), _age_ms(event, now_s)))
        return _OK

    # --- polling ----------------------------------------------------------------------------------

    async def _poll(self, merchant: Merchant, every_s: float) -> None:
        """Looks at one of the newest invoices at an even rate; each third look waits for news."""
        chance = random.Random(merchant.number)
        known: dict[str, tuple[str, int]] = {}
        await trio.sleep(chance.uniform(0, every_s))
        due = trio.current_time()
        while True:
            due = max(due + every_s, trio.current_time())
            await trio.sleep_until(due)
            newest = self._newest[merchant.number]
            if not newest:
                continue
            known = {one: known[one] for one in newest if one in known}
            await self._look(merchant, chance.choice(list(newest)), known, chance.random() < 1 / 3)

    async def _look(
        self, merchant: Merchant, invoice_id: str, known: dict[str, tuple[str, int]], patient: bool
    ) -> None:
        etag, version = known.get(invoice_id, ("", 0))
        headers = {"Authorization": merchant.bearer, "Connection": "close"}
        if etag:
            headers["If-None-Match"] = etag
        waits = patient and bool(etag)
        path = f"/v1/invoices/{invoice_id}" + (f"?wait={LONG_POLL_S}" if waits else "")
        began = time.monotonic_ns()
        try:
            with trio.fail_after(_TIMEOUT_S):
                async with aclosing(await self._connect()) as stream:
                    source = EventSource(stream)
                    await source.ask(path, headers)
                    found = await source.document() if source.status == 200 else None
        except (OSError, EOFError, trio.BrokenResourceError, trio.TooSlowError) as error:
            self._faults.add("poll: failed", repr(error))
            return
        self._board[Count.POLLED] += 1
        if not waits:
            self._poll_ms.append((began, (time.monotonic_ns() - began) / 1e6))
        if found is not None:
            if found["version"] < version:
                self._faults.add("poll: an older version", (found, version))
            known[invoice_id] = (source.header("etag") or "", found["version"])
        elif source.status == 304:
            self._unchanged += 1
        else:
            self._faults.add(f"poll: {source.status}", source.head)


def _age_ms(event: dict[str, Any], now_s: float) -> float:
    return (now_s - datetime.fromisoformat(event["at"]).timestamp()) * 1000


def _request(data: bytes) -> tuple[str, dict[str, str], bytes, bytes] | None:
    """Path, headers, body and what is left; None while it is not all there."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (one.partition(":") for one in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    length = int(headers["content-length"])
    if len(rest) < length:
        return None
    return first.split(" ")[1], headers, rest[:length], rest[length:]
