"""The two servers that ``benchmarks.grpc_server`` compares: ``python -m benchmarks.grpc_servers``.

Prints the port it listens on and serves until it is terminated.
"""

import asyncio
import datetime as dt
import struct
import sys

import grpclib.server
import trio
from grpclib.encoding.proto import ProtoCodec

from api.grpc.call import current_call, pushed
from api.grpc.codec import Encoded
from api.grpc.server import Server
from daemon.logging import get_logger
from proto.goipay.invoice.v1 import Invoice, InvoiceServiceBase, InvoiceStatusStreamResponse
from proto.goipay.user.v1 import RegisterUserResponse, UpdateCryptoKeysResponse, UserServiceBase


def one_event() -> InvoiceStatusStreamResponse:
    """A typical event."""
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return InvoiceStatusStreamResponse(
        invoice=Invoice(
            id="6f1f2c9e-0f0e-4f5b-8c9f-0c2f5a1b2c3d",
            crypto_address="bcrt1qqdcfs9s5gjsnmazcsqfe2h6gwzwdu2eu000000",
            required_amount=0.25,
            actual_amount=0.25,
            confirmations_required=2,
            created_at=now,
            expires_at=now,
            tx_id="00" * 32,
            user_id="6f1f2c9e-0f0e-4f5b-8c9f-0c2f5a1b2c3e",
        )
    )


def one_frame() -> bytes:
    """The same, length-prefixed."""
    body = bytes(one_event())
    return struct.pack(">BI", 0, len(body)) + body


class Echo(UserServiceBase):
    async def register_user(self, message):
        return RegisterUserResponse(user_id=message.user_id)


class TrioUsers(Echo):
    """UpdateCryptoKeys publishes as many events as the user id says."""

    def __init__(self, calls):
        self.calls = calls

    async def update_crypto_keys(self, message):
        for _ in range(int(message.user_id)):
            encoded = Encoded.of(one_event())
            for call in self.calls:
                call.push(encoded)
            await trio.lowlevel.checkpoint()
        return UpdateCryptoKeysResponse()


class TrioInvoices(InvoiceServiceBase):
    def __init__(self, calls):
        self.calls = calls

    def invoice_status_stream(self, message):  # noqa: ARG002 - the generated signature
        return pushed(self._subscribe())

    async def _subscribe(self):
        call = current_call()
        self.calls.add(call)
        try:
            await call.sleep_until_closed()
        finally:
            self.calls.discard(call)


async def serve_trio() -> None:
    calls = set()
    server = Server([TrioUsers(calls), TrioInvoices(calls)], log=get_logger("benchmark"))
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", 0)
        print(addresses[0][1], flush=True)


class Cached(ProtoCodec):
    """Encodes an event once although grpclib asks for each stream."""

    last = None
    last_bytes = b""

    def encode(self, message, message_type):
        if message is not self.last:
            self.last, self.last_bytes = message, super().encode(message, message_type)
        return self.last_bytes


class AsyncioUsers(Echo):
    def __init__(self, queues):
        self.queues = queues

    async def update_crypto_keys(self, message):
        for _ in range(int(message.user_id)):
            event = one_event()
            for queue in self.queues:
                queue.put_nowait(event)
            await asyncio.sleep(0)
        return UpdateCryptoKeysResponse()


class AsyncioInvoices(InvoiceServiceBase):
    def __init__(self, queues):
        self.queues = queues

    async def invoice_status_stream(self, message):  # noqa: ARG002 - the generated signature
        queue = asyncio.Queue(10_000)
        self.queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.queues.discard(queue)


async def serve_asyncio(*, cached: bool) -> None:
    queues = set()
    services = [AsyncioUsers(queues), AsyncioInvoices(queues)]
    server = grpclib.server.Server(services, codec=Cached() if cached else None)
    await server.start("127.0.0.1", 0)
    print(server._server.sockets[0].getsockname()[1], flush=True)  # noqa: SLF001 - no other way
    await server.wait_closed()


if __name__ == "__main__":
    match sys.argv[1]:
        case "trio":
            trio.run(serve_trio)
        case "grpclib":
            asyncio.run(serve_asyncio(cached=False))
        case "grpclib-cached":
            asyncio.run(serve_asyncio(cached=True))
        case other:
            raise SystemExit(f"no such server: {other}")
