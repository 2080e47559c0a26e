"""Webhooks in the form that shops with orders have, from the real daemon."""

from __future__ import annotations

import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from standardwebhooks.webhooks import Webhook

from actors.order_book import Order
from daemon.store import open_store
from tests.helpers.daemon import Daemon
from tests.helpers.hook_server import Hook, HookServer
from tests.helpers.ledger import creation, payment, record, settlement
from tests.helpers.process import wait_until
from tests.helpers.shop import new_key
from tests.helpers.webhook_fleet import ALLOW_LOOPBACK

INVOICES = 600
"""Every third is an order."""
AMOUNT_BASE = 250_000
SHORT_S = 10
"""The shortest time to pay that there is."""
DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"


def documented() -> Callable[[str, dict[str, str], bytes], bool]:
    """The check of signatures that docs/webhooks.md shows."""
    (code,) = re.findall(
        r"^```python\n(.*?is_genuine.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE
    )
    names: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), names)
    return names["is_genuine"]


is_genuine = documented()


def order_of(number: int) -> Order:
    first = creation(number).after.terms
    return Order(
        id=2**53 - number,
        invoice_id=first.invoice_id,
        user_id=first.user_id,
        wallet_id=1,
        merchant_order_id=f"order {number}",
        attempt=1,
        description="",
        callback_url="",
        merchant_name="",
        created_at_ms=0,
    )


def fill(url: str) -> None:
    """A log of INVOICES paid and settled invoices, side by side."""

    async def write() -> None:
        async with open_store(url, on_commit=lambda _facts: None) as store:

            async def one(number: int) -> None:
                if number % 3 == 0:
                    assert await store.orders.claim_order(order_of(number)) is not None
                invoice = await record(store, None, [creation(number)])
                invoice = await record(store, invoice, payment(invoice))
                await record(store, invoice, settlement(invoice))

            async with trio.open_nursery() as nursery:
                for number in range(1, INVOICES + 1):
                    nursery.start_soon(one, number)

    trio.run(write)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_every_status_arrives_in_order_however_often_it_is_killed(
    tmp_path, make_daemon, backend, request
):
    url = f"sqlite:///{tmp_path / 'tally.db'}"
    if backend == "postgresql":
        url = request.getfixturevalue("postgres_url")
    fill(url)
    chance = random.Random(11)

    def mood(_hook: Hook) -> int:
        return 200 if chance.random() < 0.95 else chance.choice((500, 0))

    daemon = make_daemon(env={**ALLOW_LOOPBACK, "TALLY_DATABASE_URL": url})
    wanted = [order_of(number) for number in range(3, INVOICES + 1, 3)]
    with HookServer(mood) as server:
        daemon.start()
        asked = {"url": server.url, "form": "payscrypt", "from_start": True}
        status, _, made = daemon.http("POST", "/v1/webhooks", asked)
        assert status == 201, made
        for kill in range(1, 4):
            enough = kill * len(wanted) * 2 // 5
            wait_until(lambda: len(server.taken) >= enough, "some are taken", timeout_s=60)  # noqa: B023
            daemon.kill()
            daemon.start()
        server.mood = lambda _hook: 200
        assert daemon.http("POST", f"/v1/webhooks/{made['id']}/resume", {})[0] == 200

        def complete() -> bool:
            return len({hook.id for hook in server.taken}) >= 2 * len(wanted)

        wait_until(complete, "everything is taken", timeout_s=120)
    told: dict[str, dict[str, str]] = defaultdict(dict)
    for hook in server.taken:
        body = json.loads(hook.body)
        assert hook.headers["x-delivery-id"] == hook.id
        told[body["id"]].setdefault(hook.id, body["status"])
        assert body["pg_wallet_id"] == "1"
    assert {order_id: list(one.values()) for order_id, one in told.items()} == {
        str(order.id): ["CONFIRMING", "SUCCESSFUL"] for order in wanted
    }
    for hook in server.hooks:
        assert is_genuine(made["secret"], hook.headers, hook.body)
    Webhook(made["secret"]).verify(server.taken[-1].body, server.taken[-1].headers)


@dataclass
class Desk:
    """A merchant who reads each order that a webhook names, as Payscrypt tells its shops to."""

    daemon: Daemon
    user_id: str = ""
    apikey: str = ""
    secret: str = ""
    wallets: dict[int, str] = field(default_factory=dict)
    """Time to pay in seconds → its number."""
    told: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Order → statuses, as they were told."""
    read_back: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Order → its status when each of them was taken."""
    refuse_first: set[str] = field(default_factory=set)
    """Orders whose first webhook is answered 500."""
    faults: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        status, _, document = self.daemon.http(method, path, body, headers)
        assert 200 <= status < 300, (method, path, document)
        return document

    def open(self, hook_url: str) -> None:
        self.user_id = self.ask("POST", "/v1/users", {})["id"]
        keys = {"btc": new_key()}
        for expires_in_s in (3600, SHORT_S):
            asset = {"asset": "BTC", "confirmations": 2, "expires_in_s": expires_in_s}
            wallet = {"name": f"{expires_in_s} s", "keys": keys, "assets": [asset]}
            made = self.ask("POST", f"/v1/users/{self.user_id}/wallets", wallet)
            self.wallets[expires_in_s] = str(made["id"])
        self.ask("PUT", f"/v1/users/{self.user_id}/keys", keys)
        key = {"name": "site", "scopes": ["write"], "user_id": self.user_id}
        self.apikey = self.ask("POST", "/v1/keys", key)["key"]
        hook = {"url": hook_url, "form": "payscrypt", "user_id": self.user_id}
        self.secret = self.ask("POST", "/v1/webhooks", hook)["secret"]

    def order(self, number: str, *, expires_in_s: int = 3600) -> Any:
        asked = {
            "merchant_order_id": number,
            "asset_name": "BTC",
            "target_value": str(AMOUNT_BASE),
            "pg_wallet_id": self.wallets[expires_in_s],
        }
        return self.ask("POST", "/apis/pg/create_order", asked, apikey=self.apikey)["order"]

    def read(self, order_id: str) -> Any:
        return self.ask("POST", "/apis/pg/get_public_order", {"id": order_id})["order"]

    def cancel(self, order: Any) -> None:
        listed = self.ask("GET", f"/v1/invoices?user_id={self.user_id}&limit=500")["items"]
        (mine,) = [one for one in listed if one["address"] == order["variants"][0]]
        self.ask("POST", f"/v1/invoices/{mine['id']}/cancel", {})

    def take(self, hook: Hook) -> int:
        """A webhook; the server calls one at a time."""
        if not is_genuine(self.secret, hook.headers, hook.body):
            self.faults.append(f"not genuine: {hook}")
            return 401
        body = json.loads(hook.body)
        if body["id"] in self.refuse_first:
            self.refuse_first.discard(body["id"])
            return 500
        self.told[body["id"]].append(body["status"])
        self.read_back[body["id"]].append(self.read(body["id"])["status"])
        return 200

    def until_told(self, order: Any, *statuses: str) -> None:
        wait_until(
            lambda: self.told[order["id"]] == list(statuses),
            f"{statuses} were told of order {order['merchant_order_id']}",
            timeout_s=60.0,
        )


def test_a_shop_is_told_of_its_orders_by_real_payments(make_daemon, btc_node):
    daemon = make_daemon(btc_node, env=ALLOW_LOOPBACK)
    daemon.start()
    desk = Desk(daemon)
    with HookServer(desk.take) as server:
        desk.open(server.url)
        paid, robbed, cancelled = (desk.order(name) for name in ("paid", "robbed", "cancelled"))
        expired = desk.order("expired", expires_in_s=SHORT_S)
        asked = {"user_id": desk.user_id, "asset": "BTC", "amount_base": "1000", "expires_in": 900}
        plain = desk.ask("POST", "/v1/invoices", asked)
        desk.refuse_first = {paid["id"]}
        assert server.hooks == [], "nobody is told of an order that was only made"

        desk.cancel(cancelled)
        btc_node.pay(plain["address"], 1000)
        btc_node.pay(paid["variants"][0], AMOUNT_BASE)
        first = btc_node.pay(robbed["variants"][0], AMOUNT_BASE)
        desk.until_told(robbed, "CONFIRMING")
        btc_node.replace(first, outputs={})
        desk.until_told(robbed, "CONFIRMING", "PENDING")
        btc_node.mine(3)
        desk.until_told(paid, "CONFIRMING", "SUCCESSFUL")
        desk.until_told(cancelled, "CANCELED")
        wait_until(lambda: time.time() > int(expired["expired_at"]), "time is over")
        btc_node.mine()
        desk.until_told(expired, "EXPIRED")

        btc_node.pay(expired["variants"][0], AMOUNT_BASE)
        btc_node.pay(paid["variants"][0], AMOUNT_BASE)
        last = desk.order("last")
        btc_node.pay(last["variants"][0], AMOUNT_BASE)
        btc_node.mine(2)
        desk.until_told(last, "CONFIRMING", "SUCCESSFUL")
        wait_until(
            lambda: desk.read(expired["id"])["value"] == str(AMOUNT_BASE), "the late money is seen"
        )
        made = desk.ask("GET", "/v1/webhooks")["items"][0]
        deliveries = f"/v1/webhooks/{made['id']}/deliveries?limit=500"
        # The receiver has the last one before the daemon has recorded that it was taken.
        wait_until(lambda: len(desk.ask("GET", deliveries)["items"]) >= 9, "all are recorded")
        log = desk.ask("GET", deliveries)["items"]
    assert desk.faults == []
    assert dict(desk.told) == {
        paid["id"]: ["CONFIRMING", "SUCCESSFUL"],
        robbed["id"]: ["CONFIRMING", "PENDING"],
        cancelled["id"]: ["CANCELED"],
        expired["id"]: ["EXPIRED"],
        last["id"]: ["CONFIRMING", "SUCCESSFUL"],
    }
    for order in (cancelled, expired):
        assert desk.read_back[order["id"]] == desk.told[order["id"]], "final is final"
    assert desk.read_back[paid["id"]][-1] == desk.read_back[last["id"]][-1] == "SUCCESSFUL"
    assert len(log) == 9, "eight were taken, one of them the second time; nothing of other invoices"
    assert [one["outcome"] for one in log].count("failed") == 1
