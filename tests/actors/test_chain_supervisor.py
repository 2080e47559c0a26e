"""A chain's supervisor: health with reasons, other chains untouched, nothing lost at restarts."""

from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
import trio.testing

from actors import invoice_actor
from actors.chain_supervisor import ChainState
from actors.chain_watcher import SIGNALS
from actors.core.assets import Chain
from actors.core.decision import decide
from actors.core.invoice import State
from actors.ports import PersistentError, TransientError
from tests.helpers.fake_chain import FakeChain
from tests.helpers.virtual_clock import VirtualClock
from tests.helpers.watched_chain import POLICY, WatchedChain, watched_chain

REFUSED = TransientError("coin.btc.daemon.url: connection refused")
LTC = Chain("ltc", "Litecoin", "bitcoin", "LTC", 150, 1)


@pytest.fixture
def poison(monkeypatch):
    """Have the handling of these invoices fail, as a bug would."""
    poisoned = set()

    def poisoned_decide(invoice, happened, *, more):
        if invoice.terms.invoice_id in poisoned:
            raise ZeroDivisionError("a bug")
        return decide(invoice, happened, more=more)

    monkeypatch.setattr(invoice_actor, "decide", poisoned_decide)
    return poisoned


def forget_bugs(it: WatchedChain) -> None:
    """The test has looked at them; `check` need not."""
    it.log.lines.clear()


async def seen_states(it: WatchedChain, seconds: float) -> list[ChainState]:
    """The chain's standings over that time, without repeats."""
    states = [it.health().state]
    for _ in range(round(seconds * 20)):
        await trio.sleep(0.05)
        if it.health().state is not states[-1]:
            states.append(it.health().state)
    return states


# --- health ---------------------------------------------------------------------------------------


async def test_a_chain_starts_before_its_node_has_answered(autojump_clock):
    async with watched_chain(started=False) as it:
        it.node.fail_with = REFUSED
        it.node.delays_s["status"] = 1
        await it.start()
        assert it.health().state is ChainState.STARTING
        assert it.health().reason == "the node has not answered yet"
        assert it.health().network is None
        assert it.health().tip is None
        await trio.sleep(1.1)
        it.node.delays_s.clear()
        assert it.health().state is ChainState.UNREACHABLE
        assert it.health().reason == str(REFUSED)
        it.node.delays_s["read_mempool"] = 1
        it.node.fail_with = None
        assert await seen_states(it, 10) == [
            ChainState.UNREACHABLE,
            ChainState.CATCHING_UP,
            ChainState.CURRENT,
        ]
        health = it.health()
        assert health.reason is None
        assert (health.network, health.software, health.push) == (
            "regtest",
            "/FakeNode:1.0/",
            "channel",
        )
        assert health.as_of_ms is not None
        assert health.node_height == it.node.height
        assert len(it.log.of("chain is current again")) == 1
        assert it.supervisor.statistics().restarts.failing_since is None


async def test_a_node_that_dies_and_comes_back(autojump_clock):
    async with watched_chain() as it:
        it.node.fail_with = REFUSED
        it.node.disconnect()
        assert await seen_states(it, 20) == [ChainState.CURRENT, ChainState.UNREACHABLE]
        warnings = it.log.of("transient failure")
        delays = [line.fields["retry_in_s"] for line in warnings]
        assert delays[:4] == [0.5, 1, 2, 4]
        assert set(delays[4:]) <= {4}
        assert warnings[-1].fields["reason"] == str(REFUSED)
        it.node.fail_with = None
        assert (await seen_states(it, 10))[-1] is ChainState.CURRENT


@pytest.mark.parametrize("wrong", ["network", "genesis"])
async def test_a_node_of_another_network_is_refused_and_changes_nothing(autojump_clock, wrong):
    async with watched_chain() as it:
        invoice = await it.create()
        await it.stop()
        cursor, seq, good = await it.store.cursor("btc"), await it.store.last_seq(), it.node
        other = FakeChain("btc" if wrong == "network" else "other", clock=it.clock, height=40)
        other.network = "signet" if wrong == "network" else "regtest"
        other.mine(other.make(invoice.destination, 100))
        it.node = it.source = other
        await it.start()
        await trio.sleep(20)
        health = it.health()
        assert health.state is ChainState.REFUSED
        assert "coin.btc.daemon.url" in str(health.reason)
        assert f"{other.network!r}" in str(health.reason)
        assert "'regtest'" in str(health.reason)
        assert health.network == "regtest", "addresses go on being made for the known network"
        assert len(it.log.of("persistent failure")) >= 4
        assert await it.store.cursor("btc") == cursor
        assert await it.store.last_seq() == seq
        await it.stop()
        it.node = it.source = good
        await it.start()
        await it.told()
        assert it.health().state is ChainState.CURRENT


async def test_a_node_that_still_syncs_is_waited_for_with_a_warning_each_time(autojump_clock):
    async with watched_chain(started=False) as it:
        it.node.syncing = True
        await it.start()
        await trio.sleep(30)
        assert it.health().state is ChainState.UNREACHABLE
        assert "still syncing: block 30 of 30" in str(it.health().reason)
        assert len(it.log.of("transient failure")) >= 5
        assert await it.store.cursor("btc") is None
        it.node.syncing = False
        await trio.sleep(8)
        assert it.health().state is ChainState.CURRENT


async def test_pruned_blocks_that_are_needed_stop_the_chain(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        await it.stop()
        cursor, seq = await it.store.cursor("btc"), await it.store.last_seq()
        it.node.pay(invoice.destination, 100)
        it.node.mine(count=5)
        it.node.pruned_below = 32
        await it.start()
        await trio.sleep(20)
        assert it.health().state is ChainState.REFUSED
        assert "pruned the blocks below 32" in str(it.health().reason)
        assert it.health().pruned_below == 32
        assert len(it.log.of("persistent failure")) >= 4
        assert await it.store.cursor("btc") == cursor
        assert await it.store.last_seq() == seq
        it.node.pruned_below = 31
        await trio.sleep(8)
        assert it.health().state is ChainState.CURRENT
        assert (await it.invoice(invoice)).state is State.SETTLED


async def test_a_bug_in_the_driver_is_survived_and_reported(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        it.node.fail_with = KeyError("hash")
        it.node.disconnect()
        await trio.sleep(3)
        assert it.health().state is ChainState.CRASHED
        assert "KeyError" in str(it.health().reason)
        assert all("exc_info" in line.fields for line in it.log.of("actor crashed"))
        it.node.fail_with = None
        it.node.pay(invoice.destination, 100)
        await trio.sleep(8)
        assert it.health().state is ChainState.CURRENT
        assert (await it.invoice(invoice)).state is State.SEEN
        forget_bugs(it)


@pytest.mark.parametrize("how", ["ends", "raises"])
async def test_news_that_end_or_fail_are_taken_up_again(autojump_clock, how):
    async with watched_chain() as it:
        invoice = await it.create()
        real = it.node.signals

        @asynccontextmanager
        async def broken(index):
            async with real(index):

                async def news():
                    await trio.sleep(1)
                    if how == "raises":
                        raise PersistentError("coin.btc.daemon.zmq: not a ZMQ endpoint")
                    for nothing in ():
                        yield nothing

                yield news()

        it.node.signals = broken
        it.node.disconnect()
        await trio.sleep(2.1)
        expected = ChainState.REFUSED if how == "raises" else ChainState.UNREACHABLE
        assert it.health().state is expected
        assert "news" in str(it.health().reason) or "ZMQ" in str(it.health().reason)
        it.node.signals = real
        it.node.pay(invoice.destination, 100)
        await trio.sleep(8)
        assert it.health().state is ChainState.CURRENT
        assert (await it.invoice(invoice)).state is State.SEEN


# --- several chains -------------------------------------------------------------------------------


async def test_a_dead_node_leaves_the_other_chain_at_work(autojump_clock):
    clock = VirtualClock()
    async with trio.open_nursery() as nursery:
        btc = WatchedChain(nursery, clock=clock, node=FakeChain(clock=clock, height=30))
        ltc = WatchedChain(
            nursery,
            clock=clock,
            chain=LTC,
            node=FakeChain("ltc", clock=clock, asset="LTC", height=30),
        )
        await btc.start()
        await ltc.start()
        await btc.told()
        ours, theirs = await btc.create(), await ltc.create()
        for broken in (REFUSED, PersistentError("wrong"), RuntimeError("bug")):
            btc.node.fail_with = broken
            btc.node.disconnect()
            await trio.sleep(3)
            assert btc.health().state is not ChainState.CURRENT
            assert ltc.health().state is ChainState.CURRENT
            ltc.node.pay(theirs.destination, 50)
            ltc.node.mine()
            await ltc.told()
        assert (await ltc.invoice(theirs)).state is State.SETTLED
        assert ltc.supervisor.statistics().restarts.last_failure is None
        btc.node.pay(ours.destination, 100)
        btc.node.mine(count=2)
        btc.node.fail_with = None
        await trio.sleep(8)
        assert (await btc.invoice(ours)).state is State.SETTLED
        forget_bugs(btc)
        for chain in (btc, ltc):
            await chain.stop()
            await chain.check()


# --- restart --------------------------------------------------------------------------------------


async def test_a_restart_loads_what_can_change_and_every_address(autojump_clock):
    async with watched_chain(policy=replace(POLICY, settled_watch_depth=5)) as it:
        settled, expired, pending, seen = [await it.create(ttl_s=1e6) for _ in range(4)]
        gone = await it.create(ttl_s=5)
        it.node.pay(settled.destination, 100)
        it.node.mine()
        await trio.sleep(6)
        it.node.mine_empty(8)
        it.node.pay(seen.destination, 100)
        await it.told()
        assert it.supervisor.statistics().actors.loaded == 3, "the others were let go of"
        await it.restart()
        statistics = it.supervisor.statistics()
        assert (statistics.actors.loaded, statistics.actors.open) == (3, 3)
        assert statistics.destinations == 5
        [line] = it.log.of("chain loaded")[-1:]
        assert line.fields == {"chain": "btc", "addresses": 5, "invoices": 3, "height": 39}
        await it.told()
        it.node.pay_many((settled.destination, 7), (gone.destination, 7), (pending.destination, 7))
        await it.told()
        assert (await it.invoice(settled)).overpaid
        assert (await it.invoice(gone)).late
        assert (await it.invoice(pending)).underpaid
        assert (await it.invoice(expired)).state is State.PENDING


async def test_a_store_that_fails_at_the_start_fails_the_start(autojump_clock):
    async with watched_chain(started=False) as it:
        it.store.fail("cursor", TransientError("database is locked"))
        with pytest.raises(ExceptionGroup) as caught:
            await it.start()
        assert caught.group_contains(TransientError, match="locked")
        it.starts = 0


async def test_an_invoice_created_while_the_node_is_down_is_watched(autojump_clock):
    async with watched_chain() as it:
        it.node.fail_with = REFUSED
        it.node.disconnect()
        await it.told()
        invoice = await it.create()
        it.node.mine(it.node.make(invoice.destination, 100), count=2)
        it.node.fail_with = None
        await trio.sleep(8)
        assert (await it.invoice(invoice)).state is State.SETTLED


async def test_a_creation_that_failed_leaves_an_address_that_harms_nobody(autojump_clock):
    async with watched_chain() as it:
        it.store.fail("append", TransientError("database is locked"))
        terms = it.terms()
        with pytest.raises(TransientError):
            await it.supervisor.create(terms)
        it.node.pay(terms.destination, 100)
        it.node.mine()
        await it.told()
        assert it.health().state is ChainState.CURRENT
        assert len(it.log.of("never recorded")) >= 1
        assert it.supervisor.statistics().actors.loaded == 0


# --- invoices set aside ---------------------------------------------------------------------------


async def test_an_invoice_with_a_bug_does_not_hold_up_the_chain_and_is_told_again(
    autojump_clock, poison
):
    async with watched_chain() as it:
        sick, sound = await it.create(), await it.create()
        poison.add(sick.invoice_id)
        it.node.pay_many((sick.destination, 100), (sound.destination, 100))
        it.node.mine(count=3)
        await it.told()
        assert (await it.invoice(sound)).state is State.SETTLED
        assert (await it.invoice(sick)).state is State.PENDING
        assert it.health().tip == it.node.blocks[-1][0], "the cursor goes on"
        assert it.supervisor.statistics().actors.set_aside == 1
        assert await it.store.quarantined("btc") == {sick.invoice_id: 31}
        crashes = it.log.of("actor crashed")
        assert {line.fields["invoice"] for line in crashes} == {str(sick.invoice_id)}
        forget_bugs(it)
        seq = await it.store.last_seq()
        await it.restart()
        await it.told()
        assert await it.store.quarantined("btc") == {sick.invoice_id: 31}, "the bug is still there"
        assert await it.store.last_seq() == seq
        forget_bugs(it)
        poison.clear()
        await it.restart()
        await it.told()
        assert (await it.invoice(sick)).state is State.SETTLED
        assert await it.store.quarantined("btc") == {}
        assert it.supervisor.statistics().actors.set_aside == 0
        [line] = it.log.of("reading blocks again")[-1:]
        assert line.fields["from_height"] == 31
        assert (await it.kinds(sound)).count("invoice.settled") == 1


async def test_what_was_missed_below_the_window_is_told_again_too(autojump_clock, poison):
    async with watched_chain() as it:
        sick = await it.create(ttl_s=1e6)
        poison.add(sick.invoice_id)
        it.node.pay(sick.destination, 100)
        it.node.mine()
        await it.told()
        it.node.mine_empty(2 * POLICY.reorg_limit)
        await it.told()
        forget_bugs(it)
        poison.clear()
        await it.restart()
        await it.told()
        found = await it.invoice(sick)
        assert found.state is State.SETTLED
        assert found.payments[0].height == 31
        assert await it.store.quarantined("btc") == {}
        assert it.health().tip == it.node.blocks[-1][0]


async def test_a_node_that_lacks_the_blocks_to_tell_again_is_waited_for(autojump_clock, poison):
    async with watched_chain() as it:
        sick = await it.create(ttl_s=1e6)
        poison.add(sick.invoice_id)
        it.node.pay(sick.destination, 100)
        it.node.mine()
        it.node.mine_empty(2 * POLICY.reorg_limit)
        await it.told()
        forget_bugs(it)
        poison.clear()
        await it.stop()
        full = it.node.blocks
        it.node.switch_to(full[:20])
        await it.start()
        await trio.sleep(10)
        assert it.health().state is ChainState.UNREACHABLE
        assert "does not have block 30 yet" in str(it.health().reason)
        it.node.switch_to(full)
        await trio.sleep(10)
        assert (await it.invoice(sick)).state is State.SETTLED


async def test_a_reorg_reaches_an_invoice_that_was_set_aside_above_it(autojump_clock, poison):
    """Its payment's block goes stale while it is aside; being told from the bug on is too late."""
    async with watched_chain() as it:
        sick = await it.create(ttl_s=1e6, confirmations=50)
        tx = it.node.pay(sick.destination, 60)
        it.node.mine(count=3)
        await it.told()
        poison.add(sick.invoice_id)
        it.node.mine(it.node.make(sick.destination, 40))
        await it.told()
        assert await it.store.quarantined("btc") == {sick.invoice_id: 34}
        it.node.reorg(4)
        await it.told()
        assert await it.store.quarantined("btc") == {sick.invoice_id: 31}
        forget_bugs(it)
        poison.clear()
        theft = it.node.steal(tx)
        it.node.mine(theft)
        await it.restart()
        await trio.sleep(2 * POLICY.eviction_grace_s)
        payments = {p.amount_base: p for p in (await it.invoice(sick)).payments}
        assert payments[60].gone is not None
        assert payments[40].unconfirmed


# --- bounds ---------------------------------------------------------------------------------------


async def test_news_beyond_the_mailbox_wait_and_are_not_lost(autojump_clock):
    async with watched_chain() as it:
        held = await it.create()
        invoices = [await it.create() for _ in range(50)]
        it.store.gate = trio.Event()
        it.node.pay(held.destination, 100)
        await trio.testing.wait_all_tasks_blocked()
        for round_number in range(60):
            for invoice in invoices:
                it.node.pay(invoice.destination, 1 + round_number)
        await trio.testing.wait_all_tasks_blocked()
        mailbox = it.supervisor.statistics().mailbox
        assert mailbox is not None
        assert (mailbox.depth, mailbox.senders_waiting) == (SIGNALS, 1)
        it.store.gate.set()
        await it.told()
        for invoice in invoices:
            assert len((await it.invoice(invoice)).payments) == 60


async def test_statistics_before_and_after_a_payment(autojump_clock):
    async with watched_chain() as it:
        invoice = await it.create()
        it.node.pay(invoice.destination, 100)
        it.node.mine(count=2)
        await it.told()
        statistics = it.supervisor.statistics()
        assert (statistics.actors.loaded, statistics.actors.open) == (1, 0)
        assert statistics.progress.blocks_read == 2
        assert statistics.destinations == 1
        await it.stop()
