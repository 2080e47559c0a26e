"""What fuzzing has found, by name: each was mended, and stays."""

from collections import Counter
from functools import partial

import pytest
import trio
import trio.testing

from api.rest.serving import HttpServer
from tests.fuzz import replay
from tests.fuzz.conversation import Conversation
from tests.fuzz.engine import until
from tests.fuzz.replay import Replay, wired
from tests.fuzz.targets.nodes import URL, bitcoin_answers, bitcoin_source, held
from tests.fuzz.targets.rest import app_of, exchange, request, serving
from tests.fuzz.targets.streams import ton_news, ton_peer, ton_source
from tests.fuzz.targets.wires import corpus, watching
from tests.helpers.house import open_house


async def test_a_peer_that_asks_for_http_2_and_goes_leaves_no_connection() -> None:
    """Its answer waited a minute for room, and the connection another one for a next request."""
    async with open_house() as house, trio.open_nursery() as nursery:
        server, shutdown = HttpServer(app_of(house)), trio.Event()
        bound = await nursery.start(partial(server.serve, "127.0.0.1", 0, shutdown=shutdown))
        for method in ("GET", "GETTTT"):
            stream = await trio.open_tcp_stream(*bound[0])
            head = f"{method} /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade"
            await stream.send_all(f"{head}\r\n\r\n".encode())
            await stream.send_eof()
            while await stream.receive_some(65536):
                pass
            await until(lambda: not server.statistics().open)
            await stream.aclose()
        shutdown.set()


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/apis/pg/nothing"])
async def test_who_asks_for_a_websocket_is_refused_as_everybody_is(path: str) -> None:
    """The refusal itself crashed."""
    async with serving() as check, open_house() as house, trio.open_nursery() as nursery:
        fields = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        asked = request("GET", path, list(fields.items()), None)
        await check(asked)
        server, shutdown = HttpServer(app_of(house)), trio.Event()
        bound = await nursery.start(partial(server.serve, "127.0.0.1", 0, shutdown=shutdown))
        stream = await trio.open_tcp_stream(*bound[0])
        await stream.send_all(asked)
        assert (await stream.receive_some(4096))[9:12] in (b"400", b"404")
        await stream.aclose()
        shutdown.set()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("?pay", 404),
        ("pay/7", 404),
        ("http://[x", 404),
        ("http://localhost/healthz", 200),
        ("*", 404),
    ],
)
async def test_a_target_that_is_no_path_is_no_fault_of_ours(target: str, status: int) -> None:
    """It was answered with 500 and a traceback in the log."""
    async with open_house() as house, trio.open_nursery() as nursery:
        server, shutdown = HttpServer(app_of(house)), trio.Event()
        bound = await nursery.start(partial(server.serve, "127.0.0.1", 0, shutdown=shutdown))
        received = await exchange(bound[0][1], request("GET", target, [], None))
        assert received[9:12] == str(status).encode()
        shutdown.set()


def test_a_node_that_answers_the_long_poll_at_once_is_not_asked_without_a_pause(
    monkeypatch,
) -> None:
    """What stands between may ignore how long it is to wait."""
    monkeypatch.setattr(replay, "LONG_POLL_S", 0.0)
    monkeypatch.setattr(replay, "ANSWER_S", 0.0)
    asked: Counter[str] = Counter()

    class Counting(Replay):
        def rpc(self, call):
            asked[call["method"]] += 1
            return super().rpc(call)

    async def listen() -> float:
        recorded = corpus("bitcoin")
        async with wired(Counting(bitcoin_answers()).serve):
            source = bitcoin_source(URL)
            watched = tuple(bytes.fromhex(one) for one in recorded["watched"])
            await Conversation(source, watching(watched)).hold(range(*recorded["heights"]))
            await source.aclose()
        return trio.current_time()

    clock = trio.testing.MockClock(autojump_threshold=0)
    began = clock.current_time()
    took_s = trio.run(listen, clock=clock) - began
    assert 3 < asked["waitfornewblock"] <= 11 * took_s


def test_a_transaction_on_tons_stream_that_is_no_object_breaks_the_stream_and_nothing_else() -> (
    None
):
    """The whole driver fell over it."""
    news = [*ton_news()]
    news[1] = {**news[1], "transactions": [7, *news[1]["transactions"]]}
    peer, socket = ton_peer({"damages": [], "news": news, "spoilt": {}})
    clock = trio.testing.MockClock(autojump_threshold=0)
    talk = trio.run(held, ton_source, peer, corpus("ton"), clock=clock)
    assert not talk.errors
    assert talk.outputs
    assert socket._frames > len(news), "it connected again"
