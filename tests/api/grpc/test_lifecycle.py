"""From listening to the end of a shutdown, and care for silent peers."""

import h2.events
import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.errors import ErrorCodes
from trio.testing import wait_all_tasks_blocked

from api.grpc.health import SERVING
from api.grpc.limits import Limits
from api.grpc.peer import Peer
from api.grpc.server import ListenError, Server
from tests.helpers.grpc_raw import RawClient, prefixed, request
from tests.helpers.grpc_service import REGISTER, STREAM, Invoices, Users
from tests.helpers.grpc_serving import Lines, alone, serving

SUBSCRIBE = prefixed(b"")


async def test_started_means_listening_and_the_end_is_an_end():
    server = Server([Users()], log=Lines())
    async with trio.open_nursery() as nursery:
        ((host, port),) = await nursery.start(server.serve, "127.0.0.1", 0)
        assert host == "127.0.0.1"
        stream = await trio.open_tcp_stream(host, port)
        await stream.aclose()
        await server.shutdown(grace_s=1)
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream(host, port)


async def test_an_address_in_use_is_named_with_its_settings():
    async with serving() as running:
        with pytest.raises(ListenError, match=rf"127.0.0.1:{running.port} .*SERVER_PORT"):
            await Server([Users()], log=Lines()).serve("127.0.0.1", running.port)


async def test_a_shutdown_drains_unary_calls_and_ends_streams(autojump_clock):
    invoices = Invoices(count=1, hold=True)
    users = Users()
    async with alone(users, invoices) as server:
        raw = await server.client()
        stream_id = await raw.open(STREAM, body=SUBSCRIBE)
        unary_id = await raw.open(body=request("block"))
        await users.entered.wait()
        await invoices.joined.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.shutdown)
            ended = await raw.answer(stream_id)
            assert ended.status == Status.CANCELLED.value
            assert ended.text == "Stream has been closed."
            assert len(ended.messages) == 1
            assert not raw.saw(h2.events.ConnectionTerminated)
            assert invoices.closed.is_set()
            users.proceed.set()
            assert (await raw.answer(unary_id)).status == 0
            began = trio.current_time()
            await raw.until_closed()
        assert raw.saw(h2.events.ConnectionTerminated)
        assert trio.current_time() - began <= 1.5


async def test_a_call_that_does_not_end_is_ended_within_the_grace_time(autojump_clock):
    users = Users()
    async with alone(users) as server:
        raw = await server.client()
        unary_id = await raw.open(body=request("block"))
        await users.entered.wait()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.shutdown)
            answer = await raw.answer(unary_id)
            assert answer.status == Status.UNAVAILABLE.value
            await raw.until_closed()
        assert users.cancelled.is_set()
        assert trio.current_time() - began <= 5.2


async def test_a_peer_that_reads_nothing_does_not_hold_the_shutdown(autojump_clock):
    invoices = Invoices(count=1000, filler="x" * 5000)
    async with alone(invoices) as server:
        raw = await server.client(window_bytes=20_000)
        raw.reading = False
        stream_id = await raw.open(STREAM, body=SUBSCRIBE)
        await raw.until(lambda: len(raw.answers[stream_id].data) > 10_000)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.shutdown)
            answer = await raw.answer(stream_id)
            # What it never took is dropped, the status is still the documented one.
            assert answer.status == Status.CANCELLED.value
            await raw.until_closed()
        assert trio.current_time() - began <= 5.2


async def test_calls_during_a_shutdown_are_refused(autojump_clock):
    users = Users()
    async with alone(users) as server:
        raw = await server.client()
        first = await raw.open(body=request("block"))
        await users.entered.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.shutdown)
            await wait_all_tasks_blocked()
            late = await raw.open(body=request("late"))
            await raw.until(lambda: raw.answers[late].reset is not None)
            assert raw.answers[late].reset == ErrorCodes.REFUSED_STREAM
            users.proceed.set()
            assert (await raw.answer(first)).status == 0


async def test_the_closing_text_is_chosen_per_method(autojump_clock):
    invoices = Invoices(hold=True)
    async with alone(invoices, closed_texts={STREAM: "Bye."}) as server:
        raw = await server.client()
        stream_id = await raw.open(STREAM, body=SUBSCRIBE)
        await invoices.joined.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.shutdown)
            assert (await raw.answer(stream_id)).text == "Bye."


@pytest.mark.parametrize("path", [REGISTER, "/no/Such"])
def test_a_closing_text_for_no_stream_is_a_mistake(path):
    with pytest.raises(ValueError, match=path):
        Server([Users()], log=Lines(), closed_texts={path: "Bye."})


def test_a_method_is_served_once():
    with pytest.raises(ValueError, match="served twice"):
        Server([Users(), Users()], log=Lines())


@pytest.mark.parametrize(
    "wrong", [{"connections": 0}, {"stall_timeout_s": -1}, {"stream_window_bytes": 1000}]
)
def test_limits_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)


async def test_the_health_of_a_stopping_server(autojump_clock):
    users = Users()
    async with alone(users) as server:
        server.server.health.set(SERVING)
        raw = await server.client()
        watch = await raw.open("/grpc.health.v1.Health/Watch", body=SUBSCRIBE)
        await raw.until(lambda: raw.answers[watch].messages == [b"\x08\x01"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.shutdown)
            answer = await raw.answer(watch)
        assert answer.status == Status.CANCELLED.value


async def test_a_silent_peer_is_pinged_and_closed_when_it_does_not_answer(autojump_clock):
    async with alone(Users()) as server:
        raw = await server.client()
        assert (await raw.unary("hello")).status == 0
        began = trio.current_time()
        await trio.sleep(35)
        assert server.server.statistics()["connections_open"] == 1
        await trio.sleep(10)
        figures = server.server.statistics()
        assert figures["connections_open"] == 0
        assert figures["keepalive_deaths"] == 1
        await raw.until_closed()
        assert raw.saw(h2.events.PingReceived)
        assert trio.current_time() - began == 45


async def test_a_silent_peer_that_answers_pings_stays(autojump_clock):
    async with alone(Users()) as server:
        raw = await server.client()
        assert (await raw.unary("hello")).status == 0
        with trio.move_on_after(600):
            while True:
                await raw.step()
        assert (await raw.unary("still here")).status == 0
        pings = sum(isinstance(one, h2.events.PingReceived) for one in raw.events)
        assert 18 <= pings <= 20


async def test_a_peer_that_never_speaks_is_closed(autojump_clock):
    async with alone(Users()) as server:
        raw = await server.client(start=False)
        while await raw.stream.receive_some():
            pass
        assert 10 <= trio.current_time() <= 12
        assert server.server.statistics()["connections_failed"] == 1


async def test_interceptors_see_the_call_before_its_handler():
    seen = []

    async def first(method, metadata, peer):
        seen.append((method, metadata.get("authorization"), peer))

    async def second(method, metadata, peer):
        if metadata.get("authorization") != "Bearer yes":
            return GRPCError(Status.UNAUTHENTICATED, "No key.")
        return None

    async with serving(interceptors=[first, second]) as running:
        raw = await RawClient(await running.connect()).start()
        answer = await raw.unary("hello")
        assert (answer.status, answer.text) == (Status.UNAUTHENTICATED.value, "No key.")
        assert running.users.peer is None
        allowed = await raw.unary("hello", headers=[("authorization", "Bearer yes")])
        assert allowed.status == 0
        assert [one[:2] for one in seen] == [(REGISTER, None), (REGISTER, "Bearer yes")]
        peer = seen[0][2]
        assert isinstance(peer, Peer)
        assert peer.address.startswith("127.0.0.1:")
        assert (peer.tls, peer.subject) == (False, None)


async def test_figures_add_up():
    async with serving() as running:
        raw = await RawClient(await running.connect()).start()
        await raw.unary("hello")
        await raw.unary("bug")
        await raw.unary("refuse")
        figures = running.server.statistics()
        assert figures["statuses"] == {"OK": 1, "INTERNAL": 1, "INVALID_ARGUMENT": 1}
        assert figures["handler_errors"] == 1
        assert figures["streams"] == figures["messages_in"] == 3
        assert figures["messages_out"] == figures["connections"] == figures["connections_open"] == 1
        assert figures["bytes_in"] > 100
        assert figures["bytes_out"] > 100
        (entry,) = running.log.entries
        assert entry[0] == "a gRPC handler failed"
        assert entry[1]["method"] == REGISTER
        assert isinstance(entry[1]["exc_info"], ZeroDivisionError)


async def test_a_connection_that_lasts_remembers_only_its_last_calls(monkeypatch, autojump_clock):
    monkeypatch.setattr("api.grpc.connection._State.MAX_CLOSED_STREAMS", 3)
    async with alone(Users()) as server:
        raw = await server.client()
        for number in range(8):
            assert (await raw.unary(f"user {number}")).status == 0
        (connection,) = server.server._connections
        closed = connection._state._closed_streams
        assert 0 < len(closed) <= 3
