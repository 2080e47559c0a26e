"""An endpoint that limits us is obeyed, and its limit learned; in virtual time."""

from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
import trio

from actors.ports import TransientError
from daemon.drivers import pacing
from daemon.drivers.jsonrpc_words import BusyError, RpcError
from daemon.drivers.paced_rpc import ATTEMPTS, PacedRpc
from daemon.drivers.pacing import Pacer, RateLimitedError, retry_after_s
from daemon.drivers.rpc_client import HttpRpc, RpcClient
from tests.helpers.fake_rpc import FakeRpc
from tests.helpers.http_node import Request, http_node
from tests.helpers.recording_log import RecordingLog

Clock = trio.testing.MockClock


def limited(code: int = -32005, message: str = "limit exceeded", data: object = None) -> RpcError:
    return RpcError(code, message, f"refused x: {message} (error {code})", data)


def busy(status: int = 429, retry_after: str | None = None) -> BusyError:
    error = BusyError(f"is too busy (HTTP {status})")
    error.status = status
    error.retry_after = retry_after
    return error


class Limiter:
    """A node that takes `per_s` calls in any second, and refuses the others with `error`."""

    def __init__(self, per_s: int, error: Callable[[], Exception] = limited) -> None:
        self._per_s = per_s
        self._error = error
        self.taken: list[float] = []
        self.refused = 0
        self.node = FakeRpc("a", answers={"x": self.answer})

    def answer(self, *_params: Any) -> Any:
        now = trio.current_time()
        if sum(at > now - 1 for at in self.taken[-self._per_s :]) >= self._per_s:
            self.refused += 1
            return self._error()
        self.taken.append(now)
        return "fine"


def paced(node: RpcClient, **options: Any) -> tuple[PacedRpc, RecordingLog]:
    log = RecordingLog()
    return PacedRpc(node, log=log, **options), log


async def test_without_a_refusal_nobody_is_held_back(autojump_clock: Clock) -> None:
    node = FakeRpc("a")
    client, log = paced(node)
    as_protocol: RpcClient = client
    assert (as_protocol.where, as_protocol.setting) == (node.where, "coin.eth")
    for _ in range(1000):
        await client.call("x")
    assert trio.current_time() == 0
    assert log.lines == []
    assert client.statistics().refusals == 0
    assert client.pacer.statistics().rate_per_s is None
    await client.aclose()
    assert node.is_closed


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [
        (busy(429, "7"), 7),
        (busy(503, "3"), 3),
        (limited(data={"rate": {"backoff_seconds": 30.5}}), 30.5),
        (limited(data={"rate": {"backoff_seconds": -1}}), 0),
        (limited(data={"rate": {"backoff_seconds": "no"}}), 1),
        (limited(data={"rate": {"backoff_seconds": True}}), 1),
        (limited(data={"rate": 5}), 1),
        (limited(data=[5]), 1),
        (busy(429), 1),
        (busy(429, "soon"), 1),
        (limited(-32029), 1),
        (limited(-32097), 1),
        (limited(429), 1),
        (limited(-32016, "over rate limit"), 1),
        (limited(-32000, "Too Many Requests"), 1),
        (limited(-32005, "daily request count exceeded, request rate limited"), 1),
    ],
)
async def test_told_or_not_it_is_obeyed(
    error: Exception, wait_s: float, autojump_clock: Clock
) -> None:
    answers = [error, "fine"]
    client, log = paced(FakeRpc("a", answers={"x": lambda: answers.pop(0)}))
    assert await client.call("x") == "fine"
    assert trio.current_time() == pytest.approx(wait_s)
    (line,) = log.lines
    assert line.level == "warning"
    assert line.event == "endpoint limits our requests; slowing down"
    assert line.fields == {"endpoint": client.where, "reason": str(error)}
    assert client.statistics().refusals == 1
    assert client.statistics().paced_s == pytest.approx(wait_s)


async def test_a_date_is_obeyed() -> None:
    assert retry_after_s(" 120 ") == 120
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT", now_s=lambda: 1445412470) == 10
    assert retry_after_s(formatdate(50, usegmt=True), now_s=lambda: 60) == 0
    for text in ("", "soon", "-1", "1.5", "٣", "Wed, 99 Oct 2015 07:28:00 GMT"):
        assert retry_after_s(text) is None, text


@pytest.mark.parametrize(
    "error",
    [
        busy(502, "3"),
        busy(503),
        busy(504),
        limited(-32000, "execution reverted"),
        limited(-32602, "invalid"),
        limited(-32005, "query returned more than 10000 results"),
        limited(-32005, "exceed maximum block range: 5000"),
    ],
)
async def test_other_errors_pass(error: Exception, autojump_clock: Clock) -> None:
    client, log = paced(FakeRpc("a", answers={"x": error}, failure=None))
    with pytest.raises(type(error)):
        await client.call("x")
    if isinstance(error, BusyError):
        client, log = paced(FakeRpc("a", failure=error))
        with pytest.raises(BusyError):
            await client.batch([("x", ())])
    assert trio.current_time() == 0
    assert log.lines == []


async def test_of_logs_the_limit_is_one_of_size() -> None:
    """BNB Smart Chain's public nodes say just this of every range that is too large."""
    client, log = paced(FakeRpc("a", answers={"eth_getLogs": limited()}))
    with pytest.raises(RpcError, match="limit exceeded"):
        await client.call("eth_getLogs", {})
    (answer,) = await client.batch([("eth_getLogs", ({},))])
    assert isinstance(answer, RpcError)
    assert log.lines == []


async def test_pauses_double_up_to_a_cap_and_attempts_end(autojump_clock: Clock) -> None:
    client, _ = paced(FakeRpc("a", failure=busy()), patience_s=1000)
    with pytest.raises(RateLimitedError, match=rf"HTTP 429\) \(asked {ATTEMPTS} times\)"):
        await client.call("x")
    assert trio.current_time() == 1 + 2 + 4 + 8 + 16
    assert client.pacer.pause_s() == 32
    with pytest.raises(RateLimitedError):
        await client.call("x")
    assert client.pacer.pause_s() == 60


async def test_nobody_waits_longer_than_its_patience(autojump_clock: Clock) -> None:
    client, _ = paced(FakeRpc("a", failure=busy(429, "3600")), patience_s=10)
    text = (
        r"\(ws://a\) limits our requests: it pauses for 3600 s and takes about 0\.5\d+ calls per"
        r" second, longer than the 10 s we wait\. Use an endpoint with a higher limit"
    )
    for _ in range(2):
        with pytest.raises(RateLimitedError, match=text):
            await client.call("x")
    assert trio.current_time() == 0
    assert client.pacer.statistics().paused_for_s == 3600


async def test_an_absurd_pause_is_capped(autojump_clock: Clock) -> None:
    client, _ = paced(FakeRpc("a", failure=busy(429, "9" * 30)))
    with pytest.raises(RateLimitedError):
        await client.call("x")
    assert client.pacer.pause_s() == pacing.LONGEST_TOLD_S


async def test_the_limit_is_learned(autojump_clock: Clock) -> None:
    limiter = Limiter(10)
    client, log = paced(limiter.node, patience_s=1000)

    async def ask() -> None:
        while True:
            await client.call("x")

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask)
        await trio.sleep(100)
        first = limiter.refused
        await trio.sleep(300)
        nursery.cancel_scope.cancel()
    assert limiter.refused - first < 40
    assert len(limiter.taken) > 400 * 10 * 0.5, "at least half of what it gives is used"
    assert 1 <= len(log.of("limits our requests")) < 20


async def test_refusals_of_what_was_sent_together_count_once(autojump_clock: Clock) -> None:
    pacer = Pacer("a", log=RecordingLog())
    tickets = [await pacer.turn(patience_s=1) for _ in range(20)]
    for ticket in tickets:
        pacer.refused(ticket, told_s=None, why="no")
    assert pacer.pause_s() == 1
    assert pacer.statistics().rate_per_s == pytest.approx(20 / 2, rel=0.1)
    assert pacer.statistics().refusals == 20


async def test_an_episode_is_logged_once_and_its_end(autojump_clock: Clock) -> None:
    log = RecordingLog()
    pacer = Pacer("a", log=log)
    for _ in range(3):
        ticket = await pacer.turn(patience_s=100)
        pacer.refused(ticket, told_s=5, why="no")
    for _ in range(100):
        pacer.accepted(await pacer.turn(patience_s=100))
        await trio.sleep(1)
    assert [line.event for line in log.lines] == [
        "endpoint limits our requests; slowing down",
        "endpoint takes all our requests again",
    ]
    assert log.lines[1].fields == {"endpoint": "a", "refusals": 3, "seconds": 10}


async def test_a_learned_rate_is_forgotten(autojump_clock: Clock) -> None:
    pacer = Pacer("a", log=RecordingLog())
    pacer.refused(await pacer.turn(patience_s=1), told_s=None, why="no")
    assert pacer.statistics().rate_per_s == pytest.approx(pacing.MIN_RATE, rel=0.1)
    await trio.sleep(pacing.FORGET_S + 1)
    await pacer.turn(patience_s=1)
    assert pacer.statistics().rate_per_s is None


async def test_so_many_may_wait(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "WAITING_LIMIT", 2)
    pacer = Pacer("a", log=RecordingLog())
    pacer.refused(await pacer.turn(patience_s=1), told_s=9, why="no")
    order: list[int] = []

    async def wait(number: int) -> None:
        await pacer.turn(patience_s=100)
        order.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert pacer.statistics().waiting == 2
        with pytest.raises(
            TransientError, match="a limits our requests, and 2 wait for their turn"
        ):
            await pacer.turn(patience_s=100)
    assert order == [1, 2]
    assert pacer.statistics().waiting == 0


async def test_one_who_waits_behind_others_loses_patience(autojump_clock: Clock) -> None:
    pacer = Pacer("a", log=RecordingLog())
    pacer.refused(await pacer.turn(patience_s=1), told_s=9, why="no")

    async def wait() -> None:
        await pacer.turn(patience_s=100)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RateLimitedError):
            await pacer.turn(patience_s=5)
        assert trio.current_time() == 5


async def test_a_pause_that_grows_while_one_waits(autojump_clock: Clock) -> None:
    pacer = Pacer("a", log=RecordingLog())
    ticket = await pacer.turn(patience_s=1)
    pacer.refused(ticket, told_s=3, why="no")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def extend() -> None:
            await trio.sleep(2)
            pacer.refused(ticket, told_s=8, why="no")

        await pacer.turn(patience_s=100)
    assert trio.current_time() == 10


# --- batches and subscriptions --------------------------------------------------------------------


async def test_only_what_was_refused_of_a_batch_is_repeated(autojump_clock: Clock) -> None:
    limiter = Limiter(4)
    limiter.node.answers["bad"] = RpcError(-32000, "no", "no")
    client, _ = paced(limiter.node)
    results = await client.batch([*[("x", ())] * 6, ("bad", ())])
    assert results[:6] == ["fine"] * 6
    assert isinstance(results[6], RpcError)
    assert limiter.node.calls.count("x") <= 6 + limiter.refused
    assert limiter.node.calls.count("bad") == 1
    assert await client.batch([]) == []


async def test_a_batch_that_is_too_much_at_once_is_split(autojump_clock: Clock) -> None:
    node = FakeRpc("a")
    inner = node.batch
    sizes: list[int] = []

    async def batch(calls: Any, *, timeout_s: float | None = None) -> list[Any]:
        sizes.append(len(calls))
        if len(calls) > 10:
            raise busy()
        return await inner(calls)

    node.batch = batch  # type: ignore[method-assign]
    client, _ = paced(node, patience_s=1000)
    assert await client.batch([("x", ())] * 64) == ["a"] * 64
    assert sizes[:4] == [64, 32, 16, 8]


async def test_a_batch_that_is_always_refused(autojump_clock: Clock) -> None:
    node = FakeRpc("a", answers={"x": limited()})
    client, _ = paced(node, patience_s=1000)
    with pytest.raises(RateLimitedError, match=f"asked {ATTEMPTS} times"):
        await client.batch([("x", ())] * 3)


async def test_a_subscription_waits_its_turn(autojump_clock: Clock) -> None:
    node = FakeRpc("a", failure=busy(429, "5"))
    client, _ = paced(node)
    assert client.can_subscribe
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def recover() -> None:
            await trio.sleep(2)
            node.failure = None

        async with client.subscribe("logs") as logs:
            assert trio.current_time() == 5
            node.subscriptions[0].put(1)
            assert await anext(logs) == 1
    assert node.subscriptions == []


async def test_over_http(autojump_clock: Clock) -> None:
    refusals = [
        b"HTTP/1.1 429 Slow down\r\nRetry-After: 4\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nRetry-After: 6\r\nContent-Length: 0\r\n\r\n",
    ]

    async def behave(request: Request) -> None:
        if refusals:
            await request.stream.send_all(refusals.pop(0))
        else:
            await request.results(["fine"])

    async with http_node(behave) as node:
        client, log = paced(HttpRpc(node.url, setting="coin.eth"))
        began = trio.current_time()
        assert await client.call("x") == "fine"
        assert trio.current_time() - began == pytest.approx(10, abs=1)
        await client.aclose()
    assert len(log.lines) == 1
