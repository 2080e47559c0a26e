"""The invoice's rules, one example each, and the table of its states."""

from __future__ import annotations

import pytest

from actors.core import events
from actors.core.chain_events import OutPoint, Removal
from actors.core.decision import create
from actors.core.events import (
    InvoiceCovered,
    InvoiceExpired,
    InvoiceSettled,
    PaymentDisconnected,
    PaymentDisplaced,
    PaymentIncluded,
    PaymentSeen,
)
from actors.core.inputs import (
    ChainShortened,
    HeightFinal,
    HeightTaken,
    TimeReached,
    TipReached,
    TxRemoved,
    TxSeen,
)
from actors.core.invoice import TRANSITIONS, Invoice, State, evolve, fold
from actors.core.payment import KEEP_DISPLACED, IllegalTransitionError
from tests.helpers.invoices import (
    ASSET,
    CREATED_MS,
    EXPIRES_MS,
    History,
    block,
    included,
    outputs,
    seen,
    terms,
    txid,
)

REQUIRED = 50_000_000
IN_TIME = CREATED_MS + 1000
TOO_LATE = EXPIRES_MS + 1000


def removed(name: str, reason: Removal, *, by: str | None = None, at_ms: int = IN_TIME):
    return TxRemoved(txid(name), reason, txid(by) if by else None, at_ms)


def flags(story: History) -> set[str]:
    names = ("underpaid", "overpaid", "late", "reversed")
    return {name for name in names if getattr(story.invoice, name)}


# --- money comes ----------------------------------------------------------------------------------


def test_the_exact_amount_is_seen_then_settled_at_depth():
    story = History(confirmations=3)
    assert story.tell(seen("a", REQUIRED, at_ms=IN_TIME)) == ["payment.seen", "invoice.covered"]
    assert story.invoice.state is State.SEEN
    assert story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME)) == [
        "payment.included"
    ]
    assert story.tell(TipReached(11, IN_TIME)) == []
    assert story.tell(TipReached(12, IN_TIME + 7)) == ["invoice.settled"]
    assert story.events[-1] == InvoiceSettled(IN_TIME + 7, REQUIRED, 12)
    assert story.invoice.state is State.SETTLED
    assert story.invoice.settled_at_ms == IN_TIME + 7
    assert flags(story) == set()


def test_one_confirmation_settles_in_the_block_itself():
    story = History(confirmations=1)
    kinds = story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert kinds == ["payment.included", "invoice.covered", "invoice.settled"]
    assert story.events[-1] == InvoiceSettled(IN_TIME, REQUIRED, 10)


def test_no_confirmations_settle_at_once_but_always_after_covered():
    story = History(confirmations=0)
    kinds = story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert kinds == ["payment.seen", "invoice.covered", "invoice.settled"]
    assert story.events[-1] == InvoiceSettled(IN_TIME, REQUIRED, None)
    assert story.invoice.wake_height() is None


def test_a_part_does_not_cover_and_is_flagged():
    story = History()
    assert story.tell(seen("a", REQUIRED - 1, at_ms=IN_TIME)) == ["payment.seen"]
    assert story.invoice.state is State.PENDING
    assert story.invoice.underpaid
    assert story.invoice.credited_base == REQUIRED - 1


def test_several_payments_add_up_and_each_needs_its_depth():
    story = History(confirmations=2)
    story.tell(seen("a", 20_000_000, at_ms=IN_TIME))
    story.tell(included("a", 20_000_000, into=block(10), at_ms=IN_TIME))
    assert story.tell(seen("b", 30_000_000, at_ms=IN_TIME)) == ["payment.seen", "invoice.covered"]
    assert story.invoice.wake_height() is None
    assert story.tell(TipReached(12, IN_TIME)) == []
    story.tell(included("b", 30_000_000, into=block(13), at_ms=IN_TIME))
    assert story.invoice.wake_height() == 14
    assert story.tell(TipReached(14, IN_TIME)) == ["invoice.settled"]


def test_what_is_deep_enough_settles_without_waiting_for_the_rest():
    story = History(confirmations=2)
    story.tell(included("b", REQUIRED, into=block(10), at_ms=IN_TIME))
    story.tell(included("extra", 7, into=block(11), at_ms=IN_TIME, replaces=()))
    assert story.invoice.state is State.SETTLED
    assert story.events[-1] == InvoiceSettled(IN_TIME, REQUIRED, 11)
    assert story.invoice.overpaid


def test_two_outputs_of_one_transaction_are_two_payments():
    story = History(confirmations=1)
    kinds = story.tell(seen("a", 20_000_000, 30_000_000, at_ms=IN_TIME))
    assert kinds == ["payment.seen", "payment.seen", "invoice.covered"]
    kinds = story.tell(included("a", 20_000_000, 30_000_000, into=block(10), at_ms=IN_TIME))
    assert kinds == ["payment.included", "payment.included", "invoice.settled"]


def test_too_much_is_credited_and_flagged():
    story = History()
    story.tell(seen("a", REQUIRED + 1, at_ms=IN_TIME))
    assert story.invoice.overpaid
    assert story.invoice.credited_base == REQUIRED + 1


def test_an_open_amount_is_covered_by_any_money():
    story = History(required_base=0, confirmations=1)
    assert not story.invoice.covered
    assert story.tell(seen("a", 1, at_ms=IN_TIME)) == ["payment.seen", "invoice.covered"]
    assert flags(story) == set()
    assert story.tell(included("a", 1, into=block(10), at_ms=IN_TIME))[-1] == "invoice.settled"


def test_an_output_of_nothing_is_no_payment():
    story = History(required_base=0)
    assert story.tell(seen("a", 0, at_ms=IN_TIME)) == []
    assert story.tell(included("a", 0, into=block(10), at_ms=IN_TIME)) == []


def test_money_of_another_asset_is_recorded_and_counts_for_nothing():
    story = History()
    assert story.tell(seen("a", REQUIRED, at_ms=IN_TIME, asset="USDT_ERC20")) == ["payment.seen"]
    assert story.invoice.received_base == story.invoice.credited_base == 0
    assert story.invoice.txid is None
    assert not story.invoice.underpaid


def test_a_payment_first_met_in_a_block_needs_no_mempool():
    story = History(confirmations=3)
    kinds = story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert kinds == ["payment.included", "invoice.covered"]
    assert story.invoice.wake_height() == 12


def test_the_newest_transaction_that_counts_is_shown():
    story = History()
    assert story.invoice.txid is None
    story.tell(seen("late", 1, at_ms=TOO_LATE))
    assert story.invoice.txid == txid("late")
    story.tell(seen("a", 1, at_ms=IN_TIME))
    story.tell(seen("late too", 1, at_ms=TOO_LATE))
    assert story.invoice.txid == txid("a")


# --- time -----------------------------------------------------------------------------------------


def test_an_unpaid_invoice_expires_at_its_deadline_not_before():
    story = History()
    assert story.tell(TimeReached(EXPIRES_MS - 1)) == []
    assert story.tell(TimeReached(EXPIRES_MS)) == ["invoice.deadline_reached", "invoice.expired"]
    assert story.tell(TimeReached(EXPIRES_MS + 1)) == []
    assert story.invoice.state is State.EXPIRED


def test_a_part_paid_invoice_expires_and_says_how_much_came():
    story = History()
    story.tell(seen("a", 7, at_ms=IN_TIME))
    story.tell(TimeReached(EXPIRES_MS))
    assert story.events[-1] == InvoiceExpired(EXPIRES_MS, 7)


def test_a_covered_invoice_is_protected_while_it_waits():
    story = History(confirmations=1)
    story.tell(seen("a", REQUIRED, at_ms=EXPIRES_MS))
    assert story.tell(TimeReached(EXPIRES_MS)) == ["invoice.deadline_reached"]
    assert story.invoice.state is State.SEEN
    assert story.invoice.deadline_reached
    kinds = story.tell(included("a", REQUIRED, into=block(10), at_ms=EXPIRES_MS + 10**9))
    assert kinds == ["payment.included", "invoice.settled"]
    assert not story.invoice.late


def test_protection_ends_when_the_money_goes_after_the_deadline():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(TimeReached(EXPIRES_MS))
    kinds = story.tell(removed("a", Removal.EVICTED, at_ms=TOO_LATE))
    assert kinds == ["payment.displaced", "invoice.uncovered", "invoice.expired"]


def test_late_money_is_recorded_not_credited():
    story = History(confirmations=0)
    assert story.tell(seen("a", REQUIRED, at_ms=EXPIRES_MS + 1)) == ["payment.seen"]
    assert story.invoice.late
    assert (story.invoice.received_base, story.invoice.credited_base) == (REQUIRED, 0)
    story.tell(TimeReached(TOO_LATE))
    kinds = story.tell(included("a", REQUIRED, into=block(10), at_ms=TOO_LATE))
    assert kinds == ["payment.included"]
    assert story.invoice.state is State.EXPIRED


def test_late_money_does_not_complete_a_part():
    story = History()
    story.tell(seen("a", REQUIRED - 1, at_ms=IN_TIME))
    story.tell(seen("b", 1, at_ms=TOO_LATE))
    assert story.invoice.state is State.PENDING
    assert not story.invoice.underpaid


def test_a_block_read_late_is_judged_by_its_header():
    in_time = History(confirmations=1)
    mined = block(10, time_ms=EXPIRES_MS)
    kinds = in_time.tell(included("a", REQUIRED, into=mined, at_ms=TOO_LATE))
    assert kinds == ["payment.included", "invoice.covered", "invoice.settled"]
    assert in_time.invoice.payments[0].first_seen_ms == EXPIRES_MS


def test_a_header_in_the_future_does_not_make_money_late():
    story = History()
    story.tell(included("a", 1, into=block(10, time_ms=TOO_LATE), at_ms=IN_TIME))
    assert story.invoice.payments[0].first_seen_ms == IN_TIME
    assert not story.invoice.late


def test_a_header_of_long_ago_does_not_date_money_before_its_address():
    story = History()
    story.tell(included("a", 1, into=block(10, time_ms=0), at_ms=TOO_LATE))
    assert story.invoice.payments[0].first_seen_ms == CREATED_MS


def test_the_nodes_own_mempool_time_decides_after_downtime():
    story = History()
    story.tell(TxSeen(txid("a"), outputs("a", REQUIRED), TOO_LATE, known_since_ms=IN_TIME))
    assert story.invoice.payments[0].first_seen_ms == IN_TIME
    assert story.invoice.state is State.SEEN
    other = History()
    other.tell(TxSeen(txid("a"), outputs("a", REQUIRED), IN_TIME, known_since_ms=TOO_LATE))
    assert other.invoice.payments[0].first_seen_ms == IN_TIME


def test_a_timely_part_stays_timely_when_it_is_mined_after_expiry():
    story = History()
    story.tell(seen("a", 7, at_ms=IN_TIME))
    story.tell(TimeReached(EXPIRES_MS))
    story.tell(included("a", 7, into=block(10), at_ms=TOO_LATE))
    story.tell(ChainShortened(9, TOO_LATE))
    story.tell(included("a", 7, into=block(10, branch="'"), at_ms=TOO_LATE))
    assert story.invoice.credited_base == 7
    assert not story.invoice.late


@pytest.mark.parametrize("expires_ms", [2**63 - 1, 2**64, 10**30])
def test_absurd_deadlines_are_only_numbers(expires_ms):
    story = History(expires_at_ms=expires_ms, confirmations=1)
    assert story.tell(TimeReached(2**62)) == []
    assert story.tell(included("a", REQUIRED, into=block(10), at_ms=2**62))[-1] == "invoice.settled"


def test_an_absurd_number_of_confirmations_is_waited_for():
    story = History(confirmations=2**32 - 1)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert story.invoice.wake_height() == 10 + 2**32 - 2
    assert story.tell(TipReached(10 + 2**32 - 3, IN_TIME)) == []
    assert story.tell(TipReached(10 + 2**32 - 2, IN_TIME)) == ["invoice.settled"]


# --- replacement, double-spend, eviction ----------------------------------------------------------


def test_a_fee_bump_to_self_neither_flickers_nor_becomes_late():
    story = History(confirmations=1)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(TimeReached(EXPIRES_MS))
    kinds = story.tell(seen("a'", REQUIRED, at_ms=TOO_LATE, replaces=["a"]))
    assert kinds == ["payment.seen", "payment.displaced"]
    old, new = story.invoice.payments
    assert (old.gone, old.gone_by) == (Removal.REPLACED, txid("a'"))
    assert (new.first_seen_ms, new.late) == (IN_TIME, False)
    kinds = story.tell(included("a'", REQUIRED, into=block(10), at_ms=TOO_LATE))
    assert kinds == ["payment.included", "invoice.settled"]


def test_a_replacement_first_met_in_a_block_inherits_too():
    story = History(confirmations=1)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(TimeReached(EXPIRES_MS))
    mined = block(10, time_ms=TOO_LATE)
    kinds = story.tell(included("a'", REQUIRED, into=mined, at_ms=TOO_LATE, replaces=["a"]))
    assert kinds == ["payment.included", "payment.displaced", "invoice.settled"]
    assert story.invoice.payments[0].gone is Removal.DOUBLE_SPENT


def test_a_replacement_that_pays_less_uncovers():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    kinds = story.tell(seen("a'", REQUIRED - 1, at_ms=IN_TIME, replaces=["a"]))
    assert kinds == ["payment.seen", "payment.displaced", "invoice.uncovered"]
    assert story.invoice.state is State.PENDING


def test_a_bump_of_late_money_stays_late():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=TOO_LATE))
    story.tell(seen("a'", REQUIRED, at_ms=TOO_LATE + 5, replaces=["a"]))
    assert story.invoice.payments[1].late
    assert story.invoice.payments[1].first_seen_ms == TOO_LATE


def test_a_bump_that_joins_timely_and_late_money_is_judged_by_the_timely():
    story = History()
    story.tell(seen("a", 1, at_ms=IN_TIME))
    story.tell(seen("b", 1, at_ms=TOO_LATE))
    story.tell(seen("c", 2, at_ms=TOO_LATE, replaces=["a", "b"]))
    assert (story.invoice.credited_base, story.invoice.received_base) == (2, 2)


def test_a_replacement_that_pays_somebody_else_uncovers():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    kinds = story.tell(removed("a", Removal.REPLACED, by="thief"))
    assert kinds == ["payment.displaced", "invoice.uncovered"]
    assert story.invoice.payments[0].gone_by == txid("thief")


def test_a_double_spend_in_a_block_takes_the_payment():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    kinds = story.tell(removed("a", Removal.DOUBLE_SPENT, by="thief"))
    assert kinds == ["payment.displaced", "invoice.uncovered"]
    assert story.invoice.payments[0].gone is Removal.DOUBLE_SPENT


def test_an_evicted_payment_may_come_back_with_its_first_time():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(removed("a", Removal.EVICTED))
    assert story.tell(seen("a", REQUIRED, at_ms=IN_TIME + 5)) == ["payment.seen", "invoice.covered"]
    (payment,) = story.invoice.payments
    assert (payment.first_seen_ms, payment.gone) == (IN_TIME, None)


def test_an_evicted_payment_may_come_back_in_a_block():
    story = History(confirmations=1)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(removed("a", Removal.EVICTED))
    kinds = story.tell(included("a", REQUIRED, into=block(10), at_ms=TOO_LATE))
    assert kinds == ["payment.included", "invoice.covered", "invoice.settled"]


def test_what_comes_back_after_expiry_is_late():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(removed("a", Removal.EVICTED))
    story.tell(TimeReached(EXPIRES_MS))
    assert story.tell(seen("a", REQUIRED, at_ms=TOO_LATE)) == ["payment.seen"]
    assert story.invoice.late
    assert story.invoice.credited_base == 0


def test_a_payment_in_a_block_is_not_removed_by_the_mempool():
    story = History()
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert story.tell(removed("a", Removal.EVICTED)) == []
    assert story.tell(seen("a", REQUIRED, at_ms=IN_TIME)) == []
    assert story.tell(seen("b", 1, at_ms=IN_TIME, replaces=["a"])) == ["payment.seen"]


def test_a_stranger_who_replaces_for_ever_is_bounded():
    story = History()
    story.tell(seen("0", 1, at_ms=IN_TIME))
    for turn in range(1, 3 * KEEP_DISPLACED):
        story.tell(seen(str(turn), 1, at_ms=TOO_LATE, replaces=[str(turn - 1)]))
    assert len(story.invoice.payments) == KEEP_DISPLACED + 1
    assert story.invoice.payments[-1].first_seen_ms == IN_TIME
    assert story.invoice.payments[0].outpoint.txid == txid(str(2 * KEEP_DISPLACED - 1))


def test_the_newest_displaced_payment_is_never_the_one_forgotten():
    story = History()
    story.tell(seen("first", 1, at_ms=IN_TIME))
    story.tell(seen("0", 1, at_ms=IN_TIME))
    for turn in range(1, KEEP_DISPLACED + 1):
        story.tell(seen(str(turn), 1, at_ms=IN_TIME, replaces=[str(turn - 1)]))
    story.tell(removed("first", Removal.EVICTED))
    assert story.invoice.find(OutPoint(txid("first"), 0)).gone is Removal.EVICTED
    assert story.invoice.find(OutPoint(txid("0"), 0)) is None


# --- reorganisations ------------------------------------------------------------------------------


def test_a_shallow_reorg_that_includes_the_payment_again_does_not_flicker():
    story = History(confirmations=2)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert story.tell(ChainShortened(9, IN_TIME)) == ["payment.disconnected"]
    assert story.invoice.state is State.SEEN
    assert story.invoice.wake_height() is None
    other = block(10, branch="'")
    assert story.tell(included("a", REQUIRED, into=other, at_ms=IN_TIME)) == ["payment.included"]
    assert story.tell(TipReached(11, IN_TIME)) == ["invoice.settled"]


def test_a_reorg_below_the_payment_leaves_it_alone():
    story = History()
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert story.tell(ChainShortened(10, IN_TIME)) == []


def test_a_deep_reorg_takes_every_payment_above_the_fork():
    story = History(confirmations=200)
    for height in (10, 50, 90):
        story.tell(included(f"at {height}", 20_000_000, into=block(height), at_ms=IN_TIME))
    assert story.invoice.wake_height() == 289
    assert story.tell(ChainShortened(20, IN_TIME)) == ["payment.disconnected"] * 2
    assert [p.height for p in story.invoice.payments] == [10, None, None]
    kinds = story.tell_all(removed("at 50", Removal.EVICTED), removed("at 90", Removal.EVICTED))
    assert kinds == ["payment.displaced", "invoice.uncovered", "payment.displaced"]


def test_there_and_back_again_is_recorded_each_time():
    story = History(confirmations=3)
    first, second = block(10), block(10, branch="'")
    kinds = story.tell_all(
        included("a", REQUIRED, into=first, at_ms=IN_TIME),
        ChainShortened(9, IN_TIME),
        included("a", REQUIRED, into=second, at_ms=IN_TIME),
        ChainShortened(9, IN_TIME),
        included("a", REQUIRED, into=first, at_ms=IN_TIME),
    )
    assert (
        kinds
        == ["payment.included", "invoice.covered"]
        + [
            "payment.disconnected",
            "payment.included",
        ]
        * 2
    )
    assert story.invoice.payments[0].block_hash == first.hash


def test_another_block_without_a_disconnect_moves_the_payment():
    """A crash between append and cursor: the reorganisation happened while nobody watched."""
    story = History()
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    other = block(11, branch="'")
    kinds = story.tell(included("a", REQUIRED, into=other, at_ms=IN_TIME))
    assert kinds == ["payment.disconnected", "payment.included"]
    assert story.invoice.payments[0].height == 11
    assert story.events[-2] == PaymentDisconnected(
        IN_TIME, OutPoint(txid("a"), 0), 10, block(10).hash
    )


def test_a_conflict_in_a_block_proves_the_losers_block_stale():
    story = History(required_base=REQUIRED, confirmations=3)
    story.tell(included("a", REQUIRED - 1, into=block(12), at_ms=IN_TIME))
    other = block(10, branch="'")
    kinds = story.tell(included("a'", REQUIRED - 1, into=other, at_ms=IN_TIME, replaces=["a"]))
    assert kinds == ["payment.included", "payment.disconnected", "payment.displaced"]
    assert story.invoice.credited_base == REQUIRED - 1


def test_a_height_taken_by_another_block_frees_the_payment():
    story = History()
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert story.tell(HeightTaken(10, block(10).hash, IN_TIME)) == []
    assert story.tell(HeightTaken(11, txid("other"), IN_TIME)) == []
    assert story.tell(HeightTaken(10, txid("other"), IN_TIME)) == ["payment.disconnected"]
    assert story.tell(removed("a", Removal.EVICTED)) == ["payment.displaced", "invoice.uncovered"]


def test_a_tip_below_the_payments_block_confirms_nothing():
    story = History(confirmations=1)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert story.tell(TipReached(10, IN_TIME)) == []
    story.tell(included("b", 1, into=block(10), at_ms=IN_TIME))
    assert story.invoice.payments[1].confirmations(9) == 0
    assert story.invoice.payments[1].confirmations(10) == 1
    assert story.invoice.payments[0].confirmations(10) == 0


# --- after the end --------------------------------------------------------------------------------


def settled() -> History:
    story = History(confirmations=1)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    return story


def test_money_that_leaves_a_settled_invoice_raises_an_alarm_once():
    story = settled()
    assert story.tell(ChainShortened(9, IN_TIME)) == ["payment.disconnected"]
    kinds = story.tell(removed("a", Removal.DOUBLE_SPENT, by="thief"))
    assert kinds == ["payment.displaced", "invoice.reversed"]
    assert story.invoice.state is State.SETTLED
    assert story.invoice.reversed
    assert story.tell(TimeReached(TOO_LATE)) == []


def test_an_alarm_is_withdrawn_when_the_money_is_back():
    story = settled()
    story.tell_all(ChainShortened(9, IN_TIME), removed("a", Removal.EVICTED))
    assert story.tell(seen("a", REQUIRED, at_ms=TOO_LATE)) == ["payment.seen", "invoice.restored"]
    assert not story.invoice.reversed
    assert story.tell(removed("a", Removal.EVICTED)) == ["payment.displaced", "invoice.reversed"]


def test_a_bump_of_a_settled_payment_raises_no_alarm():
    story = settled()
    story.tell(ChainShortened(9, TOO_LATE))
    other = block(10, branch="'", time_ms=TOO_LATE)
    kinds = story.tell(included("a'", REQUIRED, into=other, at_ms=TOO_LATE, replaces=["a"]))
    assert kinds == ["payment.included", "payment.displaced"]


def test_more_money_for_a_settled_invoice_is_flagged():
    story = settled()
    assert story.tell(seen("b", 5, at_ms=IN_TIME)) == ["payment.seen"]
    assert story.invoice.overpaid
    assert story.tell(seen("c", 5, at_ms=TOO_LATE)) == ["payment.seen"]
    assert story.invoice.late
    assert story.invoice.state is State.SETTLED


def test_how_long_an_invoice_stays_in_memory():
    story = History(confirmations=1, watch_depth=100)
    assert story.invoice.watched_until() is None
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert story.invoice.watched_until() is None
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME))
    assert story.invoice.watched_until() == 109
    story.tell(seen("b", 1, at_ms=IN_TIME))
    assert story.invoice.watched_until() is None
    story.tell(removed("b", Removal.EVICTED))
    assert story.invoice.watched_until() == 109
    story.tell(ChainShortened(9, IN_TIME))
    story.tell(removed("a", Removal.EVICTED))
    assert story.invoice.watched_until() == -1
    expired = History()
    expired.tell(TimeReached(EXPIRES_MS))
    assert expired.invoice.watched_until() == -1


# --- the fold -------------------------------------------------------------------------------------


def seen_event(name: str = "a") -> PaymentSeen:
    return PaymentSeen(IN_TIME, OutPoint(txid(name), 0), REQUIRED, ASSET, IN_TIME, late=False)


def included_event(name: str = "a", height: int = 10) -> PaymentIncluded:
    return PaymentIncluded(
        IN_TIME,
        OutPoint(txid(name), 0),
        REQUIRED,
        ASSET,
        IN_TIME,
        late=False,
        height=height,
        block_hash=block(height).hash,
    )


DISCONNECTED = PaymentDisconnected(IN_TIME, OutPoint(txid("a"), 0), 10, block(10).hash)
DISPLACED = PaymentDisplaced(IN_TIME, OutPoint(txid("a"), 0), Removal.EVICTED, None)


@pytest.mark.parametrize(
    ("history", "event", "message"),
    [
        ([], DISCONNECTED, "was not in a block"),
        ([seen_event()], DISCONNECTED, "was not in a block"),
        ([], DISPLACED, "was not in the mempool"),
        ([included_event()], DISPLACED, "was not in the mempool"),
        ([seen_event(), DISPLACED], DISPLACED, "was not in the mempool"),
        ([seen_event()], seen_event(), "was there already"),
        ([included_event()], seen_event(), "was there already"),
        ([included_event()], included_event(height=11), "was in a block already"),
    ],
)
def test_payment_events_that_cannot_be_are_refused(history, event, message):
    before = fold([create(terms()), *history])
    with pytest.raises(IllegalTransitionError, match=message):
        evolve(before, event)
    assert before == fold([create(terms()), *history])


def test_an_invoice_begins_with_its_creation_and_only_once():
    with pytest.raises(IllegalTransitionError, match="before the invoice's creation"):
        evolve(None, InvoiceCovered(IN_TIME, 1))
    with pytest.raises(IllegalTransitionError, match="created twice"):
        evolve(fold([create(terms())]), create(terms()))
    with pytest.raises(AssertionError, match="at least its creation"):
        fold([])


def test_every_fact_raises_the_version_and_the_time_of_change():
    story = History()
    assert (story.invoice.version, story.invoice.updated_at_ms) == (1, CREATED_MS)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert (story.invoice.version, story.invoice.updated_at_ms) == (3, IN_TIME)


EVERY_TRANSITION = sorted({kind for row in TRANSITIONS.values() for kind in row}, key=str)


def transition_event(kind: type):
    values = {"credited_base": 1, "tip_height": None, "policies": ()}
    return kind(
        at_ms=IN_TIME,
        **{name: values[name] for name in kind.__match_args__ if name != "at_ms"},
    )


def test_the_table_knows_every_state_and_every_invoice_event():
    named = {events.InvoiceCreated, *EVERY_TRANSITION}
    assert named == set(events.InvoiceEvent.__args__)
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", EVERY_TRANSITION, ids=lambda kind: kind.kind)
def test_a_pair_is_in_the_table_or_it_is_refused(state, kind):
    before = Invoice(terms(), state=state, version=5, deadline_reached=True)
    event = transition_event(kind)
    if kind in TRANSITIONS[state]:
        after = evolve(before, event)
        assert after.state is TRANSITIONS[state][kind]
        assert after.version == 6
    else:
        with pytest.raises(IllegalTransitionError, match=f"{kind.kind} cannot follow"):
            evolve(before, event)
        assert before == Invoice(terms(), state=state, version=5, deadline_reached=True)


def test_final_states_have_no_way_out():
    for state in (State.SETTLED, State.EXPIRED, State.CANCELLED):
        assert set(TRANSITIONS[state].values()) <= {state}


# --- what a mined transaction did not do, and finality --------------------------------------------


def test_what_the_mempool_promised_and_the_block_does_not_hold_has_failed():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert story.invoice.state is State.SEEN
    story.tell(included("a", into=block(100), at_ms=IN_TIME))
    assert story.invoice.state is State.PENDING
    assert [p.gone for p in story.invoice.payments] == [Removal.FAILED]


def test_a_mined_transaction_counts_with_what_it_really_moved():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(included("a", REQUIRED - 1, into=block(100), at_ms=IN_TIME))
    assert story.invoice.received_base == REQUIRED - 1
    assert story.invoice.state is State.PENDING


def test_under_a_finality_policy_only_the_nodes_word_settles():
    story = History(finality="finalized", confirmations=1)
    story.tell(included("a", REQUIRED, into=block(100), at_ms=IN_TIME))
    story.tell(TipReached(500, IN_TIME))
    assert story.invoice.state is State.SEEN
    assert story.invoice.wake_height() == 100
    story.tell(HeightFinal(99, IN_TIME))
    assert story.invoice.state is State.SEEN
    story.tell(HeightFinal(100, IN_TIME))
    assert story.invoice.state is State.SETTLED
    assert story.events[-1] == InvoiceSettled(IN_TIME, REQUIRED, 100)


def test_without_a_finality_policy_the_nodes_word_changes_nothing():
    story = History(confirmations=3)
    story.tell(included("a", REQUIRED, into=block(100), at_ms=IN_TIME))
    story.tell(HeightFinal(200, IN_TIME))
    assert story.invoice.state is State.SEEN
