"""Several nodes of one chain as one: who is asked, who is left, and who gets to know."""

import pytest
import trio

from actors.ports import PersistentError, TransientError
from daemon.drivers.endpoint import Cause, DistrustError
from daemon.drivers.endpoints import EndpointHealth, EndpointPool, PoolPolicy, open_endpoints
from daemon.drivers.jsonrpc_login import Login
from daemon.drivers.jsonrpc_words import AnswerTooLargeError, RpcError
from daemon.drivers.pacing import RateLimitedError
from daemon.drivers.rpc_client import CannotSubscribeError, RpcClient
from tests.helpers.fake_rpc import FakeRpc
from tests.helpers.http_node import rpc_node
from tests.helpers.recording_log import RecordingLog
from tests.helpers.ws_node import rpc_ws_node

Clock = trio.testing.MockClock


class Pool:
    """A pool of fakes named a, b, c, ... with its log."""

    def __init__(self, *nodes: FakeRpc, **policy: float) -> None:
        self.nodes = nodes
        self.log = RecordingLog()
        self.pool = EndpointPool(nodes, chain_id=1, log=self.log, policy=PoolPolicy(**policy))

    @property
    def states(self) -> list[str]:
        return [each.state for each in self.pool.health()]

    def health(self, place: int) -> EndpointHealth:
        return self.pool.health()[place]

    async def asked(self) -> str:
        """The name of the node that answers now."""
        return str(await self.pool.call("web3_clientVersion"))

    async def fails(self, times: int = 1, text: str | None = None) -> None:
        for _ in range(times):
            with pytest.raises(TransientError, match=text):
                await self.pool.call("x")
            await trio.sleep(1)


def down(node: FakeRpc, what: str = "cannot be reached: Connection refused") -> TransientError:
    return TransientError(f"{node.where} {what}")


def two(**policy: float) -> tuple[FakeRpc, FakeRpc, Pool]:
    a, b = FakeRpc("a"), FakeRpc("b")
    return a, b, Pool(a, b, **policy)


# --- choosing -------------------------------------------------------------------------------------


async def test_the_first_healthy_endpoint_is_asked() -> None:
    a, b, pool = two()
    as_protocol: RpcClient = pool.pool
    assert pool.states == ["active", "untried"]
    assert as_protocol.setting == "coin.eth"
    assert as_protocol.where == a.where
    assert await pool.asked() == "a"
    assert await pool.pool.batch([("x", ()), ("y", ())]) == ["a", "a"]
    assert pool.pool.statistics().calls == 5
    assert b.calls == []
    await pool.pool.aclose()
    assert a.is_closed
    assert b.is_closed


async def test_one_that_never_answered_is_passed_over_at_once() -> None:
    a, _, pool = two()
    a.failure = down(a)
    assert await pool.asked() == "b"
    assert pool.states == ["left", "active"]
    assert pool.health(0).reason == "it cannot be reached: Connection refused"
    (line,) = pool.log.of("left endpoint")
    assert line.level == "warning"
    assert line.fields == {
        "endpoint": a.where,
        "because": "it cannot be reached: Connection refused",
        "for_s": 30,
    }
    assert pool.log.of("using another endpoint")[0].fields == {"endpoint": pool.nodes[1].where}


async def test_a_proven_one_is_left_after_failing_in_a_row(autojump_clock: Clock) -> None:
    a, _, pool = two()
    assert await pool.asked() == "a"
    for _ in range(2):
        a.failure = down(a)
        await pool.fails(2)
        a.failure = None
        assert await pool.asked() == "a", "two failures are not three"
    a.failure = down(a)
    await pool.fails(3, "Connection refused")
    assert await pool.asked() == "b"


async def test_what_fails_together_is_one_failure(autojump_clock: Clock) -> None:
    a, _, pool = two()
    assert await pool.asked() == "a"
    a.failure = down(a, "closed the connection")
    for _ in range(5):
        with pytest.raises(TransientError, match="closed the connection"):
            await pool.pool.call("x")
    a.failure = None
    assert await pool.asked() == "a"


async def test_a_refused_call_or_too_much_asked_for_is_no_failure(autojump_clock: Clock) -> None:
    a, _, pool = two()
    await pool.asked()
    for error in (RpcError(-32000, "no", "no"), AnswerTooLargeError("too much")):
        a.failure = error
        await pool.fails(5)
    a.failure = None
    assert await pool.asked() == "a"
    assert pool.log.lines == []


@pytest.mark.parametrize(
    "error", [PersistentError("refuses us (HTTP 401)"), RateLimitedError("limits our requests")]
)
async def test_left_at_once(error: Exception) -> None:
    a, _, pool = two()
    await pool.asked()
    a.failure = error
    with pytest.raises(type(error)):
        await pool.pool.call("x")
    assert await pool.asked() == "b"
    assert pool.health(0).reason == str(error)


async def test_another_chain_is_never_asked(autojump_clock: Clock) -> None:
    a, b, pool = two()
    a.chain_id = 56
    assert await pool.asked() == "b"
    assert pool.health(0).reason == "its chain id is 56, not 1"
    b.failure = down(b)
    await pool.fails(3, "Connection refused")
    await pool.fails(3, r"no endpoint in coin\.eth.*\(ws://a\): its chain id.*Connection refused")
    assert set(a.calls) <= {"eth_chainId", "eth_blockNumber"}


async def test_all_on_another_chain_needs_a_person() -> None:
    a, b, pool = two()
    a.chain_id = b.chain_id = 56
    for _ in range(2):
        text = (
            r"no endpoint in coin\.eth\.daemon\.url can be used: coin.*\(ws://a\): its chain id is"
            r" 56, not 1; .*\(ws://b\): its chain id is 56, not 1\. Put URLs of nodes of chain 1"
        )
        with pytest.raises(PersistentError, match=text):
            await pool.pool.call("x")


@pytest.mark.parametrize("answer", [None, 1, "1", "0x", "0xzz", "0x" + "1" * 99, [], {}])
async def test_numbers_that_are_none(answer: object) -> None:
    node = FakeRpc("a", answers={"eth_chainId": answer})
    with pytest.raises(TransientError, match=r"\(ws://a\) answered garbage: no number"):
        await Pool(node).pool.call("x")


async def test_a_node_that_refuses_to_tell_its_chain() -> None:
    node = FakeRpc("a", answers={"eth_chainId": RpcError(-32000, "no", "refused eth_chainId")})
    with pytest.raises(RpcError, match="refused eth_chainId"):
        await Pool(node).pool.call("x")


async def test_with_everything_down_each_is_tried_again(autojump_clock: Clock) -> None:
    """An outage of our own network must not make us wait for half an hour after it."""
    a, b, pool = two()
    await pool.asked()
    a.failure, b.failure = down(a), down(b)
    await pool.fails(20)
    a.failure = b.failure = None
    assert await pool.asked() == "a"
    a.failure, b.failure = down(a), down(b)
    await pool.fails(20)
    b.failure = None
    assert await pool.asked() == "b"


async def test_a_lagging_one_is_better_than_none(autojump_clock: Clock) -> None:
    a, b, pool = two(lag_s=0.0)
    a.head = 1
    await pool.pool.check()
    assert await pool.asked() == "b"
    b.failure = down(b)
    await pool.fails(3)
    assert await pool.asked() == "a"


# --- one endpoint only ----------------------------------------------------------------------------


async def test_a_single_endpoint_is_never_left(autojump_clock: Clock) -> None:
    a = FakeRpc("a", failure=TransientError("down"))
    pool = Pool(a)
    await pool.fails(10, "down")
    assert pool.states == ["active"]
    assert pool.health(0).reason == "down"
    a.failure = None
    assert await pool.asked() == "a"
    assert pool.health(0).reason is None
    assert pool.log.lines == []


async def test_a_single_endpoint_of_another_chain() -> None:
    text = r"\(ws://a\) is a node of another chain: its chain id is 56, not 1\. Correct the URL in"
    with pytest.raises(PersistentError, match=text):
        await Pool(FakeRpc("a", chain_id=56)).pool.call("x")


async def test_watching_a_single_endpoint_asks_nothing(autojump_clock: Clock) -> None:
    a = FakeRpc("a")
    with trio.move_on_after(1000) as watched:
        await Pool(a).pool.watch()
    assert watched.cancelled_caught
    assert a.calls == []


# --- comparing ------------------------------------------------------------------------------------


async def test_one_that_lags_is_left_after_a_while(autojump_clock: Clock) -> None:
    _, b, pool = two(lag_blocks=5, lag_s=30, check_every_s=10)
    await pool.asked()
    b.head += 5
    began = trio.current_time()
    text = r"left .*\(ws://a\) because it is 5 blocks behind another endpoint"
    with pytest.raises(TransientError, match=text):
        await pool.pool.watch()
    assert trio.current_time() - began == 30
    assert await pool.asked() == "b"
    assert pool.health(0).head == 100


async def test_a_short_lag_is_forgiven(autojump_clock: Clock) -> None:
    a, b, pool = two(lag_s=30)
    for _ in range(5):
        b.head += 4
        await pool.pool.check()
        await trio.sleep(20)
        b.head += 1
        await pool.pool.check()
        await trio.sleep(20)
        a.head = b.head
        await pool.pool.check()
    assert pool.states == ["active", "standby"]


async def test_the_one_on_a_fork_is_left() -> None:
    a, b, c = FakeRpc("a", branch="fork"), FakeRpc("b"), FakeRpc("c")
    pool = Pool(a, b, c, fork_depth=20)
    await pool.asked()
    text = (
        r"left .*\(ws://a\) because it is on a fork: its block 80 is 0xfork0x50, others say"
        r" 0xmain0x50"
    )
    with pytest.raises(TransientError, match=text):
        await pool.pool.watch()
    assert await pool.asked() == "b"
    assert pool.states == ["left", "active", "standby"]


async def test_of_two_branches_the_longer_is_believed_then_the_active() -> None:
    for head, expected in ((101, "b"), (100, "a"), (99, "a")):
        a, b, pool = two()
        a.branch, b.head = "fork", head
        await pool.asked()
        await pool.pool.check()
        assert await pool.asked() == expected


async def test_forks_near_the_head_are_ordinary() -> None:
    a, b, pool = two(fork_depth=20)
    a.head = b.head = 19
    a.branch = "fork"
    await pool.pool.check()
    assert pool.states == ["active", "standby"]


@pytest.mark.parametrize("answer", [None, {}, {"hash": 1}, "garbage", TransientError("down")])
async def test_one_that_does_not_have_the_block_has_no_vote(answer: object) -> None:
    a, _, pool = two()
    a.answers["eth_getBlockByNumber"] = lambda *_: answer
    await pool.pool.check()
    assert pool.states == ["active", "standby"]


async def test_a_standby_that_fails_is_left_without_a_switch(autojump_clock: Clock) -> None:
    _, b, pool = two(check_every_s=10)
    await pool.asked()
    b.failure = down(b)
    with trio.move_on_after(25):
        await pool.pool.watch()
    assert pool.states == ["active", "left"]
    assert pool.pool.switches == 0


async def test_one_that_is_left_while_it_is_looked_at_stays_left(autojump_clock: Clock) -> None:
    """Welcomed at once, a node that lies about one thing would never be left for another."""
    a, _, pool = two(first_absence_s=30, check_every_s=10)
    assert await pool.asked() == "a"

    async def leave() -> None:
        await trio.lowlevel.checkpoint()
        a.before = None
        pool.pool.distrust(DistrustError("it lies"))

    a.before = leave
    await pool.pool.check()
    assert pool.states[0] == "left"
    assert await pool.asked() == "b"


async def test_the_preferred_one_is_returned_to(autojump_clock: Clock) -> None:
    a, _, pool = two(first_absence_s=30, check_every_s=10)
    a.failure = down(a)
    assert await pool.asked() == "b"
    began = trio.current_time()
    a.failure = None
    with pytest.raises(TransientError, match=r"returned to .*\(ws://a\), which is preferred"):
        await pool.pool.watch()
    assert trio.current_time() - began == 30
    assert await pool.asked() == "a"
    assert pool.states == ["active", "standby"]
    assert pool.log.of("endpoint is well again")
    assert pool.log.of("using preferred endpoint again")


async def test_absences_get_longer_until_trust_is_earned(autojump_clock: Clock) -> None:
    a, _, pool = two(first_absence_s=30, longest_absence_s=100, trust_s=1000)
    absences = []
    for _ in range(4):
        a.failure = down(a)
        await pool.asked() if pool.states[0] != "active" else await pool.pool.check()
        while pool.states[0] != "left":
            await trio.sleep(1)
            await pool.pool.check()
        absences.append(round(pool.health(0).back_in_s or 0))
        a.failure = None
        await trio.sleep(absences[-1])
        await pool.pool.check()
        assert pool.states[0] == "active"
    assert absences == [30, 60, 100, 100]
    await trio.sleep(1001)
    a.failure = down(a)
    await pool.fails(3)
    assert round(pool.health(0).back_in_s or 0) == 29, "a second of which has passed"


async def test_one_that_is_still_bad_stays_left_longer(autojump_clock: Clock) -> None:
    a, _, pool = two(lag_s=0.0)
    a.head = 1
    await pool.pool.check()
    assert pool.states[0] == "left"
    await trio.sleep(30)
    await pool.pool.check()
    assert pool.states == ["left", "standby"], "nobody has asked for another yet"
    assert pool.health(0).back_in_s == 60
    assert pool.log.of("endpoint stays left")


# --- who follows learns of it ---------------------------------------------------------------------


async def test_subscriptions_end_with_a_switch(autojump_clock: Clock) -> None:
    a, b, pool = two(check_every_s=10)
    async with pool.pool.subscribe("newHeads") as heads, pool.pool.subscribe("logs") as logs:
        a.subscriptions[0].put(1)
        assert await anext(heads) == 1
        b.head += 10

        async def read() -> None:
            with pytest.raises(TransientError, match=r"left .*\(ws://a\) because it is 10 blocks"):
                await anext(heads)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with pytest.raises(TransientError, match="because it is 10 blocks behind"):
                await pool.pool.watch()
        a.subscriptions[1].put("too late")
        for _ in range(2):
            with pytest.raises(TransientError, match="because it is 10 blocks behind"):
                await anext(logs)
    assert pool.pool.switches == 1
    async with pool.pool.subscribe("newHeads") as heads:
        b.subscriptions[0].put(2)
        async for head in heads:
            assert head == 2
            break


async def test_watching_ends_when_a_call_makes_the_switch(autojump_clock: Clock) -> None:
    a, _, pool = two(check_every_s=1000)
    await pool.asked()

    async def watch() -> None:
        with pytest.raises(TransientError, match=r"left .* because it cannot be reached"):
            await pool.pool.watch()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.sleep(1)
        a.failure = down(a)
        await pool.fails(3)
    assert trio.current_time() < 100


async def test_a_failing_subscription_counts(autojump_clock: Clock) -> None:
    a, _, pool = two(failures=2)
    for _ in range(2):
        async with pool.pool.subscribe("logs") as logs:
            a.subscriptions[0].fail(lambda: TransientError("closed the connection"))
            with pytest.raises(TransientError, match="closed the connection"):
                await anext(logs)
        # Entering worked, so it is not in a row; the next call does not work either.
    a.failure = down(a)
    await pool.fails(2)
    assert await pool.asked() == "b"


async def test_an_endpoint_that_cannot_push_is_not_at_fault() -> None:
    a, _, pool = two()
    a.can_subscribe = False
    for _ in range(5):
        assert not pool.pool.can_subscribe
        with pytest.raises(CannotSubscribeError):
            async with pool.pool.subscribe("logs"):
                pass
    assert pool.states == ["active", "untried"]


async def test_what_a_left_endpoint_still_says_is_nothing_new(autojump_clock: Clock) -> None:
    a, _, pool = two()
    await pool.asked()
    release = trio.Event()
    a.before = release.wait

    async def call() -> None:
        with pytest.raises(TransientError):
            await pool.pool.call("slow")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        pool.pool._leave(pool.pool._active, Cause.FAILED, "test")
        before = pool.health(0).back_in_s
        a.failure = down(a)
        release.set()
    assert pool.health(0).back_in_s == before


async def test_callers_at_the_same_time_admit_once() -> None:
    a, _, pool = two()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pool.asked)
    assert a.calls.count("eth_chainId") == 1


# --- over the network -----------------------------------------------------------------------------


async def test_from_websocket_to_http_and_back() -> None:
    methods = {"eth_chainId": "0x1", "eth_blockNumber": "0x10", "x": "here"}
    log = RecordingLog()
    async with rpc_ws_node(methods) as ws, rpc_node(methods) as http:
        urls = [f"{ws.url}/secret-key-0001", f"{http.url}/secret-key-0002"]
        login = Login("me", "pa55word")
        pool = open_endpoints(urls, setting="coin.eth", chain_id=1, log=log, login=login)
        assert pool.can_subscribe
        assert await pool.call("x") == "here"
        await pool.check()
        assert [each.state for each in pool.health()] == ["active", "standby"]
        async with pool.subscribe("newHeads") as heads:
            await ws.push("newHeads", 1)
            assert await anext(heads) == 1
            ws.refuse = 401
            await ws.peers[0].cut()
            with pytest.raises(TransientError, match="closed the connection"):
                await anext(heads)
        with pytest.raises(PersistentError, match="refuses us"):
            await pool.call("x")
        assert await pool.call("x") == "here"
        assert not pool.can_subscribe
        with pytest.raises(
            CannotSubscribeError, match=r"over HTTP, which cannot push logs\. Set a"
        ):
            async with pool.subscribe("logs"):
                pass
        assert ws.peers[0].headers["authorization"].startswith("Basic ")
        assert "authorization" not in http.requests[0].headers, "a stranger gets no password"
        await pool.aclose()
    assert pool.statistics().connections == 0
    for said in [*map(str, log.lines), *map(str, pool.health())]:
        assert "secret" not in said
        assert "pa55word" not in said


def test_a_url_that_is_none() -> None:
    with pytest.raises(ValueError, match="a node's URL looks like"):
        open_endpoints(["ftp://x"], setting="coin.eth", chain_id=1, log=RecordingLog())
