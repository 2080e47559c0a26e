"""What an order says of its invoice."""

from __future__ import annotations

import pytest

from actors.core.inputs import CancelAsked, ChainShortened, HeightFinal, TimeReached, TipReached
from actors.core.invoice import State
from actors.core.policy import Policy
from actors.order_status import STATUSES, OrderStatus, confirmations_of, status_of
from tests.helpers.invoices import CREATED_MS, EXPIRES_MS, History, block, included, seen

AT_MS = CREATED_MS + 1000
PART = 25_000_000
"""Half of what the invoices ask for."""


def in_block(name: str, amount_base: int, height: int, **more: bool):
    return included(name, amount_base, into=block(height), at_ms=AT_MS, **more)


def told(*inputs, **terms):
    history = History(**terms)
    history.tell_all(*inputs)
    return history.invoice


def test_every_state_has_its_status_and_the_documents_number():
    assert set(STATUSES) == set(State)
    assert [int(one) for one in OrderStatus] == [0, 1, 2, 3, 4]
    assert [one.name for one in OrderStatus if one.final] == ["SUCCESSFUL", "EXPIRED", "CANCELED"]


def test_the_way_of_an_order():
    history = History()
    assert status_of(history.invoice) is OrderStatus.PENDING
    history.tell(seen("a", PART, at_ms=AT_MS))
    assert status_of(history.invoice) is OrderStatus.PENDING
    history.tell(seen("b", PART, at_ms=AT_MS))
    assert status_of(history.invoice) is OrderStatus.CONFIRMING
    history.tell_all(in_block("a", PART, 10), in_block("b", PART, 11))
    history.tell(TipReached(13, AT_MS))
    assert status_of(history.invoice) is OrderStatus.SUCCESSFUL
    expired = told(TimeReached(EXPIRES_MS))
    assert status_of(expired) is OrderStatus.EXPIRED
    assert status_of(told(CancelAsked(AT_MS))) is OrderStatus.CANCELED


@pytest.mark.parametrize("tip_height", [None, 0, 10, 100])
def test_nothing_is_confirmed_while_the_target_is_not_reached(tip_height):
    assert confirmations_of(told(), tip_height) == 0
    assert confirmations_of(told(in_block("a", PART, 5)), tip_height) == 0
    assert confirmations_of(told(seen("a", 2 * PART, at_ms=AT_MS)), tip_height) == 0


def test_the_shallowest_of_the_payments_that_are_needed_counts():
    half = told(in_block("a", PART, 10), seen("b", PART, at_ms=AT_MS), confirmations=9)
    assert confirmations_of(half, 12) == 0
    both = told(in_block("a", PART, 10), in_block("b", PART, 12), confirmations=9)
    assert [confirmations_of(both, tip) for tip in (12, 13, 16)] == [1, 2, 5]
    assert confirmations_of(both, None) == 1
    assert confirmations_of(both, 9) == 1, "a block is told before it is the tip"


def test_what_is_beyond_the_target_takes_nothing_away():
    invoice = told(
        in_block("a", PART, 10),
        seen("later", PART, at_ms=AT_MS),
        in_block("b", PART, 11),
        in_block("c", PART, 12),
        confirmations=9,
    )
    assert confirmations_of(invoice, 14) == 4


def test_money_that_does_not_count_confirms_nothing():
    history = History(confirmations=9)
    history.tell(TimeReached(EXPIRES_MS))
    history.tell(included("late", 2 * PART, into=block(10), at_ms=EXPIRES_MS + 1))
    assert history.invoice.received_base == 2 * PART
    assert confirmations_of(history.invoice, 20) == 0


def test_with_a_tolerance_what_covers_is_enough():
    policy = Policy(tolerance_base=PART)
    assert confirmations_of(told(in_block("a", PART, 10), policy=policy), 11) == 2


def test_confirming_stays_below_the_number_and_successful_does_not():
    history = History(confirmations=3)
    history.tell(in_block("a", 2 * PART, 10))
    assert status_of(history.invoice) is OrderStatus.CONFIRMING
    assert [confirmations_of(history.invoice, tip) for tip in (10, 11, 12, 50)] == [1, 2, 2, 2]
    history.tell(TipReached(12, AT_MS))
    assert status_of(history.invoice) is OrderStatus.SUCCESSFUL
    assert [confirmations_of(history.invoice, tip) for tip in (11, 12, 13)] == [3, 3, 4]


def test_the_chains_own_word_for_final_is_the_last_confirmation():
    history = History(confirmations=12, finality="finalized")
    history.tell(in_block("a", 2 * PART, 10))
    assert [confirmations_of(history.invoice, tip) for tip in (10, 15, 21, 70)] == [1, 6, 11, 11]
    history.tell(HeightFinal(10, AT_MS))
    assert status_of(history.invoice) is OrderStatus.SUCCESSFUL
    assert [confirmations_of(history.invoice, tip) for tip in (12, 70)] == [12, 61]


def test_a_payment_that_may_be_replaced_may_need_more():
    history = History(confirmations=1, policy=Policy(rbf_confirmations=3))
    history.tell(in_block("a", 2 * PART, 10, replaceable=True))
    assert status_of(history.invoice) is OrderStatus.CONFIRMING
    assert confirmations_of(history.invoice, 11) == 0


def test_no_confirmation_may_be_needed():
    invoice = told(seen("a", 2 * PART, at_ms=AT_MS), confirmations=0)
    assert status_of(invoice) is OrderStatus.SUCCESSFUL
    assert confirmations_of(invoice, 10) == 0
    assert confirmations_of(told(in_block("a", 2 * PART, 9), confirmations=0), 10) == 2


def test_what_a_reorg_takes_back_is_told():
    history = History(confirmations=1)
    history.tell(in_block("a", 2 * PART, 10))
    assert status_of(history.invoice) is OrderStatus.SUCCESSFUL
    history.tell(ChainShortened(9, AT_MS))
    assert status_of(history.invoice) is OrderStatus.SUCCESSFUL
    assert confirmations_of(history.invoice, 9) == 0
    history.tell(in_block("a", 2 * PART, 10))
    assert confirmations_of(history.invoice, 10) == 1
