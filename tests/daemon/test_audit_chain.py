"""`tallyd audit` finds what was falsified, believes what it must, and says what it cannot see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from actors.core.assets import Chain
from actors.core.chain_events import OutPoint, Removal
from actors.core.invoice import State, fold
from actors.core.payment import Payment
from actors.core.policy import Band, Policy
from actors.ports import PersistentError, TransientError
from daemon.audit import chain_reading, coin_audit
from daemon.audit.chain_reading import height_before
from daemon.audit.coin_audit import Heard, OpenAddresses
from daemon.audit.findings import Trust
from daemon.audit.plain_rules import CONTRACT_FROM
from tests.helpers.auditing import audited, differences, falsify, falsify_payment
from tests.helpers.fake_chain import FakeChain
from tests.helpers.watched_chain import WatchedChain, watched_chain

DAY_S = 86_400


async def paid(it: WatchedChain, amount_base: int = 100, **changes):
    """An invoice with its money in a block, and a block on it: settled."""
    terms = await it.create(100, **{"ttl_s": DAY_S, **changes})
    it.node.pay(terms.destination, amount_base)
    await it.told()
    it.node.mine(count=2)
    await it.told()
    return terms


# --- payments -------------------------------------------------------------------------------------


async def test_a_payment_that_was_taken_out_of_the_log(autojump_clock):
    async with watched_chain() as it:
        terms = await paid(it)
        falsify(it, terms, payments=())
        report = await audited(it)
        assert differences(report) == ["unrecorded"]
        first = report.findings[0]
        txid = it.node.blocks[31][1][0].txid.hex()
        assert (first.invoice_id, first.txid) == (terms.invoice_id, txid)
        assert first.address == terms.address
        assert first.log == "nothing"
        assert first.chain.startswith("0.000001 BTC in block 31 ")
        falsify(it, terms, payments=(), state=State.PENDING)
        report = await audited(it)
        assert differences(report) == ["unrecorded", "state"]
        assert "came in time" in report.findings[1].chain
        await repair(it, terms)


async def repair(it: WatchedChain, terms) -> None:
    """Put back what follows from the log: it is looked at when the chain is closed."""
    entries = await it.store.history(terms.invoice_id)
    folded = fold(entry.event for entry in entries)
    falsify(it, terms, **{name: getattr(folded, name) for name in folded.__slots__})


async def test_a_payment_that_was_made_up(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100, ttl_s=DAY_S)
        it.node.mine(count=5)
        await it.told()
        block = it.node.blocks[32][0]
        made_up = Payment(
            OutPoint(b"\7" * 32, 0), 100, "BTC", terms.created_at_ms, late=False,
            height=block.height, block_hash=block.hash,
        )  # fmt: skip
        falsify(it, terms, payments=(made_up,), state=State.SETTLED)
        report = await audited(it)
        assert differences(report) == ["absent", "state"]
        assert report.findings[0].chain == "nothing there"
        assert report.findings[0].txid == "07" * 32
        falsify(it, terms, payments=(replace(made_up, asset="LTC"),), state=State.PENDING)
        assert differences(await audited(it)) == ["absent"]
        waiting = replace(made_up, height=None, block_hash=None)
        falsify(it, terms, payments=(waiting,), state=State.SEEN)
        report = await audited(it)
        assert (differences(report), report.trust[Trust.UNCONFIRMED]) == ([], 1)
        it.clock.jump(3600)
        it.node.mine()
        await it.told()
        report = await audited(it)
        assert differences(report) == ["absent", "state"]
        assert report.findings[0].chain == "neither in the mempool nor in a block"
        await repair(it, terms)


async def test_another_amount_asset_and_place(autojump_clock):
    async with watched_chain() as it:
        terms = await paid(it)
        falsify_payment(it, terms, amount_base=90)
        report = await audited(it)
        assert differences(report) == ["amount"]
        assert (report.findings[0].log, report.findings[0].chain) == (
            "0.0000009 BTC",
            "0.000001 BTC",
        )
        await repair(it, terms)
        falsify_payment(it, terms, asset="USDT_TON")
        assert differences(await audited(it)) == ["asset"]
        await repair(it, terms)
        falsify_payment(it, terms, height=30)
        report = await audited(it)
        assert differences(report) == ["place"]
        assert report.findings[0].log.startswith("0.000001 BTC in block 30 ")
        assert report.findings[0].chain.startswith("in block 31 ")
        await repair(it, terms)
        falsify_payment(it, terms, block_hash=b"\1" * 32)
        assert differences(await audited(it)) == ["place"]
        falsify_payment(it, terms, height=None, block_hash=None)
        assert differences(await audited(it)) == ["place"]
        falsify_payment(it, terms, gone=Removal.EVICTED)
        report = await audited(it)
        assert differences(report) == ["place"]
        assert report.findings[0].log == "gone: evicted"
        await repair(it, terms)
        assert differences(await audited(it)) == []


async def test_one_of_several_outputs_is_missing(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100)
        it.node.pay(terms.destination, 60, 40)
        it.node.mine(count=2)
        await it.told()
        stored = await it.invoice(terms)
        falsify(it, terms, payments=stored.payments[:1])
        report = await audited(it)
        assert differences(report) == ["unrecorded"]
        assert report.findings[0].log == "of this transaction only 1 others"
        await repair(it, terms)


async def test_more_outputs_than_are_recorded_one_by_one(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100)
        it.node.pay(terms.destination, *[1] * 100)
        it.node.mine(count=2)
        await it.told()
        assert len((await it.invoice(terms)).payments) == 64
        assert differences(await audited(it)) == []
        falsify_payment(it, terms, 63, amount_base=36)
        assert differences(await audited(it)) == ["amount"]
        await repair(it, terms)


async def test_an_alarm_that_was_taken_out(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100)
        it.node.lie(terms.destination)
        it.node.mine()
        await it.told()
        assert differences(await audited(it)) == []
        falsify(it, terms, refused=())
        assert differences(await audited(it)) == ["refused"]
        await repair(it, terms)


# --- late or in time ------------------------------------------------------------------------------


async def test_money_that_was_called_late(autojump_clock):
    async with watched_chain() as it:
        terms = await paid(it)
        falsify_payment(it, terms, late=True)
        falsify(it, terms, state=State.EXPIRED)
        report = await audited(it)
        assert differences(report) == ["late"]
        assert report.findings[0].log == "late"
        assert report.findings[0].chain.endswith("s before the deadline")
        await repair(it, terms)
        falsify(it, terms, state=State.EXPIRED)
        report = await audited(it)
        assert differences(report) == ["state"]
        assert report.findings[0].log == "expired"
        falsify(it, terms, state=State.CANCELLED)
        assert differences(await audited(it)) == ["late"]
        await repair(it, terms)


async def test_money_that_was_called_timely(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100, ttl_s=60)
        await trio.sleep(70)
        it.node.pay(terms.destination, 100)
        it.node.mine(count=2)
        await it.told()
        stored = await it.invoice(terms)
        assert (stored.state, stored.late) == (State.EXPIRED, True)
        falsify_payment(it, terms, late=False)
        report = await audited(it)
        assert differences(report) == ["late", "state"]
        assert "in time, though first seen" in report.findings[0].log
        falsify_payment(it, terms, late=True, accepted=True)
        report = await audited(it)
        assert differences(report) == ["late", "state"]
        assert report.findings[0].chain == "no policy accepts late money"
        # Who changes the instant too is believed: only the log knows it.
        falsify_payment(
            it, terms, late=False, accepted=False, first_seen_ms=terms.expires_at_ms - 1
        )
        falsify(it, terms, state=State.SETTLED)
        report = await audited(it)
        assert (differences(report), report.trust[Trust.FIRST_SEEN]) == ([], 1)
        await repair(it, terms)


async def test_what_was_judged_late_shortly_before_the_deadline_is_believed(autojump_clock):
    async with watched_chain() as it:
        terms = await paid(it, ttl_s=60)
        falsify_payment(it, terms, late=True)
        falsify(it, terms, state=State.EXPIRED)
        report = await audited(it)
        assert (differences(report), report.trust[Trust.JUDGED_LATE]) == ([], 1)
        await repair(it, terms)


async def test_late_money_that_a_policy_accepts_is_believed(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100, ttl_s=60, policy=Policy(accept_late_s=600))
        await trio.sleep(70)
        it.node.pay(terms.destination, 100)
        it.node.mine(count=2)
        await it.told()
        assert (await it.invoice(terms)).state is State.SETTLED
        report = await audited(it)
        assert (differences(report), report.trust[Trust.LATE_POLICY]) == ([], 1)
        falsify(it, terms, state=State.EXPIRED)
        assert differences(await audited(it)) == ["state"]
        await repair(it, terms)


# --- states ---------------------------------------------------------------------------------------


async def test_settled_before_its_confirmations(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100, confirmations=4)
        it.node.pay(terms.destination, 100)
        it.node.mine(count=2)
        await it.told()
        assert (await it.invoice(terms)).state is State.SEEN
        falsify(it, terms, state=State.SETTLED)
        report = await audited(it)
        assert differences(report) == ["state"]
        assert report.findings[0].chain.startswith("0 BTC has the confirmations")
        await repair(it, terms)


async def test_settled_and_then_moved_to_a_younger_block_is_no_difference(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100, confirmations=3)
        tx = it.node.pay(terms.destination, 100)
        it.node.mine(count=3)
        await it.told()
        assert (await it.invoice(terms)).state is State.SETTLED
        it.node.reorg(3, take=(), count=4)
        await it.told()
        it.node.mine(tx)
        await it.told()
        report = await audited(it)
        assert (differences(report), report.trust[Trust.MOVED]) == ([], 1)


async def test_deep_enough_and_not_settled(autojump_clock):
    async with watched_chain() as it:
        terms = await paid(it)
        falsify(it, terms, state=State.SEEN)
        report = await audited(it)
        assert differences(report) == ["state"]
        assert report.findings[0].log == "waits for confirmations"
        await repair(it, terms)


async def test_an_alarm_that_is_raised_for_nothing_or_not_at_all(autojump_clock):
    async with watched_chain() as it:
        terms = await paid(it)
        falsify(it, terms, reversed=True)
        assert differences(await audited(it)) == ["reversed"]
        await repair(it, terms)
        tx = it.node.blocks[31][1][0]
        it.node.reorg(2, take=(it.node.steal(tx),))
        await it.told()
        assert (await it.invoice(terms)).reversed
        assert differences(await audited(it)) == []
        falsify(it, terms, reversed=False)
        assert differences(await audited(it)) == ["state"]
        await repair(it, terms)


async def test_a_policy_s_tolerance_and_bands(autojump_clock):
    async with watched_chain() as it:
        policy = Policy(bands=(Band(0, 1), Band(90, 4)), tolerance_base=10)
        terms = await it.create(100, policy=policy)
        it.node.pay(terms.destination, 92)
        it.node.mine(count=3)
        await it.told()
        assert (await it.invoice(terms)).state is State.SEEN
        assert differences(await audited(it)) == []
        falsify(it, terms, state=State.SETTLED)
        assert differences(await audited(it)) == ["state"]
        await repair(it, terms)
        falsify(it, terms, state=State.PENDING)
        assert differences(await audited(it)) == ["state"]
        await repair(it, terms)
        any_amount = await it.create(0, policy=policy)
        it.node.pay(any_amount.destination, 10)
        it.node.mine(count=3)
        await it.told()
        report = await audited(it)
        assert (differences(report), report.trust[Trust.OPEN_DEPTH]) == ([], 1)


@pytest.mark.parametrize(
    ("policy", "needed"),
    [
        (Policy(tolerance_base=7), 93),
        (Policy(tolerance_bps=500), 95),
        (Policy(tolerance_base=7, tolerance_bps=500), 95),
        (Policy(tolerance_base=3, tolerance_bps=500), 97),
        (Policy(tolerance_base=3, tolerance_bps=1), 100),
    ],
)
async def test_how_much_may_be_missing(autojump_clock, policy, needed):
    async with watched_chain() as it:
        for amount_base in (needed - 1, needed):
            await paid(it, amount_base, policy=policy)
        assert differences(await audited(it)) == []


async def test_the_chain_s_own_finality(autojump_clock):
    async with watched_chain() as it:
        terms = await paid(it, finality="finalized")
        assert (await it.invoice(terms)).state is State.SEEN
        it.node.final = 30
        await it.told()
        assert differences(await audited(it)) == []
        falsify(it, terms, state=State.SETTLED)
        assert differences(await audited(it)) == ["state"]
        assert (await audited(it, source=it.node)).trust[Trust.FINALITY] == 1
        await repair(it, terms)
        it.node.final = 32
        await it.told()
        assert (await it.invoice(terms)).state is State.SETTLED
        assert differences(await audited(it)) == []
        falsify(it, terms, state=State.SEEN)
        assert (await audited(it)).trust[Trust.FINALITY] == 1
        await repair(it, terms)


async def test_two_invoices_with_one_address(autojump_clock):
    async with watched_chain() as it:
        one, two = await paid(it), await it.create(100)
        falsify(it, two, terms=replace(two, destination=one.destination))
        report = await audited(it)
        assert differences(report) == ["address"]
        assert str(one.invoice_id) in report.findings[0].log
        await repair(it, two)


# --- beside a daemon ------------------------------------------------------------------------------


async def test_what_the_daemon_has_not_read_yet_is_no_difference(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100)
        await it.stop()
        it.node.pay(terms.destination, 100)
        report = await audited(it)
        assert (differences(report), report.trust[Trust.NOT_READ]) == ([], 1)
        it.node.mine(count=3)
        report = await audited(it)
        assert (differences(report), report.to_height) == ([], 30)
        await it.start()
        await it.told()
        report = await audited(it)
        assert (differences(report), report.to_height, report.payments) == ([], 33, 1)


async def test_a_reorg_that_the_daemon_has_not_heard_of(autojump_clock):
    async with watched_chain() as it:
        terms = await paid(it)
        await it.stop()
        it.node.reorg(2, take=(it.node.steal(it.node.blocks[31][1][0]),))
        report = await audited(it)
        assert (differences(report), report.to_height) == ([], 30)
        assert report.trust[Trust.NOT_READ] == 1
        assert (await it.invoice(terms)).state is State.SETTLED


async def test_what_differs_is_looked_at_again(autojump_clock):
    """A payment is mined, and the daemon told of it, between two questions of the audit."""
    async with watched_chain() as it:
        terms = await it.create(100)
        tx = it.node.pay(terms.destination, 100)
        await it.told()
        it.clock.jump(3600)
        it.node.mine_empty()
        await it.told()

        def mine_meanwhile(question: str) -> None:
            if question == "read_mempool" and tx.txid in it.node.mempool:
                it.node.before_answer = None
                it.node.mine(count=2)

        it.node.before_answer = mine_meanwhile
        report = await audited(it)
        assert (differences(report), report.to_height) == ([], 33)


async def test_a_reorg_while_it_reads(autojump_clock):
    async with watched_chain() as it:
        await paid(it)
        tx = it.node.blocks[31][1][0]
        read = 0

        def reorg_meanwhile(question: str) -> None:
            nonlocal read
            read += question == "read_blocks"
            if read == 32:
                it.node.before_answer = None
                it.node.reorg(2, take=(tx,))

        await trio.sleep(1)
        await it.stop()
        it.node.before_answer = reorg_meanwhile
        report = await audited(it)
        assert differences(report) == []
        await it.start()
        await it.told()
        assert differences(await audited(it)) == []


async def test_an_invoice_that_is_set_aside_is_believed_from_there_on(autojump_clock):
    async with watched_chain() as it:
        terms = await it.create(100)
        await it.store.quarantine(terms.invoice_id, "btc", from_height=31)
        await it.stop()
        falsify(it, terms, updated_at_ms=1)
        it.node.pay(terms.destination, 100)
        it.node.mine(count=2)
        cursor = await it.store.cursor("btc")
        assert cursor is not None
        view = cursor.view
        for block, _ in it.node.blocks[31:]:
            view = view.connect(block, keep=20)
        await it.store.save_cursor(replace(cursor, view=view))
        report = await audited(it)
        assert (differences(report), report.trust[Trust.SET_ASIDE]) == ([], 1)
        await it.store.release(terms.invoice_id)
        assert differences(await audited(it)) == ["unrecorded", "state"]
        await repair(it, terms)


# --- what could not be looked at ------------------------------------------------------------------


async def test_pruned_blocks_are_said(autojump_clock):
    async with watched_chain() as it:
        await it.create(100)
        it.node.pruned_below = 29
        report = await audited(it)
        assert report.failure is not None
        assert "has pruned the blocks below 29" in report.failure
        assert "--node" in report.failure
        assert report.findings == []


async def test_a_node_of_another_network_or_chain_is_refused(autojump_clock):
    async with watched_chain() as it:
        await paid(it)
        other = FakeChain("ltc", clock=it.clock, height=40)
        report = await audited(it, source=other)
        assert report.failure is not None
        assert "--node must be a node of the same network" in report.failure
        twin = FakeChain("btc", clock=it.clock, height=3)
        twin.blocks = [*it.node.blocks[:2], *other.blocks[2:]]
        cursor = await it.store.cursor("btc")
        assert cursor is not None
        shallow = replace(cursor, view=replace(cursor.view, blocks=cursor.view.blocks[-5:]))
        await it.store.save_cursor(shallow)
        report = await audited(it, source=twin)
        assert report.failure is not None
        assert "has none of the last 5 blocks" in report.failure
        it.node.syncing = True
        assert "still syncing" in str((await audited(it)).failure)


async def test_a_node_that_is_behind_or_does_not_answer(autojump_clock):
    async with watched_chain() as it:
        await paid(it)
        await it.stop()
        behind = FakeChain("btc", clock=it.clock, height=0)
        behind.blocks = it.node.blocks[:30]
        report = await audited(it, source=behind)
        assert "is at block 29, and the daemon has read up to 32" in str(report.failure)
        it.node.delays_s["status"] = 60
        assert "did not answer within 30 s" in str((await audited(it)).failure)
        it.node.delays_s.clear()
        it.node.fail_with = PersistentError("HTTP 401")
        assert (await audited(it)).failure == "HTTP 401"


async def test_a_node_that_stumbles_is_asked_again(autojump_clock):
    async with watched_chain() as it:
        await paid(it)
        await it.stop()
        left = 3

        def stumble(question: str) -> None:
            nonlocal left
            it.node.fail_with = None
            if question == "read_blocks" and left:
                left -= 1
                it.node.fail_with = TransientError("connection reset")

        it.node.before_answer = stumble
        assert differences(await audited(it)) == []
        assert left == 0
        it.node.before_answer = lambda question: setattr(
            it.node, "fail_with", TransientError("reset") if question == "read_blocks" else None
        )
        assert (await audited(it)).failure == "reset"


async def test_a_daemon_that_never_ran(autojump_clock):
    async with watched_chain() as it:
        assert (await audited(it)).failure is None, "there is nothing to look at"
        await it.create(100)
        it.store._cursors.clear()
        assert "has read no block of btc yet" in str((await audited(it)).failure)
        await it.stop()


async def test_chains_replaced_deeper_than_is_remembered(autojump_clock, monkeypatch):
    monkeypatch.setattr(chain_reading, "KEPT_BLOCKS", 2)
    async with watched_chain() as it:
        await paid(it)
        await it.stop()
        read = 0

        def reorg_meanwhile(question: str) -> None:
            nonlocal read
            read += question == "read_blocks"
            if read == 30:
                it.node.before_answer = None
                it.node.remine(10)

        it.node.before_answer = reorg_meanwhile
        assert "has another chain than it had a moment ago" in str((await audited(it)).failure)


# --- parts ----------------------------------------------------------------------------------------


async def test_where_to_begin(autojump_clock):
    async with watched_chain(started=False, height=0) as it:
        for _ in range(20):
            await trio.sleep(600)
            it.node.mine_empty()
        tip = it.node.blocks[-1][0]
        for height in (0, 1, 7, 20):
            at_ms = it.node.blocks[height][0].time_s * 1000
            found = await height_before(it.node, at_ms, low=0, tip=tip)
            assert found == max(0, height - 1)
            assert await height_before(it.node, at_ms + 1000, low=0, tip=tip) == height
        assert await height_before(it.node, 0, low=3, tip=tip) == 3


async def test_only_the_blocks_that_matter_are_read(autojump_clock):
    async with watched_chain() as it:
        for _ in range(50):
            await trio.sleep(600)
            it.node.mine_empty()
        await it.told()
        await paid(it)
        seen: list[tuple[str, int, int]] = []
        report = await audited(it, progress=lambda *told: seen.append(told))
        assert report.from_height is not None
        assert report.from_height > 60, "two hours of slack are 12 blocks"
        assert seen[-1] == ("btc", report.to_height - report.from_height + 1, seen[-1][2])
        assert seen[-1][1] == seen[-1][2]


async def test_contracts_payments_are_compared_by_sum_and_believed_where_not_shown(
    autojump_clock,
):
    """One node traces, the other compares balances: the same money has two names."""
    eth = Chain("eth", "Ethereum", "evm", "ETH", 12, 1)
    async with watched_chain() as it:
        terms = await paid(it)
        it.chain = eth
        it.store._cursors["eth"] = replace(it.store._cursors["btc"], chain="eth")
        it.node._chain = "eth"
        stored = await it.invoice(terms)
        as_eth = replace(
            stored.payments[0],
            asset="ETH",
            outpoint=OutPoint(stored.payments[0].outpoint.txid, CONTRACT_FROM),
        )
        falsify(it, terms, payments=(as_eth,), terms=replace(terms, chain="eth", asset="ETH"))
        block, (tx,) = it.node.blocks[31]
        rise = replace(tx.outputs[0], asset="ETH", outpoint=OutPoint(block.hash, 2 * CONTRACT_FROM))
        it.node.blocks[31] = (block, (replace(tx, txid=block.hash, outputs=(rise,)),))
        report = await audited(it)
        assert (differences(report), report.trust[Trust.CONTRACT]) == ([], 2)
        it.node.blocks[31] = (block, ())
        assert differences(await audited(it)) == ["absent", "state"]
        heard = Heard()
        heard.error("payments by contracts are not seen from this block on", height=31)
        report = await audited(it, heard=heard)
        assert (differences(report), report.trust[Trust.CONTRACT]) == ([], 1)
        assert report.notes == ["payments by contracts are not seen from this block on (block 31)"]
        await it.stop()
        it.store._invoices.pop(terms.invoice_id)
        it.store._log.clear()
        it.published.clear()


async def test_balances_are_asked_for_while_an_invoice_was_open(autojump_clock):
    async with watched_chain() as it:
        opened, closed = await it.create(100), await paid(it)
        invoices = [await it.invoice(opened), await it.invoice(closed)]
        ask = OpenAddresses(invoices, "BTC", 1000)
        settled_ms = invoices[1].settled_at_ms
        ask.now_ms = lambda: settled_ms
        assert ask() == [opened.destination, closed.destination]
        ask.now_ms = lambda: settled_ms + 1001
        assert ask() == [opened.destination]
        ask.now_ms = lambda: 0
        assert ask() == []
        assert OpenAddresses(invoices, "ETH", 1000)() == []


def test_a_driver_that_talks_without_end_is_bounded():
    heard = Heard()
    for number in range(100):
        heard.warning(f"trouble {number}")
        heard.warning("trouble 0")
        heard.debug("nothing")
        heard.info("nothing")
    assert len(heard.problems) == 20
    assert coin_audit.LOOKS >= 2
