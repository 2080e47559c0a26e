"""tally.v1 over a real house and a real socket, called with Google's own messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import trio

from api.grpc.gatekeeper import gatekeeper
from api.grpc.tally import InvoiceService
from tests.helpers.google_messages import google_class
from tests.helpers.grpc_serving import Running, serving
from tests.helpers.house import House

SERVICE = "tally.v1.InvoiceService"


@dataclass(frozen=True)
class Refused:
    """How a call ended."""

    code: str
    text: str
    reason: str | None
    facts: dict[str, str] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)


class TallyCalls:
    """Unary calls by name, and the stream; the answer, or how it was refused."""

    def __init__(self, running: Running, channel: grpc.Channel, service: InvoiceService) -> None:
        self.running = running
        self.service = service
        self._channel = channel

    async def __call__(self, rpc: str, **fields: Any) -> Any:
        call = self._channel.unary_unary(
            f"/{SERVICE}/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=google_class(f"tally.v1.{rpc}Response").FromString,
        )
        metadata = fields.pop("metadata_", ())
        request = google_class(f"tally.v1.{rpc}Request")(**fields)

        def run() -> Any:
            try:
                return call(request, timeout=30, metadata=metadata)
            except grpc.RpcError as error:
                return refused(error)

        return await trio.to_thread.run_sync(run)

    @asynccontextmanager
    async def watch(self, **fields: Any) -> AsyncIterator[Watch]:
        """The stream, open: its response headers, or its refusal, have come."""
        metadata = fields.pop("metadata_", ())
        request = google_class("tally.v1.WatchInvoicesRequest")(**fields)
        call = self._channel.unary_stream(
            f"/{SERVICE}/WatchInvoices",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=google_class("tally.v1.WatchInvoicesResponse").FromString,
        )(request, timeout=120, metadata=metadata)
        try:
            await trio.to_thread.run_sync(call.initial_metadata)
            yield Watch(call)
        finally:
            call.cancel()


class Watch:
    """One reader."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.seq = -1
        """Of the last response."""
        self.caught_up = False
        """A heartbeat has come."""

    async def response(self) -> Any:
        """The next response."""
        found = await trio.to_thread.run_sync(next, self._call)
        assert found.seq >= self.seq
        self.seq = found.seq
        self.caught_up = not found.events
        return found

    async def take(self, count: int) -> list[Any]:
        """At least `count` events, over heartbeats."""
        events: list[Any] = []
        while len(events) < count:
            events += (await self.response()).events
        return events

    async def until_caught_up(self) -> list[Any]:
        """What comes before the next heartbeat."""
        events: list[Any] = []
        while found := (await self.response()).events:
            events += found
        return events

    async def end(self) -> Refused:
        """How the stream ended, after whatever was still in it."""

        def run() -> Refused:
            try:
                for _ in self._call:
                    pass
            except grpc.RpcError as error:
                return refused(error)
            raise AssertionError("the stream ended without an error")

        return await trio.to_thread.run_sync(run)


def refused(error: Any) -> Refused:
    trailing = dict(error.trailing_metadata() or ())
    reason = None
    facts: dict[str, str] = {}
    violations: dict[str, str] = {}
    if "grpc-status-details-bin" in trailing:
        status = google_class("google.rpc.Status").FromString(trailing["grpc-status-details-bin"])
        for detail in status.details:
            name = detail.type_url.removeprefix("type.googleapis.com/")
            found = google_class(name).FromString(detail.value)
            if name == "google.rpc.ErrorInfo":
                reason, facts = found.reason, dict(found.metadata)
                assert found.domain == "tally"
            elif name == "google.rpc.BadRequest":
                violations = {one.field: one.description for one in found.field_violations}
    return Refused(error.code().name, error.details(), reason, facts, violations)


@asynccontextmanager
async def tally(house: House, **options: Any) -> AsyncIterator[TallyCalls]:
    """Serve the house's tally.v1 for the length of a block, behind its gate."""
    service = InvoiceService(house.invoicing, house.repeats, outbox=house.outbox, clock=house.clock)
    interceptors = [gatekeeper(house.gate)]
    async with serving(service, interceptors=interceptors, **options) as running:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            yield TallyCalls(running, channel, service)
