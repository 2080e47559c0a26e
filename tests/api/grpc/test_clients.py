"""The clients that people use, against the server over a real socket."""

import os

import grpc
import pytest
import trio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from proto.goipay.crypto.v1 import CoinType
from proto.goipay.invoice.v1 import CreateInvoiceRequest, InvoiceServiceStub
from proto.goipay.user.v1 import RegisterUserRequest, RegisterUserResponse, UserServiceStub
from tests.helpers.google_messages import google_class
from tests.helpers.grpc_node import require_grpc_js, run_node
from tests.helpers.grpc_service import COLLECT, ECHO, REGISTER, STREAM, Invoices, Users
from tests.helpers.grpc_serving import serving

REQUEST = google_class("user.v1.RegisterUserRequest")
RESPONSE = google_class("user.v1.RegisterUserResponse")
EVENT = google_class("invoice.v1.InvoiceStatusStreamResponse")
NOTHING = google_class("invoice.v1.InvoiceStatusStreamRequest")


def pushing():
    invoices = Invoices()
    invoices.push = True
    return invoices


# -- grpclib ----------------------------------------------------------------------------------


async def test_grpclib_unary_and_stream():
    async with serving() as running:

        async def work(channel):
            users, invoices = UserServiceStub(channel), InvoiceServiceStub(channel)
            user = await users.register_user(RegisterUserRequest(user_id="ü"))
            request = CreateInvoiceRequest(coin=CoinType.LTC, amount=0.5)
            invoice = await invoices.create_invoice(request)
            events = [one.invoice.id async for one in invoices.invoice_status_stream()]
            return user.user_id, invoice.payment_id, events

        assert await running.grpclib(work) == ("ü", "LTC:0.5", ["0", "1", "2"])


async def test_grpclib_client_streams():
    async with serving() as running:
        types = (RegisterUserRequest, RegisterUserResponse)
        requests = [RegisterUserRequest(user_id=str(number)) for number in range(5)]

        async def work(channel):
            async with channel.request(COLLECT, Cardinality.STREAM_UNARY, *types) as stream:
                for one in requests:
                    await stream.send_message(one)
                await stream.end()
                collected = (await stream.recv_message()).user_id
            echoed = []
            async with channel.request(ECHO, Cardinality.STREAM_STREAM, *types) as stream:
                for one in requests:
                    await stream.send_message(one)
                    echoed.append((await stream.recv_message()).user_id)
                await stream.end()
            return collected, echoed

        assert await running.grpclib(work) == ("0,1,2,3,4", ["0", "1", "2", "3", "4"])


async def call_what_is_not_there(channel):
    types = (RegisterUserRequest, RegisterUserResponse)
    async with channel.request("/no.Such/Method", Cardinality.UNARY_UNARY, *types) as stream:
        await stream.send_message(RegisterUserRequest(), end=True)
        await stream.recv_message()


async def test_grpclib_errors_and_deadline():
    async with serving() as running:

        async def work(channel):
            users = UserServiceStub(channel)
            errors = []
            for text, timeout in (("refuse", None), ("bug", None), ("block", 0.1)):
                try:
                    await users.register_user(RegisterUserRequest(user_id=text), timeout=timeout)
                except (GRPCError, TimeoutError) as error:
                    errors.append(error)
            try:
                await call_what_is_not_there(channel)
            except GRPCError as error:
                errors.append(error)
            return errors

        refused, bug, late, missing = await running.grpclib(work)
        assert (refused.status, refused.message) == (
            Status.INVALID_ARGUMENT,
            "Invalid userId (ünïcode %).",
        )
        assert (bug.status, bug.message) == (Status.INTERNAL, "Internal server error.")
        assert isinstance(late, TimeoutError)
        assert missing.status is Status.UNIMPLEMENTED
        with trio.fail_after(20):
            await running.users.cancelled.wait()


async def test_grpclib_reads_the_status_of_a_stopping_server():
    invoices = pushing()
    async with serving(invoices) as running:

        async def work(channel):
            ids = []
            try:
                async for one in InvoiceServiceStub(channel).invoice_status_stream():
                    ids.append(one.invoice.id)  # noqa: PERF401 - what came before the error counts
            except (GRPCError, StreamTerminatedError) as error:
                return ids, error
            return ids, None

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def stop():
                await invoices.until_open(1)
                invoices.broadcast(7)
                await running.server.shutdown(grace_s=5)

            ids, error = await running.grpclib(work)
        assert ids == ["7"]
        assert isinstance(error, GRPCError)
        assert (error.status, error.message) == (Status.CANCELLED, "Stream has been closed.")


# -- grpcio -----------------------------------------------------------------------------------


def unary(channel, path=REGISTER):
    return channel.unary_unary(
        path,
        request_serializer=REQUEST.SerializeToString,
        response_deserializer=RESPONSE.FromString,
    )


def status_stream(channel):
    return channel.unary_stream(
        STREAM, request_serializer=NOTHING.SerializeToString, response_deserializer=EVENT.FromString
    )


async def test_grpcio_unary_and_stream():
    async with serving() as running:

        def work(channel):
            user = unary(channel)(REQUEST(userId="ü"), timeout=20)
            events = [one.invoice.id for one in status_stream(channel)(NOTHING(), timeout=20)]
            return user.userId, events

        assert await running.grpcio(work) == ("ü", ["0", "1", "2"])


async def test_grpcio_client_streams():
    async with serving() as running:
        requests = [REQUEST(userId=str(number)) for number in range(100)]
        codecs = {
            "request_serializer": REQUEST.SerializeToString,
            "response_deserializer": RESPONSE.FromString,
        }

        def work(channel):
            collected = channel.stream_unary(COLLECT, **codecs)(iter(requests), timeout=20)
            echoed = channel.stream_stream(ECHO, **codecs)(iter(requests), timeout=20)
            return collected.userId.split(","), [one.userId for one in echoed]

        collected, echoed = await running.grpcio(work)
        assert collected == echoed == [str(number) for number in range(100)]


async def test_grpcio_errors_details_and_metadata():
    async with serving() as running:

        def work(channel):
            with pytest.raises(grpc.RpcError) as caught:
                unary(channel)(REQUEST(userId="refuse"), timeout=20)
            _, call = unary(channel).with_call(REQUEST(userId="trailing"), timeout=20)
            return caught.value, call.trailing_metadata()

        error, trailing = await running.grpcio(work)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == "Invalid userId (ünïcode %)."
        metadata = dict(error.trailing_metadata())
        assert metadata["tally-reason"] == "USER_REFUSED"
        assert metadata["x-bytes-bin"] == b"\x00\xff"
        status = google_class("google.rpc.Status").FromString(metadata["grpc-status-details-bin"])
        assert (status.code, status.message) == (3, error.details())
        info = google_class("google.rpc.ErrorInfo")()
        assert status.details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"
        info.ParseFromString(status.details[0].value)
        assert (info.reason, info.domain, dict(info.metadata)) == (
            "USER_REFUSED",
            "tallyd",
            {"user": "1"},
        )
        assert dict(trailing) == {"x-after": "ok"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("bug", grpc.StatusCode.INTERNAL),
        ("wrong", grpc.StatusCode.INTERNAL),
        ("huge", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("grouped", grpc.StatusCode.NOT_FOUND),
        ("x" * (4 * 2**20 + 1), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["bug", "wrong", "huge answer", "grouped", "huge request"],
)
async def test_grpcio_failures(text, code):
    async with serving() as running:

        def work(channel):
            with pytest.raises(grpc.RpcError) as caught:
                unary(channel)(REQUEST(userId=text), timeout=20)
            return caught.value

        error = await running.grpcio(work)
        assert error.code() is code
        assert "secret" not in error.details()


async def test_grpcio_unknown_method_and_malformed_request():
    async with serving() as running:

        def work(channel):
            codes = []
            for path, body in (("/no.Such/Method", b""), (REGISTER, b"\x0a\x05a")):
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary(path)(body, timeout=20)
                codes.append(caught.value.code())
            return codes

        assert await running.grpcio(work) == [
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.INVALID_ARGUMENT,
        ]


async def test_grpcio_deadline_and_cancellation_free_the_handler():
    invoices = pushing()
    async with serving(invoices) as running:

        def work(channel):
            stream = status_stream(channel)(NOTHING(), timeout=20)
            trio.from_thread.run(invoices.until_open, 1)
            trio.from_thread.run_sync(invoices.broadcast, 5)
            first = next(stream).invoice.id
            stream.cancel()
            trio.from_thread.run(invoices.until_open, 0)
            late = status_stream(channel)(NOTHING(), timeout=0.2)
            with pytest.raises(grpc.RpcError) as caught:
                next(late)
            return first, caught.value.code()

        assert await running.grpcio(work) == ("5", grpc.StatusCode.DEADLINE_EXCEEDED)
        await invoices.until_open(0)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.NoCompression])
async def test_grpcio_compression(compression):
    async with serving() as running:

        def work(channel):
            echoed = unary(channel)(REQUEST(userId="z" * 100_000), timeout=20)
            big = unary(channel)(REQUEST(userId="big:1000000"), timeout=20)
            return echoed.userId, len(big.userId)

        assert await running.grpcio(work, compression=compression) == ("z" * 100_000, 1_000_000)
        # Large answers are compressed for every client that accepts it, as grpcio does.
        assert running.server.statistics()["bytes_out"] < 10_000


async def test_grpcio_reads_the_status_of_a_stopping_server_and_its_last_answers():
    invoices = pushing()
    async with serving(invoices, Users()) as running:

        def work(channel):
            stream = status_stream(channel)(NOTHING(), timeout=20)
            pending = unary(channel).future(REQUEST(userId="block"), timeout=20)
            trio.from_thread.run(invoices.until_open, 1)
            trio.from_thread.run(running.users.entered.wait)
            trio.from_thread.run_sync(nursery.start_soon, running.server.shutdown)
            with pytest.raises(grpc.RpcError) as caught:
                next(stream)
            trio.from_thread.run_sync(running.users.proceed.set)
            return caught.value.code(), caught.value.details(), pending.result().userId

        async with trio.open_nursery() as nursery:
            code, text, last = await running.grpcio(work)
        assert (code, text) == (grpc.StatusCode.CANCELLED, "Stream has been closed.")
        assert last == "block"


async def test_grpcio_is_told_that_it_reads_too_slowly():
    invoices = pushing()
    async with serving(invoices) as running:

        def work(channel):
            stream = status_stream(channel)(NOTHING(), timeout=20)
            trio.from_thread.run(invoices.until_open, 1)
            number = 0
            while trio.from_thread.run_sync(invoices.broadcast, number) == [True]:
                number += 1
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
            return caught.value

        original, incompressible = invoices.broadcast, os.urandom(30_000).hex()
        invoices.broadcast = lambda number: original(number, filler=incompressible)
        error = await running.grpcio(work)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(error.trailing_metadata())["tally-reason"] == "SLOW_READER"


# -- grpc-js ----------------------------------------------------------------------------------

GRPC_JS = """
const users = new (load('user/v1/user.proto').user.v1.UserService)(
  address, grpc.credentials.createInsecure());
const invoices = new (load('invoice/v1/invoice.proto').invoice.v1.InvoiceService)(
  address, grpc.credentials.createInsecure());
const register = userId => new Promise(done => users.RegisterUser({userId}, (error, reply) =>
  done(error ? [error.code, error.details, error.metadata.get('tally-reason')] : reply.userId)));
(async () => {
  out.push(await register('ü'));
  out.push(await register('refuse'));
  out.push((await register('big:300000')).length);
  const deadline = {deadline: Date.now() + 300};
  out.push(await new Promise(done => users.RegisterUser({userId: 'block'}, deadline,
    error => done(error.code))));
  const stream = invoices.InvoiceStatusStream({});
  const ids = [];
  stream.on('data', one => ids.push(one.invoice.id));
  await new Promise(done => stream.on('end', done));
  out.push(ids);
  users.close();
  invoices.close();
})();
"""


async def test_grpc_js():
    await trio.to_thread.run_sync(require_grpc_js)
    async with serving() as running:
        out = await trio.to_thread.run_sync(run_node, GRPC_JS, f"127.0.0.1:{running.port}")
        assert out == [
            "ü",
            [3, "Invalid userId (ünïcode %).", ["USER_REFUSED"]],
            300_000,
            4,
            ["0", "1", "2"],
        ]
        with trio.fail_after(20):
            await running.users.cancelled.wait()
