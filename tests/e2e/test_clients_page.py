"""What docs/clients.md shows is run, against the real daemon, with everything killed."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.bitcoind import COIN_BASE, BitcoinNode
from tests.helpers.clients_page import (
    PAGE,
    SECTIONS,
    Program,
    Row,
    aim_at,
    api_key,
    from_books,
    from_lines,
    from_words,
    whole_lines,
)
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.grpc_node import require_grpc_js
from tests.helpers.ports import free_port
from tests.helpers.process import wait_until
from tests.helpers.shop import Shop
from tests.helpers.webhook_fleet import ALLOW_LOOPBACK

PRICE_BASE = round(0.015 * COIN_BASE)
MOST_LINES = 20
HOOK_PORT = "9000"

READERS: dict[str, Callable[[Path], list[Row]]] = {
    "The stream, with grpclib": from_books,
    "The stream, with grpcio": from_books,
    "The stream, with grpc-js": from_lines,
    "Server-sent events, with curl": from_words,
    "The poller": from_books,
}


def test_the_page_has_nothing_that_is_not_run():
    run = {*READERS, *RECEIVERS, CREATION}
    assert {heading for heading, blocks in SECTIONS.items() if blocks} == run
    assert PAGE.count("\n```") == 2 * sum(map(len, SECTIONS.values()))


# --- readers --------------------------------------------------------------------------------------


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], btc_node: BitcoinNode) -> Daemon:
    running = make_daemon(btc_node, env=ALLOW_LOOPBACK)
    running.start()
    return running


@pytest.fixture
def key(daemon: Daemon) -> str:
    return api_key(daemon)


@pytest.fixture
def aim(daemon: Daemon) -> dict[str, str]:
    return aim_at(daemon)


def log_of(daemon: Daemon) -> list[Row]:
    """All events, as REST tells them, which must be numbered without a gap."""
    found: list[Row] = []
    while True:
        after = found[-1][0] if found else 0
        status, _, page = daemon.http("GET", f"/v1/events?after={after}")
        assert status == 200, page
        if not page["items"]:
            assert [row[0] for row in found] == list(range(1, len(found) + 1))
            return found
        found += [(one["seq"], one["id"], one["type"], one["data"]) for one in page["items"]]


def trade(shop: Shop) -> None:
    """Three invoices from their creation to their end."""
    tickets = [shop.sell(PRICE_BASE) for _ in range(3)]
    for ticket in tickets:
        ticket.pay()
    shop.node.mine()
    for ticket in tickets:
        ticket.until_status("CONFIRMED")


def test_the_readers_miss_nothing(daemon, key, aim, btc_node, tmp_path):
    require_grpc_js()
    programs = {name: Program(name, tmp_path, {"TALLY_KEY": key}, aim) for name in READERS}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(GoiPay(daemon.grpc_port))
        shop = Shop(daemon, btc_node, client, None)
        for program in programs.values():
            stack.callback(program.kill)
            program.start()

        def all_know() -> None:
            log = log_of(daemon)
            for name, read in READERS.items():
                program = programs[name]

                def knows(program: Program = program, read: Any = read) -> bool:
                    program.check_runs()
                    return len(read(program.folder)) >= len(log)

                wait_until(knows, f"{name} has {len(log)} events", timeout_s=60)
                assert read(program.folder) == log, name

        trade(shop)
        all_know()
        for program in programs.values():
            program.kill()
        trade(shop)
        for program in programs.values():
            program.start()
        daemon.kill()
        daemon.start()
        trade(shop)
        all_know()


def test_a_place_of_another_database_is_refused(daemon, key, aim, tmp_path):
    program = Program("The stream, with grpclib", tmp_path, {"TALLY_KEY": key}, aim)
    with contextlib.closing(sqlite3.connect(program.folder / "books.db")) as books, books:
        books.execute("CREATE TABLE events (id TEXT PRIMARY KEY, seq INT, type TEXT, data TEXT)")
        books.execute("INSERT INTO events VALUES ('00000000-7', 7, '', '')")
    try:
        program.start()
        assert program.wait() != 0
    finally:
        program.kill()
    assert "of another database" in program.output


# --- receivers ------------------------------------------------------------------------------------

RECEIVERS = {"Webhooks, in Python": "books.db", "Webhooks, in Node.js": "events.tsv"}
SECRET = "whsec_" + base64.b64encode(b"an endpoint's own secret").decode()


class Hook:
    """A receiver of the page."""

    def __init__(self, heading: str, folder: Path, secret: str) -> None:
        self.port = free_port()
        self._kept = RECEIVERS[heading]
        self.program = Program(
            heading, folder, {"WEBHOOK_SECRET": secret}, {HOOK_PORT: str(self.port)}
        )

    def start(self) -> None:
        self.program.start()
        wait_until(self._answers, "the receiver listens")

    def kept(self) -> list[tuple[str, Any]]:
        """Every event that it has, with its id."""
        path = self.program.folder / self._kept
        if path.suffix == ".tsv":
            rows = [tuple(line.split("\t", 1)) for line in whole_lines(path)]
        else:
            with contextlib.closing(sqlite3.connect(path)) as books:
                rows = books.execute("SELECT id, body FROM events ORDER BY rowid").fetchall()
        return [(event_id, json.loads(body)) for event_id, body in rows]

    def post(self, headers: dict[str, str], body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", "/", body, headers)
            return connection.getresponse().status

    def _answers(self) -> bool:
        self.program.check_runs()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


@pytest.fixture(params=RECEIVERS)
def hook(request, tmp_path):
    require_grpc_js()  # brings Node.js
    made = Hook(request.param, tmp_path, SECRET)
    try:
        made.start()
        yield made
    finally:
        made.program.kill()


def signed(
    event_id: str, body: bytes, *, at_s: float = 0.0, secret: str = SECRET
) -> dict[str, str]:
    at = str(int(time.time() + at_s))
    text = f"{event_id}.{at}.".encode() + body
    mac = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), text, hashlib.sha256)
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": event_id, "webhook-timestamp": at, "webhook-signature": signature}


@pytest.mark.parametrize("heading", RECEIVERS)
def test_a_receiver_is_short(heading):
    ((_, text),) = SECTIONS[heading]
    assert len([line for line in text.splitlines() if line]) <= MOST_LINES


def test_a_receiver_believes_what_is_signed_once(hook):
    body = b'{"type": "payment.seen", "n": 1}'
    good = signed("log-1", body)
    other = signed("log-1", body, secret="whsec_" + base64.b64encode(b"another").decode())
    both = f"v1a,x {other['webhook-signature']} {good['webhook-signature']}"
    rotated = {**good, "webhook-signature": both}
    assert hook.post(good, body) == 204
    assert hook.post(rotated, body) == 204
    hook.program.kill()
    hook.start()
    assert hook.post(good, body) == 204
    assert hook.kept() == [("log-1", json.loads(body))]
    for bad in (
        other,
        {},
        {**good, "webhook-id": "log-2"},
        {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        {**good, "webhook-timestamp": "now"},
        {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")},
        {**good, "webhook-signature": "v1,\xff"},
        signed("log-3", body, at_s=-310),
        signed("log-3", body, at_s=310),
    ):
        assert hook.post(bad, body) == 401, bad
    assert hook.post(good, body.replace(b"1", b"2")) == 401
    assert hook.post(signed("log-4", body, at_s=-290), body) == 204
    assert [event_id for event_id, _ in hook.kept()] == ["log-1", "log-4"]


def test_the_receivers_get_everything_from_the_daemon(daemon, btc_node, tmp_path):
    require_grpc_js()
    hooks = [Hook(heading, tmp_path, SECRET) for heading in RECEIVERS]
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(GoiPay(daemon.grpc_port))
        shop = Shop(daemon, btc_node, client, None)
        endpoints = []
        for hook in hooks:
            stack.callback(hook.program.kill)
            hook.start()
            wanted = {"url": f"http://127.0.0.1:{hook.port}/", "secret": SECRET}
            status, _, made = daemon.http("POST", "/v1/webhooks", wanted)
            assert status == 201, made
            endpoints.append(f"/v1/webhooks/{made['id']}")
        trade(shop)
        for hook in hooks:
            hook.program.kill()
        trade(shop)
        for hook, endpoint in zip(hooks, endpoints, strict=True):
            hook.start()
            # What failed is tried at once, and not in five seconds.
            assert daemon.http("POST", f"{endpoint}/resume", {})[0] == 200
        log = log_of(daemon)
        for hook in hooks:
            wait_until(lambda hook=hook: len(hook.kept()) >= len(log), "the receiver has all")
            told = [(e["seq"], e["id"], e["type"], e["data"]) for _, e in hook.kept()]
            assert sorted(told) == log
            assert [event_id for event_id, _ in hook.kept()] == [row[1] for row in told]


# --- creation -------------------------------------------------------------------------------------

CREATION = "Creating an invoice, however often it is sent"


def test_an_order_makes_one_invoice(daemon, key, aim, btc_node, tmp_path):
    with GoiPay(daemon.grpc_port) as client:
        shop_id = Shop(daemon, btc_node, client, None).user_id
    program = Program(
        CREATION, tmp_path, {"TALLY_KEY": key, "SHOP": shop_id, "ORDER": "order-1042"}, aim
    )
    try:
        daemon.kill()
        program.start()  # asks again while nobody is there
        daemon.start()
        assert program.wait() == 0, program.output
        program.start()
        assert program.wait() == 0, program.output
    finally:
        program.kill()
    answers = program.output[program.output.index('{"id"') :]
    first, end = json.JSONDecoder().raw_decode(answers)
    assert json.loads(answers[end:]) == first
    assert first["amount"] == "0.015"
    body = {"user_id": shop_id, "asset": "BTC", "amount": "0.016", "expires_in": 3600}
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "order-1042"}
    assert daemon.http("POST", "/v1/invoices", body, headers)[0] == 409
    invoices = daemon.http("GET", f"/v1/invoices?user_id={shop_id}")[2]["items"]
    assert [one["id"] for one in invoices] == [first["id"]]
