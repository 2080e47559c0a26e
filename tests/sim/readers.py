"""Those who read the log of the simulated daemon, each as its API promises it can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import orjson
import trio

from proto.goipay.invoice.v1 import (
    GetInvoicesRequest,
    GetInvoicesResponse,
    InvoiceStatusStreamRequest,
    InvoiceStatusStreamResponse,
)
from proto.tally.v1 import WatchInvoicesRequest, WatchInvoicesResponse
from tests.sim.lines import GrpcLine, HttpLine, Refused
from tests.sim.process import Gone, Process

EMPTY_WAIT_S = 5


@dataclass(frozen=True)
class Heard:
    """One event, as a reader got it."""

    seq: int
    id: str
    type: str
    invoice_id: str
    version: int


@dataclass(eq=False)
class Reader:
    """What all readers have; `run` reads until cancelled, over every loss."""

    present: Callable[[], Process]
    random: Random
    user_id: UUID | None = None
    types: tuple[str, ...] = ()
    heard: list[Heard] = field(default_factory=list)
    seq: int = 0
    """Everything wanted up to here was heard."""
    losses: int = 0
    slow: bool = False
    """Takes nothing for a while, now and then."""
    _scope: trio.CancelScope | None = None

    def vanish(self) -> None:
        """Hang up in the middle, and come back."""
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        while True:
            with trio.CancelScope() as self._scope:
                try:
                    await self.read()
                except (Gone, Refused) as lost:
                    self.check_loss(lost)
                self.losses += 1
            await trio.sleep(1)

    async def read(self) -> None:
        raise NotImplementedError

    def check_loss(self, lost: Exception) -> None:
        """Whether a stream may end so."""
        if isinstance(lost, Refused):
            assert lost.status in (-1, 1, 8, 13, 14, 500, 503), lost

    def hear(self, seq: int, event_id: str, kind: str, invoice_id: str, version: int) -> None:
        assert seq > self.seq, f"event {seq} came after {self.seq}"
        self.heard.append(Heard(seq, event_id, kind, invoice_id, version))
        self.seq = seq

    async def maybe_doze(self) -> None:
        if self.slow and self.random.random() < 0.1:
            await trio.sleep(self.random.choice((3, 10, 40)))


class Watcher(Reader):
    """`tally.v1.WatchInvoices`, resumed after the last sequence number."""

    async def read(self) -> None:
        line = GrpcLine(self.present(), window_bytes=700 if self.slow else None)
        try:
            request = WatchInvoicesRequest(
                after_seq=self.seq,
                user_id="" if self.user_id is None else str(self.user_id),
                types=list(self.types),
                heartbeat=timedelta(seconds=self.random.choice((5, 15, 60))),
            )
            await line.stream("/tally.v1.InvoiceService/WatchInvoices", request)
            while True:
                found = WatchInvoicesResponse.parse(await line.message())
                for one in found.events:
                    self.hear(one.seq, one.id, one.type, one.invoice_id, one.version)
                assert found.seq >= self.seq, "a response stands before its events"
                if not (self.user_id or self.types):
                    assert found.seq == self.seq, "a response skips events"
                self.seq = found.seq
                await self.maybe_doze()
        finally:
            line.close()


class SseReader(Reader):
    """`/v1/events` as a stream, resumed by Last-Event-ID."""

    last_id: str = "0"

    async def read(self) -> None:
        line = HttpLine(self.present())
        try:
            query = "?type=" + ",".join(self.types) if self.types else ""
            given = {"Accept": "text/event-stream", "Last_Event_ID": self.last_id}
            status = await line.stream(f"/v1/events{query}", **given)
            if status != 200:
                raise Refused(status, "no stream")
            while True:
                block = await line.block()
                if block.get("event") == "error":
                    raise Gone
                if "id" in block:
                    self._place(block)
                await self.maybe_doze()
        finally:
            line.close()

    def _place(self, block: dict[str, str]) -> None:
        seq = int(block["id"].partition("-")[2])
        if "data" in block:
            event = orjson.loads(block["data"])
            assert event["seq"] == seq
            self.hear(seq, event["id"], event["type"], event["invoice_id"], event["version"])
        assert seq >= self.seq
        self.seq = seq
        self.last_id = block["id"]


class Poller(Reader):
    """`/v1/events` in pages, sometimes waiting for the next one."""

    async def read(self) -> None:
        line = HttpLine(self.present())
        try:
            while True:
                wait_s = self.random.choice((0, 3, 12))
                limit = self.random.choice((3, 10, 100))
                query = f"after={self.seq}&limit={limit}&wait_s={wait_s}"
                if self.types:
                    query += "&type=" + ",".join(self.types)
                status, page = await line.call("GET", f"/v1/events?{query}")
                if status != 200:
                    raise Refused(status, str(page))
                for one in page["items"]:
                    self.hear(one["seq"], one["id"], one["type"], one["invoice_id"], one["version"])
                assert page["next_after"] >= self.seq
                self.seq = page["next_after"]
                if not page["has_more"]:
                    await trio.sleep(EMPTY_WAIT_S)
        finally:
            line.close()


class StatusReader(Reader):
    """GoiPay's stream, and what its clients do: ask for all they know when they connect."""

    def __init__(
        self, present: Callable[[], Process], random: Random, invoices: Callable[[], list[UUID]]
    ) -> None:
        """`invoices` are those to ask for."""
        super().__init__(present, random)
        self._invoices = invoices
        self.statuses: dict[str, int] = {}
        """Invoice → its status, as this client has it."""
        self.told: dict[str, list[int]] = {}
        """Invoice → the statuses that the stream has told since it was opened."""

    async def read(self) -> None:
        process = self.present()
        stream, line = GrpcLine(process), GrpcLine(process)
        self.told = {}
        try:
            await stream.stream(
                "/invoice.v1.InvoiceService/InvoiceStatusStream", InvoiceStatusStreamRequest()
            )
            await stream.opened()
            known = GetInvoicesRequest(payment_ids=[str(one) for one in self._invoices()])
            path = "/invoice.v1.InvoiceService/GetInvoices"
            for one in (await line.call(path, known, GetInvoicesResponse)).invoices:
                self.statuses[one.id] = int(one.status)
            line.close()
            while True:
                found = InvoiceStatusStreamResponse.parse(await stream.message()).invoice
                self._hear_status(found)
        finally:
            stream.close()
            line.close()

    def _hear_status(self, invoice: Any) -> None:
        status = int(invoice.status)
        told = self.told.setdefault(invoice.id, [])
        assert status not in FINAL or status not in told, "CONFIRMED and EXPIRED are told once"
        told.append(status)
        self.statuses[invoice.id] = status


FINAL = (2, 3)
"""CONFIRMED and EXPIRED."""
