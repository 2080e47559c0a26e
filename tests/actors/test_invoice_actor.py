"""An invoice's actor: acknowledged means durable, a bug stays with its invoice, nothing is lost."""

import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
import trio
import trio.testing

from actors import invoice_actor
from actors.core.decision import decide
from actors.core.inputs import CancelAsked, Input, TipReached, TxIncluded, TxSeen
from actors.core.invoice import Invoice, State
from actors.invoice_actor import ATTEMPTS, RETRY_S, InvoiceActor, InvoiceActors
from actors.ports import Committed, PersistentError, Step, TransientError, VersionConflict
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.invoices import CREATED_MS, block, included, seen
from tests.helpers.ledger import creation
from tests.helpers.recording_log import RecordingLog

AMOUNT = 50_000_000
LOCKED = TransientError("database is locked")


class House:
    """Invoice actors on a store that may fail, with all that they say."""

    def __init__(self, store: FaultyStore, nursery: trio.Nursery) -> None:
        self.store = store
        self.nursery = nursery
        self.log = RecordingLog()
        self.published: list[Committed] = []
        self.changes: list[tuple[Invoice | None, Invoice | None]] = []
        store.listen(self.published.extend)
        self.actors = InvoiceActors(
            chain="btc",
            store=store,
            nursery=nursery,
            changed=lambda before, after: self.changes.append((before, after)),
            log=self.log,
        )

    async def create(self, number: int = 1, **changes) -> Invoice:
        return await self.actors.create(creation(number, **changes).after.terms)

    async def deliver(self, mail: dict[UUID, list[Input]], height: int = 10) -> None:
        await self.actors.deliver(mail, height=height)

    def kinds(self, invoice: Invoice) -> list[str]:
        mine = invoice.terms.invoice_id
        return [c.event.kind for c in self.published if c.after.terms.invoice_id == mine]

    def live(self, invoice: Invoice) -> Invoice:
        found = self.actors.invoice(invoice.terms.invoice_id)
        assert found is not None
        return found


@asynccontextmanager
async def house(store: FaultyStore | None = None) -> AsyncIterator[House]:
    async with trio.open_nursery() as nursery:
        yield House(store or FaultyStore(), nursery)
        nursery.cancel_scope.cancel()


def pay(name: str = "pay", amount_base: int = AMOUNT) -> TxSeen:
    return seen(name, amount_base, at_ms=CREATED_MS + 60_000)


def mine(name: str = "pay", amount_base: int = AMOUNT, height: int = 10) -> TxIncluded:
    return included(name, amount_base, into=block(height), at_ms=CREATED_MS + 120_000)


def to(invoice: Invoice, *inputs: Input) -> dict[UUID, list[Input]]:
    return {invoice.terms.invoice_id: list(inputs)}


@pytest.fixture
def poison(monkeypatch):
    """Have `decide` fail for the invoices in the set, as a bug in their handling would."""
    poisoned: dict[UUID, int] = {}

    def poisoned_decide(invoice, happened, *, more):
        left = poisoned.get(invoice.terms.invoice_id, 0)
        if left:
            poisoned[invoice.terms.invoice_id] = left - 1
            raise ZeroDivisionError("a bug")
        return decide(invoice, happened, more=more)

    monkeypatch.setattr(invoice_actor, "decide", poisoned_decide)
    return poisoned


# --- creation -------------------------------------------------------------------------------------


async def test_a_created_invoice_is_durable_published_and_known(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        assert it.kinds(invoice) == ["invoice.created"]
        assert it.actors.invoice(invoice.terms.invoice_id) == invoice
        row = await it.store.invoice(invoice.terms.invoice_id)
        assert row is not None
        assert row.invoice == invoice
        assert it.changes == [(None, invoice)]
        assert it.actors.statistics().open == 1


@pytest.mark.parametrize("error", [LOCKED, PersistentError("disk is read-only"), KeyError("bug")])
async def test_a_creation_that_the_store_refuses_has_not_happened(autojump_clock, error):
    async with house() as it:
        it.store.fail("append", error)
        with pytest.raises(type(error)) as caught:
            await it.create()
        assert caught.value is error
        await trio.testing.wait_all_tasks_blocked()
        assert it.actors.statistics().loaded == 0
        assert it.actors.statistics().open == 0
        assert it.published == []
        assert it.changes == []
        assert await it.create() is not None, "the next attempt is free to succeed"


async def test_a_creation_is_finished_though_its_caller_is_cancelled(autojump_clock):
    async with house() as it:
        it.store.gate = trio.Event()
        with trio.move_on_after(1) as scope:
            await it.create()
        assert scope.cancelled_caught
        assert it.published == []
        it.store.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        [committed] = it.published
        assert it.live(committed.after) == committed.after
        await it.deliver(to(committed.after, pay()))
        assert it.live(committed.after).state is State.SEEN


async def test_mail_that_comes_during_the_creation_is_read_after_it(autojump_clock):
    async with house() as it:
        it.store.gate = trio.Event()
        terms = creation(1).after.terms
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.actors.create, terms)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(it.deliver, {terms.invoice_id: [pay()]})
            await trio.testing.wait_all_tasks_blocked()
            assert it.published == []
            it.store.gate.set()
        assert [c.event.kind for c in it.published] == [
            "invoice.created",
            "payment.seen",
            "invoice.covered",
        ]


async def test_mail_for_a_creation_that_failed_is_acknowledged(autojump_clock):
    async with house() as it:
        it.store.gate = trio.Event()
        terms = creation(1).after.terms
        async with trio.open_nursery() as nursery:

            async def refused() -> None:
                with pytest.raises(TransientError):
                    await it.actors.create(terms)

            it.store.fail("append", LOCKED, after_commit=False)
            nursery.start_soon(refused)
            nursery.start_soon(it.deliver, {terms.invoice_id: [pay()]})
        assert it.actors.statistics().loaded == 0
        assert it.published == []


# --- mail -----------------------------------------------------------------------------------------


async def test_an_actor_is_a_task_only_while_it_has_mail(autojump_clock):
    async with house() as it:
        invoices = [await it.create(number) for number in range(1, 4)]
        await trio.testing.wait_all_tasks_blocked()
        assert len(it.nursery.child_tasks) == 0
        it.store.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.deliver, to(invoices[0], pay()))
            await trio.testing.wait_all_tasks_blocked()
            assert len(it.nursery.child_tasks) == 1
            assert it.actors.statistics().awake == 1
            it.store.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(it.nursery.child_tasks) == 0
        assert it.actors.statistics().awake == 0


async def test_mail_is_acknowledged_only_when_what_follows_is_durable(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        it.store.gate = trio.Event()
        acknowledged = trio.Event()
        async with trio.open_nursery() as nursery:

            async def deliver() -> None:
                await it.deliver(to(invoice, pay()))
                acknowledged.set()

            nursery.start_soon(deliver)
            await trio.testing.wait_all_tasks_blocked()
            assert not acknowledged.is_set()
            assert it.live(invoice) == invoice, "a state is not shown before it is durable"
            it.store.gate.set()
        assert it.kinds(invoice) == ["invoice.created", "payment.seen", "invoice.covered"]
        assert it.changes[-1] == (invoice, it.live(invoice))


async def test_one_delivery_waits_for_all_its_invoices(autojump_clock):
    async with house() as it:
        quick, slow = await it.create(1), await it.create(2)
        it.store.fail("append", LOCKED, times=2, invoice_id=slow.terms.invoice_id)
        await it.deliver(to(quick, pay("a")) | to(slow, pay("b")))
        assert trio.current_time() == RETRY_S[0] + RETRY_S[1]
        assert it.live(quick).state is it.live(slow).state is State.SEEN


async def test_a_duplicate_is_acknowledged_without_a_write(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        await it.deliver(to(invoice, pay()))
        appends = it.store.calls["append"]
        await it.deliver(to(invoice, pay()))
        assert it.store.calls["append"] == appends
        assert len(it.changes) == 2


async def test_an_empty_delivery_returns_at_once(autojump_clock):
    async with house() as it:
        await it.deliver({})


async def test_several_inputs_are_one_append(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        appends = it.store.calls["append"]
        await it.deliver(to(invoice, pay(), mine(), TipReached(12, CREATED_MS + 130_000)))
        assert it.live(invoice).state is State.SETTLED
        assert it.store.calls["append"] == appends + 1


async def test_letters_are_read_in_the_order_in_which_they_came(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        it.store.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(it.deliver, to(invoice, pay(f"pay {number}", 1)))
                await trio.testing.wait_all_tasks_blocked()
            it.store.gate.set()
        names = [pay(f"pay {number}").txid for number in range(5)]
        assert [p.outpoint.txid for p in it.live(invoice).payments] == names


async def test_mail_goes_on_being_handled_though_its_sender_is_cancelled(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        it.store.gate = trio.Event()
        with trio.move_on_after(1) as scope:
            await it.deliver(to(invoice, pay()))
        assert scope.cancelled_caught
        it.store.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert it.live(invoice).state is State.SEEN


async def test_mail_for_an_invoice_that_was_never_recorded_is_logged_and_dropped(autojump_clock):
    async with house() as it:
        await it.deliver({UUID(int=77): [pay()]})
        [line] = it.log.level("warning")
        assert line.fields["invoice"] == str(UUID(int=77))
        await trio.testing.wait_all_tasks_blocked()
        assert it.actors.statistics().loaded == 0


# --- a store that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", [LOCKED, PersistentError("the disk is full")])
async def test_a_store_that_cannot_write_is_tried_again_until_it_can(autojump_clock, error):
    async with house() as it:
        invoice = await it.create()
        it.store.fail("append", error, times=6)
        await it.deliver(to(invoice, pay()))
        assert trio.current_time() == sum(RETRY_S) + 2 * RETRY_S[-1]
        assert it.kinds(invoice) == ["invoice.created", "payment.seen", "invoice.covered"]
        lines = it.log.of("store cannot write")
        assert [line.fields["retry_in_s"] for line in lines] == [*RETRY_S, 5.0, 5.0]
        assert {line.fields["reason"] for line in lines} == {str(error)}
        assert it.actors.statistics().crashes == 0


async def test_an_append_whose_answer_was_lost_is_recorded_once(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        it.store.fail("append", TransientError("connection lost"), after_commit=True)
        await it.deliver(to(invoice, pay()))
        assert it.kinds(invoice) == ["invoice.created", "payment.seen", "invoice.covered"]
        assert it.live(invoice).version == 3
        assert it.actors.statistics().open == 1
        await it.deliver(to(invoice, mine()))
        assert it.kinds(invoice)[3:] == ["payment.included"]
        await it.store.check()


async def test_a_conflict_loads_the_state_again_and_decides_anew(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        other = creation(1).after
        [event] = decide(other, pay("other", 1))
        stored = await it.store.append(other, [Step(event, invoice_actor.evolve(other, event))])
        assert not isinstance(stored, VersionConflict)
        await it.deliver(to(invoice, pay("other", 1), pay("mine", 2)))
        assert [p.amount_base for p in it.live(invoice).payments] == [1, 2]
        assert it.kinds(invoice).count("payment.seen") == 2
        await it.store.check()


async def test_conflicts_without_end_are_a_bug_and_not_a_hot_loop(autojump_clock):
    async with house() as it:
        invoice = await it.create()

        async def conflict(before, steps):
            await trio.lowlevel.checkpoint()
            return VersionConflict(invoice.terms.invoice_id, 1)

        it.store.append = conflict
        with trio.fail_after(1):
            await it.deliver(to(invoice, pay()))
        assert it.actors.set_aside() == {invoice.terms.invoice_id}


# --- a bug in one invoice -------------------------------------------------------------------------


async def test_a_bug_stays_with_its_invoice(autojump_clock, poison):
    async with house() as it:
        sick, sound = await it.create(1), await it.create(2)
        sick_id = sick.terms.invoice_id
        poison[sick_id] = 1_000
        await it.deliver(to(sick, pay("a")) | to(sound, pay("b")), height=17)
        assert it.live(sound).state is State.SEEN
        crashes = it.log.of("actor crashed")
        assert [line.fields["attempt"] for line in crashes] == list(range(1, ATTEMPTS + 1))
        assert {line.fields["invoice"] for line in crashes} == {str(sick_id)}
        assert all(isinstance(line.fields["exc_info"], ZeroDivisionError) for line in crashes)
        [aside] = it.log.of("set aside")
        assert aside.fields["invoice"] == str(sick_id)
        assert await it.store.quarantined("btc") == {sick_id: 17}
        assert it.actors.set_aside() == {sick_id}
        await trio.testing.wait_all_tasks_blocked()
        statistics = it.actors.statistics()
        assert (statistics.crashes, statistics.set_aside) == (ATTEMPTS, 1)
        assert (statistics.loaded, statistics.open) == (1, 1)
        assert it.changes.count((sick, None)) == ATTEMPTS, "the index was told that it left"
        await it.deliver(to(sound, mine("b")))
        assert it.live(sound).payments[0].height == 10


async def test_a_bug_that_passes_sets_nothing_aside(autojump_clock, poison):
    async with house() as it:
        invoice = await it.create()
        poison[invoice.terms.invoice_id] = ATTEMPTS - 1
        await it.deliver(to(invoice, pay()))
        assert it.live(invoice).state is State.SEEN
        assert it.actors.statistics().set_aside == 0
        assert await it.store.quarantined("btc") == {}
        assert it.kinds(invoice) == ["invoice.created", "payment.seen", "invoice.covered"]


async def test_the_lowest_height_that_was_missed_is_kept(autojump_clock, poison):
    async with house() as it:
        invoice = await it.create()
        poison[invoice.terms.invoice_id] = 1_000
        await it.deliver(to(invoice, pay()), height=20)
        await it.deliver(to(invoice, pay()), height=18)
        await it.deliver(to(invoice, pay()), height=25)
        assert await it.store.quarantined("btc") == {invoice.terms.invoice_id: 18}


async def test_a_stored_state_that_cannot_be_read_sets_the_invoice_aside(autojump_clock):
    async with house() as it:
        sick, sound = await it.create(1), await it.create(2)
        it.actors.retire(sick.terms.invoice_id)
        it.store.fail("invoice", ValueError("damaged"), times=99, invoice_id=sick.terms.invoice_id)
        await it.deliver(to(sick, pay("a")) | to(sound, pay("b")))
        assert it.actors.set_aside() == {sick.terms.invoice_id}
        assert it.live(sound).state is State.SEEN


async def test_quarantine_too_waits_for_the_store(autojump_clock, poison):
    async with house() as it:
        invoice = await it.create()
        poison[invoice.terms.invoice_id] = 1_000
        it.store.fail("quarantine", LOCKED, times=2)
        await it.deliver(to(invoice, pay()), height=3)
        assert trio.current_time() == RETRY_S[0] + RETRY_S[1]
        assert await it.store.quarantined("btc") == {invoice.terms.invoice_id: 3}


# --- memory ---------------------------------------------------------------------------------------


async def test_a_retired_invoice_is_loaded_again_by_late_money(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        it.actors.retire(invoice.terms.invoice_id)
        assert it.actors.invoice(invoice.terms.invoice_id) is None
        assert it.changes[-1] == (invoice, None)
        assert it.actors.statistics().loaded == it.actors.statistics().open == 0
        await it.deliver(to(invoice, pay()))
        assert it.live(invoice).state is State.SEEN
        assert it.actors.statistics().open == 1
        assert [before for before, _ in it.changes[-2:]] == [None, invoice]


async def test_an_invoice_that_is_awake_is_not_retired(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        it.store.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.deliver, to(invoice, pay()))
            await trio.testing.wait_all_tasks_blocked()
            it.actors.retire(invoice.terms.invoice_id)
            assert it.live(invoice) == invoice
            it.store.gate.set()
        assert it.live(invoice).state is State.SEEN


async def test_adopting_twice_is_a_bug(autojump_clock):
    async with house() as it:
        invoice = creation(1).after
        it.actors.adopt(invoice)
        assert it.actors.statistics().open == 1
        with pytest.raises(AssertionError, match="adopted twice"):
            it.actors.adopt(invoice)


async def test_an_idle_actor_is_small(autojump_clock):
    count = 2_000
    async with house() as it:
        it.actors._changed = lambda before, after: None
        invoices = [creation(number).after for number in range(1, count + 1)]
        tracemalloc.start()
        try:
            for invoice in invoices:
                it.actors.adopt(invoice)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown / count < 400
        assert not hasattr(InvoiceActor(UUID(int=1), None), "__dict__")


async def test_whoever_waits_for_a_creation_is_told_when_the_daemon_stops(autojump_clock):
    async with trio.open_nursery() as callers, house() as it:
        it.store.gate = trio.Event()

        async def caller() -> None:
            with pytest.raises(TransientError, match="stopped while invoice"):
                await it.create()

        callers.start_soon(caller)
        await trio.testing.wait_all_tasks_blocked()


async def test_a_creation_counts_though_mail_right_after_it_crashes(autojump_clock, poison):
    async with house() as it:
        it.store.gate = trio.Event()
        terms = creation(1).after.terms
        poison[terms.invoice_id] = 1_000
        async with trio.open_nursery() as nursery:

            async def caller() -> None:
                assert (await it.actors.create(terms)).terms == terms

            nursery.start_soon(caller)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(it.deliver, {terms.invoice_id: [pay()]})
            await trio.testing.wait_all_tasks_blocked()
            it.store.gate.set()
        assert it.actors.set_aside() == {terms.invoice_id}


async def test_a_cancelled_invoice_is_durable_when_it_was_asked(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        asked = CancelAsked(CREATED_MS + 5)
        await it.actors.ask(invoice.terms.invoice_id, asked, height=11)
        assert it.kinds(invoice) == ["invoice.created", "invoice.cancelled"]
        assert it.actors.statistics().open == 0
        await it.actors.ask(invoice.terms.invoice_id, asked, height=11)
        assert len(it.kinds(invoice)) == 2


async def test_asking_is_finished_though_who_asked_has_left(autojump_clock):
    async with house() as it:
        invoice = await it.create()
        it.store.gate = trio.Event()
        with trio.move_on_after(1):
            await it.actors.ask(invoice.terms.invoice_id, CancelAsked(CREATED_MS), height=11)
        it.store.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert it.live(invoice).state is State.CANCELLED


async def test_who_asks_is_told_when_the_daemon_stops(autojump_clock):
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        it = House(FaultyStore(), nursery)
        invoice = await it.create()
        it.store.gate = trio.Event()

        async def ask() -> None:
            with pytest.raises(TransientError, match="stopped while it looked at invoice"):
                await it.actors.ask(invoice.terms.invoice_id, CancelAsked(5), height=11)

        outer.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
