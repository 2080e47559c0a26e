"""The event log's contract, on every store."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
import trio
import trio.testing

from actors.core.invoice import Invoice, fold
from actors.ports import Committed, Step, Store, VersionConflict
from daemon.store.errors import ReuseError
from tests.helpers.ledger import creation, grow, payment, record, seqs, settlement
from tests.store.conftest import Opener

STORES = ["memory", "sqlite", "postgresql", "shared"]
pytestmark = pytest.mark.parametrize("open_again", STORES, indirect=True)
"""A store that is shared keeps the contract as well, here with one process on it."""


async def test_an_append_answers_with_what_it_recorded(store: Store) -> None:
    new = creation(1)
    done = await store.append(None, [new])
    assert done == (Committed(1, None, new.event, new.after),)
    paid = payment(new.after)
    assert len(paid) == 2
    done = await store.append(new.after, paid)
    assert done == (
        Committed(2, new.after, paid[0].event, paid[0].after),
        Committed(3, paid[0].after, paid[1].event, paid[1].after),
    )
    assert await store.last_seq() == 3


async def test_history_folds_to_the_stored_and_the_live_state(store: Store) -> None:
    invoice = await grow(store, 7)
    await grow(store, 8)
    invoice = await record(store, invoice, payment(invoice))
    invoice = await record(store, invoice, settlement(invoice))
    history = await store.history(invoice.terms.invoice_id)
    assert [entry.version for entry in history] == list(range(1, invoice.version + 1))
    assert fold(entry.event for entry in history) == invoice
    row = await store.invoice(invoice.terms.invoice_id)
    assert row is not None
    assert row.invoice == invoice
    assert row.updated_seq == history[-1].seq
    live = await store.live("btc", tip_height=0)
    assert invoice in live


async def test_what_is_unknown_is_empty(store: Store) -> None:
    assert await store.history(UUID(int=1)) == ()
    assert await store.invoice(UUID(int=1)) is None
    assert await store.read(after_seq=0, limit=10) == ()
    assert await store.last_seq() == 0
    assert await store.live("btc", tip_height=0) == ()
    assert await store.destinations("btc") == ()


async def test_an_old_state_is_refused_and_nothing_recorded(store: Store) -> None:
    created = await grow(store, 1)
    paid = await record(store, created, payment(created))
    again = await store.append(created, payment(created))
    assert again == VersionConflict(created.terms.invoice_id, 1)
    assert await store.last_seq() == 3
    row = await store.invoice(created.terms.invoice_id)
    assert row is not None
    assert row.invoice == paid


async def test_a_second_creation_is_refused(store: Store) -> None:
    created = await grow(store, 1)
    assert await store.append(None, [creation(1)]) == VersionConflict(created.terms.invoice_id, 0)
    assert await store.last_seq() == 1


async def test_facts_of_an_invoice_that_was_never_created_are_refused(store: Store) -> None:
    stranger = creation(1).after
    done = await store.append(stranger, payment(stranger))
    assert done == VersionConflict(stranger.terms.invoice_id, 1)
    assert await store.last_seq() == 0
    assert await store.history(stranger.terms.invoice_id) == ()


async def test_steps_with_a_gap_are_a_bug(store: Store) -> None:
    created = await grow(store, 1)
    with pytest.raises(AssertionError):
        await store.append(created, payment(created)[1:])
    with pytest.raises(AssertionError):
        await store.append(created, [])
    with pytest.raises(AssertionError):
        await store.append(None, payment(created))
    assert await store.last_seq() == 1


@pytest.mark.parametrize(
    "same", [{"destination": (1).to_bytes(22, "big")}, {"path": (0, 1)}], ids=["address", "index"]
)
async def test_no_address_and_no_index_is_used_twice(store: Store, same: dict[str, object]) -> None:
    await grow(store, 1)
    with pytest.raises(ReuseError):
        await store.append(None, [creation(2, **same)])
    assert await store.last_seq() == 1
    assert await grow(store, 3)
    assert await store.last_seq() == 2, "the refused one leaves no hole"


async def test_any_text_and_any_bytes_come_back(store: Store) -> None:
    texts = ['"', "\\", '\\"', "a,b", "{}", "NULL", "", " ", "'; --", "\n\t", "%s ? :x", "ünï ₿ 🪙"]
    made = [
        await grow(
            store,
            number,
            address=text,
            network=text,
            asset=text,
            destination=text.encode() + bytes(range(256)),
            required_base=2**200 + number,
        )
        for number, text in enumerate(texts, 1)
    ]
    assert sorted(await store.live("btc", tip_height=0), key=lambda i: i.terms.path) == made
    assert dict(await store.destinations("btc")) == {
        invoice.terms.destination: invoice.terms.invoice_id for invoice in made
    }
    for invoice in made:
        history = await store.history(invoice.terms.invoice_id)
        assert fold(entry.event for entry in history) == invoice


async def test_addresses_tell_their_invoices_by_the_chain(store: Store) -> None:
    made = [await grow(store, number, destination=b"%d" % number) for number in range(1, 6)]
    other = await grow(store, 6, chain="ltc", destination=b"6")
    asked = [b"%d" % number for number in range(2, 5_000)]
    assert await store.owners("btc", asked) == {
        one.terms.destination: one.terms.invoice_id for one in made[1:]
    }
    assert await store.owners("ltc", asked) == {b"6": other.terms.invoice_id}
    assert await store.owners("btc", ()) == {}


async def test_another_chain_or_account_may_have_the_same(store: Store) -> None:
    await grow(store, 1)
    await grow(store, 2, destination=(1).to_bytes(22, "big"), chain="ltc")
    await grow(store, 3, path=(0, 1), account_id=2)
    assert await store.last_seq() == 3


async def test_hundreds_of_appenders_get_one_order(open_again: Opener) -> None:
    heard: list[Committed] = []

    def listen(facts: list[Committed]) -> None:
        assert facts
        heard.extend(facts)

    answered: list[Committed] = []
    async with open_again(listen) as store:

        async def live_through(number: int) -> None:
            invoice: Invoice | None = None
            for make in (None, payment, settlement):
                new = [creation(number)] if invoice is None or make is None else make(invoice)
                done = await store.append(invoice, new)
                assert not isinstance(done, VersionConflict)
                assert heard[done[-1].seq - 1] == done[-1], "the listener comes first"
                answered.extend(done)
                invoice = done[-1].after

        async with trio.open_nursery() as nursery:
            for number in range(1, 301):
                nursery.start_soon(live_through, number)
        total = await store.last_seq()
        assert seqs(heard) == list(range(1, total + 1)), "dense, and in the order of commits"
        assert sorted(answered, key=lambda fact: fact.seq) == heard
        entries = []
        while page := await store.read(after_seq=len(entries), limit=128):
            entries.extend(page)
        assert [(e.seq, e.event) for e in entries] == [(f.seq, f.event) for f in heard]
        assert store.statistics().events == total
        assert store.statistics().queued == 0


async def test_only_the_culprits_of_a_crowd_are_refused(store: Store) -> None:
    created = [await grow(store, number) for number in range(1, 41)]
    for invoice in created[::4]:
        await record(store, invoice, payment(invoice))
    before = await store.last_seq()
    outcomes: dict[int, object] = {}

    async def attempt(number: int, before: Invoice | None, new: list[Step]) -> None:
        try:
            outcomes[number] = await store.append(before, new)
        except ReuseError as error:
            outcomes[number] = error

    async with trio.open_nursery() as nursery:
        for number, invoice in enumerate(created, 1):
            nursery.start_soon(attempt, number, invoice, list(payment(invoice)))
        for number in range(41, 51):
            nursery.start_soon(attempt, number, None, [creation(number, path=(0, number % 45))])
    for number, invoice in enumerate(created, 1):
        late = invoice in created[::4]
        expected = VersionConflict(invoice.terms.invoice_id, 1)
        assert (outcomes[number] == expected) == late
    taken = {number for number, outcome in outcomes.items() if isinstance(outcome, ReuseError)}
    assert taken == {46, 47, 48, 49, 50}
    # Number 45 has index (0, 0); 41 to 44 keep their own.
    done = [fact for outcome in outcomes.values() if isinstance(outcome, tuple) for fact in outcome]
    assert sorted(seqs(done)) == list(range(before + 1, before + len(done) + 1))


async def test_two_who_race_for_one_invoice(store: Store) -> None:
    created = await grow(store, 1)
    outcomes = []

    async def attempt() -> None:
        outcomes.append(await store.append(created, payment(created)))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(attempt)
    won = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
    assert len(won) == 1
    assert outcomes.count(VersionConflict(created.terms.invoice_id, 1)) == 9
    assert await store.last_seq() == 3


async def test_appends_to_one_invoice_that_do_not_wait_for_each_other(store: Store) -> None:
    """A caller may queue the next facts before the last are committed, as long as they fit."""
    first = creation(1)
    paid = payment(first.after)
    settled = settlement(paid[-1].after)
    async with trio.open_nursery() as nursery:
        for before, new in ((None, [first]), (first.after, paid), (paid[-1].after, settled)):
            nursery.start_soon(record, store, before, new)
            await trio.testing.wait_all_tasks_blocked()
    row = await store.invoice(first.after.terms.invoice_id)
    assert row is not None
    assert row.invoice == settled[-1].after
    assert row.updated_seq == await store.last_seq()


async def test_a_cancelled_append_is_all_or_nothing_and_heard_if_it_happened(
    open_again: Opener,
) -> None:
    heard: list[Committed] = []
    chance = random.Random(1)
    async with open_again(heard.extend) as store:

        async def give_up(number: int) -> None:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel, scope)
                await store.append(None, [creation(number)])

        async def cancel(scope: trio.CancelScope) -> None:
            for _ in range(chance.randrange(4)):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            for number in range(1, 101):
                nursery.start_soon(give_up, number)
    async with open_again() as store:
        entries = await store.read(after_seq=0, limit=1000)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        assert [entry.event for entry in entries] == [fact.event for fact in heard]


async def test_a_cancelled_caller_records_nothing(store: Store) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.append(None, [creation(1)])
    assert scope.cancelled_caught
    assert await store.last_seq() == 0


async def test_all_is_there_again_after_a_restart(open_again: Opener) -> None:
    async with open_again() as store:
        invoice = await grow(store, 1)
        invoice = await record(store, invoice, payment(invoice))
        entries = await store.read(after_seq=0, limit=10)
    async with open_again() as store:
        assert await store.last_seq() == 3
        assert await store.read(after_seq=0, limit=10) == entries
        assert await store.live("btc", tip_height=1) == (invoice,)
        invoice = await record(store, invoice, settlement(invoice))
        assert (await store.history(invoice.terms.invoice_id))[3].seq == 4
