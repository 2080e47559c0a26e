"""Webhooks in the form that shops with orders have, from the real daemon."""

from __future__ import annotations

import hmac
import json
import random
from base64 import b64decode
from collections import defaultdict

import pytest
import trio
from standardwebhooks.webhooks import Webhook

from actors.order_book import Order
from daemon.store import open_store
from tests.helpers.hook_server import Hook, HookServer
from tests.helpers.ledger import creation, payment, record, settlement
from tests.helpers.process import wait_until
from tests.helpers.webhook_fleet import ALLOW_LOOPBACK

INVOICES = 600
"""Every third is an order."""


def is_genuine(hook: Hook, secret: str) -> bool:
    """As docs/webhooks.md says it is checked."""
    key = b64decode(secret.removeprefix("whsec_"))
    return hmac.digest(key, hook.body, "sha256").hex() == hook.headers["x-payscrypt-signature"]


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
        assert is_genuine(hook, made["secret"])
    Webhook(made["secret"]).verify(server.taken[-1].body, server.taken[-1].headers)
