"""GoiPay's services over a real house and a real socket, called with Google's own messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import trio

from api.grpc.goipay import InvoiceService, UserService
from tests.helpers.google_messages import google_class
from tests.helpers.grpc_serving import Running, serving
from tests.helpers.house import House

SERVICES = {
    "RegisterUser": "user.v1.UserService",
    "UpdateCryptoKeys": "user.v1.UserService",
    "GetCryptoKeys": "user.v1.UserService",
    "CreateInvoice": "invoice.v1.InvoiceService",
    "GetInvoices": "invoice.v1.InvoiceService",
    "InvoiceStatusStream": "invoice.v1.InvoiceService",
}
XMR_VIEW = "8aa763d1c8d9da4ca75cb6ca22a021b5cca376c1367be8d62bcc9cdf4b926009"
XMR_SPEND = "38e9908d33d034de0ba1281aa7afe3907b795cea14852b3d8fe276e8931cb130"


@dataclass(frozen=True)
class Refused:
    """How a call ended."""

    code: int
    text: str
    reason: str | None
    detail: str | None


class Calls:
    """Unary calls by name; the answer, or how it was refused."""

    def __init__(self, running: Running, channel: grpc.Channel, services: Any) -> None:
        self.running = running
        self.invoices: InvoiceService = services[1]
        self._channel = channel

    async def __call__(self, rpc: str, **fields: Any) -> Any:
        service = SERVICES[rpc]
        package = service.rsplit(".", 1)[0]
        request = google_class(f"{package}.{rpc}Request")(**fields)
        call = self._channel.unary_unary(
            f"/{service}/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=google_class(f"{package}.{rpc}Response").FromString,
        )

        def run() -> Any:
            try:
                return call(request, timeout=30)
            except grpc.RpcError as error:
                return refused(error)

        return await trio.to_thread.run_sync(run)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        """The status stream, open: its response headers have come."""
        call = self._channel.unary_stream(
            "/invoice.v1.InvoiceService/InvoiceStatusStream",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=google_class("invoice.v1.InvoiceStatusStreamResponse").FromString,
        )(google_class("invoice.v1.InvoiceStatusStreamRequest")(), timeout=60)
        try:
            await trio.to_thread.run_sync(call.initial_metadata)
            yield Stream(call)
        finally:
            call.cancel()


class Stream:
    """One subscriber."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def take(self, count: int) -> list[Any]:
        """The next `count` invoices."""
        return [await trio.to_thread.run_sync(self._next) for _ in range(count)]

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

    def _next(self) -> Any:
        return next(self._call).invoice


def refused(error: Any) -> Refused:
    trailing = dict(error.trailing_metadata() or ())
    detail = None
    if "grpc-status-details-bin" in trailing:
        status = google_class("google.rpc.Status").FromString(trailing["grpc-status-details-bin"])
        assert status.details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"
        info = google_class("google.rpc.ErrorInfo").FromString(status.details[0].value)
        assert info.domain == "tallyd"
        assert info.reason == trailing["tally-reason"]
        detail = info.metadata["detail"]
    return Refused(error.code().value[0], error.details(), trailing.get("tally-reason"), detail)


@asynccontextmanager
async def goipay(house: House, *, reveals: bool = False) -> AsyncIterator[Calls]:
    """Serve the house's GoiPay services for the length of a block."""
    reveal = house.keyring.monero.reveal if reveals else None
    users = UserService(house.invoicing, audit=house.audit, reveal=reveal)
    invoices = InvoiceService(house.invoicing, hub=house.hub)
    async with serving(users, invoices) as running:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            yield Calls(running, channel, (users, invoices))
