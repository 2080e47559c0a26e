"""The fake chain is honest: what it says agrees with its world, and the actors follow it."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
import trio.testing

from actors.chain_supervisor import ChainState
from actors.core.chain_view import consecutive
from actors.core.invoice import State
from actors.core.watch_index import WatchIndex
from actors.ports import Heartbeat, TipMoved, TransientError, TxArrived, TxLeft
from tests.helpers.fake_chain import FakeChain
from tests.helpers.house import open_house
from tests.helpers.virtual_clock import VirtualClock


@pytest.fixture
async def chain():
    return FakeChain(clock=VirtualClock())


@pytest.fixture
async def house():
    async with open_house() as running:
        yield running


def watching(*destinations):
    index = WatchIndex()
    for number, destination in enumerate(destinations):
        index.watch(destination, UUID(int=number))
    return index


async def test_blocks_are_a_chain_and_a_reorg_leaves_the_rest(chain):
    before = [block for block, _ in chain.blocks]
    chain.mine(count=3)
    chain.reorg(2)
    blocks = [block for block, _ in chain.blocks]
    assert consecutive(blocks)
    assert chain.height == 104
    assert blocks[:102] == [*before, blocks[101]]
    assert await chain.window(await chain.tip(), 3) == tuple(blocks[-3:])
    assert await chain.block_at(105) is None


async def test_only_what_concerns_us_is_told(chain):
    index = watching(b"ours")
    async with chain.signals(index) as news:
        chain.pay(b"theirs", 5)
        tx = chain.pay(b"ours", 5)
        chain.evict(tx)
        chain.mine()
        kinds = [type(await anext(news)) for _ in range(3)]
    assert kinds == [TxArrived, TxLeft, TipMoved]


async def test_a_mempool_holds_one_spender_of_a_coin(chain):
    first = chain.pay(b"ours", 5)
    second = chain.pay(b"ours", 6, replaces=first)
    assert list(chain.mempool) == [second.txid]
    chain.mine(chain.steal(second))
    assert not chain.mempool


async def test_silence_is_filled_with_heartbeats_unless_muted(chain, autojump_clock):
    async with chain.signals(watching()) as news:
        begun_s = trio.current_time()
        assert isinstance(await anext(news), Heartbeat)
        assert trio.current_time() == begun_s + 1
        chain.muted = True
        with trio.move_on_after(10) as scope:
            await anext(news)
        assert scope.cancelled_caught


async def test_a_failing_node_fails_every_answer(chain):
    chain.fail_with = TransientError("down")
    for answer in (chain.status, chain.tip, lambda: chain.read_mempool(watching())):
        with pytest.raises(TransientError, match="down"):
            await answer()


async def test_the_actors_follow_a_payment_through_a_reorg(house):
    invoice = await house.invoice(await house.user(), 1000, confirmations=3)
    await house.paid(invoice)
    seen = await house.mined(invoice)
    assert (seen.state, seen.payments[0].height) == (State.SEEN, 101)
    house.btc.reorg(1)
    await house.told()
    assert (await house.state(invoice)).payments[0].unconfirmed
    settled = await house.mined(invoice, 3)
    assert (settled.state, settled.payments[0].height) == (State.SETTLED, 103)


async def test_the_actors_come_back_after_the_node(house, autojump_clock):
    invoice = await house.invoice(await house.user(), 1000)
    house.btc.fail_with = TransientError("connection refused")
    house.btc.beat()
    await trio.testing.wait_all_tasks_blocked()
    assert house.invoicing.health("btc").state is ChainState.UNREACHABLE
    tx = house.btc.pay(invoice.terms.destination, 1000)
    house.btc.mine(tx)
    house.btc.fail_with = None
    await trio.sleep(60)
    assert (await house.state(invoice)).state is State.SETTLED
    assert house.btc.connections > 1


async def test_a_batch_payout_pays_every_invoice_in_it(house):
    user_id = await house.user()
    one, two = await house.invoice(user_id, 10), await house.invoice(user_id, 20)
    house.btc.pay_many((one.terms.destination, 10), (two.terms.destination, 20))
    await house.told()
    for invoice in (one, two):
        assert (await house.state(invoice)).state is State.SEEN


async def test_a_gap_in_the_push_is_made_good_by_reading_the_mempool(house):
    invoice = await house.invoice(await house.user(), 1000)
    house.btc.muted = True
    house.btc.pay(invoice.terms.destination, 1000)
    house.btc.muted = False
    house.btc.lose_push()
    await house.told()
    assert (await house.state(invoice)).state is State.SEEN
