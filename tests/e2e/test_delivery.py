"""100 000 events, everything killed, and every reader ends with exactly the same sequence.

A log that is long already grows by real payments while the daemon is killed again and again. The
readers keep their place only now and then, so that they also get some events twice; without
duplicates, each must have what the log has, no more and no less. The seed of a failure is in its
output: put it into TALLY_TEST_SEED to replay the same plan.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import grpc
import pytest

from actors.ports import Committed
from benchmarks.store import fill
from daemon.store import migrate
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.clients_page import Program, aim_at, api_key, from_lines
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.grpc_node import require_grpc_js
from tests.helpers.ledger import creation, payment, settlement
from tests.helpers.log_readers import (
    EventSource,
    LogReader,
    Poller,
    StreamReader,
    Told,
    drain,
    whole_log,
)
from tests.helpers.process import wait_until
from tests.helpers.shop import Shop, Ticket, pay_many
from tests.helpers.webhook_fleet import ALLOW_LOOPBACK, Fleet

SEED = int(os.environ.get("TALLY_TEST_SEED", "0")) or random.randrange(1, 10**9)
FILLED = {"sqlite": 20_000, "postgres": 0}
"""Invoices that are in the log beforehand."""
FACTS = 5
"""Of each."""
NOBODYS = 1_000_000
"""The account of those invoices, which does not exist any more."""
ROUNDS = {"sqlite": 4, "postgres": 2}
SALES = 60
"""Invoices of each round; the most of them are paid."""
DRAINED_S = 60.0


@pytest.fixture(params=[*ROUNDS])
def daemon(request, make_daemon, btc_node) -> Daemon:
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        made = make_daemon(btc_node, env={"TALLY_DATABASE_URL": url, **ALLOW_LOOPBACK})
    else:
        made = make_daemon(btc_node, env=ALLOW_LOOPBACK)
        made.folder.mkdir()
        path = made.folder / "long.db"
        made.extra_env["TALLY_DATABASE_URL"] = url = f"sqlite:///{path}"
        migrate.upgrade(url)
        fill(path, history(FILLED[request.param]))
    made.filled = FACTS * FILLED[request.param]
    made.rounds = ROUNDS[request.param]
    return made


def history(count: int) -> Iterator[list[Committed]]:
    """So many paid invoices, long closed. They differ in their terms; their payments are alike."""
    first = creation(1, watch_depth=1, account_id=NOBODYS)
    paid = payment(first.after)
    later = [*paid, *settlement(paid[-1].after)]
    seq = 0
    for start in range(1, count + 1, 2000):
        facts = []
        for number in range(start, min(start + 2000, count + 1)):
            user_id = UUID(int=number % 3 + 1 << 70)
            new = creation(number, user_id=user_id, watch_depth=1, account_id=NOBODYS)
            for step in (new, *later):
                seq += 1
                after = replace(step.after, terms=new.after.terms)
                facts.append(Committed(seq, None, step.event, after))
        yield facts


class Market:
    """Customers who buy and pay while the daemon is killed."""

    def __init__(self, daemon: Daemon, node: BitcoinNode, chance: random.Random) -> None:
        self.daemon = daemon
        self.node = node
        self.chance = chance
        self.tickets: list[Ticket] = []
        self.paid: set[str] = set()
        with GoiPay(daemon.grpc_port) as client:
            self.shop = Shop(daemon, node, client, None)

    def trade(self, *, patient: bool) -> None:
        """A round's invoices, most of them paid in two transactions, and a block."""
        with (
            GoiPay(self.daemon.grpc_port, patient=patient) as client,
            ThreadPoolExecutor(4) as pool,
        ):
            self.shop.client = client
            for half in range(2):
                sold = [one for one in pool.map(self._sell, range(SALES // 2)) if one]
                self.tickets += sold
                buying = [one for one in sold if self.chance.random() < 0.8]
                self.paid |= {one.id for one in buying}
                if buying:
                    pay_many(self.node, {one.address: one.amount_base for one in buying})
                if half or self.chance.random() < 0.5:
                    self.node.mine()

    def _sell(self, _number: int) -> Ticket | None:
        try:
            return self.shop.sell(100_000)
        except grpc.RpcError:
            return None  # the daemon is down; whether the invoice exists is nobody's concern

    def settle(self) -> None:
        """Nothing more happens once this returns."""
        self.trade(patient=True)
        for ticket in self.tickets:
            if ticket.id in self.paid:
                ticket.until_status("CONFIRMED")


def check_log(daemon: Daemon, log: list[Told], market: Market) -> None:
    """The log is numbered without a gap, and is what the database and the histories hold."""
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    names = {event.id.partition("-")[0] for event in log}
    assert [event.id for event in log] == [f"{min(names)}-{event.seq}" for event in log]
    if "sqlite" in daemon.extra_env["TALLY_DATABASE_URL"]:
        path = daemon.extra_env["TALLY_DATABASE_URL"].removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path)) as database:
            stored = database.execute("SELECT seq, kind, invoice_id FROM events ORDER BY seq")
            rows = [(seq, kind, str(UUID(bytes=key))) for seq, kind, key in stored]
        assert rows == [(event.seq, event.type, event.invoice_id) for event in log]
    shown = market.tickets[:: len(market.tickets) // 20]
    found: dict[str, list[tuple[int, str, object]]] = {ticket.id: [] for ticket in shown}
    for event in log:
        if event.invoice_id in found:
            found[event.invoice_id].append((event.seq, event.type, event.data))
    for ticket in shown:
        facts = [(fact["seq"], fact["type"], fact["data"]) for fact in ticket.events()]
        assert found[ticket.id] == facts


def test_every_reader_ends_with_the_same_sequence(daemon, btc_node, tmp_path):
    print(f"TALLY_TEST_SEED={SEED}")
    require_grpc_js()
    chance = random.Random(SEED)
    daemon.start()
    market = Market(daemon, btc_node, chance)
    user = {"user_id": market.shop.user_id}
    settled = {"type": "invoice.settled"}
    everything: list[LogReader] = [
        StreamReader("grpcio", daemon.grpc_port),
        EventSource("server-sent events", daemon.http_port),
        Poller("poller", daemon.http_port),
    ]
    filtered: list[LogReader] = [
        StreamReader("grpcio, one user", daemon.grpc_port, filters=user),
        EventSource("server-sent events, one user", daemon.http_port, filters=user),
        Poller("poller, one kind", daemon.http_port, filters=settled),
    ]
    key = {"TALLY_KEY": api_key(daemon)}
    page = Program("The stream, with grpc-js", tmp_path, key, aim_at(daemon))
    with contextlib.ExitStack() as stack:
        fleet = stack.enter_context(Fleet(daemon, tmp_path, seed=SEED))
        for reader in (*everything, *filtered):
            stack.callback(reader.stop)
            reader.start()
        stack.callback(page.kill)
        page.start()
        for number in range(daemon.rounds):
            print(f"round {number}")
            if not daemon.is_running:
                daemon.start(ready=chance.random() < 0.5)
            if chance.random() < 0.4:
                page.kill()
                page.start()
            fleet.disturb(chance)
            killer = threading.Timer(chance.uniform(0.1, 1.6), daemon.kill)
            killer.start()
            market.trade(patient=False)
            killer.join()
        daemon.start()
        market.settle()
        fleet.heal()
        log = whole_log(lambda path: daemon.http("GET", path)[::2])
        check_log(daemon, log, market)
        assert len(log) >= daemon.filled + FACTS
        ours = [event for event in log if event.user_id == market.shop.user_id]
        ends = [event for event in log if event.type == "invoice.settled"]
        for reader in everything:
            drain(reader, log, within_s=DRAINED_S)
        for reader, wanted in zip(filtered, (ours, ours, ends), strict=True):
            drain(reader, wanted, within_s=DRAINED_S)

        def page_has_it() -> bool:
            page.check_runs()
            return (page.folder / "events.jsonl").read_bytes().count(b"\n") >= len(log)

        wait_until(page_has_it, "grpc-js has all", timeout_s=DRAINED_S)
        assert from_lines(page.folder) == [(one.seq, one.id, one.type, one.data) for one in log]
        fleet.check(log[daemon.filled :], within_s=DRAINED_S)
