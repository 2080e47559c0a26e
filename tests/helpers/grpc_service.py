"""Small handlers on the GoiPay bases for tests of the server itself."""

from collections.abc import AsyncIterator

import trio
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from api.grpc.call import current_call, pushed
from api.grpc.codec import Encoded
from api.grpc.status import CallError
from proto.goipay.invoice.v1 import (
    CreateInvoiceRequest,
    CreateInvoiceResponse,
    Invoice,
    InvoiceServiceBase,
    InvoiceStatusStreamRequest,
    InvoiceStatusStreamResponse,
)
from proto.goipay.user.v1 import (
    RegisterUserRequest,
    RegisterUserResponse,
    UpdateCryptoKeysRequest,
    UpdateCryptoKeysResponse,
    UserServiceBase,
)

STREAM = "/invoice.v1.InvoiceService/InvoiceStatusStream"
REGISTER = "/user.v1.UserService/RegisterUser"
COLLECT = "/test.Extra/Collect"
ECHO = "/test.Extra/Echo"


def event(number: int, *, filler: str = "") -> InvoiceStatusStreamResponse:
    return InvoiceStatusStreamResponse(invoice=Invoice(id=str(number), tx_id=filler))


class Users(UserServiceBase):
    """RegisterUser echoes; some ids ask for a misbehaviour."""

    def __init__(self) -> None:
        self.cancelled = trio.Event()
        self.entered = trio.Event()
        self.proceed = trio.Event()
        self.metadata = None
        self.peer = None

    async def register_user(self, message: RegisterUserRequest) -> RegisterUserResponse:
        call = current_call()
        self.metadata, self.peer = call.metadata, call.peer
        match message.user_id:
            case "refuse":
                raise CallError(
                    Status.INVALID_ARGUMENT,
                    "Invalid userId (ünïcode %).",
                    reason="USER_REFUSED",
                    facts={"user": "1"},
                    metadata={"x-bytes-bin": b"\x00\xff"},
                )
            case "bug":
                raise ZeroDivisionError("secret internals")
            case "grouped":
                async with trio.open_nursery():
                    raise GRPCError(Status.NOT_FOUND, "in a nursery")
            case "block":
                self.entered.set()
                try:
                    await self.proceed.wait()
                except trio.Cancelled:
                    self.cancelled.set()
                    raise
            case "trailing":
                call.trailing_metadata.append(("x-after", "ok"))
            case "huge":
                return RegisterUserResponse(user_id="x" * (5 * 2**20))
            case "wrong":
                return RegisterUserRequest(user_id="x")
            case str(text) if text.startswith("big:"):
                return RegisterUserResponse(user_id="y" * int(text[4:]))
        return RegisterUserResponse(user_id=message.user_id or "")

    async def update_crypto_keys(
        self, message: UpdateCryptoKeysRequest
    ) -> UpdateCryptoKeysResponse:
        return UpdateCryptoKeysResponse()


class Invoices(InvoiceServiceBase):
    """The stream sends ``count`` events and then, with ``hold``, stays open."""

    def __init__(self, *, count: int = 3, hold: bool = False, filler: str = "") -> None:
        self.count = count
        self.hold = hold
        self.filler = filler
        self.sent = 0
        self.open = 0
        self.closed = trio.Event()
        self.calls = set()
        self.joined = trio.Event()
        self.push = False
        self._changed = trio.Event()

    async def until_open(self, count: int) -> None:
        """Wait until so many pushing streams are open."""
        with trio.fail_after(20):
            while len(self.calls) != count:
                await self._changed.wait()

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def create_invoice(self, message: CreateInvoiceRequest) -> CreateInvoiceResponse:
        return CreateInvoiceResponse(payment_id=f"{message.coin.name}:{message.amount}")

    def invoice_status_stream(
        self, message: InvoiceStatusStreamRequest
    ) -> AsyncIterator[InvoiceStatusStreamResponse]:
        return pushed(self._subscribe()) if self.push else self._generate()

    async def _subscribe(self) -> None:
        call = current_call()
        self.calls.add(call)
        self._note()
        try:
            await call.sleep_until_closed()
        finally:
            self.calls.discard(call)
            self._note()

    async def _generate(self) -> AsyncIterator[InvoiceStatusStreamResponse]:
        self.open += 1
        try:
            for number in range(self.count):
                yield event(number, filler=self.filler)
                self.sent += 1
            if self.hold:
                self.joined.set()
                await trio.sleep_forever()
        finally:
            self.open -= 1
            self.closed.set()

    def broadcast(self, number: int, *, filler: str = "") -> list[bool]:
        encoded = Encoded.of(event(number, filler=filler))
        return [call.push(encoded) for call in list(self.calls)]


class Extra:
    """The two cardinalities that GoiPay does not use, mapped by hand."""

    async def collect(self, stream) -> None:
        texts = [message.user_id async for message in stream]
        await stream.send_message(RegisterUserResponse(user_id=",".join(texts)))

    async def echo(self, stream) -> None:
        async for message in stream:
            await stream.send_message(RegisterUserResponse(user_id=message.user_id))

    def __mapping__(self) -> dict[str, Handler]:
        types = (RegisterUserRequest, RegisterUserResponse)
        return {
            COLLECT: Handler(self.collect, Cardinality.STREAM_UNARY, *types),
            ECHO: Handler(self.echo, Cardinality.STREAM_STREAM, *types),
        }
