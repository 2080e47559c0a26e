"""An EVM node's news under a mock clock: what is pushed, what is asked for, what falls silent."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from actors.core.assets import Chain
from actors.core.watch_index import WatchIndex
from actors.ports import (
    Heartbeat,
    MempoolStale,
    Signal,
    TipMoved,
    TransientError,
    TxArrived,
    TxLeft,
)
from daemon.drivers import evm_feed
from daemon.drivers.endpoints import EndpointPool
from daemon.drivers.evm import EvmSource
from daemon.drivers.evm_internal import Way
from daemon.drivers.rpc_client import Lost
from tests.helpers.evm_data import (
    ASSETS,
    CONTRACT,
    OURS,
    FakeEvm,
    digest,
    hexed,
    index_of,
    transaction,
    transfer_call,
)
from tests.helpers.recording_log import RecordingLog

Clock = trio.testing.MockClock
BSC = Chain("eth", "A quick chain", "evm", "ETH", 0.45, 12)
SILENCE_S = 15
PAID = transaction("paid", to=OURS, value=5)


def source_of(node: FakeEvm, *, chain: Chain = BSC, **wishes: Any) -> EvmSource:
    wishes = {"log": RecordingLog(), "chain_id": 1, "internal_way": Way.NONE, **wishes}
    return EvmSource(node, chain=chain, assets=[], **wishes)


async def take(news: AsyncIterator[Signal], *, for_s: float) -> list[Signal]:
    """What is told within that time; heartbeats are left out."""
    found: list[Signal] = []
    with trio.move_on_after(for_s):
        while True:
            signal = await anext(news)
            if not isinstance(signal, Heartbeat):
                found.append(signal)
    return found


def arrived(signals: list[Signal]) -> list[bytes]:
    return [signal.tx.txid for signal in signals if isinstance(signal, TxArrived)]


@pytest.fixture(params=[True, False])
def node(request: pytest.FixtureRequest) -> FakeEvm:
    """A node that pushes, and one that does not."""
    return FakeEvm(can_subscribe=request.param)


@pytest.fixture
def pushing() -> FakeEvm:
    return FakeEvm(can_subscribe=True)


# --- blocks ---


async def test_a_pushed_head_is_told_once(pushing: FakeEvm, autojump_clock: Clock) -> None:
    async with source_of(pushing).signals(index_of(OURS)) as news:
        pushing.push("newHeads", pushing.mine())
        assert await take(news, for_s=5) == [TipMoved()]


async def test_a_block_that_is_not_pushed_is_found(node: FakeEvm, autojump_clock: Clock) -> None:
    async with source_of(node).signals(index_of(OURS)) as news:
        node.mine()
        assert await take(news, for_s=1.1) == [TipMoved()]


async def test_heights_may_go_backwards(node: FakeEvm, autojump_clock: Clock) -> None:
    async with source_of(node).signals(index_of(OURS)) as news:
        node.mine()
        await take(news, for_s=2)
        del node.blocks[2:]
        assert await take(news, for_s=2) == [TipMoved()]
        if node.can_subscribe:
            node.push("newHeads", node.blocks[1][0])
            node.push("newHeads", node.mine(branch="b"))
            # Twice where the node was being asked for its tip meanwhile.
            assert set(await take(news, for_s=2)) == {TipMoved()}


async def test_heads_that_were_lost_or_make_no_sense(
    pushing: FakeEvm, autojump_clock: Clock
) -> None:
    async with source_of(pushing).signals(index_of(OURS)) as news:
        pushing.push("newHeads", Lost(3))
        assert await take(news, for_s=2) == [TipMoved()]
        pushing.push("newHeads", {"number": "0x5"})
        with pytest.raises(TransientError, match="garbage"):
            await take(news, for_s=2)


async def test_a_connection_that_ends_is_told(pushing: FakeEvm, autojump_clock: Clock) -> None:
    for kind in ("newHeads", "newPendingTransactions"):
        async with source_of(pushing).signals(index_of(OURS)) as news:
            pushing.push(kind, TransientError("closed"))
            with pytest.raises(TransientError, match="closed"):
                await take(news, for_s=2)


async def test_a_node_that_does_not_answer_is_told(node: FakeEvm, autojump_clock: Clock) -> None:
    async with source_of(node).signals(index_of(OURS)) as news:
        await take(news, for_s=0.5)
        node.failures = [TransientError("timed out")]
        with pytest.raises(TransientError, match="timed out"):
            await take(news, for_s=3)
    node.failures = [TransientError("timed out")]
    with pytest.raises(TransientError, match="timed out"):
        async with source_of(node).signals(index_of(OURS)):
            pass


@pytest.mark.parametrize(("block_time_s", "limit_s"), [(0.45, 15), (12, 120)])
async def test_a_node_that_pushes_no_heads_is_left(
    pushing: FakeEvm, autojump_clock: Clock, block_time_s: float, limit_s: float
) -> None:
    chain = Chain("eth", "A chain", "evm", "ETH", block_time_s, 12)
    async with source_of(pushing, chain=chain).signals(index_of(OURS)) as news:
        pushing.mine()
        assert await take(news, for_s=limit_s - 1) == [TipMoved()]
        with pytest.raises(TransientError, match="has pushed no new block for"):
            await take(news, for_s=4)


async def test_a_chain_that_stands_still_is_left_once(
    pushing: FakeEvm, autojump_clock: Clock
) -> None:
    """A private chain makes no blocks for nothing."""
    source = source_of(pushing)
    async with source.signals(index_of(OURS)) as news:
        with pytest.raises(TransientError, match="has pushed no new block for"):
            await take(news, for_s=2 * SILENCE_S)
    async with source.signals(index_of(OURS)) as news:
        assert await take(news, for_s=9 * SILENCE_S) == []
        pushing.push("newHeads", pushing.mine())
        await take(news, for_s=1)
        with pytest.raises(TransientError, match="has pushed no new block for"):
            await take(news, for_s=2 * SILENCE_S)


async def test_without_push_a_chain_may_stand_still(autojump_clock: Clock) -> None:
    async with source_of(FakeEvm()).signals(index_of(OURS)) as news:
        assert await take(news, for_s=9 * SILENCE_S) == []


async def test_another_endpoint_is_taken_with_all_that_follows(autojump_clock: Clock) -> None:
    """What was learned of one node does not hold for the next: the news end, and begin anew."""
    first, second = (FakeEvm(can_subscribe=push, where=f"coin.eth.daemon.url ({push})")
                     for push in (True, False))  # fmt: skip
    for node in (first, second):
        node.methods["eth_blockNumber"] = lambda node=node: hex(len(node.blocks) - 1)
    source = source_of(EndpointPool([first, second], chain_id=1, log=RecordingLog()))  # type: ignore[arg-type]
    assert (await source.status()).push.startswith("websocket")
    async with source.signals(index_of(OURS)) as news:
        first.failures = [TransientError(f"{first.where} is gone")] * 50
        with pytest.raises(TransientError):
            await take(news, for_s=60)
    with trio.fail_after(60):
        while True:
            try:
                status = await source.status()
            except TransientError:
                await trio.sleep(1)
            else:
                break
    assert status.push.startswith("poll")
    async with source.signals(index_of(OURS)) as news:
        second.mine()
        assert await take(news, for_s=2) == [TipMoved()]


# --- heartbeats ---


@pytest.mark.parametrize("block_time_s", [0.45, 12])
async def test_heartbeats_come_each_second_and_claim_what_was_asked(
    node: FakeEvm, autojump_clock: Clock, block_time_s: float
) -> None:
    chain = Chain("eth", "A chain", "evm", "ETH", block_time_s, 12)
    async with source_of(node, chain=chain).signals(index_of(OURS)) as news:
        last = trio.current_time()
        for _ in range(10):
            signal = await anext(news)
            assert isinstance(signal, Heartbeat)
            now = trio.current_time()
            assert now - last <= 1
            assert now - 1 <= signal.received_at <= now
            last = now


# --- the mempool ---


async def test_pending_transactions_come_whole(pushing: FakeEvm, autojump_clock: Clock) -> None:
    source = source_of(pushing)
    async with source.signals(index_of(OURS)) as news:
        pushing.push("newPendingTransactions", transaction("other"))
        pushing.push("newPendingTransactions", PAID)
        assert arrived(await take(news, for_s=0.5)) == [digest("paid")]
        pushing.push("newPendingTransactions", {**PAID, "value": None})
        with pytest.raises(TransientError, match="garbage"):
            await take(news, for_s=0.5)


async def test_pending_transactions_come_as_hashes(
    pushing: FakeEvm, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evm_feed, "FETCH_AT_ONCE", 10)
    pushing.knows_bodies = False
    source = source_of(pushing)
    assert "newPendingTransactions (hashes)" in (await source.status()).push
    pushing.pend(PAID)
    async with source.signals(index_of(OURS)) as news:
        for number in range(25):
            pushing.push("newPendingTransactions", hexed(digest(f"unknown {number}")))
        pushing.push("newPendingTransactions", PAID["hash"])
        assert arrived(await take(news, for_s=2)) == [digest("paid")]
        pushing.push("newPendingTransactions", "0x12")
        with pytest.raises(TransientError, match="garbage"):
            await take(news, for_s=0.5)


async def test_more_hashes_than_can_be_fetched(
    pushing: FakeEvm, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evm_feed, "HASHES_LIMIT", 10)
    pushing.knows_bodies = False
    async with source_of(pushing).signals(index_of(OURS)) as news:
        for number in range(30):
            pushing.push("newPendingTransactions", hexed(digest(f"unknown {number}")))
        found = await take(news, for_s=2)
        assert [type(signal) for signal in found] == [MempoolStale]
        pushing.pend(PAID)
        pushing.push("newPendingTransactions", PAID["hash"])
        assert arrived(await take(news, for_s=2)) == [digest("paid")]


async def test_hashes_are_worth_no_call_without_addresses(
    pushing: FakeEvm, autojump_clock: Clock
) -> None:
    async with source_of(pushing).signals(WatchIndex()) as news:
        for number in range(20):
            pushing.push("newPendingTransactions", hexed(digest(f"tx {number}")))
        await take(news, for_s=2)
    assert "eth_getTransactionByHash" not in pushing.calls


async def test_pending_transactions_that_were_lost(pushing: FakeEvm, autojump_clock: Clock) -> None:
    source = source_of(pushing)
    listed = []
    pushing.methods["txpool_content"] = lambda: listed.append(1) or {"pending": {}}
    async with source.signals(index_of(OURS)) as news:
        for _ in range(3):
            await source.read_mempool(index_of(OURS))
        assert len(listed) == 1  # what came since was pushed
        pushing.push("newPendingTransactions", Lost(7))
        (stale,) = await take(news, for_s=0.5)
        assert isinstance(stale, MempoolStale)
        await source.read_mempool(index_of(OURS))
        assert len(listed) == 2


@pytest.mark.parametrize("can_subscribe", [True, False])
async def test_the_pending_block_is_looked_at_where_nothing_is_pushed(
    autojump_clock: Clock, can_subscribe: bool
) -> None:
    node = FakeEvm(can_subscribe=can_subscribe, kinds=("newHeads",))
    by_number, shown = node.methods["eth_getBlockByNumber"], [PAID]
    node.methods["eth_getBlockByNumber"] = lambda which, whole: (
        {"number": hex(len(node.blocks)), "hash": None, "transactions": shown}
        if which == "pending"
        else by_number(which, whole)
    )
    node.pend(PAID)
    async with source_of(node).signals(index_of(OURS)) as news:
        assert arrived(await take(news, for_s=5)) == [digest("paid")]
        shown.append(transaction("more", to=OURS, value=1, nonce=1))
        assert arrived(await take(news, for_s=5))[:1] == [digest("more")]


@pytest.mark.parametrize("can_subscribe", [True, False])
async def test_a_node_without_any_mempool_is_said_once(
    autojump_clock: Clock, can_subscribe: bool
) -> None:
    node, log = FakeEvm(can_subscribe=can_subscribe, kinds=("newHeads",)), RecordingLog()
    async with source_of(node, log=log).signals(index_of(OURS)) as news:
        await take(news, for_s=10)
    assert [line.event for line in log.level("warning")] == [
        "node shows no mempool: payments are seen when they are in a block"
    ]


async def test_what_leaves_the_mempool_is_told_once(node: FakeEvm, autojump_clock: Clock) -> None:
    index = index_of(OURS)
    index.unconfirmed[digest("paid")] = set()
    node.pend(PAID)
    async with source_of(node).signals(index) as news:
        assert await take(news, for_s=3) == []
        node.mempool.clear()
        assert await take(news, for_s=3) == [TxLeft(digest("paid"))]
        node.pend(PAID)
        assert await take(news, for_s=3) == []
        node.mempool.clear()
        assert await take(news, for_s=3) == [TxLeft(digest("paid"))]


async def test_what_is_in_a_block_has_left_too(node: FakeEvm, autojump_clock: Clock) -> None:
    """Who has read the block does not wait for it; who still does waits in vain."""
    index = index_of(OURS)
    index.unconfirmed[digest("paid")] = set()
    node.mine((PAID, {"transactionHash": PAID["hash"], "status": "0x1", "logs": []}))
    async with source_of(node).signals(index) as news:
        assert await take(news, for_s=5) == [TxLeft(digest("paid"))]


async def test_many_that_we_wait_for_are_asked_for_in_turn(
    node: FakeEvm, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evm_feed, "TRACKED_PER_BEAT", 10)
    index = index_of(OURS)
    for number in range(35):
        index.unconfirmed[digest(f"tx {number}")] = set()
    async with source_of(node).signals(index) as news:
        left = await take(news, for_s=8)
    assert {
        signal.txid for signal in left if isinstance(signal, TxLeft)
    } == index.unconfirmed.keys()
    assert len(left) == 35
    assert max(len(request) for request in node.requests) <= 10


async def test_a_promised_token_payment_arrives(pushing: FakeEvm, autojump_clock: Clock) -> None:
    source = source_of(pushing)
    source._pool.assets = ASSETS
    async with source.signals(index_of(OURS)) as news:
        call = transaction("token", to=CONTRACT, call=transfer_call(OURS, 7))
        pushing.pend(call)
        pushing.push("newPendingTransactions", call)
        (signal,) = await take(news, for_s=0.5)
    assert isinstance(signal, TxArrived)
    assert [(o.amount_base, o.asset, o.outpoint.index) for o in signal.tx.outputs] == [
        (7, "TOKEN", 1)
    ]


async def test_leaving_while_it_fails_raises_what_the_body_raises(
    node: FakeEvm, autojump_clock: Clock
) -> None:
    with pytest.raises(KeyError):
        async with source_of(node).signals(index_of(OURS)):
            raise KeyError("body")
    with trio.CancelScope() as scope:
        async with source_of(node).signals(index_of(OURS)) as news:
            scope.cancel()
            await take(news, for_s=5)
    assert scope.cancelled_caught
