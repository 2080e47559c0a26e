"""`kill -9` at random moments while payments flow: the same events, once each.

Every round starts the daemon, lets merchants and customers do what they do, and kills it after a
random time, sometimes while it still starts. What the daemon has acknowledged or streamed must be
true ever after; what the customers did must be known in the end. The seed of a failure is in its
name and in its output: put it into TALLY_TEST_SEED to replay the same plan.
"""

import os
import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc
import pytest

from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay, Update
from tests.helpers.shop import Shop, Ticket, check_log

ROUNDS = {"sqlite": 10, "postgres": 5}
SEED = int(os.environ.get("TALLY_TEST_SEED", "0")) or random.randrange(1, 10**9)


@dataclass
class Story:
    """What the world did, known from outside the daemon."""

    tickets: list[Ticket] = field(default_factory=list)
    paid: dict[str, dict[str, int]] = field(default_factory=dict)
    """Invoice → txid → base units, of transactions that were sent."""
    streamed: list[Update] = field(default_factory=list)

    def pay(self, ticket: Ticket, amount_base: int) -> None:
        txid = ticket.pay(amount_base)
        self.paid.setdefault(ticket.id, {})[txid] = amount_base


@pytest.fixture(params=[*ROUNDS])
def cut_daemon(request, make_daemon, btc_node, ltc_node) -> Daemon:
    env = {}
    if request.param == "postgres":
        env["TALLY_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    daemon = make_daemon(btc_node, ltc_node, env=env)
    daemon.rounds = ROUNDS[request.param]
    return daemon


def test_power_cuts(cut_daemon, btc_node, ltc_node):
    print(f"TALLY_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    daemon, story, nodes = cut_daemon, Story(), (btc_node, ltc_node)
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        shops = [Shop(daemon, node, client, None) for node in nodes]
    for number in range(daemon.rounds):
        print(f"round {number}")
        if not daemon.is_running:
            start(daemon, chance)
        with GoiPay(daemon.grpc_port, patient=False) as client:
            for shop in shops:
                shop.client = client
            stream = client.watch()
            killer = threading.Timer(chance.uniform(0, 0.9), daemon.kill)
            killer.start()
            for _ in range(6):
                act(chance, story, shops, btc_node if chance.random() < 0.6 else ltc_node)
            killer.join()
            stream.until_ended()
            story.streamed += stream.all()
    daemon.start()
    for node in nodes:
        node.mine()
    with GoiPay(daemon.grpc_port) as client:
        for shop in shops:
            shop.client = client
        for ticket in story.tickets:
            verify(ticket, story)
    check_log(daemon)
    audited = daemon.command("audit", "--log")
    assert audited.returncode == 0, audited.stdout
    verify_streams(story)
    assert len({ticket.address for ticket in story.tickets}) == len(story.tickets)
    assert len(story.tickets) > daemon.rounds
    print(f"{len(story.tickets)} invoices, {len(story.streamed)} streamed updates")


def start(daemon: Daemon, chance: random.Random) -> None:
    """Every fourth start is itself cut short."""
    if chance.random() < 0.25:
        daemon.spawn()
        time.sleep(chance.uniform(0, 1.5))  # the moment of the power cut, not a synchronisation
        daemon.kill()
    daemon.start(ready=chance.random() < 0.5)


def act(chance: random.Random, story: Story, shops: list[Shop], node: BitcoinNode) -> None:
    """One thing that happens: an invoice, a payment, a block, a reorg."""
    kind = chance.random()
    if kind < 0.5 or not story.tickets:
        shop = next(one for one in shops if one.node is node)
        amount_base = chance.randrange(20_000, 3_000_000)
        try:
            ticket = shop.sell(amount_base, confirmations=chance.choice((0, 1, 1, 2)))
        except grpc.RpcError:
            return  # the daemon is down; whether the invoice exists is nobody's concern
        story.tickets.append(ticket)
        if chance.random() < 0.8:
            story.pay(ticket, amount_base if chance.random() < 0.7 else amount_base // 2 + 1_000)
    elif kind < 0.65:
        ticket = chance.choice(story.tickets)
        story.pay(ticket, ticket.amount_base)
    elif kind < 0.95 or node.family == "ltc":
        node.mine()
    else:
        node.reorg(chance.randrange(1, 3))


def verify(ticket: Ticket, story: Story) -> None:
    """The invoice is what the chain says, on every wire."""
    node, paid = ticket.shop.node, story.paid.get(ticket.id, {})
    depth = depths(node, paid)
    total = sum(paid[txid] for txid in depth)
    ticket.until(
        lambda one: (
            one["received_base"] == str(total)
            and {p["txid"]: p["confirmations"] for p in one["payments"] if p["state"] == "included"}
            == {txid: one for txid, one in depth.items() if one}
        ),
        f"the daemon knows of {paid} with {depth}",
        timeout_s=90,  # it takes half a minute to believe that a transaction is gone
    )
    shown = ticket.check()
    needed = shown["confirmations_required"]
    deep = sum(paid[txid] for txid, one in depth.items() if one >= needed)
    if deep >= ticket.amount_base:
        expected = "CONFIRMED"
    else:
        expected = "PENDING_MEMPOOL" if total >= ticket.amount_base else "PENDING"
    if shown["status"] == "CONFIRMED" != expected:
        # It was deep enough before a reorg took the block: the alarm is for lost money only.
        assert {"payment.disconnected", "payment.displaced"} & {*ticket.kinds()}
        assert shown["flags"]["reversed"] == (total < ticket.amount_base)
    else:
        assert shown["status"] == expected


def depths(node: BitcoinNode, txids: Iterable[str]) -> dict[str, int]:
    """The confirmations of those that stand.

    A reorg drops what may not be in the next block, as wallets date a transaction by the height
    they know (against fee sniping), and nobody sends it again: its wallet counts 0 for ever.
    """
    pool = node.mempool()
    depth = {txid: int(node.rpc("gettransaction", txid)["confirmations"]) for txid in txids}
    assert all(one >= 0 for one in depth.values())
    return {txid: one for txid, one in depth.items() if one or txid in pool}


def verify_streams(story: Story) -> None:
    """Nothing was told that is not recorded, and CONFIRMED was told at most once."""
    turn = {"PENDING_MEMPOOL": "invoice.covered", "CONFIRMED": "invoice.settled"}
    kinds = {ticket.id: ticket.kinds() for ticket in story.tickets}
    confirmed: set[str] = set()
    for update in story.streamed:
        if update.id not in kinds:
            continue  # created when the power was cut: nobody was told its id
        if update.status in turn:
            assert turn[update.status] in kinds[update.id]
        if update.status == "CONFIRMED":
            assert update.id not in confirmed
            confirmed.add(update.id)
