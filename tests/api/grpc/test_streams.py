"""Server streams: broadcasting, slow readers, and readers that stall."""

import pytest
import trio
from grpclib.const import Status

from api.grpc.call import current_call
from api.grpc.codec import Encoded
from api.grpc.limits import Limits
from proto.goipay.invoice.v1 import InvoiceStatusStreamResponse
from tests.helpers.grpc_raw import RawClient, prefixed, request
from tests.helpers.grpc_service import STREAM, Extra, Invoices, Users, event
from tests.helpers.grpc_serving import alone, serving

SUBSCRIBE = prefixed(b"")


def pushing():
    invoices = Invoices()
    invoices.push = True
    return invoices


def ids(answer):
    return [InvoiceStatusStreamResponse.parse(one).invoice.id for one in answer.messages]


async def subscribe(raw, invoices, count):
    """Open streams on one connection and wait until their handlers have joined."""
    total = len(invoices.calls) + count
    streams = [await raw.open(STREAM, body=SUBSCRIBE) for _ in range(count)]
    await invoices.until_open(total)
    return streams


async def test_a_broadcast_reaches_every_stream_of_every_connection():
    invoices = pushing()
    async with serving(invoices) as running:
        opened = []
        for _ in range(3):
            raw = await RawClient(await running.connect()).start()
            opened += [(raw, one) for one in await subscribe(raw, invoices, 5)]
        for number in range(10):
            assert invoices.broadcast(number) == [True] * 15
        for raw, stream_id in opened:
            answer = raw.answers[stream_id]
            await raw.until(lambda answer=answer: len(answer.messages) == 10)
            assert ids(answer) == [str(n) for n in range(10)]


async def test_generated_streams_take_messages_and_encoded_ones(autojump_clock):
    class Mixed(Invoices):
        async def _generate(self):
            yield event(1)
            yield Encoded.of(event(2))

    async with alone(Mixed()) as server:
        raw = await server.client()
        answer = await raw.answer(await raw.open(STREAM, body=SUBSCRIBE))
        assert ids(answer) == ["1", "2"]
        assert answer.status == 0


async def test_a_stream_without_events_is_an_empty_success(autojump_clock):
    async with alone(Invoices(count=0)) as server:
        raw = await server.client()
        answer = await raw.answer(await raw.open(STREAM, body=SUBSCRIBE))
        assert answer.headers == {":status": "200", "content-type": "application/grpc"}
        assert answer.status == 0
        assert answer.data == b""


async def test_a_message_of_another_type_is_a_bug_of_the_handler(autojump_clock):
    class Wrong(Invoices):
        async def _generate(self):
            yield event(1).invoice

    async with alone(Wrong()) as server:
        raw = await server.client()
        answer = await raw.answer(await raw.open(STREAM, body=SUBSCRIBE))
        assert answer.status == Status.INTERNAL.value
        assert server.log.events == ["a gRPC handler failed"]


async def test_a_slow_reader_is_cut_off_and_the_others_are_not(autojump_clock):
    invoices = pushing()
    async with alone(invoices, limits=Limits(stream_outbound_bytes=10_000)) as server:
        slow, quick = await server.client(window_bytes=1000), await server.client()
        slow.reading = False
        (slow_id,) = await subscribe(slow, invoices, 1)
        (quick_id,) = await subscribe(quick, invoices, 1)
        sent = 0
        while all(invoices.broadcast(sent, filler="x" * 500)):
            sent += 1
        # The window took two events, the buffer the next 10 kB.
        assert 15 < sent < 25
        await invoices.until_open(1)
        answer = await slow.answer(slow_id)
        assert answer.status == Status.RESOURCE_EXHAUSTED.value
        assert answer.trailers["tally-reason"] == "SLOW_READER"
        assert "too slow" in answer.text
        assert invoices.broadcast(sent + 1) == [True]
        reader = quick.answers[quick_id]
        await quick.until(lambda: len(reader.messages) == sent + 2)
        figures = server.server.statistics()
        assert figures["readers_cut_off"] == 1
        assert figures["streams_open"] == 1
        assert server.log.events == ["a slow reader was cut off"]


async def test_pushing_to_a_stream_that_is_over_does_nothing(autojump_clock):
    invoices = pushing()
    async with alone(invoices) as server:
        raw = await server.client()
        (stream_id,) = await subscribe(raw, invoices, 1)
        (call,) = invoices.calls
        raw.h2.reset_stream(stream_id)
        await raw.flush()
        await invoices.until_open(0)
        assert call.push(event(1)) is False


async def test_pushing_too_large_a_message_is_refused(autojump_clock):
    invoices = pushing()
    async with alone(invoices, limits=Limits(message_bytes=1000)) as server:
        raw = await server.client()
        await subscribe(raw, invoices, 1)
        (call,) = invoices.calls
        with pytest.raises(Exception, match="exceeds the limit of 1000 bytes"):
            call.push(event(1, filler="x" * 1000))
        assert call.push(event(2)) is True


async def test_a_generator_waits_for_its_reader_and_is_closed_after_it_stalls(autojump_clock):
    invoices = Invoices(count=1000, filler="x" * 5000)
    async with alone(invoices) as server:
        raw = await server.client(window_bytes=20_000)
        raw.reading = False
        stream_id = await raw.open(STREAM, body=SUBSCRIBE)
        began = trio.current_time()
        answer = await raw.answer(stream_id)
        assert answer.status == Status.RESOURCE_EXHAUSTED.value
        assert answer.trailers["tally-reason"] == "SLOW_READER"
        assert 30 <= trio.current_time() - began <= 32
        assert invoices.sent == 3
        assert invoices.closed.is_set()


async def test_a_unary_answer_that_nobody_takes_is_dropped(autojump_clock):
    async with alone(Users()) as server:
        raw = await server.client(window_bytes=1000)
        raw.reading = False
        answer = await raw.answer(await raw.open(body=request("big:5000")))
        assert answer.status == Status.RESOURCE_EXHAUSTED.value
        assert server.server.statistics()["streams_open"] == 0


async def test_a_reader_that_takes_its_time_but_moves_is_not_cut_off(autojump_clock):
    async with alone(Users()) as server:
        raw = await server.client(window_bytes=1000)
        raw.reading = False
        stream_id = await raw.open(body=request("big:5000"))
        for _ in range(5):
            await trio.sleep(20)
            raw.h2.increment_flow_control_window(1000, stream_id)
            await raw.flush()
        answer = await raw.answer(stream_id)
        assert answer.status == 0
        assert len(answer.messages[0]) > 5000


async def test_initial_metadata_tells_that_a_stream_is_open(autojump_clock):
    class Greeting(Invoices):
        async def _subscribe(self):
            await current_call().send_initial_metadata(metadata={"x-cursor": "7"})
            await super()._subscribe()

    invoices = Greeting()
    invoices.push = True
    async with alone(invoices) as server:
        raw = await server.client()
        (stream_id,) = await subscribe(raw, invoices, 1)
        await raw.until(lambda: bool(raw.answers[stream_id].headers))
        assert raw.answers[stream_id].headers["x-cursor"] == "7"
        invoices.broadcast(1)
        await raw.until(lambda: ids(raw.answers[stream_id]) == ["1"])


async def test_gzip_is_announced_on_streams_and_shared_between_them(autojump_clock):
    invoices = pushing()
    async with alone(invoices) as server:
        raw = await server.client()
        accept = [("grpc-accept-encoding", "gzip")]
        packed = await raw.open(STREAM, body=SUBSCRIBE, headers=accept)
        plain = await raw.open(STREAM, body=SUBSCRIBE)
        await invoices.until_open(2)
        invoices.broadcast(1, filler="x" * 100_000)
        invoices.broadcast(2)
        await raw.until(lambda: len(raw.answers[plain].messages) == 2)
        await raw.until(lambda: len(raw.answers[packed].messages) == 2)
        assert raw.answers[packed].headers["grpc-encoding"] == "gzip"
        assert len(raw.answers[packed].data) < 1000
        assert "grpc-encoding" not in raw.answers[plain].headers
        assert len(raw.answers[plain].data) > 100_000


async def test_a_call_is_known_to_its_handler_only(autojump_clock):
    with pytest.raises(LookupError):
        current_call()
    async with alone(Extra()) as server:
        assert server.server.statistics()["streams"] == 0
