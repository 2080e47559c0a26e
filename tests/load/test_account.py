"""The account finds what it should: a check that cannot fail checks nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.load.account import settle
from tests.load.customers import EVENTS_PER_INVOICE, Habit, Payment, Story
from tests.load.ears import EarReport
from tests.load.team import Heard
from tests.load.watchers import Seen, StreamReport

NO_FAULTS = ({}, {})


def heard(*digests):
    found = Heard()
    for seq, digest in enumerate(digests, 1):
        if digest:
            found.take(seq, digest, 1)
    return found


class World:
    """One invoice of 100, paid, replaced once and in a block; three events."""

    def __init__(self):
        self.story = Story(1, Habit.BUMP, 100, 1, "one")
        self.story.payments = [
            Payment("old", 100, 0, in_time=True, replaced_by="new"),
            Payment("new", 100, 0, in_time=True),
        ]
        payments = {"old:0": (100, "replaced"), "new:0": (100, "included")}
        self.streams = StreamReport(
            heard=heard(1, 2, 3),
            invoices={"one": Seen("CONFIRMED", 3, 100, payments)},
            paid_ns={},
            settled=[],
            settled_heights={},
            goipay={"one": "013"},
            goipay_settled_ns={},
            faults=NO_FAULTS,
        )
        self.ears = EarReport(heard(1, 2, 3), heard(1, 2, 3), [], [], 0, NO_FAULTS)
        self.polled = {
            "one": {
                "status": "CONFIRMED",
                "amount_base": "100",
                "received_base": "100",
                "credited_base": "100",
                "payments": [
                    {"outpoint": name, "amount_base": str(amount_base), "state": state}
                    for name, (amount_base, state) in payments.items()
                ],
                "version": 3,
                "flags": {"overpaid": False, "underpaid": False, "late": False, "reversed": False},
            }
        }
        self.chain = {"new": 7}

    def differences(self):
        return dict(
            settle(
                [self.story],
                chain=self.chain,
                last_seq=3,
                streams=self.streams,
                ears=self.ears,
                polled=self.polled,
            ).counts
        )


@pytest.fixture
def world():
    return World()


def test_what_is_as_it_should_be(world):
    assert world.differences() == {}


def test_what_was_replaced_at_once_need_not_be_known(world):
    del world.streams.invoices["one"].payments["old:0"]
    del world.polled["one"]["payments"][0]
    assert world.differences() == {}


def test_a_payment_that_no_view_knows(world):
    del world.streams.invoices["one"].payments["new:0"]
    del world.polled["one"]["payments"][1]
    assert world.differences() == {
        "stream: an invoice differs from the chain": 1,
        "poll: payments differs": 1,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "EXPIRED"), ("amount_base", "99"), ("received_base", "0"), ("version", 2)],
)
def test_a_poll_that_differs(world, name, value):
    world.polled["one"][name] = value
    (kind,) = world.differences()
    assert kind.startswith("poll: ")


def test_an_invoice_that_nobody_polls_or_that_nobody_made(world):
    world.polled = {"two": world.polled["one"]}
    assert world.differences() == {
        "poll: an invoice is missing": 1,
        "poll: an invoice that nobody asked for": 1,
    }


def test_statuses_that_goipay_did_not_tell(world):
    world.streams.goipay["one"] = "01"
    assert world.differences() == {"GoiPay: statuses differ": 1}


def test_a_block_may_have_what_was_replaced_while_it_was_made(world):
    world.chain = {"old": 7}
    world.streams.invoices["one"].payments = {"old:0": (100, "included")}
    del world.polled["one"]["payments"][1]
    world.polled["one"]["payments"][0]["state"] = "included"
    assert world.differences() == {}


def test_a_chain_without_the_payment(world):
    world.chain = {}
    assert world.differences() == {"the chain is not what the customers did": 1}


def test_events_that_are_missing_more_or_others(world):
    world.ears = replace(world.ears, sent=heard(1, 0, 3), hooked=heard(1, 2, 4, 5))
    assert world.differences() == {
        "SSE: an event is missing": 1,
        "webhooks: an event differs from the stream's": 1,
        "webhooks: events beyond the log": 1,
    }


def test_an_event_that_comes_twice_is_counted_and_another_one_refused():
    found = heard(5)
    assert not found.take(1, 5, 1)
    assert found.repeats == 1
    with pytest.raises(ValueError, match="not the same"):
        found.take(1, 6, 1)


def test_the_rate_follows_from_the_habits():
    assert 5 <= EVENTS_PER_INVOICE <= 9
