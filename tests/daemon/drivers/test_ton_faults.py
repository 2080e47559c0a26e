"""The driver for TON and servers that lag, lie, limit, or are of another network."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from actors.ports import (
    Heartbeat,
    PersistentError,
    Signal,
    TipMoved,
    TransientError,
    TxArrived,
    TxLeft,
)
from daemon.drivers import ton_blocks, ton_feed, ton_jettons, ton_mempool, ton_rpc
from daemon.drivers.endpoint import DistrustError, PoolPolicy
from daemon.drivers.ton import TonSource
from tests.helpers.recording_log import RecordingLog
from tests.helpers.ton import COIN_BASE, TonPeer, TonWallet
from tests.helpers.ton_shop import Shop, away, jetton_asset, paid, read, source_of, until

AMOUNT = 3 * COIN_BASE
QUICK = PoolPolicy(failures=1, check_every_s=0.1, lag_s=0.2, first_absence_s=0.3)


@pytest.fixture(scope="module")
def running() -> Iterator[TonPeer]:
    with TonPeer() as peer:
        peer.mine(5)
        yield peer


@pytest.fixture
def peer(running: TonPeer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TonPeer]:
    monkeypatch.setattr(ton_blocks, "RETRY_S", 0.02)
    yield running
    running.set(
        v3=True, v2=True, ws=True, v2_style="cpp", api_key=None, rate_per_s=None, lag_v3=0,
        lag_v2=0, repeat=0, empty_unknown=False, ws_addresses=None,
    )  # fmt: skip
    running.command("faults", faults=[])


@pytest.fixture
def wallet(peer: TonPeer, request: Any) -> TonWallet:
    return peer.wallet(request.node.name)


@asynccontextmanager
async def listening(source: TonSource, shop: Shop) -> AsyncIterator[AsyncIterator[Signal]]:
    async with source.signals(shop.index) as signals:
        yield signals


# --- who it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [{"v3": True}, {"v3": False}])
async def test_a_server_of_the_other_network_is_refused_by_name(peer, offers):
    peer.set(**offers)
    async with source_of(peer.url, network="testnet") as source:
        with pytest.raises(PersistentError, match=r"mainnet, not testnet.*coin\.ton\.daemon\.url"):
            await source.status()


async def test_a_testnet_is_a_network_of_its_own():
    with TonPeer(network="testnet") as peer:
        async with source_of(peer.url, network="testnet") as source:
            status = await source.status()
    assert status.network == "testnet"
    assert status.genesis.hex().startswith("823f81f306ff02694f935cf502")


@pytest.mark.parametrize("base", ["", "/", "/api/v3", "/api/v2/", "/api/v2/jsonRPC"])
async def test_the_url_may_name_a_version(peer, base):
    async with source_of(peer.url + base) as source:
        assert (await source.status()).software == "toncenter v3"


async def test_where_there_is_neither_version_it_is_said(peer):
    peer.set(v3=False, v2=False)
    async with source_of(peer.url) as source:
        with pytest.raises(TransientError, match=r"has no answer to /api/v2/getMasterchainInfo"):
            await source.status()


async def test_the_api_key_is_the_password_and_never_shown(peer):
    peer.set(api_key="sesame-0123456789")
    url = peer.url.replace("://", "://:sesame-0123456789@")
    async with source_of(url) as source:
        await source.status()
    async with source_of(peer.url.replace("://", "://:wrong-key-987@")) as source:
        with pytest.raises(PersistentError, match=r"coin\.ton\.daemon\.api_key") as caught:
            await source.status()
    assert "wrong-key" not in str(caught.value)


# --- pace -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["cpp", "python"])
async def test_a_limited_server_is_asked_again_when_it_lets_us(peer, style):
    peer.set(v2_style=style)
    peer.fail("masterchainInfo", times=2, status=429, body={"error": "Ratelimit exceeded"})
    async with source_of(peer.url) as source:
        with trio.fail_after(20):
            await source.status()
        assert source.statistics().rpc.refusals == 2


async def test_with_another_server_a_limited_one_is_left(peer):
    with TonPeer() as other:
        peer.fail("", times=50, status=429, body={"error": "Ratelimit exceeded"})
        log = RecordingLog()
        async with source_of(peer.url, other.url, log=log, policy=QUICK) as source:
            # The first is refused before it is ever believed: the pool goes on by itself.
            assert (await source.tip()).height == other.height()
            assert log.of("left endpoint")[0].fields["because"]
    assert log.of("limits our requests")


# --- lagging --------------------------------------------------------------------------------------


async def test_a_tip_that_goes_back_is_no_news_and_is_waited_for(peer, monkeypatch):
    await away(peer.mine, 3)
    shop = Shop(bytes(33))
    async with source_of(peer.url) as source, listening(source, shop) as signals:
        height = (await source.tip()).height
        peer.set(lag_v3=2)
        await trio.sleep(0.3)
        # No heartbeat comes that was asked for while it lagged.
        lagged_at = trio.current_time()
        await trio.sleep(0.2)
        assert (await source.tip()).height == height
        peer.set(lag_v3=0)
        seen_at = trio.current_time()
        beat = await until(
            signals, lambda each: isinstance(each, Heartbeat) and each.received_at > lagged_at
        )
        assert isinstance(beat, Heartbeat)
        assert beat.received_at >= seen_at - 0.1
        monkeypatch.setattr(ton_rpc, "LAG_PATIENCE_S", 0.1)
        peer.set(lag_v3=2)
        with pytest.raises(TransientError, match="indexer lags behind"):
            await until(signals, lambda _: False)


async def test_an_indexer_that_stands_still_gives_no_heartbeats(peer, monkeypatch):
    monkeypatch.setattr(ton_feed, "STALE_S", -1000.0)
    log = RecordingLog()
    async with source_of(peer.url, log=log) as source, listening(source, Shop()) as signals:
        with trio.move_on_after(0.3):
            await until(signals, lambda each: isinstance(each, Heartbeat))
            pytest.fail("a heartbeat from an indexer that stands still")
        monkeypatch.setattr(ton_feed, "STALE_S", 1000.0)
        await until(signals, lambda each: isinstance(each, Heartbeat))
    assert len(log.of("the last block is old")) == 1


@pytest.mark.parametrize("is_empty", [False, True])
async def test_a_replica_without_the_block_is_asked_until_it_has_it(peer, wallet, is_empty):
    shop, since = Shop(wallet.account), peer.height()
    await away(peer.pay, wallet, AMOUNT)
    await away(peer.mine)
    async with source_of(peer.url) as source:
        tip = await source.tip()
        # Its headers are known by now, its transactions are asked of a replica that lags.
        assert await source.block_at(tip.height) == tip
        peer.set(lag_v3=1, empty_unknown=is_empty)
        found: list[Any] = []

        async def reader() -> None:
            found.extend(await read(source, range(since + 1, tip.height + 1), shop))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            await trio.sleep(0.05)
            assert found == []
            peer.set(lag_v3=0, empty_unknown=False)
    assert [len(txs) for _, txs in found] == [1]


async def test_a_server_that_never_gives_a_blocks_transactions_is_distrusted(peer):
    async with source_of(peer.url) as source:
        tip = await source.tip()
        await source.block_at(tip.height)
        peer.set(lag_v3=1)
        with pytest.raises(DistrustError, match=f"block {tip.height}.* asked 8 times"):
            await read(source, range(tip.height, tip.height + 1), Shop())


async def test_a_page_that_repeats_the_last_one_counts_nothing_twice(peer, wallet):
    shop, since = Shop(wallet.account), peer.height()
    items = [{"to": wallet.address, "amount_base": str(n), "bounce": False} for n in range(1, 2201)]
    peer.set(repeat=7)
    await away(peer.flood, 0, items)
    await away(peer.mine)
    async with source_of(peer.url) as source:
        found = await paid(source, peer, shop, since=since)
    assert sorted(each[2] for each in found) == list(range(1, 2201))


async def test_a_page_that_ends_too_early_is_noticed(peer):
    """A full page and nothing after it: the number of transactions is asked for."""
    items = [{"to": "0:" + "11" * 32, "amount_base": "1"}] * 1500
    await away(peer.flood, 0, items)
    await away(peer.mine)
    page = peer.get(
        "/api/v3/transactionsByMasterchainBlock", seqno=peer.height(), limit=1000, sort="asc"
    )
    async with source_of(peer.url) as source:
        tip = await source.tip()
        await source.block_at(tip.height)
        peer.fail("transactionsByMasterchainBlock", times=99, status=200, body=page)
        with pytest.raises(DistrustError, match="gives 0 of the 2 transactions"):
            await read(source, range(tip.height, tip.height + 1), Shop())


# --- lies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "complaint"),
    [
        ({"hash": "short"}, "hash is no hash"),
        ({"account": "0:12"}, "account is no address"),
        ({"mc_block_seqno": 1}, "of block 1 in block"),
        ({"in_msg": {"value": "-5"}}, "value is no amount"),
        ({"in_msg": {"value": "1e9"}}, "value is no amount"),
        ({"in_msg": {"value": 5}}, "value is no amount"),
        ({"in_msg": []}, "in_msg is no object"),
        ({"description": None}, "description is no object"),
        ({"in_msg": {"message_content": {"body": 5}}}, "body is no text"),
    ],
)
async def test_a_transaction_of_another_shape_is_not_believed(peer, wallet, patch, complaint):
    item = {"to": wallet.address, "amount_base": "77", "patch": patch}
    await away(peer.flood, 0, [item])
    await away(peer.mine)
    height = peer.height()
    async with source_of(peer.url) as source:
        with pytest.raises(DistrustError, match=complaint):
            await read(source, range(height, height + 1), Shop(wallet.account))


@pytest.mark.parametrize("body", ["AAAA", "no base64", "te6cckEBAQEACAAADAAAAABoaeh7Mukk"])
async def test_a_message_to_a_shared_account_that_cannot_be_read_is_not_passed_over(
    peer, wallet, body
):
    patch = {"in_msg": {"message_content": {"body": body}}}
    await away(peer.flood, 0, [{"to": wallet.address, "amount_base": "77", "patch": patch}])
    await away(peer.mine)
    height = peer.height()
    async with source_of(peer.url) as source:
        shop = Shop(wallet.account + b"\0INV-1")
        with pytest.raises(DistrustError, match="garbled"):
            await read(source, range(height, height + 1), shop)
        # Where the account alone says whose it is, nobody reads what the payer wrote.
        ((_, txs),) = await read(source, range(height, height + 1), Shop(wallet.account))
    assert txs[0].outputs[0].amount_base == 77


@pytest.mark.parametrize(
    ("item", "counts"),
    [
        ({}, True),
        ({"aborted": True}, True),
        ({"aborted": True, "bounce_phase": True}, False),
        ({"aborted": True, "patch": {"description": {"bounce": {"type": "nofunds"}}}}, True),
        ({"aborted": True, "patch": {"description": {"bounce": {"type": "negfunds"}}}}, True),
        ({"bounced": True}, False),
    ],
)
async def test_what_stays_counts(peer, wallet, item, counts):
    shop, since = Shop(wallet.account), peer.height()
    await away(peer.flood, 0, [{"to": wallet.address, "amount_base": "5", **item}])
    await away(peer.mine)
    for offered in ({"v3": True}, {"v3": False}):
        peer.set(**offered)
        async with source_of(peer.url) as source:
            assert len(await paid(source, peer, shop, since=since)) == counts, offered


@pytest.mark.parametrize("body", ["[]", "{}", "no JSON", '{"blocks": [{}]}', '{"blocks": 5}'])
async def test_answers_of_another_shape_are_not_believed(peer, body):
    async with source_of(peer.url) as source:
        await source.status()
        peer.fail("/api/v3/blocks", times=3, status=200, body=body)
        with pytest.raises(DistrustError, match="answered garbage"):
            await source.tip()


@pytest.mark.parametrize("fault", [{"close": True}, {"status": 500, "body": "{}"}, {"status": 502}])
async def test_failures_are_transient_and_pass(peer, fault):
    async with source_of(peer.url) as source:
        await source.status()
        peer.fail("", times=2, **fault)
        with pytest.raises(TransientError):
            await source.tip()
        peer.command("faults", faults=[])
        assert (await source.tip()).height == peer.height()


async def test_the_next_server_takes_over_and_the_chain_goes_on(peer):
    """Two doors to one chain: the first one closes."""
    log = RecordingLog()
    shop = Shop(bytes(33))
    with TonPeer() as first:
        async with source_of(first.url, peer.url, log=log, policy=QUICK) as source:
            assert (await source.status()).tip.height == first.height()
            first.kill()
            with pytest.raises(TransientError):
                async with listening(source, shop) as signals:
                    await until(signals, lambda _: False)
            async with listening(source, shop):
                assert (await source.tip()).height == peer.height()
    assert log.of("left endpoint")
    assert log.of("using another endpoint")


async def test_a_block_that_changes_under_us_makes_the_server_untrustworthy(peer):
    async with source_of(peer.url) as source:
        tip = await source.tip()
        answer = peer.get("/api/v3/blocks", workchain=-1, sort="desc", limit=5)
        answer["blocks"][0]["root_hash"] = "A" * 43 + "="
        peer.fail("/api/v3/blocks", times=1, status=200, body=answer)
        with pytest.raises(DistrustError, match=f"{tip.height} as 0000"):
            await source.tip()


# --- news -----------------------------------------------------------------------------------------


async def test_a_new_block_is_news(peer):
    async with source_of(peer.url) as source, listening(source, Shop()) as signals:
        await until(signals, lambda each: isinstance(each, Heartbeat))
        await away(peer.mine)
        await until(signals, lambda each: isinstance(each, TipMoved))
        assert (await source.tip()).height == peer.height()


@pytest.fixture
def quick_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ton_mempool, "_LOOK_S", 0.02)
    monkeypatch.setattr(ton_mempool, "FIRST_PAUSE_S", 0.05)


async def live(source: TonSource) -> None:
    with trio.fail_after(5):
        while not source.statistics().is_pushed:  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.01)


@pytest.mark.usefixtures("quick_stream")
async def test_a_payment_that_a_shard_has_is_told_before_its_block_is_read(peer, wallet):
    shop, since = Shop(wallet.account), peer.height()
    async with source_of(peer.url, shop=shop) as source, listening(source, shop) as signals:
        await live(source)
        await away(peer.pay, wallet, AMOUNT)
        await away(peer.mine)
        arrived = await until(signals, lambda each: isinstance(each, TxArrived))
        assert isinstance(arrived, TxArrived)
        assert arrived.tx.outputs[0].amount_base == AMOUNT
        assert arrived.tx.txid in (await source.read_mempool(shop.index)).txids
        ((_, (in_block,)),) = [
            each
            for each in await read(source, range(since + 1, peer.height() + 1), shop)
            if each[1]
        ]
        assert in_block == arrived.tx
        assert not (await source.read_mempool(shop.index)).txids


@pytest.mark.usefixtures("quick_stream")
async def test_the_stream_wakes_whoever_asks_for_the_tip(peer, wallet):
    shop = Shop(wallet.account)
    async with (
        source_of(peer.url, shop=shop, poll_interval_s=60.0) as source,
        listening(source, shop) as signals,
    ):
        await live(source)
        await until(signals, lambda each: isinstance(each, Heartbeat))
        await away(peer.pay, wallet, AMOUNT)
        await away(peer.mine)
        await until(signals, lambda each: isinstance(each, TipMoved))


@pytest.mark.usefixtures("quick_stream")
async def test_what_is_only_computed_ahead_is_not_told(peer, wallet):
    shop = Shop(wallet.account)
    async with source_of(peer.url, shop=shop) as source, listening(source, shop):
        await live(source)
        await away(peer.pay, wallet, AMOUNT)
        await trio.sleep(0.3)
        assert not (await source.read_mempool(shop.index)).txids
    await away(peer.mine)


@pytest.mark.usefixtures("quick_stream")
async def test_what_no_block_took_in_leaves(peer, wallet, monkeypatch):
    monkeypatch.setattr(ton_mempool, "KEPT_S", 0.3)
    shop = Shop(wallet.account)
    async with source_of(peer.url, shop=shop) as source, listening(source, shop) as signals:
        await live(source)
        await away(peer.pay, wallet, AMOUNT)
        await away(peer.mine)
        arrived = await until(signals, lambda each: isinstance(each, TxArrived))
        left = await until(signals, lambda each: isinstance(each, TxLeft))
        assert isinstance(arrived, TxArrived)
        assert left == TxLeft(arrived.tx.txid)
        assert not (await source.read_mempool(shop.index)).txids


@pytest.mark.usefixtures("quick_stream")
async def test_invoices_opened_later_are_subscribed_to_and_events_may_come_twice(peer, wallet):
    shop = Shop(bytes(33))
    peer.set(repeat=1)
    async with source_of(peer.url, shop=shop) as source, listening(source, shop) as signals:
        await live(source)
        shop.open(wallet.account)
        await trio.sleep(0.3)
        await away(peer.pay, wallet, AMOUNT)
        await away(peer.mine)
        found = []
        with trio.move_on_after(0.5):
            async for signal in signals:
                if isinstance(signal, TxArrived):
                    found.append(signal.tx.outputs[0].amount_base)  # noqa: PERF401 - what came until the deadline
    assert found == [AMOUNT]


@pytest.mark.usefixtures("quick_stream")
async def test_a_limit_on_addresses_leaves_the_newest(peer, wallet):
    shop = Shop(*(bytes([0, n]) * 16 + bytes(1) for n in range(20)))
    shop.open(wallet.account)
    peer.set(ws_addresses=3)
    async with source_of(peer.url, shop=shop) as source, listening(source, shop) as signals:
        await live(source)
        await away(peer.pay, wallet, AMOUNT)
        await away(peer.mine)
        await until(signals, lambda each: isinstance(each, TxArrived))


@pytest.mark.usefixtures("quick_stream")
@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_stream_that_breaks_off_is_opened_again(peer, wallet, abruptly):
    shop, log = Shop(wallet.account), RecordingLog()
    async with (
        source_of(peer.url, shop=shop, log=log) as source,
        listening(source, shop) as signals,
    ):
        await live(source)
        await away(peer.disconnect_streams, abruptly=abruptly)
        with trio.fail_after(5):
            while not log.of("stream works again"):  # noqa: ASYNC110 - it tells the log alone
                await trio.sleep(0.01)
        await away(peer.pay, wallet, AMOUNT)
        await away(peer.mine)
        await until(signals, lambda each: isinstance(each, TxArrived))
    assert len(log.of("stream does not work")) == 1


async def test_a_server_without_a_stream_is_followed_all_the_same_and_it_is_said_once(peer, wallet):
    shop, log = Shop(wallet.account), RecordingLog()
    peer.set(ws=False)
    async with source_of(peer.url, shop=shop, log=log) as source:
        for _ in range(2):
            async with listening(source, shop) as signals:
                await until(signals, lambda each: isinstance(each, Heartbeat))
                await trio.sleep(0.1)
                await away(peer.mine)
                await until(signals, lambda each: isinstance(each, TipMoved))
    assert len(log.of("offers no stream")) == 1


# --- long absences --------------------------------------------------------------------------------


async def test_a_server_that_keeps_only_the_last_blocks_says_which_is_its_first():
    with TonPeer(first=40_000) as peer:
        peer.mine(10)
        async with source_of(peer.url) as source:
            status = await source.status()
            assert status.pruned_below == 40_000
            window = await source.window(status.tip, 100)
            assert [block.height for block in window] == list(range(40_000, 40_011))
            assert await source.block_at(39_999) is None


async def test_headers_of_a_long_downtime_are_listed_a_thousand_at_a_time():
    shop = Shop(bytes(33))
    with TonPeer() as peer:
        for second in range(2500 // 50):
            peer.mine(50, now=2_000_000_000 + 10 * second)
        async with source_of(peer.url) as source:
            tip = (await source.tip()).height
            await away(peer.forget_requests)
            blocks = [block async for block, _ in source.read_blocks(range(2, tip + 1), shop.index)]
            assert [block.height for block in blocks] == list(range(2, tip + 1))
            requests = await away(peer.requests)
    assert requests["/api/v3/transactionsByMasterchainBlock"] == tip - 1
    assert requests["/api/v3/blocks"] < 40


async def test_what_is_disabled_is_asked_for_again(peer, monkeypatch):
    monkeypatch.setattr(ton_jettons, "CHECK_AGAIN_S", 0.1)
    jetton = await away(peer.create_jetton, "standard", salt=77)
    await away(peer.mine)
    log = RecordingLog()
    error = {"error": "contract is busy"}
    async with source_of(peer.url, jettons=(jetton_asset(jetton),), log=log) as source:
        peer.fail("runGetMethod", times=1, status=500, body=error)
        await source.status()
        assert "does not answer get_jetton_data" in source.disabled_assets()["USDT_TON"]
        async with listening(source, Shop()):
            with trio.fail_after(5):
                while source.disabled_assets():  # noqa: ASYNC110 - it tells the log alone
                    await trio.sleep(0.01)
    assert log.of("asset enabled again")
