"""The process that reads the gRPC streams: every merchant's `tally.v1`, and GoiPay's.

grpclib on asyncio, as a Python backend would; hundreds of streams in one thread. What an invoice
looks like is folded from the events by code that shares nothing with the daemon's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import orjson
from grpclib import GRPCError
from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.exceptions import StreamTerminatedError

from proto.goipay.invoice.v1 import InvoiceStatusStreamRequest, InvoiceStatusStreamResponse
from proto.tally.v1 import Event, InvoiceServiceStub, WatchInvoicesRequest
from tests.load.team import Board, Count, Faults, Heard, Merchant, digest_of

STREAMS_PER_CONNECTION = 25
RETRY_S = 0.2
_GOIPAY = "/invoice.v1.InvoiceService/InvoiceStatusStream"
_BREAKS = (GRPCError, StreamTerminatedError, OSError)


@dataclass
class Seen:
    """An invoice, as the events of it say."""

    status: str = "PENDING"
    version: int = 0
    price_base: int = 0
    payments: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Outpoint → amount in base units, and `mempool`, `included` or why it is gone."""


@dataclass
class StreamReport:
    heard: Heard
    invoices: dict[str, Seen]
    paid_ns: dict[str, int]
    """txid → when the first event of it came."""
    settled: list[tuple[int, int]]
    """(height that decided, when the event came)."""
    settled_heights: dict[str, int]
    """Invoice → height that decided."""
    goipay: dict[str, str]
    """Invoice → its statuses as GoiPay's stream told them, by their numbers, changes only."""
    goipay_settled_ns: dict[str, int]
    faults: tuple[dict[str, int], dict[str, list[str]]]


def work(report: Connection, board: Board, port: int, merchants: Sequence[Merchant]) -> None:
    """Says "ready", and after "stop" a StreamReport."""
    asyncio.run(_Watchers(report, board, port, merchants).run())


class _Watchers:
    def __init__(
        self, report: Connection, board: Board, port: int, merchants: Sequence[Merchant]
    ) -> None:
        self._report = report
        self._board = board
        self._port = port
        self._merchants = merchants
        self._faults = Faults(board, Count.STREAM_FAULTS)
        self._heard = Heard()
        self._invoices: dict[str, Seen] = {}
        self._paid_ns: dict[str, int] = {}
        self._settled: list[tuple[int, int]] = []
        self._settled_heights: dict[str, int] = {}
        self._goipay: dict[str, str] = {}
        self._goipay_settled_ns: dict[str, int] = {}
        self._waited_for = len(merchants) + 1
        self._all_listen = asyncio.Event()

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            own, *channels = [
                await stack.enter_async_context(Channel("127.0.0.1", self._port))
                for _ in range(
                    -STREAMS_PER_CONNECTION, len(self._merchants), STREAMS_PER_CONNECTION
                )
            ]
            tasks = [
                asyncio.create_task(self._follow(channels[at // STREAMS_PER_CONNECTION], merchant))
                for at, merchant in enumerate(self._merchants)
            ]
            tasks.append(asyncio.create_task(self._follow_goipay(own)))
            await self._all_listen.wait()
            self._report.send("ready")
            assert await asyncio.to_thread(self._report.recv) == "stop"
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(ended, asyncio.CancelledError):
                    self._faults.add("stream: a reader failed", repr(ended))
        self._report.send(
            StreamReport(
                self._heard,
                self._invoices,
                self._paid_ns,
                self._settled,
                self._settled_heights,
                self._goipay,
                self._goipay_settled_ns,
                (self._faults.counts, self._faults.words),
            )
        )

    def _listens(self) -> None:
        self._waited_for -= 1
        if not self._waited_for:
            self._all_listen.set()

    async def _follow(self, channel: Channel, merchant: Merchant) -> None:
        """One merchant's stream; a break is a fault, and is gone on from all the same."""
        stub = InvoiceServiceStub(channel)
        metadata = {"authorization": merchant.bearer}
        place, first = 0, True
        while True:
            try:
                request = WatchInvoicesRequest(after_seq=place)
                async for answer in stub.watch_invoices(request, metadata=metadata):
                    at_ns = time.monotonic_ns()
                    if first:
                        # An empty log answers with a heartbeat at once.
                        first = False
                        self._listens()
                    for event in answer.events:
                        self._take(event, merchant, at_ns)
                    place = answer.seq
                self._faults.add("stream: ended", merchant.number)
            except _BREAKS as error:
                self._faults.add("stream: broke", repr(error))
            await asyncio.sleep(RETRY_S)

    def _take(self, event: Event, merchant: Merchant, at_ns: int) -> None:
        data = orjson.loads(event.data)
        told = {
            "id": event.id,
            "type": event.type,
            "invoice_id": event.invoice_id,
            "user_id": event.user_id,
            "version": event.version,
            "asset": event.asset,
            "data": data,
        }
        if event.user_id != merchant.user_id:
            self._faults.add("stream: another merchant's event", event.id)
        try:
            if not self._heard.take(event.seq, digest_of(told), at_ns):
                self._faults.add("stream: an event twice", event.id)
                return
        except ValueError as error:
            self._faults.add("stream: two events of one number", error)
            return
        self._board[Count.STREAMED] += 1
        self._fold(event, data, at_ns)

    def _fold(self, event: Event, data: dict[str, Any], at_ns: int) -> None:
        seen = self._invoices.setdefault(event.invoice_id, Seen())
        seen.version += 1
        if event.version != seen.version:
            self._faults.add("stream: out of order", (event.id, event.version, seen.version))
        if "outpoint" in data:
            txid, index = data["outpoint"]
            outpoint = f"{txid}:{index}"
            self._paid_ns.setdefault(txid, at_ns)
        match event.type:
            case "invoice.created":
                seen.price_base = int(data["terms"]["required_base"])
            case "payment.seen":
                seen.payments[outpoint] = (int(data["amount_base"]), "mempool")
            case "payment.included":
                seen.payments[outpoint] = (int(data["amount_base"]), "included")
            case "payment.displaced":
                seen.payments[outpoint] = (seen.payments[outpoint][0], data["reason"])
            case "invoice.covered":
                seen.status = "PENDING_MEMPOOL"
            case "invoice.uncovered":
                seen.status = "PENDING"
            case "invoice.settled":
                seen.status = "CONFIRMED"
                self._board[Count.CLOSED] += 1
                self._settled.append((data["tip_height"], at_ns))
                self._settled_heights[event.invoice_id] = data["tip_height"]
            case "invoice.expired":
                seen.status = "EXPIRED"
                self._board[Count.CLOSED] += 1
            case "invoice.deadline_reached":
                pass
            case other:
                self._faults.add("stream: nothing like it was done", other)

    async def _follow_goipay(self, channel: Channel) -> None:
        """Everybody's, as one backend with GoiPay's client would; it tells only what comes."""
        try:
            async with channel.request(
                _GOIPAY,
                Cardinality.UNARY_STREAM,
                InvoiceStatusStreamRequest,
                InvoiceStatusStreamResponse,
            ) as stream:
                await stream.send_message(InvoiceStatusStreamRequest(), end=True)
                await stream.recv_initial_metadata()
                self._listens()
                async for answer in stream:
                    at_ns = time.monotonic_ns()
                    invoice = answer.invoice
                    assert invoice is not None
                    status, told = str(int(invoice.status)), self._goipay.get(invoice.id, "")
                    if not told.endswith(status):  # the same again: the money has changed
                        self._goipay[invoice.id] = told + status
                    if invoice.status.name == "CONFIRMED":
                        self._goipay_settled_ns[invoice.id] = at_ns
            self._faults.add("GoiPay's stream: ended", "in order")
        except _BREAKS as error:
            self._faults.add("GoiPay's stream: broke", repr(error))
        await asyncio.Event().wait()
