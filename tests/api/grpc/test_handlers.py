"""Handlers that misbehave, unusual handlers, and the boundaries around them."""

import pytest
import trio
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from trio.testing import lockstep_stream_pair

from api.grpc import frames
from api.grpc.call import current_call, pushed
from api.grpc.limits import Limits
from api.grpc.peer import Peer
from api.grpc.status import CallError
from proto.goipay.user.v1 import RegisterUserRequest, RegisterUserResponse
from tests.helpers.grpc_raw import RawClient, prefixed, request
from tests.helpers.grpc_service import STREAM, Invoices, Users, event
from tests.helpers.grpc_serving import alone

SUBSCRIBE = prefixed(b"")
ODD = "/test.Odd/Odd"


class Odd:
    """One unary method with the body that a test gives it."""

    def __init__(self, body, cardinality=Cardinality.UNARY_UNARY):
        self.handler = Handler(body, cardinality, RegisterUserRequest, RegisterUserResponse)

    def __mapping__(self):
        return {ODD: self.handler}


async def ask(body, **options):
    async with alone(Odd(body), **options) as server:
        raw = await server.client()
        answer = await raw.answer(await raw.open(ODD, body=request("x")))
        return answer, server.log.entries


async def test_no_reply_is_a_bug(autojump_clock):
    async def body(stream):
        await stream.recv_message()

    answer, (entry,) = await ask(body)
    assert answer.status == Status.INTERNAL.value
    assert "without a reply" in str(entry[1]["exc_info"])


async def test_two_replies_are_a_bug(autojump_clock):
    async def body(stream):
        await stream.send_message(RegisterUserResponse())
        await stream.send_message(RegisterUserResponse())

    answer, (entry,) = await ask(body)
    assert answer.status == Status.INTERNAL.value
    assert "replied twice" in str(entry[1]["exc_info"])


@pytest.mark.parametrize(
    "metadata", [{"Upper": "x"}, {"grpc-x": "x"}, {"x": "ü"}, {"x": b"y"}, {"x-bin": "y"}]
)
@pytest.mark.parametrize("raising", [True, False])
async def test_metadata_that_cannot_travel_is_a_bug(autojump_clock, metadata, raising):
    async def body(stream):
        if raising:
            raise CallError(Status.NOT_FOUND, "no", metadata=metadata)
        await stream.send_message(RegisterUserResponse())
        stream.trailing_metadata.extend(metadata.items())

    answer, (entry,) = await ask(body)
    assert answer.status == Status.INTERNAL.value
    assert isinstance(entry[1]["exc_info"], ValueError | TypeError)


async def test_details_of_an_unknown_type_are_a_bug(autojump_clock):
    async def body(stream):
        raise GRPCError(Status.NOT_FOUND, "no", [RegisterUserRequest()])

    answer, (entry,) = await ask(body)
    assert answer.status == Status.INTERNAL.value
    assert "not in proto.standard" in str(entry[1]["exc_info"])


async def test_long_texts_are_cut_and_long_details_left_out(autojump_clock):
    async def body(stream):
        raise CallError(Status.NOT_FOUND, "n" * 5000, reason="LONG", facts={"x": "y" * 9000})

    answer, entries = await ask(body)
    assert answer.status == Status.NOT_FOUND.value
    assert answer.text == "n" * 1000
    assert "grpc-status-details-bin" not in answer.headers
    assert answer.headers["tally-reason"] == "LONG"
    assert entries == []


async def test_several_errors_at_once_are_a_bug(autojump_clock):
    async def body(stream):
        raise ExceptionGroup("both", [GRPCError(Status.NOT_FOUND), ZeroDivisionError()])

    answer, entries = await ask(body)
    assert answer.status == Status.INTERNAL.value
    assert len(entries) == 1


async def test_an_error_beside_a_cancelled_sibling_is_the_error(autojump_clock):
    async def body(stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise CallError(Status.ABORTED, "first")

    answer, _ = await ask(body)
    assert (answer.status, answer.text) == (Status.ABORTED.value, "first")


async def test_a_handler_knows_its_call(autojump_clock):
    seen = []

    async def body(stream):
        call = current_call()
        assert call is stream
        seen.append((call.user_agent, call.peer, call.deadline, call.method.path))
        await stream.send_initial_metadata(metadata={"x-first": "1"})
        await stream.send_message(RegisterUserResponse())

    async with alone(Odd(body)) as server:
        raw = await server.client()
        headers = [("user-agent", "mine"), ("grpc-timeout", "5S")]
        answer = await raw.answer(await raw.open(ODD, body=request("x"), headers=headers))
        assert answer.headers["x-first"] == "1"
        assert answer.status == 0
        ((agent, peer, deadline, path),) = seen
        assert (agent, peer, path) == ("mine", Peer("memory"), ODD)
        assert 0 < deadline.time_remaining() <= 5


async def test_streams_by_other_means_than_generators(autojump_clock):
    class Items:
        def __init__(self):
            self.left = [event(1), event(2)]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    async def work():
        current_call().push(event(3))

    for replies, count in ((Items, 2), (work, 1), (lambda: pushed(work()), 1)):

        class Other(Invoices):
            def invoice_status_stream(self, message, replies=replies):
                return replies()

        async with alone(Other()) as server:
            raw = await server.client()
            answer = await raw.answer(await raw.open(STREAM, body=SUBSCRIBE))
            assert answer.status == 0
            assert len(answer.messages) == count


class Broken(trio.abc.Stream):
    """A transport with a bug."""

    async def receive_some(self, max_bytes=None):
        raise ZeroDivisionError

    async def send_all(self, data):
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self):
        await trio.lowlevel.checkpoint()

    async def aclose(self):
        await trio.lowlevel.checkpoint()


async def test_a_connection_that_fails_unexpectedly_ends_alone(autojump_clock):
    async with alone(Users()) as server:
        raw = await server.client()
        await server.server.serve_stream(Broken(), Peer("broken"))
        assert server.log.events == ["a gRPC connection failed"]
        assert (await raw.unary("hello")).status == 0
        figures = server.server.statistics()
        assert (figures["connections"], figures["connections_failed"]) == (2, 1)
        assert figures["connections_open"] == 1


async def test_many_large_answers_share_a_small_buffer(autojump_clock):
    async with alone(Users(), limits=Limits(connection_outbound_bytes=20_000)) as server:
        raw = await server.client(window_bytes=2**20)
        ids = [await raw.open(body=request("big:200000")) for _ in range(4)]
        for one in ids:
            answer = await raw.answer(one)
            assert answer.status == 0
            assert len(answer.data) > 200_000


async def test_a_peer_that_asks_but_never_reads_is_read_no_more_and_closed(autojump_clock):
    async with alone(Users(), limits=Limits(connection_outbound_bytes=1000)) as server:
        # Unlike a socket this transport buffers nothing: what is not read is not sent.
        ours, theirs = lockstep_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.serve_stream, theirs, Peer("greedy"))
            raw = RawClient(ours)
            sent = 0
            with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - any of the sends
                await raw.start()
                while True:
                    for _ in range(10):
                        raw.h2.ping(b"12345678")
                    await raw.flush()
                    sent += 10
        assert sent < 1000
        assert trio.current_time() >= 40
        assert server.server.statistics()["keepalive_deaths"] == 1


def test_headers_beyond_one_frame_are_refused():
    with pytest.raises(ValueError, match="exceed one HTTP/2 frame"):
        frames.headers(1, bytes(20_000), end_stream=False)
