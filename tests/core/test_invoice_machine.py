"""One invoice, told of a simulated chain in every style, against a plain account of the money.

`WildMachine` lets anything happen and checks each invoice against its own account. `CalmMachine`
keeps to what a number of confirmations is meant to bear (no reorg as deep as it; after the deadline
nothing comes back) and then every style must end in the very same state.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from actors.core.decision import decide
from actors.core.events import InvoiceSettled, PaymentUnlocked
from actors.core.inputs import CancelAsked, TimeReached, TipReached
from actors.core.invoice import Invoice, State
from actors.core.policy import Band, Policy
from tests.helpers.chain_world import Feed, Style, World
from tests.helpers.invoices import ASSET, EXPIRES_MS

AMOUNTS = st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple)
PICK = st.sets(st.integers(0, 5), max_size=4)
ONE = st.integers(0, 5)


LATE_S = 40 * 60
CLOSES_MS = EXPIRES_MS + LATE_S * 1000
POLICIES = st.none() | st.builds(
    Policy,
    bands=st.sampled_from([(), (Band(2, 1),), (Band(1, 2), Band(8, 3))]),
    rbf_confirmations=st.none() | st.integers(0, 3),
    tolerance_base=st.sampled_from([0, 2]),
    tolerance_bps=st.sampled_from([0, 0, 4000]),
    accept_late_s=st.sampled_from([0, LATE_S]),
)


class InvoiceMachine(RuleBasedStateMachine):
    depths: tuple[int, ...]
    wild: bool

    @initialize(
        data=st.data(),
        required_base=st.sampled_from([0, 1, 3, 8]),
        policy=POLICIES,
        paid_base=st.none() | st.integers(1, 9),
        mined=st.booleans(),
        waited=st.booleans(),
    )
    def begin(self, data, required_base, policy, paid_base, mined, waited):
        self.world = World()
        self.confirmations = data.draw(st.sampled_from(self.depths))
        if policy is not None and not self.wild and not required_base:
            # What an open amount needs depends on what came before it was deep enough: who looks
            # only at the end cannot know that.
            policy = replace(policy, bands=())
        self.feeds = [
            Feed(
                style,
                policy=policy,
                required_base=required_base,
                confirmations=self.confirmations,
            )
            for style in Style
        ]
        bands = policy.bands if policy else ()
        self.bears = min([self.confirmations, *(band.confirmations for band in bands)])
        self.rest()
        if paid_base:
            self.pay((paid_base,), ASSET)
        if paid_base and mined:
            self.mine({0}, None, None)
        if waited:
            self.wait(61)

    @property
    def after_deadline(self) -> bool:
        return self.world.now_ms >= EXPIRES_MS

    def stepped(self) -> None:
        for feed in self.feeds:
            feed.step(self.world)
        if not self.wild and self.after_deadline:
            # What goes may expire the invoice, and what takes its place is late then, or is not:
            # who looks only at the end cannot know which of the two came first.
            self.rest()

    # --- what may happen --------------------------------------------------------------------------

    @rule(amounts=AMOUNTS, asset=st.sampled_from([ASSET, ASSET, ASSET, "USDT_ERC20"]))
    def pay(self, amounts, asset):
        self.world.broadcast(self.world.make(None, amounts, asset))
        self.stepped()

    @rule(amounts=AMOUNTS, blocks=st.integers(1, 4))
    def pay_locked(self, amounts, blocks):
        height = len(self.world.chain) - 1 + blocks
        self.world.broadcast(self.world.make(None, amounts, unlock_height=height))
        self.stepped()

    @rule(amounts=AMOUNTS, minutes=st.sampled_from([1, 29, 45]))
    def pay_locked_for(self, amounts, minutes):
        until_ms = self.world.now_ms + minutes * 60_000
        self.world.broadcast(self.world.make(None, amounts, unlock_ms=until_ms))
        self.stepped()

    @precondition(lambda self: self.wild)
    @rule(amounts=AMOUNTS, key=st.sampled_from([b"P", b"Q"]))
    def pay_one_key(self, amounts, key):
        self.world.broadcast(self.world.make(None, amounts, one_time_key=key))
        self.stepped()

    @precondition(lambda self: self.wild and self.world.undisputed())
    @rule(which=ONE)
    def contest(self, which):
        undisputed = self.world.undisputed()
        self.world.contested.add(undisputed[which % len(undisputed)].name)
        self.stepped()

    @precondition(lambda self: any(tx.outputs for tx in self.world.mempool))
    @rule(which=ONE, amounts=AMOUNTS, theft=st.booleans())
    def replace(self, which, amounts, theft):
        ours = [tx for tx in self.world.mempool if tx.outputs]
        old = ours[which % len(ours)]
        if theft:
            self.world.broadcast(self.world.make(old.coin, ()))
        elif not self.wild and self.after_deadline:
            self.world.broadcast(self.world.bumped(old))
        else:
            self.world.broadcast(self.world.make(old.coin, amounts, old.asset))
        self.stepped()

    @precondition(lambda self: any(tx.outputs for tx in self.world.mempool))
    @rule(which=ONE)
    def bump(self, which):
        ours = [tx for tx in self.world.mempool if tx.outputs]
        old = ours[which % len(ours)]
        self.world.broadcast(self.world.bumped(old))
        self.stepped()

    @rule(take=PICK, theft=st.none() | ONE, unseen=st.none() | AMOUNTS)
    def mine(self, take, theft, unseen):
        txs = [tx for number, tx in enumerate(self.world.mempool) if number in take]
        left = [tx for tx in self.world.mempool if tx not in txs]
        if theft is not None and left:
            txs.append(self.world.make(left[theft % len(left)].coin, ()))
        if unseen is not None:
            txs.append(self.world.make(None, unseen))
        self.world.mine(txs)
        self.stepped()

    @rule(count=st.integers(1, 5))
    def mine_empty(self, count):
        for _ in range(count):
            self.world.mine([])
        self.stepped()

    @rule(depth=st.integers(1, 12), take=PICK, bumps=PICK, thefts=PICK)
    def reorganise(self, depth, take, bumps, thefts):
        deepest = len(self.world.chain) - 1
        if not self.wild:
            deepest = min(deepest, self.bears - 1)
        if deepest:
            self.world.reorganise(min(depth, deepest), take, bumps=bumps, thefts=thefts)
            self.stepped()

    @precondition(lambda self: self.world.mempool)
    @rule(which=ONE)
    def evict(self, which):
        self.world.evict(self.world.mempool[which % len(self.world.mempool)])
        self.stepped()

    @precondition(lambda self: self.world.evicted and (self.wild or not self.after_deadline))
    @rule(which=ONE)
    def come_back(self, which):
        tx = self.world.evicted.pop(which % len(self.world.evicted))
        if tx.coin not in self.world.spent:
            self.world.broadcast(tx)
            self.stepped()

    @rule(minutes=st.sampled_from([1, 30, 61]))
    def wait(self, minutes):
        later_ms = self.world.now_ms + minutes * 60_000
        # At the very instant of the deadline it is the order of telling that decides.
        later_ms += 1000 * (later_ms in (EXPIRES_MS, CLOSES_MS))
        crossed = any(later_ms >= at_ms > self.world.now_ms for at_ms in (EXPIRES_MS, CLOSES_MS))
        if not self.wild and crossed:
            # Who has not looked before the deadline cannot know what came in time.
            self.rest()
        self.world.now_ms = later_ms
        if self.after_deadline:
            self.rest()

    @rule()
    def cancel(self):
        if not self.wild:
            self.rest()
        for feed in self.feeds:
            received_base = feed.received_base
            before = feed.story.invoice.state
            feed.tell(CancelAsked(self.world.now_ms))
            done = before is State.PENDING and not received_base
            assert (feed.story.invoice.state is State.CANCELLED) is (
                done or before is State.CANCELLED
            )

    @rule()
    def rest(self):
        for feed in self.feeds:
            feed.rest(self.world)
        self.come_to_rest()

    def come_to_rest(self) -> None:
        """Everything was told to everyone."""

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def each_invoice_agrees_with_its_account(self):
        for feed in getattr(self, "feeds", ()):
            invoice = feed.story.invoice
            assert invoice.received_base == feed.received_base, feed.style
            if invoice.state in (State.EXPIRED, State.CANCELLED):
                assert not invoice.covered, feed.style
            if invoice.state is State.CANCELLED:
                assert invoice.credited_base == 0, feed.style
            if feed.judged:
                credited_base = feed.sum_of(feed.credited())
                assert invoice.credited_base == credited_base, feed.style
            if invoice.state is State.PENDING:
                assert not invoice.covered, feed.style
            if invoice.state is State.SEEN:
                assert invoice.covered, feed.style
            if invoice.state is State.SETTLED:
                assert invoice.reversed is not invoice.covered, feed.style

    @invariant()
    def an_invoice_settles_as_soon_as_it_may(self):
        for feed in getattr(self, "feeds", ()):
            invoice = feed.story.invoice
            if feed.style is not Style.LAZY and invoice.open:
                assert feed.confirmed_base(self.world) < invoice.needed_base, feed.style

    @invariant()
    def a_policy_is_named_where_it_made_the_difference(self):
        for feed in getattr(self, "feeds", ()):
            check_policies(feed)

    @invariant()
    def the_wake_height_is_exact(self):
        for feed in getattr(self, "feeds", ()):
            check_wake_height(feed.story.invoice)
            check_unlock_instant(feed.story.invoice)


def check_policies(feed: Feed) -> None:
    """Of the newest event that may name one."""
    event = feed.story.events[-1]
    terms = feed.story.invoice.terms
    applied = getattr(event, "policies", ())
    assert terms.policy is not None or not applied
    if isinstance(event, InvoiceSettled):
        named = {one.name for one in applied}
        missing = event.credited_base < terms.required_base
        assert ("underpayment_tolerance" in named) is missing, feed.style
        banded = any(b.from_base <= terms.required_base for b in feed.policy.bands)
        assert ("confirmation_band" in named) is banded or not terms.required_base


def check_wake_height(invoice: Invoice) -> None:
    wake, unlock = invoice.wake_height(), invoice.unlock_height()
    known = [height for height in (wake, unlock) if height is not None]
    if not known:
        assert decide(invoice, TipReached(10**12, 0)) == ()
        return
    first = min(known)
    assert decide(invoice, TipReached(first - 1, 0)) == ()
    found = decide(invoice, TipReached(first, 0))
    unlocked = [event for event in found if isinstance(event, PaymentUnlocked)]
    assert bool(unlocked) is (first == unlock)
    if first == wake and not (unlocked and invoice.terms.policy and invoice.terms.policy.bands):
        # What is unlocked at that very height may make the amount one that wants more of them.
        assert isinstance(found[-1], InvoiceSettled)
        assert found[-1].credited_base >= invoice.needed_base


def check_unlock_instant(invoice: Invoice) -> None:
    instant_ms = invoice.unlock_ms()
    if instant_ms is None:
        return
    unlocked = decide(invoice, TimeReached(instant_ms))
    assert any(isinstance(event, PaymentUnlocked) for event in unlocked)
    earlier = decide(invoice, TimeReached(instant_ms - 1))
    assert not any(isinstance(event, PaymentUnlocked) for event in earlier)


class WildMachine(InvoiceMachine):
    depths = (0, 1, 2, 5, 2**32 - 1)
    wild = True


class CalmMachine(InvoiceMachine):
    depths = (1, 2, 4)
    wild = False

    def come_to_rest(self) -> None:
        first, *others = [(feed.style, meaning(feed.story.invoice)) for feed in self.feeds]
        for style, state in others:
            assert state == first[1], f"{style} differs from {first[0]}"

    @invariant()
    def what_settled_is_there_to_stay(self):
        for feed in getattr(self, "feeds", ()):
            invoice = feed.story.invoice
            if invoice.state is State.SETTLED and feed.style is not Style.LAZY:
                assert feed.confirmed_base(self.world) >= invoice.needed_base, feed.style
                assert not invoice.reversed, feed.style

    @invariant()
    def what_expired_was_not_covered_in_time(self):
        for feed in getattr(self, "feeds", ()):
            invoice = feed.story.invoice
            if invoice.state is State.EXPIRED:
                credited_base = feed.sum_of(feed.credited())
                assert credited_base < invoice.needed_base, feed.style

    def teardown(self) -> None:
        if hasattr(self, "feeds"):
            self.rest()


def meaning(invoice: Invoice) -> tuple[object, ...]:
    """All that matters of a state: not when or in how many steps it came about."""
    places = {
        payment.outpoint: (
            payment.height,
            payment.block_hash,
            payment.late,
            payment.amount_base,
            payment.locked,
        )
        for payment in invoice.payments
        if payment.gone is None
    }
    return (
        invoice.state,
        invoice.credited_base,
        invoice.received_base,
        invoice.deadline_reached,
        invoice.reversed,
        places,
    )


SETTINGS = settings(max_examples=80, stateful_step_count=25, deadline=None)

TestWildMachine = WildMachine.TestCase
TestWildMachine.settings = SETTINGS
TestCalmMachine = CalmMachine.TestCase
TestCalmMachine.settings = SETTINGS
