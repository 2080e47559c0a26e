"""Replacements, double-spends and reorgs on real nodes, told without flicker and without a loss."""

import pytest

from tests.helpers.bitcoind import coins
from tests.helpers.shop import Ticket, block_of

AMOUNT = 23_456_789
LIFE = ["PENDING", "PENDING_MEMPOOL", "CONFIRMED"]


def sold(shops, **terms):
    return [shop.sell(AMOUNT, **terms) for shop in shops]


def in_block(depth):
    def reached(one):
        return [p["confirmations"] for p in one["payments"] if p["state"] == "included"] == [depth]

    return reached


def in_mempool(one):
    return any(p["state"] == "mempool" for p in one["payments"])


def test_a_bumped_fee_changes_the_transaction_and_never_the_status(shops, node):
    tickets = sold(shops)
    for ticket in tickets:
        first = ticket.pay()
        ticket.heard("PENDING_MEMPOOL")
        second = node.replace(first)
        ticket.heard(lambda all_, txid=second: all_[-1].txid == txid)
        node.mine()
        updates = ticket.heard("CONFIRMED")
        assert [(one.status, one.txid, one.actual_base) for one in updates] == [
            ("PENDING", "", 0),
            ("PENDING_MEMPOOL", first, AMOUNT),
            ("PENDING_MEMPOOL", second, AMOUNT),
            ("CONFIRMED", second, AMOUNT),
        ]
        shown = {one["txid"]: one for one in ticket.check()["payments"]}
        assert shown[first]["state"] == "replaced"
        assert shown[first]["replaced_by"] == second
        assert shown[second]["state"] == "included"


def test_a_payment_that_is_spent_elsewhere_makes_the_invoice_pending_again(shops, node):
    tickets = sold(shops)
    for ticket in tickets:
        first = ticket.pay()
        ticket.heard("PENDING_MEMPOOL")
        thief = node.replace(first, outputs={})
        ticket.heard("PENDING")
        shown = ticket.check()
        assert [one["state"] for one in shown["payments"]] == ["replaced"]
        assert shown["payments"][0]["replaced_by"] == thief
        assert shown["received_base"] == "0"
        node.mine()
        second = ticket.pay()
        ticket.heard("PENDING_MEMPOOL")
        node.mine()
        updates = ticket.heard("CONFIRMED")
        assert [one.status for one in updates] == [
            "PENDING",
            "PENDING_MEMPOOL",
            "PENDING",
            "PENDING_MEMPOOL",
            "CONFIRMED",
        ]
        assert [one.actual_base for one in updates] == [0, AMOUNT, 0, AMOUNT, AMOUNT]
        assert updates[-1].txid == second
        ticket.check()


def test_a_displaced_block_is_undone_and_its_payment_mined_again(shops, node):
    tickets = sold(shops, confirmations=2)
    txids = [ticket.pay() for ticket in tickets]
    for ticket in tickets:
        ticket.heard("PENDING_MEMPOOL")
    node.mine()
    for ticket in tickets:
        ticket.until(in_block(1), "it is mined")
    stale, _ = node.reorg(1)
    for ticket in tickets:
        shown = ticket.until(in_mempool, "it is back in the mempool")
        assert shown["status"] == "PENDING_MEMPOOL"
        assert shown["payments"][0]["confirmations"] == 0
        ticket.check()
    node.mine(2)
    for ticket, txid in zip(tickets, txids, strict=True):
        ticket.heard("CONFIRMED")
        assert ticket.told() == LIFE
        shown = ticket.check()
        assert shown["payments"][0]["block_hash"] == block_of(node, txid)[1]
        disconnected = [e for e in ticket.events() if e["type"] == "payment.disconnected"]
        assert [event["data"]["block_hash"] for event in disconnected] == stale


def test_a_deep_reorg_takes_ten_confirmations_away(shops, node):
    tickets = sold(shops, confirmations=11)
    txids = [ticket.pay() for ticket in tickets]
    node.mine(10)
    for ticket in tickets:
        ticket.until(in_block(10), "10 confirmations")
    node.reorg(10)
    for ticket in tickets:
        ticket.until(in_mempool, "it is back in the mempool")
    node.mine(11)
    for ticket, txid in zip(tickets, txids, strict=True):
        updates = ticket.heard("CONFIRMED")
        assert [one.status for one in updates] == LIFE
        assert updates[-1].txid == txid
        shown = ticket.check()
        assert shown["payments"][0]["height"] == block_of(node, txid)[0]
        assert not shown["flags"]["reversed"]


def test_a_reorg_of_a_settled_invoice_is_silent_when_its_payment_comes_back(shops, node):
    tickets = sold(shops)
    for ticket in tickets:
        ticket.pay()
    node.mine()
    for ticket in tickets:
        ticket.heard("CONFIRMED")
    node.reorg(1)
    for ticket in tickets:
        ticket.until(in_mempool, "it is back in the mempool")
    node.mine()
    for ticket in tickets:
        ticket.until(in_block(1), "it is mined again")
        assert ticket.told() == LIFE
        assert "invoice.reversed" not in ticket.kinds()
        ticket.check()


@pytest.mark.parametrize("node", ["btc"], indirect=True)  # a minute, for what both do alike
def test_a_payment_that_a_reorg_drops_is_evicted_until_it_is_sent_again(shops, node):
    """Dated by the tip's height, it may not be in the block that takes the tip's place."""
    tickets = sold(shops, confirmations=1)
    txids = [dated_by_the_tip(ticket) for ticket in tickets]
    for ticket in tickets:
        ticket.heard("PENDING_MEMPOOL")
    raws = [node.rpc("getrawtransaction", txid) for txid in txids]
    node.reorg(1)
    assert not {*txids} & {*node.mempool()}
    for ticket in tickets:
        evicted = ticket.until(
            lambda one: [p["state"] for p in one["payments"]] == ["evicted"],
            "the payment is told as evicted, half a minute after it was missed first",
            timeout_s=90,
        )
        assert evicted["status"] == "PENDING"
        assert evicted["received_base"] == "0"
        ticket.check()
    for raw in raws:
        node.rpc("sendrawtransaction", raw)
    node.mine()
    for ticket in tickets:
        updates = ticket.heard("CONFIRMED")
        assert updates[2].status == "PENDING"
        assert ticket.check()["received_base"] == str(AMOUNT)


def dated_by_the_tip(ticket: Ticket) -> str:
    """Pay as wallets do nine times in ten; the tenth they date further back."""
    node = ticket.shop.node
    raw = node.rpc("createrawtransaction", [], {ticket.address: coins(AMOUNT)}, node.height())
    funded = node.rpc("fundrawtransaction", raw)["hex"]
    return str(
        node.rpc("sendrawtransaction", node.rpc("signrawtransactionwithwallet", funded)["hex"])
    )


def test_a_settled_invoice_that_is_double_spent_raises_an_alarm(shops, node):
    tickets = sold(shops)
    txids = [ticket.pay() for ticket in tickets]
    node.mine()
    for ticket in tickets:
        ticket.heard("CONFIRMED")
    node.reorg(1)
    for ticket, txid in zip(tickets, txids, strict=True):
        ticket.until(in_mempool, "it is back in the mempool")
        thief = node.replace(txid, outputs={})
        shown = ticket.until(lambda one: one["flags"]["reversed"], "the alarm is raised")
        assert shown["status"] == "CONFIRMED"
        assert shown["payments"][0]["replaced_by"] == thief
        alarms = [event for event in ticket.events() if event["type"] == "invoice.reversed"]
        assert [event["data"]["credited_base"] for event in alarms] in ([0], ["0"])
    node.mine()
    for ticket in tickets:
        assert ticket.check()["status"] == "CONFIRMED"
        assert ticket.told() == LIFE
        assert ticket.kinds().count("invoice.reversed") == 1
