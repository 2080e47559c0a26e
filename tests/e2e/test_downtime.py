"""Stopped while customers pay and miners mine: afterwards every invoice is as if nothing was."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.process import wait_until
from tests.helpers.shop import Shop, Ticket, check_log, let_time_catch_up

AMOUNT = 4_567_890
BLOCKS = 32


@dataclass
class Row:
    """One node and one store."""

    deep: Ticket
    in_time: Ticket
    waiting: Ticket
    unpaid: Ticket
    late: Ticket
    partial: Ticket
    bumped: Ticket

    def tickets(self) -> list[Ticket]:
        return [getattr(self, name) for name in self.__dataclass_fields__]


@pytest.fixture(scope="module")
def rows(btc_node, ltc_node, postgres_server, tmp_path_factory):
    """Invoices of two daemons that were down while everything happened, and are up again."""
    nodes = (btc_node, ltc_node)
    url = postgres_server.create_database()
    daemons = [
        Daemon(tmp_path_factory.mktemp("down"), nodes=nodes, env=env)
        for env in ({}, {"TALLY_DATABASE_URL": url})
    ]
    let_time_catch_up(nodes)
    rows = []
    with ThreadPoolExecutor() as pool:
        list(pool.map(Daemon.start, daemons))
        for daemon in daemons:
            with GoiPay(daemon.grpc_port) as client:
                for node in nodes:
                    shop = Shop(daemon, node, client, None)
                    rows.append(_sell(shop))
        bumps = [row.bumped.pay() for row in rows]
        for row in rows:
            row.bumped.until_status("PENDING_MEMPOOL")
        assert all(pool.map(Daemon.stop, daemons))
        assert [daemon.exit_status for daemon in daemons] == [0, 0]
        _happen(rows, nodes, bumps)
        list(pool.map(Daemon.start, daemons))
    for row in rows:
        row.deep.shop.client = GoiPay(row.deep.shop.daemon.grpc_port)
    yield rows
    for row in rows:
        row.deep.shop.client.close()
    assert all(daemon.stop() for daemon in daemons)


def _sell(shop: Shop) -> Row:
    return Row(
        deep=shop.sell(AMOUNT, confirmations=BLOCKS - 2),
        in_time=shop.sell(AMOUNT, timeout_s=10),
        waiting=shop.sell(AMOUNT, timeout_s=10),
        unpaid=shop.sell(AMOUNT, timeout_s=10),
        late=shop.sell(AMOUNT, timeout_s=10),
        partial=shop.sell(2 * AMOUNT),
        bumped=shop.sell(AMOUNT),
    )


def _happen(rows: list[Row], nodes, bumps: list[str]) -> None:
    for row, txid in zip(rows, bumps, strict=True):
        row.bumped.shop.node.replace(txid)
        row.in_time.pay()
        row.deep.pay()
        row.partial.pay(AMOUNT)
    for node in nodes:
        node.mine()
    for row in rows:
        row.waiting.pay()
        row.partial.pay(AMOUNT)
    deadline_ms = max(time.time() + 10 for _ in rows)
    for node in nodes:
        node.mine_empty(BLOCKS - 4)
    wait_until(lambda: time.time() > deadline_ms, "all deadlines have passed")
    for row in rows:
        row.late.pay()
    late = {row.late.shop.node: [] for row in rows}
    for node in late:
        _mine_only(node, {row.late.address for row in rows if row.late.shop.node is node})
        node.mine_empty(2)


def _mine_only(node, addresses: set[str]) -> None:
    """A block with the transactions that pay to these addresses; the others stay in the mempool."""
    wanted = []
    for txid in node.mempool():
        outputs = node.rpc("getrawtransaction", txid, True)["vout"]
        paid = {str(one["scriptPubKey"]) for one in outputs}
        if any(address in text for address in addresses for text in paid):
            wanted.append(txid)
    assert len(wanted) == len(addresses)
    needed = {parent for txid in wanted for parent in node.rpc("getmempoolancestors", txid)}
    node.rpc("generateblock", node.new_address(), [*sorted(needed), *wanted])


def test_a_payment_that_was_buried_is_confirmed(rows):
    for row in rows:
        shown = row.deep.until_status("CONFIRMED")
        assert shown["payments"][0]["confirmations"] >= BLOCKS - 2
        assert row.deep.kinds() == [
            "invoice.created",
            "payment.included",
            "invoice.covered",
            "invoice.settled",
        ]


def test_money_that_came_in_time_counts_though_the_deadline_passed_meanwhile(rows):
    for row in rows:
        row.in_time.until_status("CONFIRMED")
        shown = row.in_time.check()
        assert not shown["flags"]["late"]
        assert "invoice.expired" not in row.in_time.kinds()


def test_what_happened_in_the_mempool_is_known_from_the_node(rows):
    for row in rows:
        # It stayed in the mempool: the node knows since when.
        shown = row.waiting.until_status("PENDING_MEMPOOL")
        assert shown["payments"][0]["state"] == "mempool"
        assert not shown["flags"]["late"]
        assert not shown["payments"][0]["late"]
        row.waiting.check()


def test_the_unpaid_one_expired_once(rows):
    for row in rows:
        row.unpaid.until_status("EXPIRED")
        assert row.unpaid.kinds() == [
            "invoice.created",
            "invoice.deadline_reached",
            "invoice.expired",
        ]


def test_money_that_came_late_during_the_downtime_is_late(rows):
    for row in rows:
        row.late.until_status("EXPIRED")
        shown = row.late.until(lambda one: one["payments"], "the late payment is recorded")
        assert shown["flags"]["late"]
        row.late.check()


def test_a_bump_during_the_downtime_replaced_the_payment(rows):
    for row in rows:
        shown = row.bumped.until_status("CONFIRMED")
        assert shown["received_base"] == str(AMOUNT)
        states = sorted(one["state"] for one in shown["payments"])
        assert states in (["double_spent", "included"], ["included", "replaced"])
        assert "invoice.uncovered" not in row.bumped.kinds()


def test_a_part_in_a_block_and_a_part_in_the_mempool_add_up(rows):
    for row in rows:
        shown = row.partial.until_status("PENDING_MEMPOOL")
        assert shown["received_base"] == str(2 * AMOUNT)
        assert sorted(one["state"] for one in shown["payments"]) == ["included", "mempool"]


def test_then_all_is_mined_and_every_fact_was_recorded_once(rows):
    for node in {id(row.deep.shop.node): row.deep.shop.node for row in rows}.values():
        node.mine()
    for row in rows:
        row.waiting.until_status("CONFIRMED")
        row.partial.until_status("CONFIRMED")
        for ticket in row.tickets():
            ticket.check()
    for daemon in {id(row.deep.shop.daemon): row.deep.shop.daemon for row in rows}.values():
        check_log(daemon)
