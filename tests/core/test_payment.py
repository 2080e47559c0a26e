"""Locks, one-time keys, rivals and refusals: the rules that Monero brings, one example each."""

from __future__ import annotations

import pytest

from actors.core.chain_events import OutPoint, RefusedOutput, Removal
from actors.core.decision import FAR_MS, KEEP_REFUSED, MAX_REASON
from actors.core.events import PaymentUnlocked
from actors.core.inputs import (
    ChainShortened,
    OutputsRefused,
    TimeReached,
    TipReached,
    TxRemoved,
)
from actors.core.invoice import State, evolve
from actors.core.payment import IllegalTransitionError, Payment, Refusal
from tests.helpers.invoices import (
    ASSET,
    CREATED_MS,
    DESTINATION,
    EXPIRES_MS,
    History,
    block,
    included,
    seen,
    txid,
)

REQUIRED = 50_000_000
IN_TIME = CREATED_MS + 1000
LATER = IN_TIME + 1000
TOO_LATE = EXPIRES_MS + 1000
KEY, OTHER_KEY = b"\x01" * 32, b"\x02" * 32


def removed(name: str, reason: Removal, *, by: str | None = None, at_ms: int = LATER):
    return TxRemoved(txid(name), reason, txid(by) if by else None, at_ms)


# --- locks ----------------------------------------------------------------------------------------


def test_money_locked_until_a_height_counts_from_then_on():
    story = History(confirmations=2)
    locked = included("a", REQUIRED, into=block(10), at_ms=IN_TIME, unlock_height=70)
    assert story.tell(locked) == ["payment.included"]
    assert story.invoice.received_base == REQUIRED
    assert story.invoice.credited_base == 0
    assert story.invoice.unlock_height() == 70
    assert story.invoice.wake_height() is None
    assert story.tell(TipReached(69, LATER)) == []
    assert story.tell(TipReached(70, LATER)) == [
        "payment.unlocked",
        "invoice.covered",
        "invoice.settled",
    ]
    assert story.invoice.unlock_height() is None
    assert story.invoice.payments[0].first_seen_ms == CREATED_MS, "as the header says"


def test_money_locked_until_an_instant_counts_from_then_on():
    story = History(confirmations=1)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME, unlock_ms=LATER))
    assert story.invoice.unlock_ms() == LATER
    assert story.tell(TipReached(11, LATER)) == [], "only what is read up to an instant ends it"
    assert story.tell(TimeReached(LATER - 1)) == []
    assert story.tell(TimeReached(LATER)) == ["payment.unlocked", "invoice.covered"]
    assert story.tell(TipReached(11, LATER)) == ["invoice.settled"]


def test_an_invoice_with_locked_money_only_expires():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME, unlock_height=70))
    story.tell(seen("b", REQUIRED, at_ms=IN_TIME, unlock_ms=TOO_LATE))
    assert story.tell(TimeReached(EXPIRES_MS)) == ["invoice.deadline_reached", "invoice.expired"]
    assert story.tell(TimeReached(TOO_LATE)) == ["payment.unlocked"]
    assert story.tell(TipReached(70, TOO_LATE)) == ["payment.unlocked"]
    assert [p.late for p in story.invoice.payments] == [True, True]
    assert (story.invoice.credited_base, story.invoice.received_base) == (0, 2 * REQUIRED)
    assert story.invoice.late


def test_a_lock_that_ends_before_the_deadline_comes_before_it_when_both_are_read_at_once():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME, unlock_ms=EXPIRES_MS))
    assert story.tell(TimeReached(TOO_LATE)) == [
        "payment.unlocked",
        "invoice.deadline_reached",
        "invoice.covered",
    ]
    assert story.invoice.state is State.SEEN


def test_a_lock_that_ends_after_the_deadline_comes_too_late_when_both_are_read_at_once():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME, unlock_ms=EXPIRES_MS + 1))
    assert story.tell(TimeReached(TOO_LATE)) == [
        "payment.unlocked",
        "invoice.deadline_reached",
        "invoice.expired",
    ]


@pytest.mark.parametrize(("mined_ms", "late"), [(EXPIRES_MS, False), (EXPIRES_MS + 1, True)])
def test_after_downtime_a_lock_ended_when_the_header_of_its_block_says(mined_ms, late):
    story = History(confirmations=1)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME, unlock_height=70))
    story.tell(TipReached(70, TOO_LATE, mined_ms))
    assert story.invoice.payments[0].late is late
    assert story.invoice.state is (State.PENDING if late else State.SETTLED)


def test_a_header_from_the_future_makes_nothing_late():
    story = History(confirmations=1)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME, unlock_height=70))
    story.tell(TipReached(70, LATER, TOO_LATE))
    assert story.invoice.state is State.SETTLED


def test_a_lock_that_had_ended_is_none():
    story = History(confirmations=0)
    story.tell(seen("a", 1, at_ms=IN_TIME, unlock_height=70, tip_height=70))
    story.tell(seen("b", 1, at_ms=IN_TIME, unlock_ms=IN_TIME))
    story.tell(included("c", 1, into=block(70), at_ms=IN_TIME, unlock_height=70))
    assert story.invoice.credited_base == 3
    story.tell(seen("d", 1, at_ms=IN_TIME, unlock_height=71, tip_height=70))
    story.tell(seen("e", 1, at_ms=IN_TIME, unlock_ms=IN_TIME + 1))
    story.tell(included("f", 1, into=block(70), at_ms=IN_TIME, unlock_height=71))
    assert story.invoice.credited_base == 3


def test_who_is_in_a_block_in_which_its_lock_ends_is_unlocked_by_the_tip():
    """The tip says when, and so whether it was too late."""
    story = History(confirmations=1)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME, unlock_height=70, tip_height=60))
    story.tell(included("a", REQUIRED, into=block(70), at_ms=TOO_LATE, unlock_height=70))
    assert story.invoice.credited_base == 0
    story.tell(TipReached(70, TOO_LATE))
    assert story.invoice.payments[0].late


def test_what_is_unlocked_stays_so_through_a_reorg():
    story = History(confirmations=5)
    locked = included("a", REQUIRED, into=block(10), at_ms=IN_TIME, unlock_height=12)
    story.tell_all(locked, TipReached(12, IN_TIME))
    assert story.invoice.state is State.SEEN
    assert story.tell(ChainShortened(9, LATER)) == ["payment.disconnected"]
    again = included("a", REQUIRED, into=block(10, branch="b"), at_ms=LATER, unlock_height=12)
    assert story.tell(again) == ["payment.included"]
    assert story.invoice.state is State.SEEN
    assert story.invoice.unlock_height() is None


def test_what_is_locked_stays_so_through_a_reorg():
    story = History(confirmations=1)
    story.tell(included("a", REQUIRED, into=block(10), at_ms=IN_TIME, unlock_height=12))
    story.tell(ChainShortened(9, LATER))
    assert story.invoice.unlock_height() == 12
    story.tell(included("a", REQUIRED, into=block(10, branch="b"), at_ms=LATER, unlock_height=12))
    assert story.invoice.credited_base == 0
    assert story.tell(TipReached(12, LATER))[-1] == "invoice.settled"


def test_locked_money_that_is_replaced_or_evicted_unlocks_nothing():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME, unlock_height=70))
    story.tell(seen("b", REQUIRED, at_ms=IN_TIME, unlock_ms=LATER))
    assert story.tell(seen("c", REQUIRED, at_ms=LATER, replaces=["a"])) == [
        "payment.seen",
        "payment.displaced",
        "invoice.covered",
    ]
    story.tell(removed("b", Removal.EVICTED))
    assert story.invoice.unlock_height() is story.invoice.unlock_ms() is None
    assert story.tell_all(TipReached(70, LATER), TimeReached(LATER)) == []


def test_a_bump_that_locks_the_money_takes_it_away_and_the_lock_gives_it_back():
    story = History(confirmations=0)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert story.invoice.state is State.SETTLED
    story.tell(seen("b", REQUIRED, at_ms=LATER, replaces=["a"], unlock_height=70))
    assert story.invoice.reversed
    assert story.tell(TipReached(70, LATER)) == ["payment.unlocked", "invoice.restored"]


def test_late_money_stays_late_when_it_is_unlocked():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=TOO_LATE, unlock_height=70))
    story.tell(TipReached(70, TOO_LATE, IN_TIME))
    assert story.events[-1] == PaymentUnlocked(TOO_LATE, OutPoint(txid("a"), 0), late=False)
    assert story.invoice.payments[0].late


def test_a_lock_without_end_has_one_that_can_be_written():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME, unlock_ms=2**64 * 1000))
    assert story.invoice.unlock_ms() == FAR_MS


def test_an_invoice_is_watched_until_its_locks_have_ended():
    story = History(watch_depth=5)
    story.tell(TimeReached(EXPIRES_MS))
    assert story.invoice.watched_until() == -1
    story.tell(included("a", 1, into=block(10), at_ms=TOO_LATE, unlock_height=70))
    assert story.invoice.watched_until() == 70
    story.tell(included("b", 1, into=block(10), at_ms=TOO_LATE, unlock_ms=TOO_LATE + 1))
    assert story.invoice.watched_until() is None
    story.tell_all(TimeReached(TOO_LATE + 1), TipReached(70, TOO_LATE))
    assert story.invoice.watched_until() == 14


@pytest.mark.parametrize(
    ("payment", "unlock_blocks", "height"),
    [
        ({"height": 10}, 10, 19),
        ({"height": 10, "unlock_height": 70}, 10, 70),
        ({"height": 10, "unlock_height": 12}, 10, 19),
        ({"height": 10, "unlock_height": 9}, 0, 10),
        ({"height": 10}, 0, None),
        ({"height": None, "unlock_height": 70}, 10, None),
        ({"height": 10, "unlock_ms": LATER}, 10, None),
    ],
)
def test_the_height_at_which_money_can_be_moved(payment, unlock_blocks, height):
    one = Payment(OutPoint(txid("a"), 0), 1, ASSET, IN_TIME, late=False, **payment)
    assert one.spendable_height(unlock_blocks) == height


# --- one-time keys --------------------------------------------------------------------------------


def test_of_two_outputs_with_one_key_only_the_first_counts():
    story = History(required_base=100, confirmations=1)
    story.tell(included("a", 60, into=block(10), at_ms=IN_TIME, one_time_key=KEY))
    story.tell(included("b", 60, into=block(11), at_ms=LATER, one_time_key=KEY))
    invoice = story.invoice
    assert invoice.received_base == invoice.credited_base == invoice.confirmed_base(20) == 60
    assert invoice.state is State.PENDING
    assert invoice.duplicates() == {OutPoint(txid("b"), 0)}
    assert invoice.txid == txid("a")
    story.tell(included("c", 40, into=block(12), at_ms=LATER, one_time_key=OTHER_KEY))
    assert story.invoice.state is State.SETTLED


def test_when_the_first_goes_the_next_one_counts():
    story = History(required_base=100)
    story.tell(seen("a", 60, at_ms=IN_TIME, one_time_key=KEY))
    story.tell(seen("b", 100, at_ms=IN_TIME, one_time_key=KEY))
    story.tell(seen("c", 70, at_ms=IN_TIME, one_time_key=KEY))
    assert story.invoice.credited_base == 60
    assert story.tell(removed("a", Removal.EVICTED)) == ["payment.displaced", "invoice.covered"]
    assert story.invoice.credited_base == 100
    story.tell(removed("b", Removal.DOUBLE_SPENT, by="theft"))
    assert story.invoice.credited_base == 70
    story.tell(seen("a", 60, at_ms=LATER, one_time_key=KEY))
    assert story.invoice.credited_base == 60
    assert story.invoice.duplicates() == {OutPoint(txid("c"), 0)}


def test_a_reorg_that_swaps_their_order_makes_them_count_once():
    story = History(required_base=100, confirmations=1)
    story.tell(included("a", 100, into=block(10), at_ms=IN_TIME, one_time_key=KEY))
    story.tell(included("b", 100, into=block(11), at_ms=IN_TIME, one_time_key=KEY))
    assert story.invoice.received_base == 100
    assert not story.invoice.overpaid
    story.tell(ChainShortened(9, LATER))
    assert story.invoice.received_base == 100
    for name, height in (("b", 10), ("a", 11)):
        ref = block(height, branch="x")
        story.tell(included(name, 100, into=ref, at_ms=LATER, one_time_key=KEY))
        assert story.invoice.received_base == 100
    assert story.invoice.state is State.SETTLED
    assert not story.invoice.reversed


def test_keys_are_told_apart_by_asset_too():
    story = History()
    story.tell(seen("a", 5, at_ms=IN_TIME, one_time_key=KEY, asset="OTHER"))
    story.tell(seen("b", 7, at_ms=IN_TIME, one_time_key=KEY))
    assert story.invoice.received_base == 7
    assert story.invoice.duplicates() == frozenset()


# --- rivals ---------------------------------------------------------------------------------------


def test_a_contested_payment_counts_again_once_it_is_in_a_block():
    story = History(confirmations=1)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert story.tell(removed("a", Removal.CONTESTED)) == ["payment.displaced", "invoice.uncovered"]
    assert story.invoice.credited_base == 0
    assert story.tell(included("a", REQUIRED, into=block(10), at_ms=LATER)) == [
        "payment.included",
        "invoice.covered",
        "invoice.settled",
    ]
    assert story.invoice.payments[0].first_seen_ms == IN_TIME


def test_a_contest_over_a_settled_payment_is_an_alarm():
    story = History(confirmations=0)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    assert story.invoice.state is State.SETTLED
    assert story.tell(removed("a", Removal.CONTESTED)) == ["payment.displaced", "invoice.reversed"]
    assert story.invoice.watched_until() is None, "how it ends is waited for"
    assert story.tell(included("a", REQUIRED, into=block(10), at_ms=LATER)) == [
        "payment.included",
        "invoice.restored",
    ]


def test_a_rival_in_a_block_ends_the_contest():
    story = History(confirmations=0)
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(removed("a", Removal.CONTESTED))
    assert story.tell(removed("a", Removal.DOUBLE_SPENT, by="rival")) == ["payment.displaced"]
    (payment,) = story.invoice.payments
    assert (payment.gone, payment.gone_by) == (Removal.DOUBLE_SPENT, txid("rival"))
    assert story.invoice.reversed
    assert story.tell(removed("a", Removal.CONTESTED)) == []


def test_a_contest_uncovers_and_the_deadline_passes():
    story = History()
    story.tell(seen("a", REQUIRED, at_ms=IN_TIME))
    story.tell(removed("a", Removal.CONTESTED))
    assert story.tell(TimeReached(EXPIRES_MS))[-1] == "invoice.expired"
    story.tell(included("a", REQUIRED, into=block(10), at_ms=TOO_LATE))
    assert story.invoice.payments[0].late
    assert story.invoice.credited_base == 0


# --- refusals -------------------------------------------------------------------------------------


def refused(name: str, index: int = 0, reason: str = "no proof") -> RefusedOutput:
    return RefusedOutput(OutPoint(txid(name), index), DESTINATION, ASSET, reason)


def test_a_refused_output_is_an_alarm_once_and_never_money():
    story = History()
    told = OutputsRefused((refused("a"), refused("a", 1)), IN_TIME)
    assert story.tell(told) == ["payment.refused", "payment.refused"]
    assert story.tell(OutputsRefused((refused("a"),), LATER)) == []
    assert story.tell(ChainShortened(0, LATER)) == []
    assert story.invoice.received_base == 0
    assert story.invoice.payments == ()
    assert story.invoice.refused[0] == Refusal(OutPoint(txid("a"), 0), ASSET, "no proof")
    story.tell(TimeReached(EXPIRES_MS))
    assert story.tell(OutputsRefused((refused("b"),), TOO_LATE)) == ["payment.refused"]


def test_refusals_are_bounded():
    story = History()
    many = tuple(refused("a", index, "x" * 1000) for index in range(2 * KEEP_REFUSED))
    assert len(story.tell(OutputsRefused(many, IN_TIME))) == KEEP_REFUSED
    assert {len(one.reason) for one in story.invoice.refused} == {MAX_REASON}


# --- a damaged log --------------------------------------------------------------------------------


def test_only_what_stands_and_is_locked_can_be_unlocked():
    story = History()
    unlocked = PaymentUnlocked(LATER, OutPoint(txid("a"), 0), late=False)
    with pytest.raises(IllegalTransitionError, match="was not locked"):
        evolve(story.invoice, unlocked)
    story.tell(seen("a", 1, at_ms=IN_TIME, unlock_height=70))
    evolve(story.invoice, unlocked)
    story.tell(removed("a", Removal.EVICTED))
    with pytest.raises(IllegalTransitionError, match="was not locked"):
        evolve(story.invoice, unlocked)
    story.tell(seen("b", 1, at_ms=IN_TIME))
    with pytest.raises(IllegalTransitionError, match="was not locked"):
        evolve(story.invoice, PaymentUnlocked(LATER, OutPoint(txid("b"), 0), late=False))
