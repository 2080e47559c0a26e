"""The watcher: blocks in order, a cursor never ahead, patience with nodes, no false news."""

from dataclasses import replace

import pytest
import trio

from actors.chain_supervisor import ChainState
from actors.core.agenda import SLICE
from actors.core.chain_events import Removal
from actors.core.chain_view import ChainView
from actors.core.invoice import State
from actors.ports import Heartbeat, TipMoved, TransientError, TxArrived, TxLeft
from tests.helpers.fake_chain import _ours
from tests.helpers.watched_chain import POLICY, WatchedChain, watched_chain

LOCKED = TransientError("database is locked")


async def cursor_height(it: WatchedChain) -> int:
    cursor = await it.store.cursor("btc")
    assert cursor is not None
    return cursor.view.tip.height


# --- blocks and cursor ----------------------------------------------------------------------------


async def test_the_first_start_begins_at_the_tip(autojump_clock):
    async with watched_chain(height=50) as it:
        cursor = await it.store.cursor("btc")
        assert cursor is not None
        assert cursor.view.tip == it.node.blocks[-1][0]
        assert len(cursor.view.blocks) == POLICY.reorg_limit + 1
        assert cursor.network == "regtest"
        assert it.health().tip == cursor.view.tip


async def test_the_cursor_waits_for_every_acknowledgement(autojump_clock):
    async with watched_chain(height=30) as it:
        slow = await it.create()
        quick = await it.create()
        it.store.fail("append", LOCKED, times=3, invoice_id=slow.invoice_id)
        it.node.pay_many((slow.destination, 100), (quick.destination, 100))
        it.node.mine()
        await trio.sleep(1.2)
        assert (await it.invoice(quick)).state is State.SEEN
        assert (await it.invoice(slow)).state is State.PENDING
        assert await cursor_height(it) == 30
        await it.told()
        assert (await it.invoice(slow)).state is State.SEEN
        assert await cursor_height(it) == 31


async def test_a_cursor_that_cannot_be_saved_is_not_passed(autojump_clock):
    async with watched_chain(height=30) as it:
        invoice = await it.create()
        it.store.fail("save_cursor", LOCKED, times=2)
        it.node.pay(invoice.destination, 100)
        it.node.mine(count=2)
        await trio.sleep(0.1)
        assert it.health().state is ChainState.UNREACHABLE
        assert it.health().reason == "database is locked"
        await trio.sleep(10)
        assert it.health().state is ChainState.CURRENT
        assert await cursor_height(it) == 32
        assert (await it.kinds(invoice)).count("payment.included") == 1


async def test_every_block_of_a_long_downtime_is_read_in_order(autojump_clock):
    async with watched_chain(height=30) as it:
        invoices = [await it.create(ttl_s=1e6) for _ in range(6)]
        await it.stop()
        saved = len(it.store.saved_heights)
        for number, invoice in enumerate(invoices):
            it.node.mine_empty(90)
            it.node.mine(it.node.make(invoice.destination, 100 + number))
        it.node.mine_empty()
        await it.start()
        await it.told()
        assert it.supervisor.statistics().progress.blocks_read == 6 * 91 + 1
        heights = it.store.saved_heights[saved:]
        assert heights == sorted(heights)
        assert await cursor_height(it) == it.node.height
        for number, invoice in enumerate(invoices):
            found = await it.invoice(invoice)
            assert found.state is State.SETTLED
            assert found.payments[0].height == 30 + (number + 1) * 91
        firsts = [
            c.after.terms.invoice_id for c in it.published if c.event.kind.endswith("settled")
        ]
        assert firsts == [invoice.invoice_id for invoice in invoices]


async def test_a_node_that_breaks_off_while_blocks_are_read_costs_nothing(autojump_clock):
    async with watched_chain(height=30) as it:
        invoice = await it.create()
        answers = 0

        def break_off(question: str) -> None:
            nonlocal answers
            answers += question == "read_blocks"
            if answers in (3, 8):
                answers += 1
                raise TransientError("connection reset by peer")

        it.node.before_answer = break_off
        it.node.pay(invoice.destination, 100)
        it.node.mine(count=10)
        await trio.sleep(10)
        assert it.node.connections == 3
        assert (await it.invoice(invoice)).state is State.SETTLED
        assert (await it.kinds(invoice)).count("payment.included") == 1
        assert await cursor_height(it) == 40


async def test_progress_is_reported_while_catching_up(autojump_clock):
    async with watched_chain(height=30) as it:
        it.node.delays_s["read_blocks"] = 0.5
        it.node.mine_empty(60)
        await trio.sleep(12)
        health = it.health()
        assert health.state is ChainState.CATCHING_UP
        assert health.reason == "catching up: block 50 of 90"
        [line] = it.log.of("catching up")
        assert line.fields["blocks_per_s"] == 2
        await trio.sleep(30)
        assert it.health().state is ChainState.CURRENT


async def test_a_node_that_contradicts_itself_is_not_asked_in_a_hot_loop(autojump_clock):
    """Behind one address may be two nodes: one names a tip that the other does not have."""
    async with watched_chain(height=30) as it:
        honest = it.node.blocks[-1][0]
        asked = 0

        async def other_nodes_tip():
            nonlocal asked
            asked += 1
            await trio.lowlevel.checkpoint()
            return replace(honest, height=31, hash=b"?" * 32, parent=honest.hash)

        it.node.tip = other_nodes_tip
        await trio.sleep(20)
        assert asked < 200
        assert it.health().state is ChainState.UNREACHABLE
        assert "coin.btc.daemon.url" in str(it.health().reason)
        del it.node.tip
        await trio.sleep(10)
        assert it.health().state is ChainState.CURRENT


# --- reorgs ---------------------------------------------------------------------------------------


async def test_a_reorg_as_deep_as_the_limit_is_followed(autojump_clock):
    async with watched_chain(height=60) as it:
        invoice = await it.create(confirmations=100)
        tx = it.node.pay(invoice.destination, 100)
        it.node.mine(count=POLICY.reorg_limit)
        await it.told()
        it.node.reorg(POLICY.reorg_limit)
        await it.told()
        assert (await it.invoice(invoice)).payments[0].unconfirmed
        it.node.mine(tx)
        await it.told()
        assert (await it.invoice(invoice)).payments[0].height == it.node.height
        [line] = it.log.of("reorg")
        assert line.fields["depth"] == POLICY.reorg_limit
        assert it.supervisor.statistics().progress.reorgs == 1


async def test_a_deeper_reorg_stops_the_chain_and_changes_nothing(autojump_clock):
    async with watched_chain(height=60) as it:
        invoice = await it.create(confirmations=100)
        it.node.pay(invoice.destination, 100)
        it.node.mine()
        await it.told()
        before, branch = await it.invoice(invoice), list(it.node.blocks)
        it.node.reorg(POLICY.reorg_limit + 1)
        await trio.sleep(20)
        assert it.health().state is ChainState.REFUSED
        assert "coin.btc.reorg_limit (20)" in str(it.health().reason)
        assert await it.invoice(invoice) == before
        assert await cursor_height(it) == 61
        assert len(it.log.of("persistent failure")) >= 4, "it is said again and again"
        it.node.switch_to(branch)
        await trio.sleep(10)
        assert it.health().state is ChainState.CURRENT
        assert await it.invoice(invoice) == before


async def test_a_crash_within_a_reorg_that_is_undone_leaves_the_payment_in_its_block(
    autojump_clock,
):
    """A → B (told, but no cursor saved: crash) → A: the block of A must be told again."""
    async with watched_chain(height=30) as it:
        invoice = await it.create(confirmations=6)
        it.node.pay(invoice.destination, 100)
        it.node.mine()
        await it.told()
        branch_a = list(it.node.blocks)
        fault = it.store.fail("save_cursor", LOCKED, times=10**6)
        it.node.reorg(1)
        await trio.sleep(3)
        await it.stop()
        fault.times = 0
        it.node.switch_to(branch_a)
        await it.start()
        await trio.sleep(4 * POLICY.eviction_grace_s)
        [payment] = (await it.invoice(invoice)).payments
        assert (payment.height, payment.gone) == (31, None)


async def test_a_crash_after_the_cursor_went_back_forgets_no_stale_block(autojump_clock):
    """The other half: the cursor is at the fork, nobody was told, and branch B stays."""
    async with watched_chain(height=30) as it:
        invoice = await it.create(confirmations=6)
        tx = it.node.pay(invoice.destination, 100)
        it.node.mine(count=3)
        await it.told()
        await it.stop()
        cursor = await it.store.cursor("btc")
        assert cursor is not None
        await it.store.save_cursor(replace(cursor, view=ChainView(cursor.view.blocks[:-3])))
        it.node.reorg(3)
        await it.start()
        await it.told()
        assert (await it.invoice(invoice)).payments[0].unconfirmed
        it.node.mine(tx)
        await it.told()
        assert (await it.invoice(invoice)).payments[0].height == it.node.height


async def test_a_block_that_does_not_follow_is_not_connected(autojump_clock):
    """A reorg happens while blocks are being read."""
    async with watched_chain(height=30) as it:
        invoice = await it.create()
        tx = it.node.make(invoice.destination, 100)
        reads = 0

        def reorg_meanwhile(question: str) -> None:
            nonlocal reads
            reads += question == "read_blocks"
            if reads == 4:
                reads += 1
                it.node.reorg(4, take=[tx], count=6)

        it.node.before_answer = reorg_meanwhile
        it.node.mine_empty(5)
        await it.told()
        assert it.health().tip == it.node.blocks[-1][0]
        found = await it.invoice(invoice)
        assert found.payments[0].height == 32
        assert found.state is State.SETTLED


# --- a node that is behind ------------------------------------------------------------------------


async def test_a_node_that_is_behind_is_waited_for(autojump_clock):
    async with watched_chain(height=30) as it:
        invoice = await it.create(confirmations=6)
        it.node.pay(invoice.destination, 100)
        it.node.mine(count=3)
        await it.told()
        before, seq, full = await it.invoice(invoice), await it.store.last_seq(), it.node.blocks
        it.node.switch_to(full[:-3])
        it.node.mempool.clear()
        await trio.sleep(POLICY.lag_patience_s - 2)
        assert await it.store.last_seq() == seq
        assert it.health().state is ChainState.CATCHING_UP
        assert "waiting for it" in str(it.health().reason)
        assert len(it.log.of("got shorter")) >= 3
        it.node.switch_to(full)
        await it.told()
        assert await it.invoice(invoice) == before
        assert it.health().state is ChainState.CURRENT
        assert await it.store.last_seq() == seq


async def test_a_node_that_insists_is_taken_at_its_word(autojump_clock):
    async with watched_chain(height=30) as it:
        invoice = await it.create(confirmations=6)
        it.node.pay(invoice.destination, 100)
        it.node.mine(count=3)
        await it.told()
        it.node.switch_to(it.node.blocks[:-3])
        await trio.sleep(POLICY.lag_patience_s + 3)
        assert (await it.invoice(invoice)).payments[0].unconfirmed
        assert await cursor_height(it) == 30
        assert it.health().state is ChainState.CURRENT


async def test_patience_counts_only_while_the_node_answers(autojump_clock):
    async with watched_chain(height=30) as it:
        full = it.node.blocks
        it.node.mine(count=3)
        await it.told()
        full = it.node.blocks
        it.node.switch_to(full[:-3])
        await trio.sleep(POLICY.lag_patience_s - 4)
        it.node.fail_with = TransientError("connection refused")
        it.node.disconnect()
        await trio.sleep(60)
        it.node.fail_with = None
        await trio.sleep(POLICY.lag_patience_s - 2)
        assert await cursor_height(it) == 33, "it was only restarted, and is given its time"
        it.node.switch_to(full)
        await it.told()
        assert it.supervisor.statistics().progress.reorgs == 0


async def test_a_deadline_waits_for_a_node_that_is_behind(autojump_clock):
    async with watched_chain(height=30) as it:
        invoice = await it.create(ttl_s=12)
        it.node.mine(count=3)
        await trio.sleep(8)
        it.node.switch_to(it.node.blocks[:-3])
        await trio.sleep(6)
        assert (await it.invoice(invoice)).state is State.PENDING
        await trio.sleep(10)
        assert (await it.invoice(invoice)).state is State.EXPIRED


# --- mempool --------------------------------------------------------------------------------------


async def test_a_missing_payment_is_evicted_only_after_the_grace(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        tx = it.node.pay(invoice.destination, 100)
        await it.told()
        it.node.evict(tx)
        await trio.sleep(POLICY.eviction_grace_s - 1)
        assert (await it.invoice(invoice)).state is State.SEEN
        await trio.sleep(3)
        assert (await it.invoice(invoice)).state is State.PENDING
        assert (await it.kinds(invoice))[-2:] == ["payment.displaced", "invoice.uncovered"]


async def test_a_payment_that_comes_back_within_the_grace_was_never_away(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        tx = it.node.pay(invoice.destination, 100)
        await it.told()
        seq = await it.store.last_seq()
        it.node.evict(tx)
        await trio.sleep(POLICY.eviction_grace_s - 2)
        it.node.broadcast(tx)
        await trio.sleep(3 * POLICY.eviction_grace_s)
        assert await it.store.last_seq() == seq


async def test_a_node_that_lost_its_mempool_in_a_restart_gets_the_grace_anew(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        tx = it.node.pay(invoice.destination, 100)
        await it.told()
        it.node.evict(tx)
        await trio.sleep(1.5)
        it.node.fail_with = TransientError("connection refused")
        it.node.disconnect()
        await trio.sleep(10 * POLICY.eviction_grace_s)
        it.node.fail_with = None
        await trio.sleep(POLICY.eviction_grace_s)
        assert (await it.invoice(invoice)).state is State.SEEN
        it.node.broadcast(tx)
        await trio.sleep(3 * POLICY.eviction_grace_s)
        assert "payment.displaced" not in await it.kinds(invoice)


async def test_a_block_that_comes_while_the_mempool_is_read_evicts_nothing(autojump_clock):
    async with watched_chain(policy=replace(POLICY, eviction_grace_s=0)) as it:
        invoice = await it.create()
        tx = it.node.pay(invoice.destination, 100)
        await it.told()

        def mine_meanwhile(question: str) -> None:
            if question == "read_mempool":
                it.node.before_answer = None
                it.node.mine(tx)

        it.node.before_answer = mine_meanwhile
        it.node.lose_push()
        await it.told()
        kinds = await it.kinds(invoice)
        assert "payment.displaced" not in kinds
        assert kinds[-1] == "payment.included"


async def test_a_payment_that_came_and_went_in_one_round_is_gone(autojump_clock):
    """Both pushes wait while a commit takes long: the second must not be missed."""
    async with watched_chain() as it:
        other, invoice = await it.create(), await it.create()
        it.store.fail("append", LOCKED, times=2, invoice_id=other.invoice_id)
        it.node.pay(other.destination, 100)
        await trio.sleep(0.02)
        tx = it.node.pay(invoice.destination, 100)
        it.node.evict(tx)
        await trio.sleep(2 * POLICY.eviction_grace_s)
        found = await it.invoice(invoice)
        assert found.state is State.PENDING
        assert found.received_base == 0


async def test_a_replacement_that_pays_another_invoice_in_the_same_round(autojump_clock):
    async with watched_chain() as it:
        other, first, second = await it.create(), await it.create(), await it.create()
        it.store.fail("append", LOCKED, times=2, invoice_id=other.invoice_id)
        it.node.pay(other.destination, 100)
        await trio.sleep(0.02)
        it.node.swallow = {TxLeft}
        tx = it.node.pay(first.destination, 100)
        it.node.pay(second.destination, 100, replaces=tx)
        await it.told()
        assert (await it.invoice(first)).received_base == 0
        assert (await it.invoice(second)).received_base == 100


async def test_news_that_a_block_overtook_count_for_nothing(autojump_clock):
    """A push of the replaced half arrives after the block with its replacement: no money twice."""
    async with watched_chain() as it:
        invoice = await it.create(100, confirmations=0)
        tx = it.node.pay(invoice.destination, 50)
        await it.told()
        bump = it.node.pay(invoice.destination, 50, replaces=tx)
        it.node.mine(bump)
        await it.told()
        stale = _ours(tx, it.supervisor._router.index)
        assert stale is not None
        it.node.push(TxArrived(stale, trio.current_time()))
        await it.told()
        found = await it.invoice(invoice)
        assert found.state is State.PENDING
        assert found.received_base == 50


async def test_news_from_before_the_snapshot_are_not_told_after_it(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create(100)
        it.node.delays_s["read_mempool"] = 2
        it.node.lose_push()
        await trio.sleep(1)
        tx = it.node.pay(invoice.destination, 60)
        arrived_at = trio.current_time()
        await trio.sleep(5)
        it.node.pay(invoice.destination, 70, replaces=tx)
        await trio.sleep(0.1)
        it.node.lose_push()
        await trio.sleep(5)
        seq = await it.store.last_seq()
        stale = _ours(tx, it.supervisor._router.index)
        assert stale is not None
        it.node.push(TxArrived(stale, arrived_at))
        await it.told()
        assert await it.store.last_seq() == seq
        assert (await it.invoice(invoice)).received_base == 70


async def test_a_lost_push_is_made_up_for(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        it.node.muted = True
        it.node.pay(invoice.destination, 100)
        it.node.muted = False
        await it.told()
        assert (await it.invoice(invoice)).state is State.PENDING
        it.node.lose_push("gap in the sequence numbers")
        await it.told()
        assert (await it.invoice(invoice)).state is State.SEEN
        [line] = it.log.of("reading the mempool again")
        assert line.fields["reason"] == "gap in the sequence numbers"


async def test_latency_is_measured_from_push_to_published_event(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        it.store.fail("append", LOCKED, times=1)
        it.node.pay(invoice.destination, 100)
        await it.told()
        assert it.latencies_s == [pytest.approx(0.05)]


async def test_a_duplicate_signal_adds_nothing(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        it.node.echo = True
        it.node.pay(invoice.destination, 100)
        it.node.mine()
        await it.told()
        kinds = await it.kinds(invoice)
        assert sorted(kinds) == sorted(set(kinds))


# --- deadlines ------------------------------------------------------------------------------------


async def test_a_deadline_is_recorded_once_whatever_restarts_come(autojump_clock):
    async with watched_chain() as it:
        waiting, expiring = await it.create(ttl_s=10), await it.create(ttl_s=10)
        it.node.pay(waiting.destination, 100)
        for _ in range(8):
            await it.told()
            await it.restart()
        await it.told()
        for invoice, state in ((waiting, State.SEEN), (expiring, State.EXPIRED)):
            assert (await it.kinds(invoice)).count("invoice.deadline_reached") == 1
            assert (await it.invoice(invoice)).state is state


async def test_an_instant_counts_only_with_the_blocks_before_it(autojump_clock):
    """A heartbeat overtakes the announcement of the block that has the payment."""
    async with watched_chain() as it:
        invoice = await it.create(ttl_s=10)
        it.node.swallow = {TipMoved, TxArrived, Heartbeat}
        await trio.sleep(9)
        it.node.mine(it.node.make(invoice.destination, 100))
        await trio.sleep(1)
        it.node.swallow = set()
        it.node.beat()
        await it.told()
        assert (await it.invoice(invoice)).state is State.SEEN


async def test_ten_thousand_deadlines_at_one_instant_do_not_starve_the_loop(autojump_clock):
    count = 10_000
    async with watched_chain() as it:
        for _ in range(count):
            await it.create(ttl_s=60)
        most = appends = 0
        async with trio.open_nursery() as nursery:

            async def neighbour() -> None:
                nonlocal most
                while True:
                    before = it.store.calls["append"]
                    await trio.lowlevel.checkpoint()
                    most = max(most, it.store.calls["append"] - before)

            await trio.sleep(58.5)
            appends = it.store.calls["append"]
            assert (await it.store.last_seq()) == count
            nursery.start_soon(neighbour)
            while it.store.calls["append"] < appends + count:
                await trio.lowlevel.checkpoint()
                # A busy neighbour keeps the mock clock from jumping by itself.
                autojump_clock.jump(0.1)
            nursery.cancel_scope.cancel()
        assert most <= 2 * SLICE
        await it.told()
        assert it.supervisor.statistics().actors.open == 0


# --- locks and rivals -----------------------------------------------------------------------------


async def test_a_rival_is_told_at_once_and_a_block_decides(autojump_clock):
    async with watched_chain() as it:
        kept, robbed = await it.create(confirmations=0), await it.create(confirmations=0)
        first = it.node.pay(kept.destination, 100)
        second = it.node.pay(robbed.destination, 100)
        await it.told()
        for tx in (first, second):
            it.node.contest(tx)
        await trio.sleep(0.1)
        for terms in (kept, robbed):
            invoice = await it.invoice(terms)
            assert (invoice.state, invoice.reversed) == (State.SETTLED, True)
            assert invoice.payments[0].gone is Removal.CONTESTED
        theft = it.node.steal(second)
        it.node.mine(first, theft)
        await it.told()
        assert not (await it.invoice(kept)).reversed
        lost = await it.invoice(robbed)
        assert (lost.payments[0].gone, lost.payments[0].gone_by) == (
            Removal.DOUBLE_SPENT,
            theft.txid,
        )


async def test_a_contested_payment_stays_gone_while_its_rival_is_in_sight(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        tx = it.node.pay(invoice.destination, 100)
        await it.told()
        it.node.contest(tx)
        await it.told()
        it.node.lose_push()
        await it.restart()
        await it.told()
        assert (await it.kinds(invoice))[-2:] == ["payment.displaced", "invoice.uncovered"]
        it.node.evict(tx)
        await trio.sleep(POLICY.eviction_grace_s + 3)
        assert (await it.invoice(invoice)).payments[0].gone is Removal.EVICTED


async def test_what_was_contested_when_it_was_first_heard_of_is_no_news(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        it.node.swallow = {TxArrived}
        tx = it.node.pay(invoice.destination, 100)
        it.node.contest(tx)
        it.node.lose_push()
        await it.told()
        assert (await it.invoice(invoice)).payments == ()
        it.node.mine(tx)
        await it.told()
        assert (await it.invoice(invoice)).state is State.SEEN


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_lock_ends_after_a_restart_too(autojump_clock, stopped):
    async with watched_chain(height=30) as it:
        by_height, by_time = await it.create(), await it.create()
        locks = ({"unlock_height": 40}, {"unlock_ms": it.clock.now_ms() + 60_000})
        for terms, lock in zip((by_height, by_time), locks, strict=True):
            it.node.pay(terms.destination, 100, **lock)
        it.node.mine(count=3)
        await it.told()
        await it.stop()
        if not stopped:
            await it.start()
            await it.told()
        it.node.mine_empty(7)
        await trio.sleep(60)
        if stopped:
            await it.start()
        await it.told()
        for terms in (by_height, by_time):
            assert (await it.invoice(terms)).state is State.SETTLED


async def test_refusals_are_recorded_once_whatever_is_repeated(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        lie = it.node.lie(invoice.destination)
        await it.told()
        it.node.lose_push()
        await it.restart()
        it.node.mine(lie)
        await it.told()
        it.node.reorg(1, take=[lie])
        await it.told()
        assert await it.kinds(invoice) == ["invoice.created", "payment.refused"]
