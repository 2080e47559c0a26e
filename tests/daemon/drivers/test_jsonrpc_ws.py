"""JSON-RPC over websockets against a server that does everything wrong that servers do."""

import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trustme
from trio_websocket import WebSocketConnection

from actors.ports import PersistentError, TransientError
from daemon.drivers import ws_session
from daemon.drivers.jsonrpc import AnswerTooLargeError, BusyError, RpcError
from daemon.drivers.jsonrpc_ws import JsonRpcWs
from daemon.drivers.rpc_client import Lost, RpcClient
from tests.helpers.http_node import RpcFault
from tests.helpers.ports import free_port
from tests.helpers.ws_node import Message, WsNode, raw_node, rpc_ws_node, ws_node

KEY = "0123456789abcdef0123"


@asynccontextmanager
async def client_of(node: WsNode, **options: Any) -> AsyncIterator[JsonRpcWs]:
    client = JsonRpcWs(f"{node.url}/v3/{KEY}", setting="coin.eth", **options)
    try:
        yield client
    finally:
        await client.aclose()


async def test_calls_batches_and_news_share_one_connection() -> None:
    async with rpc_ws_node({"add": lambda a, b: a + b}) as node, client_of(node) as client:
        as_protocol: RpcClient = client
        assert as_protocol.can_subscribe
        assert as_protocol.setting == "coin.eth"
        assert await client.call("add", 1, 2) == 3
        assert await client.batch([("add", (n, n)) for n in range(5)]) == [0, 2, 4, 6, 8]
        assert await client.batch([]) == []
        async with client.subscribe("newHeads") as heads:
            await node.push("newHeads", {"number": "0x1"})
            assert await anext(heads) == {"number": "0x1"}
            statistics = client.statistics()
        assert len(node.peers) == 1
        assert node.peers[0].path == f"/v3/{KEY}"
        assert (statistics.calls, statistics.requests) == (7, 3)
        assert (statistics.connections, statistics.subscriptions) == (1, 1)
        assert (statistics.notifications, statistics.failures, statistics.lost) == (1, 0, 0)
        assert statistics.bytes_received > 0
    after = client.statistics()
    assert (after.connections, after.subscriptions) == (0, 0)
    assert after.calls == 8, "the last one unsubscribed"


async def test_nothing_is_connected_until_asked_and_closing_is_repeatable() -> None:
    client = JsonRpcWs("ws://127.0.0.1:1", setting="coin.eth")
    assert client.statistics().connections == 0
    await client.aclose()
    async with rpc_ws_node({"x": 1}) as node, client_of(node) as client:
        assert await client.call("x") == 1
        await client.aclose()
        await client.aclose()
        assert await client.call("x") == 1
        assert len(node.peers) == 2
        assert client.statistics().calls == 2, "earlier connections are counted on"


async def test_closing_says_farewell() -> None:
    async with rpc_ws_node({"x": 1}) as node:
        async with client_of(node) as client:
            await client.call("x")
        reason = node.peers[0].socket.closed
        assert reason is not None
        assert reason.code == 1000


async def test_answers_may_come_in_any_order() -> None:
    waiting: list[Message] = []

    async def behave(message: Message) -> None:
        waiting.append(message)
        if len(waiting) == 3:
            for each in waiting[::-1]:
                await each.results(*(call["params"][0] for call in each.calls))

    results: dict[int, Any] = {}

    async with ws_node(behave) as node, client_of(node) as client:

        async def ask(number: int) -> None:
            results[number] = await client.call("x", number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 1)
            nursery.start_soon(ask, 2)
            assert await client.batch([("x", (3,)), ("x", (4,))]) == [3, 4]
    assert results == {1: 1, 2: 2}


async def test_a_batchs_answers_may_come_in_any_order() -> None:
    async def behave(message: Message) -> None:
        answers = [{"id": call["id"], "result": call["params"][0]} for call in message.calls]
        await message.send(answers[::-1])

    async with ws_node(behave) as node, client_of(node) as client:
        assert await client.batch([("x", (1,)), ("x", (2,))]) == [1, 2]


async def test_a_refused_call_carries_the_nodes_code_and_data() -> None:
    methods = {"good": 1, "bad": RpcFault(-32000, f"no {KEY} here")}
    async with rpc_ws_node(methods) as node, client_of(node) as client:
        with pytest.raises(RpcError, match=r"refused bad: no \*\*\* here \(error -32000\)") as e:
            await client.call("bad")
        assert e.value.code == -32000
        first, second = await client.batch([("good", ()), ("bad", ())])
        assert first == 1
        assert isinstance(second, RpcError)


async def test_at_most_so_many_requests_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.drivers.jsonrpc_ws.REQUESTS_AT_ONCE", 2)
    waiting: list[Message] = []
    release = trio.Event()

    async def behave(message: Message) -> None:
        waiting.append(message)
        if len(waiting) == 2:
            release.set()

    async with ws_node(behave) as node, client_of(node) as client, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(client.call, "x")
        await release.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert len(waiting) == 2
        while waiting:
            await waiting.pop(0).results(None)
            await trio.testing.wait_all_tasks_blocked(0.01)


# --- subscriptions --------------------------------------------------------------------------------


async def test_news_right_behind_the_answer_and_before_it_are_not_missed() -> None:
    async def behave(message: Message) -> None:
        if message.calls[0]["method"] == "eth_subscribe":
            await message.peer.news("0xother", "not ours")
            await message.peer.news("0x7", "early")
            await message.results("0x7")
            await message.peer.news("0x7", "behind")

    async with ws_node(behave) as node, client_of(node) as client:
        async with client.subscribe("logs", {"address": []}) as news:
            assert node.messages[0].calls[0]["params"] == ["logs", {"address": []}]
            assert await anext(news) == "early"
            assert await anext(news) == "behind"
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert node.messages[-1].calls[0]["params"] == ["0x7"]


async def test_two_subscriptions_are_told_apart() -> None:
    async with (
        rpc_ws_node({}) as node,
        client_of(node) as client,
        client.subscribe("newHeads") as heads,
    ):
        async with client.subscribe("logs") as logs:
            await node.push("newHeads", 1)
            await node.push("logs", 2)
            assert await anext(logs) == 2
        await node.peers[0].news("0xdead", "of a subscription that was left")
        await node.push("newHeads", 3)
        assert [await anext(heads), await anext(heads)] == [1, 3]
        assert client.statistics().notifications == 4


async def test_a_refused_subscription() -> None:
    methods = {"eth_subscribe": RpcFault(-32602, "no such subscription")}
    async with rpc_ws_node(methods) as node, client_of(node) as client:
        with pytest.raises(RpcError, match="refused eth_subscribe: no such subscription"):
            async with client.subscribe("newPendingTransactions"):
                pass
        assert client.statistics().subscriptions == 0


async def test_a_slow_reader_loses_news_and_is_told_how_many() -> None:
    async with (
        rpc_ws_node({"x": 1}) as node,
        client_of(node, buffer_limit=4) as client,
        client.subscribe("logs") as news,
    ):
        for number in range(10):
            await node.push("logs", number)
        await client.call("x")
        assert [await anext(news) for _ in range(3)] == [Lost(8), 8, 9]
        assert client.statistics().lost == 8
    assert client.statistics().lost == 8


async def test_a_subscription_ends_with_its_connection_after_what_came() -> None:
    async with (
        rpc_ws_node({"x": 1}) as node,
        client_of(node) as client,
        client.subscribe("logs") as news,
    ):
        await node.push("logs", 1)
        await client.call("x")
        session = client._session
        assert session is not None
        await node.peers[0].cut()
        seen = []

        async def read() -> None:
            while True:
                seen.append(await anext(aiter(news)))

        for _ in range(2):
            with pytest.raises(TransientError, match=r"closed the connection\. Did the node stop"):
                await read()
            with pytest.raises(TransientError, match="closed the connection"):
                await session.ask([("x", ())], batch=False, subscription=None)
        assert seen == [1]
        assert await client.call("x") == 1, "calls go on, on a new connection"
        assert client.statistics().subscriptions == 0


async def test_a_subscription_given_up_while_it_was_asked_for_is_undone() -> None:
    asked = trio.Event()
    held: list[Message] = []

    async def behave(message: Message) -> None:
        if message.calls[0]["method"] == "eth_subscribe":
            held.append(message)
            asked.set()
        elif message.calls[0]["method"] == "x":
            await held[0].results("0x9")
            await message.results(1)

    async with ws_node(behave) as node, client_of(node) as client:

        async def subscribe() -> None:
            async with client.subscribe("logs"):
                raise AssertionError("never entered")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscribe)
            await asked.wait()
            nursery.cancel_scope.cancel()
        assert await client.call("x") == 1
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert node.messages[-1].calls[0]["method"] == "eth_unsubscribe"
        assert node.messages[-1].calls[0]["params"] == ["0x9"]


# --- what goes wrong under way --------------------------------------------------------------------


def says(what: object) -> Callable[[Message], Any]:
    async def behave(message: Message) -> None:
        await message.send(what)

    return behave


async def answers_twice(message: Message) -> None:
    number = message.calls[0]["id"]
    await message.send([{"id": number, "result": 1}, {"id": number, "result": 2}])


async def hangs_up(message: Message) -> bool:
    return False


async def hangs_up_within_a_message(message: Message) -> None:
    # The head of a text frame of 100 bytes, and three of them.
    await message.peer.socket._stream.send_all(b"\x81\x64{" + b'"i')
    await message.peer.cut()


async def breaks_the_protocol(message: Message) -> None:
    await message.peer.socket._stream.send_all(b"\xff\xff\xff\xff")


async def sends_bad_text(message: Message) -> None:
    await message.peer.socket._stream.send_all(b"\x81\x02\xc3\x28")


def numbered(answer: dict[str, Any]) -> Callable[[Message], Any]:
    async def behave(message: Message) -> None:
        await message.send({"id": message.calls[0]["id"], **answer})

    return behave


def news(params: object) -> Callable[[Message], Any]:
    return says({"method": "eth_subscription", "params": params})


WHERE = r"coin\.eth\.daemon\.url \(ws://127\.0\.0\.1:\d+\) "
FAULTS: dict[str, tuple[Callable[[Message], Any], type[Exception], str]] = {
    "no JSON": (
        says("hello there"),
        TransientError,
        WHERE + "answered garbage: no JSON in 11 bytes that begin 'hello there'. Is this",
    ),
    "echoed key": (says(f"hello {KEY}"), TransientError, r"'hello \*\*\*'"),
    "binary garbage": (says(b"\x00\xff" * 9), TransientError, "garbage: no JSON in 18 bytes"),
    "NaN": (says('{"result": NaN}'), TransientError, "garbage: no JSON"),
    "too deep": (says("[" * 100_000), TransientError, "garbage: no JSON"),
    "a number": (says("42"), TransientError, "garbage: neither an object nor a list"),
    "nothing": (says("[]"), TransientError, "garbage: no JSON-RPC answer"),
    "a list of numbers": (says("[1, 2]"), TransientError, "garbage: no JSON-RPC answer"),
    "no id": (says({"result": 1}), TransientError, "an answer to no request of ours"),
    "unknown id": (says({"id": 77, "result": 1}), TransientError, "answer to no request of ours"),
    "unknown ids": (says([{"id": 77, "result": 1}]), TransientError, "to no request of ours"),
    "id is a list": (says({"id": [], "result": 1}), TransientError, "to no request of ours"),
    "id is true": (says({"id": True, "result": 1}), TransientError, "to no request of ours"),
    "neither": (numbered({}), TransientError, "garbage: neither result nor error"),
    "answers twice": (answers_twice, TransientError, "garbage: an answer to another request"),
    "news of nothing": (news([]), TransientError, "garbage: news without a result"),
    "news without result": (news({"subscription": "0x1"}), TransientError, "without a result"),
    "news without name": (news({"result": 1}), TransientError, "garbage: news of no subscription"),
    "hangs up": (
        hangs_up,
        TransientError,
        WHERE + r"closed the connection( \(code 1000\))?\. Did the node stop\? Its log tells why",
    ),
    "hangs up within a message": (
        hangs_up_within_a_message,
        TransientError,
        WHERE + "(closed|reset) the connection",
    ),
    "breaks the protocol": (
        breaks_the_protocol,
        TransientError,
        WHERE + "answered garbage: it breaks the websocket protocol",
    ),
    "text that is none": (sends_bad_text, TransientError, WHERE + "answered garbage: it breaks"),
    "too large": (
        says("x" * 200_000),
        AnswerTooLargeError,
        WHERE + r"answered with more than we accept \(.*, the limit is 100000\)",
    ),
    "much too large": (says("x" * 5_000_000), AnswerTooLargeError, "the limit is 100000"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_told_in_words_to_all_who_wait(fault: str) -> None:
    behave, family, text = FAULTS[fault]
    texts: list[str] = []
    ready = trio.Event()

    async def misbehave(message: Message) -> object:
        method = message.calls[0]["method"]
        if method == "eth_subscribe":
            return await message.results("0x1")
        if method == "wait":
            return ready.set()
        return await behave(message)

    async with ws_node(misbehave) as node, client_of(node, max_message_bytes=100_000) as client:

        async def call(method: str) -> None:
            with pytest.raises(family, match=text) as caught:
                await client.call(method)
            assert type(caught.value) is family
            texts.append(str(caught.value))

        async with client.subscribe("logs") as logs, trio.open_nursery() as nursery:
            nursery.start_soon(call, "wait")
            await ready.wait()
            nursery.start_soon(call, "x")
            with pytest.raises(family, match=text):
                await anext(logs)
        assert client.statistics().failures == 2
    assert len(texts) == 2
    for said in texts:
        assert KEY not in said
        assert len(said) < 600


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_does_not_outlive_its_connection(fault: str) -> None:
    behave, family, _ = FAULTS[fault]

    async def once(message: Message) -> object:
        if message.peer.number == 1:
            return await behave(message)
        return await message.results("fine")

    async with ws_node(once) as node, client_of(node, max_message_bytes=100_000) as client:
        with pytest.raises(family):
            await client.call("x")
        assert await client.call("x") == "fine"


async def test_the_same_answer_again() -> None:
    async def behave(message: Message) -> None:
        if message.calls[0]["method"] == "first":
            await message.results(1)
            await message.results(1)

    async with ws_node(behave) as node, client_of(node) as client:
        assert await client.call("first") == 1
        with pytest.raises(TransientError, match="an answer to no request of ours"):
            await client.call("second")


async def test_a_batch_refused_as_a_whole() -> None:
    fault = {"code": -32600, "message": "batch too large"}
    for body in ({"error": fault, "id": None}, [{"error": fault, "id": None}]):
        async with ws_node(says(body)) as node, client_of(node) as client:
            with pytest.raises(RpcError, match="refused x: batch too large") as caught:
                await client.batch([("x", ()), ("y", ())])
            assert caught.value.code == -32600
            assert client.statistics().connections == 1, "the connection is fine"


async def test_a_batch_refused_under_its_first_id() -> None:
    behave = numbered({"error": {"code": -32005, "message": "slow down"}})
    async with ws_node(behave) as node, client_of(node) as client:
        with pytest.raises(RpcError, match="slow down"):
            await client.batch([("x", ()), ("y", ())])


async def test_a_refusal_that_could_be_anybodys_fails_all() -> None:
    seen: list[Message] = []

    async def behave(message: Message) -> None:
        seen.append(message)
        if len(seen) == 2:
            await message.send({"id": None, "error": {"code": -32700, "message": "Parse error"}})

    text = r"refused a request without saying which: Parse error \(error -32700\)"
    async with ws_node(behave) as node, client_of(node) as client:

        async def call() -> None:
            with pytest.raises(TransientError, match=text):
                await client.call("x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)


async def test_a_batch_with_missing_answers() -> None:
    async def behave(message: Message) -> None:
        await message.send([{"id": message.calls[0]["id"], "result": 1}])

    async with ws_node(behave) as node, client_of(node) as client:
        with pytest.raises(TransientError, match="1 answers to 2 calls"):
            await client.batch([("x", ()), ("y", ())])


async def test_a_subscription_without_a_name_or_with_anothers() -> None:
    for name in (None, "0x1"):
        names = ["0x1", name]

        async def behave(message: Message, names: list[Any] = names) -> None:
            await message.results(names.pop(0))

        async with ws_node(behave) as node, client_of(node) as client, client.subscribe("logs"):
            with pytest.raises(TransientError, match="garbage: no new subscription"):
                async with client.subscribe("logs"):
                    pass


async def test_news_instead_of_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_session, "EARLY_LIMIT", 3)

    async def behave(message: Message) -> None:
        for number in range(4):
            await message.peer.news("0x1", number)

    async with ws_node(behave) as node, client_of(node) as client:
        with pytest.raises(TransientError, match="sends news instead of answers"):
            async with client.subscribe("logs"):
                pass


async def test_unanswered_calls_are_bounded(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(ws_session, "LATE_LIMIT", 2)

    async def behave(message: Message) -> None:
        pass

    async with ws_node(behave) as node, client_of(node) as client:
        for _ in range(3):
            with pytest.raises(TransientError, match="did not answer within 1 s"):
                await client.call("x", timeout_s=1)
        assert client.statistics().connections == 0
        with pytest.raises(TransientError, match="did not answer within 1 s"):
            await client.call("x", timeout_s=1)
        assert len(node.peers) == 2


async def test_a_late_answer_harms_nobody(autojump_clock: trio.testing.MockClock) -> None:
    held: list[Message] = []

    async def behave(message: Message) -> None:
        held.append(message)
        if len(held) == 3:
            await held[0].results("late")
            await held[1].results("late", "too")
            await message.results("fine")

    text = r"did not answer within 2 s\..*Raise coin\.eth\.rpc_timeout_s"
    async with ws_node(behave) as node, client_of(node, timeout_s=2) as client:
        with pytest.raises(TransientError, match=text):
            await client.call("x")
        with pytest.raises(TransientError, match=text):
            await client.batch([("x", ()), ("y", ())])
        assert await client.call("x") == "fine"
        assert len(node.peers) == 1


async def test_a_refusal_without_id_may_be_for_a_late_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def behave(message: Message) -> None:
        if len(node.messages) == 2:
            await message.send({"id": None, "error": {"code": -32700, "message": "Parse error"}})

    async with ws_node(behave) as node, client_of(node) as client:
        with pytest.raises(TransientError, match="did not answer"):
            await client.call("x")
        with pytest.raises(TransientError, match="without saying which"):
            await client.call("x")


async def test_a_dead_connection_is_noticed_by_its_silence(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a firewall leaves behind: the connection is open, and nothing ever comes."""

    async def ignore(connection: object, event: object) -> None:
        pass

    monkeypatch.setattr(WebSocketConnection, "_handle_ping_event", ignore)
    async with rpc_ws_node({}) as node, client_of(node) as client, client.subscribe("x") as news:
        began = trio.current_time()
        with pytest.raises(TransientError, match=r"answers no ping for 15 s\. Did the node stop"):
            await anext(news)
        assert trio.current_time() - began == pytest.approx(30, abs=1)


async def test_a_silent_but_living_connection_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with rpc_ws_node({"x": 1}) as node, client_of(node) as client:
        for _ in range(5):
            await client.call("x")
            await trio.sleep(10)
        await trio.sleep(500)
        assert await client.call("x") == 1
        assert len(node.peers) == 1


async def test_closing_fails_what_is_under_way() -> None:
    async def behave(message: Message) -> None:
        asked.set()

    asked = trio.Event()
    async with ws_node(behave) as node, client_of(node) as client:

        async def call() -> None:
            with pytest.raises(TransientError, match="connection was closed by us"):
                await client.call("x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await asked.wait()
            await client.aclose()


async def test_a_cancelled_call_leaves_the_connection_alone() -> None:
    asked = trio.Event()

    async def behave(message: Message) -> None:
        if message.calls[0]["method"] == "slow":
            asked.set()
        else:
            await message.results("fine")

    async with ws_node(behave) as node, client_of(node) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call, "slow")
            await asked.wait()
            nursery.cancel_scope.cancel()
        assert await client.call("x") == "fine"
        assert len(node.peers) == 1


async def test_a_bug_is_raised_where_it_can_be_supervised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def buggy(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(ws_session.Session, "_hear_answer", buggy)
    async with rpc_ws_node({"x": 1}) as node, client_of(node) as client:
        with pytest.raises(AssertionError, match=r"bug in the websocket.*oops") as caught:
            await client.call("x")
        assert isinstance(caught.value.__cause__, KeyError)


async def test_large_honest_answers_pass() -> None:
    block = "ab" * 4_200_000
    async with rpc_ws_node({"getblock": block}) as node, client_of(node) as client:
        assert await client.call("getblock") == block


# --- what goes wrong when connecting --------------------------------------------------------------


async def refused(data: bytes, *, wait: bool = False) -> Exception:
    """The error of a call to a server that answers the handshake with `data`."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(data)
        if wait:
            await trio.sleep_forever()

    async with raw_node(serve) as port:
        client = JsonRpcWs(f"ws://127.0.0.1:{port}/v3/{KEY}", setting="coin.eth")
        with pytest.raises((TransientError, PersistentError)) as caught:
            await client.call("x")
        assert KEY not in str(caught.value)
        assert len(str(caught.value)) < 600
        return caught.value


@pytest.mark.parametrize(
    ("data", "family", "text"),
    [
        (b"", TransientError, "(closed|reset) the connection instead of opening a websocket"),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            TransientError,
            "garbage: no websocket handshake but 'SSH",
        ),
        (b"SSH-2.0", TransientError, "answered garbage: no websocket handshake but 'SSH-2.0'"),
        (
            b"HTTP/1.1 404 Not Found\r\n\r\nno " + KEY.encode(),
            TransientError,
            r"answered HTTP 404 instead of opening a websocket: 'no \*\*\*'. Many nodes",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            TransientError,
            "answered HTTP 200 instead",
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000,
            TransientError,
            "answered HTTP 200 instead",
        ),
        (
            b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
            PersistentError,
            r"refuses us \(HTTP 401\). Check the access key in coin.eth.daemon.url, or coin.eth",
        ),
        (
            b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
            BusyError,
            r"is too busy \(HTTP 429: ''\); it asks us to wait '7'. If it stays so, add another",
        ),
        (
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            TransientError,
            "answered garbage: no websocket handshake but 'HTTP/1.1 101",
        ),
        (
            b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Protocol: \xff\r\n\r\n",
            TransientError,
            "answered garbage: no websocket handshake",
        ),
        (b"HTTP/1.1 101 Y\r\n" + b"a: b\r\n" * 99999, TransientError, "garbage|sends without end"),
    ],
)
async def test_a_server_that_opens_no_websocket(
    data: bytes, family: type[Exception], text: str
) -> None:
    for wait in (False, True):
        if wait and (len(data) in (0, 7) or b"404" in data):
            continue  # only time would tell
        error = await refused(data, wait=wait)
        assert type(error) is family
        assert re.search(WHERE + ".*(" + text + ")", str(error)), str(error)


async def test_nobody_listens() -> None:
    client = JsonRpcWs(f"ws://127.0.0.1:{free_port()}", setting="coin.bnb")
    text = r"coin\.bnb\.daemon\.url .* cannot be reached: Connection refused\. Is the node running"
    for _ in range(2):
        with pytest.raises(TransientError, match=text):
            await client.call("x")
    assert client.statistics().failures == 2


async def test_a_handshake_that_is_never_answered(autojump_clock: trio.testing.MockClock) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with raw_node(serve) as port:
        client = JsonRpcWs(f"ws://127.0.0.1:{port}", setting="coin.eth")
        with pytest.raises(TransientError, match="did not answer within 10 s"):
            await client.call("x")
        with pytest.raises(TransientError, match="did not answer within 3 s"):
            await client.call("x", timeout_s=3)
        await client.aclose()
        with pytest.raises(TransientError, match="did not answer within 10 s"):
            await client.call("x")


async def test_closing_while_connecting() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        asked.set()
        await trio.sleep_forever()

    asked = trio.Event()
    async with raw_node(serve) as port, trio.open_nursery() as nursery:
        client = JsonRpcWs(f"ws://127.0.0.1:{port}", setting="coin.eth")

        async def call() -> None:
            with pytest.raises(TransientError, match="connection was closed by us"):
                await client.call("x")

        nursery.start_soon(call)
        await asked.wait()
        await client.aclose()


async def test_callers_share_one_attempt_to_connect() -> None:
    async with rpc_ws_node({"x": 1}) as node:
        node.refuse = 503
        node.refuse_headers = [(b"Retry-After", b"3")]
        async with client_of(node) as client, trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(BusyError, match="HTTP 503: 'not today'") as caught:
                    await client.call("x")
                assert caught.value.retry_after == "3"
                assert caught.value.status == 503

            nursery.start_soon(call)
            nursery.start_soon(call)
        node.refuse = None
        async with client_of(node) as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.call, "x")
            nursery.start_soon(client.call, "x")
        assert len(node.peers) == 1


async def test_credentials_in_the_url_are_used_and_never_shown() -> None:
    async with rpc_ws_node({"x": RpcFault(-1, "who is alice:pa/ss?")}) as node:
        url = node.url.replace("//", "//alice:pa%2Fss@")
        client = JsonRpcWs(url, setting="coin.eth")
        with pytest.raises(RpcError) as caught:
            await client.call("x")
        await client.aclose()
        assert node.peers[0].headers["authorization"] == "Basic YWxpY2U6cGEvc3M="
        assert "pa/ss" not in str(caught.value)
        assert "alice" not in client.where


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:8546", "ws://", "ws://a:b:c@[x"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"a node's URL looks like ws://127\.0\.0\.1:8546"):
        JsonRpcWs(url, setting="coin.eth")


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_wss(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    async def behave(message: Message) -> None:
        await message.results("fine")

    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr("daemon.drivers.websocket.tls_context", lambda: trusting)

    async with ws_node(behave, ssl_context=serving(authority, "127.0.0.1")) as node:
        url = f"wss://127.0.0.1:{node.port}"
        client = JsonRpcWs(url, setting="coin.eth")
        assert await client.call("x") == "fine"
        await client.aclose()

    async with raw_node(lambda stream: stream.send_all(b"HTTP/1.1 400 Bad\r\n\r\n")) as port:
        client = JsonRpcWs(f"wss://127.0.0.1:{port}", setting="coin.eth")
        with pytest.raises(TransientError, match="agreed on no TLS connection"):
            await client.call("x")


async def test_a_certificate_that_nobody_trusts(authority: trustme.CA) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, serving(authority, "127.0.0.1"), server_side=True)
        await tls.do_handshake()

    async with raw_node(serve) as port:
        client = JsonRpcWs(f"wss://127.0.0.1:{port}", setting="coin.eth")
        with pytest.raises(TransientError, match=r"agreed on no TLS connection .*certificate"):
            await client.call("x")


async def test_a_server_that_hangs_up_before_tls() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with raw_node(serve) as port:
        client = JsonRpcWs(f"wss://127.0.0.1:{port}", setting="coin.eth")
        with pytest.raises(TransientError, match="agreed on no TLS connection"):
            await client.call("x")
