"""The router: one look-up per mention, everybody concerned is told, nobody else is woken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from actors.core.agenda import SLICE
from actors.core.chain_events import (
    BlockConnected,
    BlocksDisconnected,
    ChainTx,
    MempoolChanged,
    OutPoint,
    Output,
    RefusedOutput,
    Removal,
    RemovedTx,
)
from actors.core.events import Terms
from actors.core.invoice import Invoice, State
from actors.core.watch_index import WatchIndex
from actors.invoice_actor import InvoiceActors
from actors.ports import TransientError
from actors.router import MAX_OUTPUTS, Router
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.invoices import ASSET, CREATED_MS, EXPIRES_MS, block, txid
from tests.helpers.ledger import creation
from tests.helpers.recording_log import RecordingLog

NOW_MS = CREATED_MS + 60_000


class Routed:
    """A router with real actors behind it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.store = FaultyStore()
        self.router = Router(WatchIndex())
        self.actors = InvoiceActors(
            chain="btc",
            store=self.store,
            nursery=nursery,
            changed=self.router.note,
            log=RecordingLog(),
        )
        self._made = 0

    async def create(self, **changes) -> Terms:
        self._made += 1
        wanted = {"required_base": 100, "confirmations": 2, **changes}
        terms = creation(self._made, **wanted).after.terms
        self.router.index.watch(terms.destination, terms.invoice_id)
        await self.actors.create(terms)
        return terms

    def live(self, terms: Terms) -> Invoice:
        found = self.actors.invoice(terms.invoice_id)
        assert found is not None
        return found

    async def mempool(self, *txs: ChainTx) -> None:
        await self.router.route(MempoolChanged(txs, (), NOW_MS), self.actors, tip_height=9)

    async def connect(self, height: int, *txs: ChainTx, branch: str = "") -> None:
        event = BlockConnected(block(height, branch=branch, time_ms=NOW_MS), txs, NOW_MS)
        await self.router.route(event, self.actors, tip_height=height - 1)


@asynccontextmanager
async def routed() -> AsyncIterator[Routed]:
    async with trio.open_nursery() as nursery:
        yield Routed(nursery)
        nursery.cancel_scope.cancel()


def tx(name: str, *pays: tuple[Terms, int], coins: tuple[str, ...] = (), **output) -> ChainTx:
    """A transaction that spends the named coins (its own one by default)."""
    outputs = tuple(
        Output(OutPoint(txid(name), number), terms.destination, amount_base, ASSET, **output)
        for number, (terms, amount_base) in enumerate(pays)
    )
    return ChainTx(txid(name), outputs, tuple(coin.encode() for coin in coins or (name,)))


class CountingDict(dict):
    looked_up = 0

    def get(self, *args):
        self.looked_up += 1
        return super().get(*args)


async def test_a_block_costs_one_look_up_per_address_it_names_whatever_is_watched(autojump_clock):
    async with routed() as it:
        paid = await it.create()
        index = it.router.index
        index.destinations = CountingDict(index.destinations)
        for number in range(5_000):
            index.watch(b"other %d" % number, paid.invoice_id)
        index.destinations.looked_up = 0
        await it.connect(10, *(tx(f"tx {n}", (paid, 1), (paid, 2)) for n in range(20)))
        assert index.destinations.looked_up == 1
        assert it.live(paid).received_base == 60


async def test_only_those_concerned_are_woken(autojump_clock):
    async with routed() as it:
        paid, other = await it.create(), await it.create()
        before = it.live(other)
        appends = it.store.calls["append"]
        await it.mempool(tx("t", (paid, 100)))
        await it.connect(10, tx("t", (paid, 100)))
        await it.connect(11)
        await it.connect(12)
        assert it.live(paid).state is State.SETTLED
        assert it.live(other) is before
        assert it.store.calls["append"] - appends == 3, "seen, included, settled"


@pytest.mark.parametrize("theft_first", [True, False])
async def test_what_one_block_takes_and_brings_is_judged_together(autojump_clock, theft_first):
    """The deadline has passed; by its header, the block is of before that."""
    async with routed() as it:
        paid = await it.create()
        await it.mempool(tx("stolen", (paid, 100)))
        await it.router.read_up_to(EXPIRES_MS + 1, it.actors, tip_height=9)
        block_txs = (tx("thief", coins=("stolen",)), tx("one", (paid, 40)), tx("two", (paid, 60)))
        assert it.live(paid).deadline_reached
        await it.connect(10, *(block_txs if theft_first else block_txs[::-1]))
        assert it.live(paid).state is State.SEEN
        assert it.live(paid).credited_base == 100


async def test_a_block_that_brings_too_little_for_what_it_takes_ends_the_waiting(autojump_clock):
    async with routed() as it:
        paid = await it.create()
        await it.mempool(tx("stolen", (paid, 100)))
        await it.router.read_up_to(EXPIRES_MS + 1, it.actors, tip_height=9)
        thief = tx("thief", coins=("stolen",))
        await it.connect(10, thief, *(tx(f"late {n}", (paid, 1)) for n in range(70)))
        assert it.live(paid).state is State.EXPIRED


async def test_a_batch_payout_reaches_each_of_its_invoices(autojump_clock):
    async with routed() as it:
        invoices = [await it.create() for _ in range(3)]
        batch = tx("batch", *((invoice, 40 + n) for n, invoice in enumerate(invoices)))
        await it.connect(10, batch)
        assert [it.live(invoice).received_base for invoice in invoices] == [40, 41, 42]


async def test_an_output_of_nothing_wakes_nobody_and_claims_nothing(autojump_clock):
    async with routed() as it:
        invoice = await it.create()
        before = it.live(invoice)
        await it.mempool(tx("dust", (invoice, 0)))
        await it.connect(10, tx("dust", (invoice, 0)))
        assert it.live(invoice) is before
        assert it.router.index.conflicts == {}


async def test_all_payees_of_a_loser_are_told(autojump_clock):
    async with routed() as it:
        one, two = await it.create(), await it.create()
        await it.mempool(tx("t", (one, 100), (two, 100), coins=("coin",)))
        await it.connect(10, tx("u", (one, 100), coins=("coin",)))
        assert [p.gone for p in it.live(one).payments] == [Removal.DOUBLE_SPENT, None]
        assert [p.gone for p in it.live(two).payments] == [Removal.DOUBLE_SPENT]
        assert it.live(two).payments[0].gone_by == txid("u")


async def test_a_replacement_of_several_displaces_each(autojump_clock):
    async with routed() as it:
        one, two, three = [await it.create() for _ in range(3)]
        await it.mempool(tx("t", (one, 100), coins=("a",)), tx("u", (two, 100), coins=("b",)))
        await it.mempool(tx("v", (three, 100), coins=("a", "b")))
        assert it.live(one).payments[0].gone is Removal.REPLACED
        assert it.live(two).payments[0].gone is Removal.REPLACED
        assert it.live(three).state is State.SEEN


async def test_a_payment_met_in_a_block_is_guarded_after_a_reorg(autojump_clock):
    """It never was in our mempool; its inputs are known all the same."""
    async with routed() as it:
        invoice = await it.create()
        await it.connect(10, tx("t", (invoice, 100), coins=("coin",)))
        event = BlocksDisconnected(block(9), 1, NOW_MS)
        await it.router.route(event, it.actors, tip_height=10)
        assert it.live(invoice).payments[0].unconfirmed
        await it.connect(10, tx("theft", coins=("coin",)), branch="b")
        assert it.live(invoice).payments[0].gone is Removal.DOUBLE_SPENT
        assert it.live(invoice).state is State.PENDING


async def test_a_payment_in_another_block_of_the_height_is_taken_out_of_it(autojump_clock):
    async with routed() as it:
        invoice = await it.create()
        await it.connect(10, tx("t", (invoice, 100)))
        await it.connect(10, branch="b")
        assert it.live(invoice).payments[0].unconfirmed
        await it.connect(11, tx("t", (invoice, 100)), branch="b")
        assert it.live(invoice).payments[0].height == 11


async def test_an_invoice_settles_at_the_very_height_it_needs(autojump_clock):
    async with routed() as it:
        invoice = await it.create(confirmations=4)
        await it.connect(10, tx("t", (invoice, 100)))
        for height in (11, 12):
            await it.connect(height)
            assert it.live(invoice).state is State.SEEN
        await it.connect(13)
        assert it.live(invoice).state is State.SETTLED


async def test_a_reminder_that_no_longer_applies_wakes_nobody(autojump_clock):
    async with routed() as it:
        invoice = await it.create(confirmations=4)
        await it.connect(10, tx("t", (invoice, 100), coins=("coin",)))
        await it.router.route(BlocksDisconnected(block(9), 1, NOW_MS), it.actors, tip_height=10)
        appends = it.store.calls["append"]
        for height in range(10, 15):
            await it.connect(height, branch="b")
        assert it.store.calls["append"] == appends
        assert it.live(invoice).state is State.SEEN


async def test_deadlines_pass_for_open_invoices_only(autojump_clock):
    async with routed() as it:
        paid, unpaid, later = [
            await it.create(expires_at_ms=EXPIRES_MS + extra) for extra in (0, 0, 1)
        ]
        await it.connect(10, tx("t", (paid, 100)))
        await it.connect(11)
        appends = it.store.calls["append"]
        await it.router.read_up_to(EXPIRES_MS - 1, it.actors, tip_height=11)
        assert it.store.calls["append"] == appends
        await it.router.read_up_to(EXPIRES_MS, it.actors, tip_height=11)
        assert it.store.calls["append"] == appends + 1
        assert it.live(unpaid).state is State.EXPIRED
        assert it.live(paid).state is State.SETTLED
        assert it.live(later).state is State.PENDING


async def test_invoices_too_deep_to_move_are_let_go_of_and_their_addresses_stay(autojump_clock):
    async with routed() as it:
        count = 2 * SLICE + 1
        for _ in range(count):
            await it.create()
        settled = await it.create(watch_depth=3)
        await it.router.read_up_to(EXPIRES_MS + count, it.actors, tip_height=9)
        await it.connect(10, tx("t", (settled, 100)))
        assert it.actors.statistics().loaded == 1, "the expired ones have nothing left to see"
        for height in (11, 12):
            await it.connect(height)
            assert it.actors.statistics().loaded == 1
        await it.connect(13)
        assert it.actors.statistics().loaded == 0
        index = it.router.index
        assert len(index.destinations) == count + 1
        assert (index.conflicts, index.unconfirmed, index.by_height) == ({}, {}, {})
        assert not any(index.destinations.values()), "whose they are is for the store to say"
        assert it.store.calls["owners"] == 0, "it was not asked about those in memory"
        it.store.fail("owners", TransientError("busy"), times=2)
        await it.mempool(tx("more", (settled, 1)))
        assert it.live(settled).overpaid
        await it.connect(14, tx("more", (settled, 1)))
        assert it.store.calls["owners"] == 3, "insisted on, and asked once"
        assert index.owner(settled.destination) == settled.invoice_id


async def test_who_leaves_memory_while_the_store_is_asked_for_others_still_gets_its_mail(
    autojump_clock,
):
    async with routed() as it:
        gone, held = await it.create(watch_depth=1), await it.create()
        await it.connect(10, tx("t", (gone, 100)))
        await it.connect(11)
        await it.connect(12)
        assert it.router.index.owner(gone.destination) is None
        ask = it.store.owners

        async def slow(chain, destinations):
            found = await ask(chain, destinations)
            it.router.note(it.live(held), None)
            return found

        it.store.owners = slow
        await it.connect(13, tx("both", (gone, 5), (held, 7)))
        assert (await it.store.invoice(gone.invoice_id)).invoice.received_base == 105
        assert (await it.store.invoice(held.invoice_id)).invoice.received_base == 7


async def test_an_address_that_the_store_does_not_know_stops_the_chain_and_is_not_passed_over(
    autojump_clock,
):
    async with routed() as it:
        ours = await it.create()
        it.router.index.watch_stored(b"never given out")
        stray = replace(ours, destination=b"never given out")
        with pytest.raises(AssertionError, match=b"never given out".hex()):
            await it.connect(10, tx("t", (ours, 100), (stray, 1)))


# --- locks, keys, refusals ------------------------------------------------------------------------


async def test_a_lock_ends_at_the_very_tip_and_settles_what_is_deep_enough(autojump_clock):
    async with routed() as it:
        invoice, other = await it.create(), await it.create()
        await it.connect(10, tx("t", (invoice, 100), unlock_height=14))
        await it.connect(11, tx("u", (other, 50), unlock_height=99))
        for height in (12, 13):
            await it.connect(height)
            assert it.live(invoice).state is State.PENDING
        before = it.live(other)
        await it.connect(14)
        assert it.live(invoice).state is State.SETTLED
        assert it.live(other) is before


async def test_a_lock_that_had_ended_when_the_money_was_seen_is_none(autojump_clock):
    async with routed() as it:
        invoice = await it.create(confirmations=0)
        await it.mempool(tx("t", (invoice, 40), unlock_height=10))
        assert it.live(invoice).credited_base == 0
        await it.mempool(tx("u", (invoice, 100), unlock_height=9))
        assert it.live(invoice).state is State.SETTLED


async def test_an_instant_ends_a_lock_and_settles_what_is_deep_enough(autojump_clock):
    async with routed() as it:
        invoice = await it.create()
        await it.connect(10, tx("t", (invoice, 100), unlock_ms=NOW_MS + 5))
        await it.connect(11)
        await it.router.read_up_to(NOW_MS + 4, it.actors, tip_height=11)
        assert it.live(invoice).state is State.PENDING
        await it.router.read_up_to(NOW_MS + 5, it.actors, tip_height=11)
        assert it.live(invoice).state is State.SETTLED


async def test_a_lock_of_a_closed_invoice_keeps_it_until_it_has_ended(autojump_clock):
    async with routed() as it:
        expired = await it.create(watch_depth=2)
        await it.router.read_up_to(EXPIRES_MS + 1, it.actors, tip_height=9)
        await it.connect(10, tx("t", (expired, 100), unlock_height=20, coins=("coin",)))
        for height in range(11, 20):
            await it.connect(height)
        assert it.actors.statistics().loaded == 1
        await it.connect(20)
        assert it.actors.statistics().loaded == 0
        row = await it.store.invoice(expired.invoice_id)
        assert row is not None
        assert row.invoice.unlock_height() is None
        assert row.invoice.payments[0].late
        await it.mempool(tx("u", (expired, 1), unlock_ms=EXPIRES_MS + 50))
        await it.connect(22, tx("u", (expired, 1), unlock_ms=EXPIRES_MS + 50))
        for height in range(23, 30):
            await it.connect(height)
        assert it.live(expired).unlock_ms() == EXPIRES_MS + 50
        await it.router.read_up_to(EXPIRES_MS + 50, it.actors, tip_height=29)
        await it.connect(30)
        assert it.actors.statistics().loaded == 0


async def test_reminders_of_locks_that_are_gone_wake_nobody(autojump_clock):
    async with routed() as it:
        invoice = await it.create()
        locked = {"unlock_height": 12, "coins": ("coin",)}
        await it.mempool(tx("t", (invoice, 100), **locked))
        await it.mempool(tx("theft", coins=("coin",)))
        appends = it.store.calls["append"]
        for height in range(10, 14):
            await it.connect(height)
        assert it.store.calls["append"] == appends


async def test_outputs_beyond_the_bound_are_added_up_unless_more_tells_them_apart(autojump_clock):
    async with routed() as it:
        plain, keyed, locked = [await it.create(confirmations=0) for _ in range(3)]
        count = MAX_OUTPUTS + 6
        await it.mempool(tx("plain", *[(plain, 1)] * count))
        await it.mempool(tx("keyed", *[(keyed, 1)] * count, one_time_key=b"P"))
        await it.mempool(tx("height", *[(locked, 1)] * count, unlock_height=99))
        await it.mempool(tx("time", *[(locked, 1)] * count, unlock_ms=2**50))
        assert [len(it.live(one).payments) for one in (plain, keyed, locked)] == [
            MAX_OUTPUTS,
            count,
            2 * count,
        ]
        assert it.live(plain).received_base == count
        assert it.live(keyed).received_base == 1


async def test_a_refused_output_reaches_its_invoice_once_from_mempool_and_block(autojump_clock):
    async with routed() as it:
        one, two = await it.create(), await it.create()
        lies = tuple(
            RefusedOutput(OutPoint(txid("lie"), number), destination, ASSET, "it proves nothing")
            for number, destination in enumerate(
                (one.destination, one.destination, two.destination, b"a stranger")
            )
        )
        lie = ChainTx(txid("lie"), (), (b"coin",), refused=lies)
        await it.mempool(lie)
        await it.mempool(lie)
        await it.connect(10, lie)
        assert [len(it.live(invoice).refused) for invoice in (one, two)] == [2, 1]
        assert it.live(one).received_base == 0
        assert it.router.index.conflicts == {}


# --- rivals ---------------------------------------------------------------------------------------


async def test_who_has_a_rival_is_told_how_it_ends(autojump_clock):
    async with routed() as it:
        robbed, kept = await it.create(), await it.create()
        await it.mempool(tx("t", (robbed, 100), coins=("a",)), tx("u", (kept, 100), coins=("b",)))
        contested = tuple(RemovedTx(txid(name), Removal.CONTESTED) for name in ("t", "u"))
        event = MempoolChanged((), contested, NOW_MS)
        await it.router.route(event, it.actors, tip_height=9)
        assert it.live(robbed).state is it.live(kept).state is State.PENDING
        await it.connect(10, tx("rival", coins=("a",)), tx("u", (kept, 100), coins=("b",)))
        assert [p.gone for p in it.live(robbed).payments] == [Removal.DOUBLE_SPENT]
        assert it.live(robbed).payments[0].gone_by == txid("rival")
        assert it.live(kept).state is State.SEEN
        assert it.router.index.contested == {}
