from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.core.chain_events import OutPoint, Removal
from actors.core.invoice import Invoice
from actors.core.payment import Payment
from actors.core.watch_index import WatchIndex
from tests.helpers.invoices import ASSET, DESTINATION, terms, txid

ALICE, BOB = UUID(int=1), UUID(int=2)


def invoice(invoice_id: UUID, *payments: Payment) -> Invoice:
    return Invoice(terms(invoice_id=invoice_id), payments=payments)


def payment(name: str, index: int = 0, *, height=None, branch="", gone=None) -> Payment:
    block_hash = None if height is None else txid(f"block {height}{branch}")
    outpoint = OutPoint(txid(name), index)
    return Payment(
        outpoint, 1, ASSET, 0, late=False, height=height, block_hash=block_hash, gone=gone
    )


def test_an_address_belongs_to_one_invoice_for_ever():
    index = WatchIndex()
    index.watch(DESTINATION, ALICE)
    index.watch(DESTINATION, ALICE)
    with pytest.raises(AssertionError, match="address reused"):
        index.watch(DESTINATION, BOB)
    assert index.owner(DESTINATION) == ALICE
    assert index.owner(b"somebody else's") is None


def test_an_address_stays_watched_when_its_invoice_leaves_memory():
    index, held = WatchIndex(), invoice(ALICE)
    index.watch(DESTINATION, ALICE)
    index.update(None, held)
    index.remove(held)
    assert index.destinations == {DESTINATION: None}
    with pytest.raises(AssertionError, match="address reused"):
        index.watch(DESTINATION, BOB)
    index.update(None, held)
    assert index.owner(DESTINATION) == ALICE
    index.watch_stored(DESTINATION)
    index.watch_stored(b"an older one")
    assert index.destinations == {DESTINATION: ALICE, b"an older one": None}
    assert index.sizes == {len(DESTINATION), len(b"an older one")}


def test_an_unconfirmed_payment_is_waited_for_until_it_is_in_a_block():
    index = WatchIndex()
    waiting, mined = invoice(ALICE, payment("a")), invoice(ALICE, payment("a", height=7))
    index.update(None, waiting)
    assert index.unconfirmed == {txid("a"): {ALICE}}
    index.update(waiting, mined)
    assert index.unconfirmed == {}
    assert index.holders_above(6) == {ALICE}
    assert index.holders_above(7) == set()


def test_a_contested_payment_keeps_its_claim_until_a_block_has_chosen():
    index = WatchIndex()
    index.claim(txid("a"), (b"coin",))
    waiting = invoice(ALICE, payment("a"))
    contested = invoice(ALICE, payment("a", gone=Removal.CONTESTED))
    index.update(None, waiting)
    index.update(waiting, contested)
    assert index.unconfirmed == {}
    assert index.contested == {txid("a"): {ALICE}}
    assert index.waiting(txid("a")) == {ALICE}
    assert index.conflicting(txid("rival"), (b"coin",)) == (txid("a"),)
    index.update(contested, invoice(ALICE, payment("a", gone=Removal.DOUBLE_SPENT)))
    assert index.contested == index.conflicts == {}
    assert index.waiting(txid("a")) == set()


def test_a_claim_is_taken_up_again_after_a_restart():
    index = WatchIndex()
    held = replace(payment("a", gone=Removal.CONTESTED), spends=(b"coin",))
    index.update(None, invoice(ALICE, held))
    assert index.conflicts == {b"coin": txid("a")}
    index.remove(invoice(ALICE, held))
    assert index.conflicts == index.contested == {}


def test_a_batch_payout_waits_for_each_of_its_invoices():
    index = WatchIndex()
    index.claim(txid("batch"), (b"coin",))
    alice, bob = invoice(ALICE, payment("batch", 0)), invoice(BOB, payment("batch", 1))
    index.update(None, alice)
    index.update(None, bob)
    index.update(alice, invoice(ALICE, payment("batch", 0, gone=Removal.EVICTED)))
    assert index.unconfirmed == {txid("batch"): {BOB}}
    assert index.conflicting(txid("other"), (b"coin",)) == (txid("batch"),)
    index.update(bob, invoice(BOB, payment("batch", 1, gone=Removal.EVICTED)))
    assert index.conflicting(txid("other"), (b"coin",)) == ()


def test_a_payment_in_a_block_keeps_its_claim_because_a_reorg_may_free_its_inputs():
    index = WatchIndex()
    index.claim(txid("a"), (b"coin",))
    waiting, mined = invoice(ALICE, payment("a")), invoice(ALICE, payment("a", height=7))
    index.update(None, waiting)
    index.update(waiting, mined)
    assert index.conflicting(txid("b"), (b"coin",)) == (txid("a"),)
    index.update(mined, waiting)
    assert index.conflicting(txid("b"), (b"coin",)) == (txid("a"),)


def test_a_payment_too_deep_to_move_gives_up_its_claim():
    index = WatchIndex()
    index.claim(txid("a"), (b"coin",))
    index.update(None, invoice(ALICE, payment("a", height=7)))
    index.remove(invoice(ALICE, payment("a", height=7)))
    assert not index.conflicts
    assert not index.by_height


def test_a_transaction_does_not_conflict_with_itself_and_is_named_once():
    index = WatchIndex()
    index.claim(txid("a"), (b"coin", b"coin 2"))
    assert index.conflicting(txid("a"), (b"coin",)) == ()
    assert index.conflicting(txid("b"), (b"coin", b"coin 2", b"stranger")) == (txid("a"),)


def test_releasing_the_older_leaves_the_claim_of_the_newer():
    index = WatchIndex()
    index.claim(txid("a"), (b"coin", b"a only"))
    index.claim(txid("b"), (b"coin",))
    index.release(txid("a"))
    assert index.conflicts == {b"coin": txid("b")}
    index.release(txid("never claimed"))
    assert index.conflicts == {b"coin": txid("b")}


def test_holders_in_another_block_of_the_height_are_found():
    index = WatchIndex()
    index.update(None, invoice(ALICE, payment("a", height=7)))
    index.update(None, invoice(BOB, payment("b", height=7, branch="'")))
    assert index.holders_elsewhere(7, txid("block 7")) == [BOB]
    assert index.holders_elsewhere(7, txid("block 7''")) == [ALICE, BOB]
    assert index.holders_elsewhere(8, txid("block 8")) == []


def test_two_payments_at_one_height_leave_one_by_one():
    index = WatchIndex()
    both = invoice(ALICE, payment("a", height=7), payment("b", height=7))
    one = invoice(ALICE, payment("a"), payment("b", height=7))
    index.update(None, both)
    index.update(both, one)
    assert index.by_height == {7: {ALICE: {txid("block 7")}}}
    assert index.unconfirmed == {txid("a"): {ALICE}}


PLACES = st.one_of(
    st.none(),
    st.just("mempool"),
    st.just("gone"),
    st.just("contested"),
    st.tuples(st.integers(1, 3), st.sampled_from(["", "'"])),
)
NAMES = ("a", "b", "c")


class IndexMachine(RuleBasedStateMachine):
    """The index against the plain thing: search all invoices, whenever something is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.index = WatchIndex()
        self.invoices: dict[UUID, Invoice] = {}
        self.claims: list[tuple[bytes, bytes]] = []  # (key, txid), newest last; one per key

    @rule(
        who=st.sampled_from([ALICE, BOB]),
        places=st.dictionaries(
            st.tuples(st.sampled_from(NAMES), st.integers(0, 1)), PLACES, max_size=4
        ),
    )
    def change(self, who, places):
        payments = []
        for (name, index), place in places.items():
            if place == "mempool":
                payments.append(payment(name, index))
            elif place == "gone":
                payments.append(payment(name, index, gone=Removal.EVICTED))
            elif place == "contested":
                payments.append(payment(name, index, gone=Removal.CONTESTED))
            elif place is not None:
                payments.append(payment(name, index, height=place[0], branch=place[1]))
        before = self.invoices.get(who)
        after = invoice(who, *payments)
        self.index.update(before, after)
        self.invoices[who] = after
        self._forget_claims(before)

    @rule(who=st.sampled_from([ALICE, BOB]))
    def remove(self, who):
        before = self.invoices.pop(who, None)
        if before is not None:
            self.index.remove(before)
            self._forget_claims(before)

    @rule(name=st.sampled_from(NAMES), spends=st.sets(st.sampled_from([b"1", b"2"]), max_size=2))
    def claim(self, name, spends):
        self.release(name)  # a transaction never changes its inputs
        self.index.claim(txid(name), tuple(spends))
        self.claims = [c for c in self.claims if c[0] not in spends]
        self.claims += [(key, txid(name)) for key in spends]

    @rule(name=st.sampled_from(NAMES))
    def release(self, name):
        self.index.release(txid(name))
        self.claims = [c for c in self.claims if c[1] != txid(name)]

    def _forget_claims(self, before: Invoice | None) -> None:
        touched = {p.outpoint.txid for p in before.payments} if before else set()
        alive = {
            p.outpoint.txid
            for i in self.invoices.values()
            for p in i.payments
            if p.gone in (None, Removal.CONTESTED)
        }
        self.claims = [c for c in self.claims if c[1] in alive or c[1] not in touched]

    @invariant()
    def agrees_with_a_search(self):
        unconfirmed: dict[bytes, set[UUID]] = {}
        contested: dict[bytes, set[UUID]] = {}
        by_height: dict[int, dict[UUID, set[bytes]]] = {}
        for who, held in self.invoices.items():
            for p in held.payments:
                if p.unconfirmed:
                    unconfirmed.setdefault(p.outpoint.txid, set()).add(who)
                if p.contested:
                    contested.setdefault(p.outpoint.txid, set()).add(who)
                if p.height is not None:
                    by_height.setdefault(p.height, {}).setdefault(who, set()).add(p.block_hash)
        assert self.index.unconfirmed == unconfirmed
        assert self.index.contested == contested
        assert self.index.by_height == by_height
        assert self.index.conflicts == dict(self.claims)
        for height in range(5):
            above = {who for at, held in by_height.items() if at > height for who in held}
            assert self.index.holders_above(height) == above


TestIndexMachine = IndexMachine.TestCase


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
def test_everything_removed_leaves_nothing_behind(names):
    index = WatchIndex()
    held = invoice(ALICE, *(payment(name, height=3) for name in names))
    for name in names:
        index.claim(txid(name), (name.encode(),))
    index.update(None, replace(held, payments=tuple(payment(name) for name in names)))
    index.update(replace(held, payments=tuple(payment(name) for name in names)), held)
    index.remove(held)
    assert (index.unconfirmed, index.by_height, index.conflicts) == ({}, {}, {})
    assert (index._spends, index._payees) == ({}, {})
