"""Policies, metadata and cancelling on real nodes and both databases."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from tests.helpers.bitcoind import coins
from tests.helpers.process import wait_until
from tests.helpers.shop import new_key

AMOUNT_BASE = 1_000_000


class Backend:
    """A merchant with one user, over REST alone."""

    def __init__(self, daemon, node) -> None:
        self.daemon = daemon
        self.node = node
        self.asset = node.family.upper()
        self.user_id = self.ask("POST", "/v1/users")["id"]
        self.ask("PUT", f"/v1/users/{self.user_id}/keys", {node.family: new_key()})

    def ask(self, method, path, body=None):
        status, _, document = self.daemon.http(method, path, body)
        assert 200 <= status < 300, document
        return document

    def default(self, **policy):
        path = f"/v1/users/{self.user_id}/policies/{self.asset}"
        assert self.ask("PUT", path, policy) == policy

    def sell(self, **changes):
        asked = {"amount_base": str(AMOUNT_BASE), "expires_in": 3600, **changes}
        return self.ask(
            "POST", "/v1/invoices", {"user_id": self.user_id, "asset": self.asset, **asked}
        )

    def look(self, invoice):
        return self.ask("GET", f"/v1/invoices/{invoice['id']}")

    def until(self, invoice, status):
        def probe():
            found = self.look(invoice)
            return found if found["status"] == status else None

        return wait_until(probe, f"invoice {invoice['id']} is {status}", timeout_s=30.0)

    def events(self, invoice):
        return self.ask("GET", f"/v1/invoices/{invoice['id']}/events")["items"]

    def until_recorded(self, invoice, kind):
        def probe():
            return True if kind in [one["type"] for one in self.events(invoice)] else None

        wait_until(probe, f"{kind} of invoice {invoice['id']}", timeout_s=60.0)

    def applied(self, invoice):
        """Kind → names of the policies that its event names."""
        return {
            one["type"]: [policy["name"] for policy in one["data"]["policies"]]
            for one in self.events(invoice)
            if "policies" in one["data"]
        }

    def pay(self, invoice, amount_base=AMOUNT_BASE, *, replaceable):
        self.node.rpc(
            "sendtoaddress", invoice["address"], coins(amount_base), "", "", False, replaceable
        )


def let_the_deadline_pass(invoice):
    """Nodes date what they hold in whole seconds, rounded down: that second must be over."""
    beyond_s = datetime.fromisoformat(invoice["expires_at"]).timestamp() + 1
    wait_until(lambda: time.time() > beyond_s or None, "the second of the deadline is over")


@pytest.fixture
def backends(daemons, node):
    return [Backend(daemon, node) for daemon in daemons.values()]


def test_what_may_be_replaced_waits_for_its_block_and_nothing_else_does(backends, node):
    told = []
    for backend in backends:
        backend.default(rbf_confirmations=1, tolerance_bps=100)
        plain = backend.sell(confirmations=0, metadata={"order": "A-17"})
        risky = backend.sell(confirmations=0)
        backend.pay(plain, AMOUNT_BASE - AMOUNT_BASE // 100, replaceable=False)
        backend.pay(risky, replaceable=True)
        shown = backend.until(plain, "CONFIRMED")
        assert (shown["flags"]["underpaid"], shown["due_base"]) == (True, "0")
        assert shown["metadata"] == {"order": "A-17"}
        named = ["underpayment_tolerance"]
        assert backend.applied(plain) == {"invoice.covered": named, "invoice.settled": named}
        waiting = backend.until(risky, "PENDING_MEMPOOL")
        assert waiting["payments"][0]["replaceable"]
        told.append((backend, risky))
    node.mine()
    for backend, risky in told:
        backend.until(risky, "CONFIRMED")
        assert backend.applied(risky) == {"invoice.settled": ["replaceable"]}


def test_late_money_is_accepted_and_a_cancelled_invoice_takes_none(backends, node):
    late = [backend.sell(expires_in=10, policy={"accept_late_s": 600}) for backend in backends]
    cancelled = [backend.sell() for backend in backends]
    for backend, one in zip(backends, cancelled, strict=True):
        for _ in range(2):
            path = f"/v1/invoices/{one['id']}/cancel"
            assert backend.ask("POST", path)["status"] == "CANCELLED"
        backend.pay(one, replaceable=True)
    for backend, one in zip(backends, late, strict=True):
        backend.until_recorded(one, "invoice.deadline_reached")
        assert backend.look(one)["status"] == "PENDING"
        let_the_deadline_pass(one)
        backend.pay(one, replaceable=True)
        assert backend.until(one, "PENDING_MEMPOOL")["flags"]["late"]
    node.mine(6)
    for backend, one, other in zip(backends, late, cancelled, strict=True):
        settled = backend.until(one, "CONFIRMED")
        assert (settled["flags"]["late"], settled["credited"]) == (True, settled["amount"])
        assert set(backend.applied(one)) == {
            "payment.seen",
            "payment.included",
            "invoice.covered",
            "invoice.settled",
        }
        kept = backend.look(other)
        assert (kept["status"], kept["credited_base"]) == ("CANCELLED", "0")
        assert (kept["received_base"], kept["flags"]["late"]) == (str(AMOUNT_BASE), True)
