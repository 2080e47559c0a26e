"""What well-behaved clients never do, and HTTP/2 seen from outside."""

import gzip
import struct

import h2.events
import pytest
import trio
from grpclib.const import Status
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.grpc.limits import Limits
from proto.goipay.user.v1 import RegisterUserResponse
from tests.helpers.grpc_raw import RawClient, prefixed, request
from tests.helpers.grpc_service import COLLECT, ECHO, REGISTER, STREAM, Extra, Invoices
from tests.helpers.grpc_serving import serving

MIB = 2**20


async def client(running, **options):
    return await RawClient(await running.connect(), **options).start()


def reply(answer):
    assert answer.status == 0, answer
    (body,) = answer.messages
    return RegisterUserResponse.parse(body).user_id


async def test_a_call_and_its_headers():
    async with serving() as running:
        answer = await (await client(running)).unary("hello")
        assert reply(answer) == "hello"
        assert answer.headers == {":status": "200", "content-type": "application/grpc"}
        assert answer.trailers == {"grpc-status": "0"}


async def test_what_is_not_grpc_is_told_so_in_http():
    async with serving() as running:
        raw = await client(running)
        for replace, status in (
            ({":method": "GET"}, "405"),
            ({"content-type": "text/html"}, "415"),
        ):
            answer = await raw.unary("x", replace=replace)
            assert answer.headers[":status"] == status
        assert reply(await raw.unary("still alive")) == "still alive"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"path": "/user.v1.UserService/Nothing"}, Status.UNIMPLEMENTED),
        ({"path": "no path"}, Status.UNIMPLEMENTED),
        ({"headers": [("grpc-encoding", "snappy")]}, Status.UNIMPLEMENTED),
        ({"headers": [("grpc-timeout", "soon")]}, Status.INVALID_ARGUMENT),
        ({"headers": [("grpc-timeout", "123456789S")]}, Status.INVALID_ARGUMENT),
        ({"headers": [("x-long", "x" * 17_000)]}, Status.RESOURCE_EXHAUSTED),
        ({"headers": [("x-bad-bin", "\u00e9")]}, Status.INVALID_ARGUMENT),
    ],
)
async def test_headers_that_cannot_be_served(options, status):
    async with serving() as running:
        raw = await client(running)
        answer = await raw.unary("x", **options)
        assert answer.status == status.value
        assert answer.text
        if status is Status.UNIMPLEMENTED and "headers" in options:
            assert answer.headers["grpc-accept-encoding"] == "identity,gzip"
        assert reply(await raw.unary("still alive")) == "still alive"


async def test_far_too_long_headers_end_the_connection_only():
    async with serving() as running:
        raw = await client(running)
        await raw.open(headers=[("x-long", "x" * 14_000)] * 5)
        await raw.until_closed()
        assert raw.saw(h2.events.ConnectionTerminated)
        assert reply(await (await client(running)).unary("next")) == "next"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (prefixed(b"\x08\x05"), Status.INVALID_ARGUMENT),
        (prefixed(b"\x0a\x05a"), Status.INVALID_ARGUMENT),
        (prefixed(b"\x02\x01a"), Status.INVALID_ARGUMENT),
        (prefixed(b"", flag=2), Status.INVALID_ARGUMENT),
        (prefixed(b"x", flag=1), Status.INTERNAL),
        (request("abc")[:-1], Status.INVALID_ARGUMENT),
        (request("abc")[:3], Status.INVALID_ARGUMENT),
        (b"", Status.UNIMPLEMENTED),
        (request("a") + request("b"), Status.UNIMPLEMENTED),
        (b"\x00\x00\x40\x00\x01", Status.RESOURCE_EXHAUSTED),
    ],
)
async def test_requests_that_are_no_single_message(body, status):
    async with serving() as running:
        raw = await client(running)
        answer = await raw.answer(await raw.open(body=body))
        assert answer.status == status.value
        assert running.users.peer is None
        assert reply(await raw.unary("still alive")) == "still alive"


async def test_a_message_of_the_limit_passes_and_one_byte_more_does_not():
    async with serving() as running:
        raw = await client(running)
        body = request("x" * (4 * MIB - 5))
        assert len(body) == 4 * MIB + 5
        assert len(reply_text := reply(await raw.answer(await raw.open(body=body)))) == 4 * MIB - 5
        assert set(reply_text) == {"x"}
        too_long = await raw.open(body=request("x" * (4 * MIB - 4))[:5], end=False)
        answer = await raw.answer(too_long)
        assert answer.status == Status.RESOURCE_EXHAUSTED.value
        assert answer.headers["tally-reason"] == "MESSAGE_TOO_LARGE"


async def test_gzip_in():
    async with serving() as running:
        raw = await client(running)
        packed = prefixed(gzip.compress(request("squeezed")[5:]), flag=1)
        options = {"headers": [("grpc-encoding", "gzip")]}
        assert reply(await raw.answer(await raw.open(body=packed, **options))) == "squeezed"
        plain = await raw.open(body=request("plain"), **options)
        assert reply(await raw.answer(plain)) == "plain"
        bomb = prefixed(gzip.compress(bytes(100 * MIB)), flag=1)
        answer = await raw.answer(await raw.open(body=bomb, **options))
        assert answer.status == Status.RESOURCE_EXHAUSTED.value


async def test_gzip_out_only_for_large_messages_and_clients_that_take_it():
    async with serving() as running:
        raw = await client(running)
        accept = {"headers": [("grpc-accept-encoding", "identity,gzip")]}
        answer = await raw.unary("big:100000", **accept)
        assert answer.headers["grpc-encoding"] == "gzip"
        assert answer.data[0] == 1
        assert len(answer.data) < 1000
        assert RegisterUserResponse.parse(gzip.decompress(answer.data[5:])).user_id == "y" * 100000
        for text, options in (("big:100000", {}), ("big:1000", accept)):
            answer = await raw.unary(text, **options)
            assert "grpc-encoding" not in answer.headers
            assert len(reply(answer)) == int(text[4:])


async def test_flow_control_of_the_reader_is_respected():
    """h2's client raises when a frame exceeds the window it has granted."""
    async with serving() as running:
        raw = await client(running, window_bytes=1000)
        raw.reading = False
        stream_id = await raw.open(body=request("big:5000"))
        answer = raw.answers[stream_id]
        await raw.until(lambda: len(answer.data) == 1000)
        assert not answer.ended
        raw.h2.increment_flow_control_window(1500, stream_id)
        await raw.flush()
        await raw.until(lambda: len(answer.data) == 2500)
        raw.h2.increment_flow_control_window(10_000, stream_id)
        await raw.flush()
        assert len(reply(await raw.answer(stream_id))) == 5000


async def test_streams_share_the_connection_window_in_turn():
    async with serving() as running:
        raw = await client(running, window_bytes=MIB)
        raw.reading = False
        ids = [await raw.open(body=request("big:60000")) for _ in range(4)]
        total = lambda: sum(len(raw.answers[one].data) for one in ids)  # noqa: E731
        await raw.until(lambda: total() == 65535)
        while total() < 4 * 60_000:
            before = total()
            raw.h2.increment_flow_control_window(40_000)
            await raw.flush()
            await raw.until(lambda before=before: total() > before)
        for one in ids:
            assert len(reply(await raw.answer(one))) == 60_000


class Reluctant(Extra):
    """Collects, but only once told to."""

    def __init__(self):
        self.proceed = trio.Event()

    async def collect(self, stream):
        await self.proceed.wait()
        await super().collect(stream)


async def test_a_writer_is_held_back_until_the_handler_reads():
    reluctant = Reluctant()
    async with serving(reluctant, limits=Limits(stream_window_bytes=65535)) as running:
        raw = await client(running)
        stream_id = await raw.open(COLLECT)
        await raw.send(stream_id, (request("x" * 995) * 66)[:65535])
        assert raw.h2.local_flow_control_window(stream_id) == 0
        raw.h2.ping(b"12345678")
        await raw.flush()
        await raw.until(lambda: raw.saw(h2.events.PingAckReceived))
        assert raw.h2.local_flow_control_window(stream_id) == 0
        reluctant.proceed.set()
        await raw.send(stream_id, (request("x" * 995) * 66)[65535:], end=True)
        assert reply(await raw.answer(stream_id)).count("x") == 995 * 66


async def test_many_small_messages_pass_in_both_directions():
    async with serving(limits=Limits(stream_window_bytes=65535)) as running:
        raw = await client(running)
        stream_id = await raw.open(ECHO, body=b"", end=False)
        for number in range(2000):
            await raw.send(stream_id, request(f"{number:040}"))
        await raw.send(stream_id, b"", end=True)
        answer = await raw.answer(stream_id)
        assert answer.status == 0
        texts = [RegisterUserResponse.parse(one).user_id for one in answer.messages]
        assert texts == [f"{number:040}" for number in range(2000)]


async def test_a_reset_frees_the_handler_at_once():
    async with serving() as running:
        raw = await client(running)
        stream_id = await raw.open(body=request("block"))
        with trio.fail_after(20):
            await running.users.entered.wait()
            raw.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
            await raw.flush()
            await running.users.cancelled.wait()
        assert reply(await raw.unary("next")) == "next"
        figures = running.server.statistics()
        assert figures["streams_open"] == 0
        assert figures["streams_reset_by_peer"] == 1


async def test_a_disconnect_frees_the_handlers_at_once():
    async with serving(Invoices(hold=True)) as running:
        raw = await client(running)
        await raw.open(STREAM, body=prefixed(b""))
        with trio.fail_after(20):
            await running.invoices.joined.wait()
            await raw.stream.aclose()
            await running.invoices.closed.wait()
        assert running.invoices.open == 0


async def test_a_deadline_cancels_the_handler():
    async with serving() as running:
        raw = await client(running)
        answer = await raw.unary("block", headers=[("grpc-timeout", "50m")])
        assert answer.status == Status.DEADLINE_EXCEEDED.value
        assert running.users.cancelled.is_set()


async def test_a_deadline_also_ends_a_request_that_never_comes():
    async with serving() as running:
        raw = await client(running)
        answer = await raw.answer(await raw.open(headers=[("grpc-timeout", "50m")]))
        assert answer.status == Status.DEADLINE_EXCEEDED.value
        # The client's side was still open: it is told that nobody reads on.
        await raw.until(lambda: answer.reset is not None)
        assert answer.reset == ErrorCodes.NO_ERROR


async def test_calls_beyond_the_limit_are_refused_and_may_be_repeated():
    async with serving(limits=Limits(streams_per_connection=2)) as running:
        raw = await client(running)
        raw.h2.remote_settings.acknowledge()
        first = [await raw.open(body=request("block")) for _ in range(2)]
        third = await raw.answer(await raw.open(body=request("third")))
        assert third.reset == ErrorCodes.REFUSED_STREAM
        running.users.proceed.set()
        for one in first:
            assert reply(await raw.answer(one)) == "block"
        assert reply(await raw.unary("third")) == "third"


async def test_connections_beyond_the_limit_are_closed():
    async with serving(limits=Limits(connections=1)) as running:
        raw = await client(running)
        assert reply(await raw.unary("a")) == "a"
        await (await client(running)).until_closed()
        assert running.server.statistics()["connections_refused"] == 1
        assert running.log.events == ["gRPC connections are refused: too many are open"]
        assert reply(await raw.unary("b")) == "b"


async def test_unread_requests_of_one_connection_are_bounded():
    limits = Limits(
        connection_inbound_bytes=200_000, stream_window_bytes=MIB, connection_window_bytes=2 * MIB
    )
    async with serving(limits=limits) as running:
        raw = await client(running)
        blocked = [await raw.open(COLLECT, body=request("a"), end=False) for _ in range(3)]
        for one in blocked:
            await raw.send(one, request("x" * 150_000)[:100_000])
        ended = [await raw.answer(one) for one in blocked[2:]]
        assert ended[0].status == Status.RESOURCE_EXHAUSTED.value
        assert ended[0].headers["tally-reason"] == "CONNECTION_BUFFER_FULL"


async def test_pings_are_answered():
    async with serving() as running:
        raw = await client(running)
        raw.h2.ping(b"12345678")
        await raw.flush()
        await raw.until(lambda: raw.saw(h2.events.PingAckReceived))


async def test_a_flood_of_pings_stops_the_reading_not_the_server():
    async with serving() as running:
        greedy = await client(running)
        sent = 0
        with trio.move_on_after(0.5) as scope:
            while True:
                for _ in range(1000):
                    greedy.h2.ping(b"12345678")
                await greedy.flush()
                sent += 1000
        assert scope.cancelled_caught
        assert reply(await (await client(running)).unary("other")) == "other"


async def test_goaway_from_the_client_lets_its_calls_finish():
    async with serving() as running:
        raw = await client(running)
        stream_id = await raw.open(body=request("block"))
        with trio.fail_after(20):
            await running.users.entered.wait()
        goaway = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8)
        await raw.stream.send_all(goaway)
        running.users.proceed.set()
        assert reply(await raw.answer(stream_id)) == "block"


async def test_garbage_ends_its_connection_only():
    async with serving() as running:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff" * 1000):
            stream = await running.connect()
            await stream.send_all(garbage)
            await RawClient(stream).until_closed()
        assert reply(await (await client(running)).unary("next")) == "next"
        assert running.server.statistics()["connections_failed"] == 3


async def test_calls_reset_in_the_same_breath_cost_nothing():
    async with serving(limits=Limits(streams_per_connection=10)) as running:
        raw = await client(running)
        for _ in range(500):
            stream_id = raw.h2.get_next_available_stream_id()
            fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", REGISTER),
                ("content-type", "application/grpc"),
            ]
            raw.h2.send_headers(stream_id, fields)
            raw.h2.send_data(stream_id, request("block"), end_stream=True)
            raw.h2.reset_stream(stream_id)
        await raw.flush()
        assert reply(await raw.unary("next")) == "next"
        assert running.server.statistics()["streams_open"] == 0
        assert running.log.entries == []


async def test_a_window_that_shrinks_below_what_was_sent():
    async with serving() as running:
        raw = await client(running, window_bytes=2000)
        raw.reading = False
        stream_id = await raw.open(body=request("big:5000"))
        answer = raw.answers[stream_id]
        await raw.until(lambda: len(answer.data) == 2000)
        raw.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 500})
        await raw.flush()
        raw.h2.increment_flow_control_window(1500, stream_id)
        raw.h2.ping(b"12345678")
        await raw.flush()
        await raw.until(lambda: raw.saw(h2.events.PingAckReceived))
        assert len(answer.data) == 2000
        raw.h2.increment_flow_control_window(10_000, stream_id)
        await raw.flush()
        assert len(reply(await raw.answer(stream_id))) == 5000


def conversation():
    """A good client's bytes: two calls, a stream, a ping."""
    raw = RawClient(None)
    raw.h2.initiate_connection()
    for path, body in ((REGISTER, request("a")), (STREAM, prefixed(b"")), (ECHO, request("b"))):
        stream_id = raw.h2.get_next_available_stream_id()
        raw.h2.send_headers(
            stream_id,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("x-meta", "value"),
            ],
        )
        raw.h2.send_data(stream_id, body, end_stream=True)
    raw.h2.ping(b"12345678")
    return raw.h2.data_to_send()


GOOD = conversation()
BLOCKS = [
    Encoder().encode(
        [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", kind)]
    )
    for path, kind in (
        (REGISTER, "application/grpc"),
        (STREAM, "application/grpc"),
        (ECHO, "application/grpc"),
        (ECHO, "text/html"),
    )
]
PAYLOADS = st.one_of(
    st.sampled_from([request("a"), prefixed(b""), request("block"), request("a") * 3, *BLOCKS]),
    st.sampled_from([bytes(4), bytes(8), b"\x7f\xff\xff\xff", b"\x00\x00\x10\x00"]),
    st.tuples(st.integers(1, 6), st.sampled_from([0, 1, 100, 65_535, 2**31 - 1])).map(
        lambda pair: struct.pack(">HI", *pair)
    ),
    st.binary(max_size=12),
)
FRAMES = st.tuples(
    st.sampled_from([0, 0, 1, 1, 1, 2, 3, 3, 4, 5, 6, 7, 8, 8, 9, 10, 12]),
    st.sampled_from([0, 1, 4, 4, 5, 5, 8, 0x20, 0x2C]),
    st.sampled_from([0, 1, 1, 3, 3, 5, 7, 2]),
    PAYLOADS,
)


def written(kind, flags, stream_id, payload):
    head = len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream_id)
    return head + payload


async def survives(data):
    """Whatever the bytes are, others are served and our own code was not surprised."""
    async with serving() as running:
        bad = await running.connect()
        await bad.send_all(data)
        await bad.send_eof()
        try:
            with trio.fail_after(20):
                while await bad.receive_some(65536):
                    pass
        except trio.BrokenResourceError:
            pass  # closed with unread bytes, which is an end as well
        assert reply(await (await client(running)).unary("next")) == "next"
        assert "a gRPC connection failed" not in running.log.events
        assert running.server.statistics()["streams_open"] == 0


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FRAMES, min_size=1, max_size=12), st.booleans())
def test_frames_in_any_order_end_at_most_their_connection(chosen, greeted):
    start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    start += written(4, 0, 0, b"") if greeted else b""
    trio.run(survives, start + b"".join(written(*one) for one in chosen))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    cut=st.integers(0, 40),
    doubled=st.integers(0, 60),
)
@example(edits=[(0, 80)], cut=0, doubled=0)
def test_mutated_frames_end_at_most_their_connection(edits, cut, doubled):
    data = bytearray(GOOD)
    for position, value in edits:
        data[position] = value
    trio.run(survives, bytes(data[: len(data) - cut] + data[len(data) - doubled :]))
