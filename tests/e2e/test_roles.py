"""Six processes on one database, killed at random while payments flow: one log, whoever looks.

Two watch, two serve, two deliver. Merchants ask at either door, customers pay, and now and then one
of the six is killed and started again. In the end each invoice that was asked for is there once,
every payment is recorded, every reader has the whole log (also those that went on at the other
door), every webhook has come. Seeds are in the output: TALLY_TEST_SEED replays a plan,
TALLY_TEST_KILLS makes it longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from tests.e2e.conftest import check_log_text
from tests.helpers import log_readers
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.crew import Crew, RoamingEvents, RoamingStream, lines
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.google_messages import google_class
from tests.helpers.log_readers import (
    EventSource,
    LogReader,
    StreamReader,
    Told,
    drain,
    told,
    whole_log,
)
from tests.helpers.process import wait_until
from tests.helpers.receiver import Receiver
from tests.helpers.shop import new_key, pay_many

SEED = int(os.environ.get("TALLY_TEST_SEED", "0")) or random.randrange(1, 10**9)
KILLS = int(os.environ.get("TALLY_TEST_KILLS", "4"))
HAND_OVER_S = 5.0
AMOUNT = 100_000
PAUSE_S = 0.5
"""Between customers: on a small machine they would take the time that the six need."""
DRAINED_S = 60.0


@pytest.fixture
def crew(btc_node: BitcoinNode, postgres_url: str, tmp_path: Path):
    with Crew(tmp_path, btc_node, postgres_url) as running:
        yield running
    for member in running.members:
        check_log_text(member)
        assert member.exit_status == 0, member.log.read_text()[-2000:]


class Market(threading.Thread):
    """Sells and pays until it is told to close."""

    def __init__(self, crew: Crew, node: BitcoinNode, chance: random.Random) -> None:
        super().__init__(name="market", daemon=True)
        self.crew = crew
        self.node = node
        self.chance = chance
        self.invoices: dict[str, str] = {}
        """Idempotency key → invoice."""
        self.paid: set[str] = set()
        self.problem: BaseException | None = None
        self._closed = threading.Event()
        with GoiPay(crew.apis[0].grpc_port) as client:
            self.user_id = client.register()
            client.set_keys(self.user_id, btc=new_key())

    def run(self) -> None:
        try:
            with ThreadPoolExecutor(4) as pool:
                while not self._closed.wait(PAUSE_S):
                    self._trade(pool)
        except BaseException as error:
            self.problem = error
            raise

    def _trade(self, pool: ThreadPoolExecutor) -> None:
        numbers = range(len(self.invoices), len(self.invoices) + 4)
        addresses = {}
        for key, invoice in pool.map(self._sell, numbers):
            self.invoices[key] = invoice["id"]
            if self.chance.random() < 0.8:
                self.paid.add(invoice["id"])
                addresses[invoice["address"]] = AMOUNT
        if addresses:
            pay_many(self.node, addresses)
        if self.chance.random() < 0.5:
            self.node.mine()

    def _sell(self, number: int) -> tuple[str, dict[str, Any]]:
        """At both doors at once, as a client that does not wait long enough: it is one invoice."""
        key = f"sale-{number}"
        wanted = {
            "user_id": self.user_id,
            "asset": "BTC",
            "amount_base": str(AMOUNT),
            "confirmations": 1,
            "expires_in": 3600,
        }

        def ask(door: int) -> tuple[int, Any]:
            return self.crew.ask("POST", "/v1/invoices", wanted, key=key, first=door)

        with ThreadPoolExecutor(2) as pool:
            made = [*pool.map(ask, range(2))]
        assert [status for status, _ in made] == [201, 201], made
        (first, second) = (answer for _, answer in made)
        assert (first["id"], first["address"]) == (second["id"], second["address"])
        return key, first

    def close(self) -> None:
        """Nothing more happens once this returns."""
        self._closed.set()
        self.join(DRAINED_S)
        assert self.problem is None, self.problem
        self.node.mine()

        def all_settled() -> bool:
            return all(
                self.crew.ask("GET", f"/v1/invoices/{one}")[1]["status"] == "CONFIRMED"
                for one in self.paid
            )

        wait_until(all_settled, "everything paid is settled", timeout_s=DRAINED_S)


def kill(crew: Crew, victim: Daemon) -> float | None:
    """`kill -9`; how long it took until another did what it did, if it did something alone."""
    duty = crew.role(victim)
    others = [one for one in crew.members if crew.role(one) == duty and one is not victim]
    # What the next one does first with it.
    begun = "chain loaded" if duty.startswith("watch") else "duty taken"
    before = [lines(one, begun) for one in others]
    holds = duty != "api" and crew.holder(duty) is victim
    victim.kill()
    started = time.monotonic()
    if not holds:
        return None
    wait_until(
        lambda: [lines(one, begun) for one in others] > before,
        f"{duty} is taken over",
        timeout_s=4 * HAND_OVER_S,
    )
    return time.monotonic() - started


def cut_off(crew: Crew, url: str) -> None:
    """Both holders lose the connection that their duty is bound to: they end, others take over."""
    duties = ("watch:btc", "deliver")
    holders = [
        wait_until(lambda duty=duty: crew.holder(duty), f"{duty} is held") for duty in duties
    ]
    with psycopg.connect(url.replace("+psycopg", "")) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND mode = 'ExclusiveLock' AND granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    wait_until(lambda: not any(one.is_running for one in holders), "those who held them have ended")
    for one in holders:
        one.stop()
        assert one.exit_status == 1
        assert "as a stand-by" in one.log.read_text()
        crew.start(one)
    for duty in duties:
        wait_until(lambda duty=duty: crew.holder(duty), f"{duty} is held again")


def test_killed_at_random_nothing_is_lost_or_doubled(
    crew, btc_node, postgres_url, tmp_path, monkeypatch
):
    print(f"TALLY_TEST_SEED={SEED}")
    monkeypatch.setattr(log_readers, "REMEMBER_EVERY", 7)
    chance = random.Random(SEED)
    first, second = crew.apis
    ports = [one.grpc_port for one in crew.apis], [one.http_port for one in crew.apis]
    readers: list[LogReader] = [
        StreamReader("a stream", first.grpc_port),
        EventSource("server-sent events", second.http_port),
        RoamingStream("a stream at either door", ports[0]),
        RoamingEvents("server-sent events at either door", ports[1][::-1]),
    ]
    receiver = Receiver(tmp_path / "receiver", refuse=0.1, seed=SEED)
    with contextlib.ExitStack() as stack:
        stack.callback(receiver.kill)
        receiver.start()
        webhook_id = add_webhook(crew, receiver)
        market = Market(crew, btc_node, chance)
        for reader in readers:
            stack.callback(reader.stop)
            reader.start()
        market.start()
        hand_overs = []
        for number in range(KILLS):
            victim = chance.choice(crew.members)
            if number in (1, 3):
                victim = crew.holder("watch:btc") or victim
            took_s = kill(crew, victim)
            print(f"{number}: {crew.role(victim)} killed, taken over after {took_s}")
            if took_s is not None:
                hand_overs.append(took_s)
            crew.start(victim)
        cut_off(crew, postgres_url)
        market.close()
        log = whole_log(partial(crew.ask, "GET"))
        check_log(crew, log, market)
        for reader in readers:
            drain(reader, log, within_s=DRAINED_S)
        check_webhooks(crew, webhook_id, receiver, log)
    assert hand_overs
    assert max(hand_overs) < HAND_OVER_S
    audited = first.command("audit", "--log")
    assert audited.returncode == 0, audited.stdout
    print(f"{len(market.invoices)} invoices, {len(log)} events, {audited.stdout.splitlines()[0]}")


def add_webhook(crew: Crew, receiver: Receiver) -> str:
    """By one door, looked at and tried through the other: it is the third that sends."""
    status, made = crew.ask("POST", "/v1/webhooks", {"url": receiver.url}, first=0)
    assert status == 201, made
    receiver.trust(made["secret"])
    status, tried = crew.ask("POST", f"/v1/webhooks/{made['id']}/test", {}, first=1)
    assert status == 200, tried
    assert len(receiver.requests()) == 1
    return str(made["id"])


def check_log(crew: Crew, log: list[Told], market: Market) -> None:
    """Dense, and each sale is one invoice: nobody else made any."""
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    kinds: dict[str, list[str]] = defaultdict(list)
    for event in log:
        kinds[event.invoice_id].append(event.type)
    assert kinds.keys() == set(market.invoices.values())
    for invoice_id, seen in kinds.items():
        assert seen.count("invoice.created") == 1
        assert seen.count("invoice.settled") == (invoice_id in market.paid)
        assert seen.count("payment.included") == (invoice_id in market.paid)


def check_webhooks(crew: Crew, webhook_id: str, receiver: Receiver, log: list[Told]) -> None:
    """All have come, signed and in the order of their invoices; what was refused is tried again."""
    status, answer = crew.ask("POST", f"/v1/webhooks/{webhook_id}/resume", {})
    assert status == 200, answer
    ids = {event.id for event in log}

    def taken() -> dict[str, Told]:
        requests = [one for one in receiver.accepted() if one.body.get("seq") is not None]
        return {one.id: told(one.body) for one in requests}

    wait_until(lambda: taken().keys() >= ids, "every webhook has come", timeout_s=DRAINED_S)
    assert sorted(taken().values()) == log
    assert all(one.signed for one in receiver.requests())
    last: dict[str, int] = defaultdict(int)
    for event in taken().values():
        assert event.seq > last[event.invoice_id]
        last[event.invoice_id] = event.seq


def test_what_processes_in_roles_say_and_whom_they_keep_out(
    btc_node, postgres_url, tmp_path, make_daemon
):
    """Two roles in one process, and none for the rest."""
    env = {"TALLY_DATABASE_URL": postgres_url, "TALLY_HTTP_HOST": "127.0.0.1"}
    one = make_daemon(btc_node, env=env, arguments=("run", "-role", "api", "--role", "watch:BTC"))
    one.start()
    status, _, ready = one.http("GET", "/readyz")
    assert status == 200
    assert ready["roles"] == ["api", "watch:btc"]
    assert ready["duties"]["watch:btc"]["holder"].endswith(f" pid {one.pid}")
    assert ready["duties"]["deliver"] is None
    figures = one.http("GET", "/metrics")[2]
    assert 'tallyd_duty_held{duty="watch:btc"} 1.0' in figures
    assert 'tallyd_duty_held{duty="deliver"} 0.0' in figures
    assert 'tallyd_chain_state{chain="btc",state="current"} 1.0' in figures
    wait_until(lambda: health(one, "watch:btc") == "SERVING", "health says that it is held")
    assert health(one, "") == "SERVING"
    assert health(one, "deliver") == "NOT_SERVING"
    # Nobody delivers: what needs that is refused, and says so.
    status, _, problem = one.http("POST", "/v1/webhooks", {"url": "https://shop.example/"})
    assert status == 503
    assert "deliver" in problem["detail"]
    checked = one.command("check", "-role", "api").stdout
    assert "this configuration is for api" in checked
    assert "deliver: no process has ever done it" in checked
    assert f"watch:btc: {ready['duties']['watch:btc']['holder']}" in checked
    alone = one.command("run")
    assert alone.returncode == 1
    assert "is in use by another tallyd" in alone.stderr


def health(daemon: Daemon, service: str) -> str:
    request = google_class("grpc.health.v1.HealthCheckRequest")
    response = google_class("grpc.health.v1.HealthCheckResponse")
    with grpc.insecure_channel(f"127.0.0.1:{daemon.grpc_port}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return str(response.ServingStatus.Name(check(request(service=service)).status))
