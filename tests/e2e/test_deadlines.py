"""The deadline: its floor of ten seconds, what protects from it, and money that comes too late.

All invoices are created first and share one wait.
"""

import datetime as dt
import time
from dataclasses import dataclass

import pytest

from tests.helpers.process import wait_until
from tests.helpers.shop import Shop, Ticket

AMOUNT = 3_456_789
REST = 100_000
FLOOR = dt.timedelta(seconds=10)


@dataclass
class Row:
    """One node and one daemon; nothing was mined before the deadlines."""

    unpaid: Ticket
    in_time: Ticket
    partial: Ticket
    late: Ticket
    two_days: Ticket


@pytest.fixture(scope="module")
def rows(daemons, clients, btc_node, ltc_node):
    rows = []
    for node in (btc_node, ltc_node):
        for store, daemon in daemons.items():
            shop = Shop(daemon, node, *clients[store])
            rows.append(
                Row(
                    unpaid=shop.sell(AMOUNT, timeout_s=0),
                    in_time=shop.sell(AMOUNT, timeout_s=9),
                    partial=shop.sell(AMOUNT, timeout_s=1),
                    late=shop.sell(AMOUNT, timeout_s=10),
                    two_days=shop.sell(AMOUNT, timeout_s=172_800),
                )
            )
    for row in rows:
        row.in_time.pay()
        row.partial.pay(AMOUNT - REST)
        row.two_days.pay(AMOUNT - REST)
    for row in rows:
        row.in_time.heard("PENDING_MEMPOOL")
    for row in rows:
        row.late.heard("EXPIRED")
    for row in rows:
        row.late.pay()
        row.partial.pay(REST)
    return rows


def test_less_than_ten_seconds_become_ten(rows):
    for row in rows:
        for ticket in (row.unpaid, row.in_time, row.partial, row.late):
            update = ticket.heard(bool)[0]
            assert update.expires_at - update.created_at == FLOOR
        update = row.two_days.heard(bool)[0]
        assert update.expires_at - update.created_at == dt.timedelta(days=2)


def test_an_unpaid_invoice_expires_once_and_not_before_its_time(rows):
    for row in rows:
        updates = row.unpaid.heard("EXPIRED")
        assert [one.status for one in updates] == ["PENDING", "EXPIRED"]
        assert (updates[-1].actual_base, updates[-1].txid) == (0, "")
        assert updates[-1].expires_at == updates[0].expires_at
        assert updates[-1].received_at - updates[0].received_at > FLOOR.total_seconds() - 1
        row.unpaid.check()
        assert row.unpaid.kinds() == [
            "invoice.created",
            "invoice.deadline_reached",
            "invoice.expired",
        ]


def test_a_partial_payment_does_not_protect(rows):
    for row in rows:
        updates = row.partial.heard("EXPIRED")
        assert updates[-1].actual_base == AMOUNT - REST
        shown = row.partial.until(lambda one: len(one["payments"]) == 2, "the rest is recorded")
        assert shown["status"] == "EXPIRED"
        assert [one["late"] for one in shown["payments"]] == [False, True]
        assert shown["credited_base"] == str(AMOUNT - REST)
        row.partial.check()


def test_late_money_is_recorded_and_never_streamed(rows):
    for row in rows:
        shown = row.late.until(lambda one: one["payments"], "the late payment is recorded")
        assert shown["status"] == "EXPIRED"
        assert shown["flags"]["late"]
        assert shown["payments"][0]["late"]
        assert (shown["received_base"], shown["credited_base"]) == (str(AMOUNT), "0")
        assert row.late.told() == ["PENDING", "EXPIRED"]
        row.late.check()


def test_money_seen_in_time_is_waited_for(rows):
    """After the deadline and without any block it is not expired; then it is confirmed."""
    for row in rows:
        deadline = row.in_time.heard(bool)[0].expires_at.timestamp()
        wait_until(lambda at=deadline: time.time() > at, "the deadline has passed")
        row.in_time.until(
            lambda _, row=row: "invoice.deadline_reached" in row.in_time.kinds(),
            "the deadline is recorded",
        )
        assert row.in_time.rest()["status"] == "PENDING_MEMPOOL"
        assert row.two_days.rest()["status"] == "PENDING"
    for node in {row.unpaid.shop.node.family: row.unpaid.shop.node for row in rows}.values():
        node.mine()
    for row in rows:
        row.in_time.heard("CONFIRMED")
        assert row.in_time.told() == ["PENDING", "PENDING_MEMPOOL", "CONFIRMED"]
        row.in_time.check()
        row.late.until(
            lambda one: one["payments"][0]["state"] == "included", "the late payment is mined"
        )
        assert row.late.told() == ["PENDING", "EXPIRED"]
        assert row.late.check()["status"] == "EXPIRED"
