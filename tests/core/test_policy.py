"""What a policy changes, and that the fact which had not come without it says so."""

from __future__ import annotations

import json

import pytest

from actors.core import codec
from actors.core.chain_events import Removal
from actors.core.inputs import (
    CancelAsked,
    ChainShortened,
    HeightFinal,
    TimeReached,
    TipReached,
    TxRemoved,
)
from actors.core.invoice import State
from actors.core.policy import (
    EMPTY,
    MAX_LATE_S,
    Applied,
    Band,
    Policy,
    PolicyError,
    checked,
    shared,
)
from actors.core.policy_json import policy_from_json, policy_to_json
from tests.helpers.invoices import CREATED_MS, EXPIRES_MS, History, block, included, seen, txid

IN_TIME = CREATED_MS + 1000
LATE_S = 600
CLOSES_MS = EXPIRES_MS + LATE_S * 1000
LATE = Applied("accept_late", (("accept_late_s", LATE_S),))


def agreed(required_base: int = 1000, confirmations: int = 1, **policy) -> History:
    return History(
        required_base=required_base, confirmations=confirmations, policy=Policy(**policy)
    )


# --- the policy itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "amount_base", "tolerated_base"),
    [
        (EMPTY, 1000, 0),
        (Policy(tolerance_base=7), 1000, 7),
        (Policy(tolerance_bps=50), 1000, 5),
        (Policy(tolerance_bps=50), 199, 0),
        (Policy(tolerance_base=7, tolerance_bps=50), 1000, 5),
        (Policy(tolerance_base=7, tolerance_bps=50), 2000, 7),
        (Policy(tolerance_bps=50), 0, 0),
    ],
)
def test_what_may_be_missing(policy, amount_base, tolerated_base):
    assert policy.tolerance(amount_base) == tolerated_base


def test_the_band_of_an_amount_is_the_last_that_it_reaches():
    policy = Policy(bands=(Band(10, 2), Band(100, 6)))
    found = [policy.band(amount_base) for amount_base in (0, 9, 10, 99, 100, 10**30)]
    assert found == [None, None, Band(10, 2), Band(10, 2), Band(100, 6), Band(100, 6)]


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (Policy(bands=tuple(Band(n, 1) for n in range(17))), "17 bands; give at most 16"),
        (Policy(bands=(Band(5, 1), Band(5, 2))), "does not come after a smaller one"),
        (Policy(bands=(Band(-1, 1),)), "does not come after a smaller one"),
        (Policy(bands=(Band(0, 2**32),)), "confirmations is not from 0"),
        (Policy(bands=(Band(0, -1),)), "confirmations is not from 0"),
        (Policy(rbf_confirmations=2**32), "confirmations is not from 0"),
        (Policy(tolerance_base=-1), "tolerance is below 0"),
        (Policy(tolerance_bps=10_001), "basis points"),
        (Policy(tolerance_bps=-1), "basis points"),
        (Policy(accept_late_s=MAX_LATE_S + 1), "a year"),
        (Policy(accept_late_s=-1), "a year"),
    ],
)
def test_what_cannot_be_meant_is_refused(policy, why):
    with pytest.raises(PolicyError, match=why):
        checked(policy)


def test_equal_policies_are_one_object():
    text = json.dumps(policy_to_json(Policy(bands=(Band(0, 1),), tolerance_base=2**70)))
    assert policy_from_json(json.loads(text)) is policy_from_json(json.loads(text))
    assert checked(Policy(accept_late_s=5)) is shared(Policy(accept_late_s=5))
    assert policy_to_json(EMPTY) == {}


def test_an_invoice_without_a_policy_is_stored_as_ever():
    story = History(required_base=10, confirmations=0)
    story.tell(seen("a", 10, at_ms=IN_TIME, replaceable=True))
    stored = json.dumps([codec.event_to_json(one) for one in story.events])
    stored += json.dumps(codec.invoice_to_json(story.invoice))
    for word in ("polic", "metadata", "replaceable", "accepted"):
        assert word not in stored


# --- less than the amount -------------------------------------------------------------------------


def test_what_is_missing_within_the_tolerance_is_named():
    story = agreed(tolerance_base=100)
    at = block(5)
    assert story.tell(included("a", 899, into=at, at_ms=IN_TIME)) == ["payment.included"]
    assert story.tell(included("b", 1, into=at, at_ms=IN_TIME))[1:] == [
        "invoice.covered",
        "invoice.settled",
    ]
    applied = (Applied("underpayment_tolerance", (("missing_base", 100), ("tolerance_base", 100))),)
    covered, settled = story.events[-2:]
    assert (covered.policies, settled.policies) == (applied, applied)
    assert story.invoice.underpaid
    assert codec.event_to_json(covered)["policies"] == [
        {"name": "underpayment_tolerance", "missing_base": "100", "tolerance_base": "100"}
    ]


def test_a_full_payment_uses_no_tolerance():
    story = agreed(tolerance_base=100, accept_late_s=LATE_S, rbf_confirmations=0)
    story.tell(included("a", 1000, into=block(5), at_ms=IN_TIME))
    assert (story.events[-2].policies, story.events[-1].policies) == ((), ())


def test_a_tolerance_of_everything_still_wants_something():
    story = agreed(tolerance_bps=10_000)
    assert story.invoice.needed_base == 1
    assert not story.invoice.covered


def test_a_restored_settlement_names_it_too():
    story = agreed(confirmations=0, tolerance_base=100)
    story.tell(seen("a", 950, at_ms=IN_TIME))
    story.tell(TxRemoved(txid("a"), Removal.EVICTED, None, IN_TIME))
    assert story.tell(seen("a", 950, at_ms=IN_TIME))[-1] == "invoice.restored"
    assert [one.name for one in story.events[-1].policies] == ["underpayment_tolerance"]


# --- confirmations by amount ----------------------------------------------------------------------

BANDS = (Band(100, 0), Band(500, 2), Band(1000, 3))


@pytest.mark.parametrize(("amount_base", "depth"), [(99, 1), (100, 0), (999, 2), (1000, 3)])
def test_the_amount_asked_for_decides_how_deep(amount_base, depth):
    story = agreed(amount_base, bands=BANDS)
    assert story.invoice.required_depth == story.invoice.confirmations == depth
    story.tell(seen("a", amount_base, at_ms=IN_TIME))
    if depth:
        story.tell(included("a", amount_base, into=block(5), at_ms=IN_TIME))
        if depth > 1:
            assert story.invoice.wake_height() == 4 + depth
            story.tell(TipReached(4 + depth, IN_TIME))
    settled = story.events[-1]
    assert story.invoice.state is State.SETTLED
    assert settled.tip_height == (4 + depth if depth else None)
    names = [one.name for one in settled.policies]
    assert names == ([] if amount_base == 99 else ["confirmation_band"])


def test_what_came_decides_for_an_open_amount():
    story = agreed(0, bands=BANDS)
    story.tell(included("a", 600, into=block(5), at_ms=IN_TIME))
    assert story.invoice.wake_height() == 6
    story.tell(included("b", 400, into=block(5), at_ms=IN_TIME))
    assert story.invoice.wake_height() == 7
    assert story.tell(TipReached(6, IN_TIME)) == []
    assert story.tell(TipReached(7, IN_TIME)) == ["invoice.settled"]
    band = Applied("confirmation_band", (("from_base", 1000), ("confirmations", 3)))
    assert story.events[-1].policies == (band,)


def test_where_the_chain_says_final_no_band_counts():
    story = History(
        required_base=1000, confirmations=1, finality="safe", policy=Policy(bands=BANDS)
    )
    assert story.invoice.band() is None
    story.tell(included("a", 1000, into=block(5), at_ms=IN_TIME))
    assert story.tell(HeightFinal(5, IN_TIME)) == ["invoice.settled"]
    assert story.events[-1].policies == ()


# --- replaceable payments -------------------------------------------------------------------------


def test_what_may_be_replaced_waits_for_a_block():
    story = agreed(confirmations=0, rbf_confirmations=1)
    first = seen("a", 1000, at_ms=IN_TIME, replaceable=True)
    assert story.tell(first) == ["payment.seen", "invoice.covered"]
    assert codec.event_to_json(story.events[1])["replaceable"] is True
    mined = included("a", 1000, into=block(5), at_ms=IN_TIME, replaceable=True)
    assert story.tell(mined) == ["payment.included", "invoice.settled"]
    settled = story.events[-1]
    assert (settled.tip_height, settled.policies) == (
        5,
        (Applied("replaceable", (("confirmations", 1),)),),
    )


def test_what_may_not_be_replaced_settles_at_once():
    story = agreed(confirmations=0, rbf_confirmations=1)
    assert story.tell(seen("a", 1000, at_ms=IN_TIME))[-1] == "invoice.settled"
    assert story.events[-1].policies == ()


def test_only_the_money_that_may_be_replaced_has_to_wait():
    story = agreed(confirmations=0, rbf_confirmations=3)
    story.tell(seen("a", 400, at_ms=IN_TIME))
    story.tell(included("b", 600, into=block(5), at_ms=IN_TIME, replaceable=True))
    assert story.invoice.state is State.SEEN
    assert story.invoice.wake_height() == 7
    story.tell(ChainShortened(4, IN_TIME))
    assert story.invoice.wake_height() is None
    assert story.invoice.confirmed_base(None) == 400
    story.tell(included("b", 600, into=block(5, branch="x"), at_ms=IN_TIME, replaceable=True))
    assert story.tell(TipReached(7, IN_TIME)) == ["invoice.settled"]
    # Without a policy that asks, the rest alone settles an invoice.
    assert story.events[-1].credited_base == 1000


def test_more_than_the_invoice_wants_of_all_is_kept():
    story = agreed(confirmations=4, rbf_confirmations=2)
    story.tell(included("a", 1000, into=block(5), at_ms=IN_TIME, replaceable=True))
    assert story.invoice.wake_height() == 8
    story.tell(TipReached(8, IN_TIME))
    assert story.events[-1].policies == ()


# --- late money -----------------------------------------------------------------------------------


def test_late_money_settles_within_its_time():
    story = agreed(accept_late_s=LATE_S)
    assert story.tell(TimeReached(EXPIRES_MS)) == ["invoice.deadline_reached"]
    assert story.invoice.due_ms() == CLOSES_MS
    kinds = story.tell(seen("a", 1000, at_ms=CLOSES_MS))
    assert kinds == ["payment.seen", "invoice.covered"]
    assert story.tell(TimeReached(CLOSES_MS + 1)) == []
    story.tell(included("a", 1000, into=block(5), at_ms=CLOSES_MS + 99))
    assert story.invoice.state is State.SETTLED
    assert story.invoice.late
    assert all(event.policies == (LATE,) for event in story.events[2:])
    assert story.invoice.due_ms() is None


def test_it_expires_when_the_chain_has_been_read_up_to_the_end_of_that_time():
    story = agreed(accept_late_s=LATE_S)
    story.tell(TimeReached(EXPIRES_MS))
    assert story.tell(TimeReached(CLOSES_MS - 1)) == []
    # Our clock alone says nothing: the next block may be older.
    assert story.tell(seen("a", 1, at_ms=CLOSES_MS + 50)) == ["payment.seen"]
    assert story.events[-1].policies == ()
    mined = block(5, time_ms=CLOSES_MS)
    assert story.tell(included("b", 10, into=mined, at_ms=CLOSES_MS + 60)) == ["payment.included"]
    assert (story.invoice.credited_base, story.invoice.received_base) == (10, 11)
    assert story.tell(TimeReached(CLOSES_MS)) == ["invoice.expired"]
    # What was accepted stays so, wherever its block goes.
    story.tell(ChainShortened(4, CLOSES_MS))
    story.tell(included("b", 10, into=block(5, branch="x"), at_ms=CLOSES_MS + 70))
    assert story.invoice.credited_base == 10
    story.tell(seen("c", 2000, at_ms=CLOSES_MS))
    assert story.invoice.credited_base == 10


def test_who_was_away_all_the_time_expires_it_at_once():
    story = agreed(accept_late_s=LATE_S)
    kinds = story.tell(TimeReached(CLOSES_MS))
    assert kinds == ["invoice.deadline_reached", "invoice.expired"]


def test_what_is_uncovered_after_that_time_expires_when_time_is_read_again():
    story = agreed(accept_late_s=LATE_S)
    story.tell(seen("a", 1000, at_ms=EXPIRES_MS + 5))
    story.tell(TimeReached(CLOSES_MS))
    assert story.invoice.state is State.SEEN
    gone = TxRemoved(txid("a"), Removal.EVICTED, None, CLOSES_MS + 9)
    assert story.tell(gone) == ["payment.displaced", "invoice.uncovered"]
    assert story.invoice.due_ms() == CLOSES_MS
    # It comes back before anybody looked at the time: it counts as it was judged.
    assert story.tell(seen("a", 1000, at_ms=CLOSES_MS + 10))[-1] == "invoice.covered"
    story.tell(TxRemoved(txid("a"), Removal.EVICTED, None, CLOSES_MS + 11))
    assert story.tell(TimeReached(CLOSES_MS + 12)) == ["invoice.expired"]
    story.tell(seen("a", 1000, at_ms=CLOSES_MS + 13))
    assert (story.invoice.credited_base, story.events[-1].policies) == (0, ())


def test_a_bump_of_accepted_money_is_accepted():
    story = agreed(accept_late_s=LATE_S)
    story.tell(seen("a", 1000, at_ms=EXPIRES_MS + 5))
    bump = seen("b", 1000, at_ms=CLOSES_MS + 9, replaces=["a"])
    assert story.tell(bump) == ["payment.seen", "payment.displaced"]
    assert (story.invoice.state, story.invoice.credited_base) == (State.SEEN, 1000)


def test_money_in_time_does_not_need_the_policy():
    story = agreed(accept_late_s=LATE_S)
    story.tell(seen("a", 1000, at_ms=IN_TIME))
    story.tell(TimeReached(EXPIRES_MS))
    story.tell(seen("b", 1000, at_ms=EXPIRES_MS + 1))
    story.tell(included("a", 1000, into=block(5), at_ms=EXPIRES_MS + 2))
    assert story.events[-1].policies == ()
    assert story.invoice.credited_base == 2000


@pytest.mark.parametrize(
    ("came_ms", "ends_ms", "credited_base"),
    [
        (IN_TIME, EXPIRES_MS, 1000),
        (IN_TIME, CLOSES_MS, 1000),
        (IN_TIME, CLOSES_MS + 1, 0),
        (EXPIRES_MS + 1, CLOSES_MS, 1000),
        (EXPIRES_MS + 1, CLOSES_MS + 1, 0),
    ],
)
def test_a_lock_that_ends_late(came_ms, ends_ms, credited_base):
    story = agreed(accept_late_s=LATE_S)
    story.tell(seen("a", 1000, at_ms=came_ms, unlock_ms=ends_ms))
    assert story.invoice.credited_base == 0
    story.tell(TimeReached(ends_ms))
    assert story.invoice.credited_base == credited_base
    assert story.invoice.late is (came_ms > EXPIRES_MS or ends_ms > EXPIRES_MS)


def test_money_that_came_too_late_is_not_saved_by_its_lock():
    story = agreed(accept_late_s=LATE_S)
    story.tell(seen("a", 1000, at_ms=CLOSES_MS + 1, unlock_height=9))
    story.tell(TipReached(9, CLOSES_MS + 2, mined_ms=EXPIRES_MS))
    assert story.invoice.credited_base == 0


# --- cancelling -----------------------------------------------------------------------------------


def test_what_waits_can_be_cancelled_once():
    story = History()
    assert story.tell(CancelAsked(IN_TIME)) == ["invoice.cancelled"]
    assert story.invoice.state is State.CANCELLED
    assert not story.invoice.open
    assert story.invoice.due_ms() is None
    assert story.tell(TimeReached(EXPIRES_MS)) == []


@pytest.mark.parametrize("policy", [None, Policy(accept_late_s=LATE_S)])
def test_money_for_a_cancelled_invoice_is_late(policy):
    story = History(policy=policy)
    story.tell(CancelAsked(IN_TIME))
    story.tell(seen("a", 50_000_000, at_ms=IN_TIME + 1))
    locked = seen("b", 7, at_ms=IN_TIME + 1, unlock_ms=IN_TIME + 5)
    story.tell(locked)
    story.tell(TimeReached(IN_TIME + 5))
    assert (story.invoice.state, story.invoice.credited_base) == (State.CANCELLED, 0)
    assert story.invoice.late
    assert story.invoice.received_base == 50_000_007


@pytest.mark.parametrize("lock", [None, IN_TIME + 10**6])
def test_what_received_something_cannot_be_cancelled(lock):
    story = History()
    story.tell(seen("a", 1, at_ms=IN_TIME, unlock_ms=lock))
    assert story.tell(CancelAsked(IN_TIME)) == []
    story.tell(TxRemoved(txid("a"), Removal.EVICTED, None, IN_TIME))
    assert story.tell(CancelAsked(IN_TIME)) == ["invoice.cancelled"]


def test_what_is_covered_or_over_cannot_be_cancelled():
    story = History()
    story.tell(TimeReached(EXPIRES_MS))
    assert story.tell(CancelAsked(EXPIRES_MS)) == []
    paid = History()
    paid.tell(seen("a", 50_000_000, at_ms=IN_TIME))
    assert paid.tell(CancelAsked(IN_TIME)) == []
