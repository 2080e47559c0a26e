"""Webhooks of the real daemon: the command line, other people's verification, kill -9 at random."""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import os
import random
import subprocess
from base64 import b64decode
from collections import defaultdict
from pathlib import Path
from unittest import mock

import pytest
import trio
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from daemon.__main__ import main
from daemon.store import open_store
from tests.helpers.daemon import Daemon
from tests.helpers.hook_server import Hook, HookServer
from tests.helpers.ledger import creation, payment, record
from tests.helpers.process import wait_until

LOCAL = {"TALLY_WEBHOOKS_ALLOW_NETWORKS": "127.0.0.0/8"}
NO_STRANGERS = {"TALLY_ACCESS_ANONYMOUS": "off"}
INVOICES = 700

NODE_VERIFIES = """
const {createHmac, timingSafeEqual} = require('node:crypto');
const {headers, body, secret} = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
const wanted = Buffer.from('v1,' + createHmac('sha256', key).update(signed).digest('base64'));
const good = headers['webhook-signature'].split(' ').map(one => Buffer.from(one))
  .some(one => one.length === wanted.length && timingSafeEqual(one, wanted));
process.exit(good ? 0 : 1);
"""


def node_verifies(hook: Hook, secret: str) -> bool:
    given = {"headers": hook.headers, "body": hook.body.decode(), "secret": secret}
    done = subprocess.run(
        ["node", "-e", NODE_VERIFIES], input=json.dumps(given), text=True, check=False, timeout=30
    )
    return done.returncode == 0


def command(daemon: Daemon, *arguments: str) -> tuple[int, str, str]:
    """`tallyd webhooks` with the daemon's settings, in this process: starting one takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, daemon.environment(), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(["webhooks", *arguments])
    return status, out.getvalue().strip(), err.getvalue()


def said(daemon: Daemon, *arguments: str) -> str:
    status, out, err = command(daemon, *arguments)
    assert status == 0, err
    return out


def refused(daemon: Daemon, *arguments: str) -> str:
    status, out, err = command(daemon, *arguments)
    assert status == 1, out
    return err


def test_the_command_line_makes_itself_a_key_where_one_is_needed(tmp_path: Path):
    with Daemon(tmp_path, env=LOCAL | NO_STRANGERS) as daemon, HookServer() as server:
        webhook_secret = said(daemon, "add", server.url)
        assert server.url in said(daemon, "list")
        assert daemon.http("GET", "/v1/webhooks")[0] == 401
        keys = daemon.command("access", "list").stdout
    assert webhook_secret.startswith("whsec_")
    assert keys.count("revoked") == 2
    assert "in force" not in keys


def test_the_command_line(tmp_path: Path):
    with Daemon(tmp_path, env=LOCAL) as daemon, HookServer() as server:
        secret = said(daemon, "add", server.url, "--type", "invoice.settled")
        assert secret.startswith("whsec_")
        row = said(daemon, "list").splitlines()[1]
        webhook_id = row.split()[0]
        assert "active" in row
        assert server.url in row
        assert "delivered: HTTP 200" in said(daemon, "test", webhook_id)
        server.mood = lambda _hook: 500
        assert "not delivered: HTTP 500" in refused(daemon, "test", webhook_id)
        server.mood = lambda _hook: 0
        assert "closed before an answer" in refused(daemon, "test", webhook_id)
        server.mood = lambda _hook: 200
        log = said(daemon, "log", webhook_id).splitlines()
        assert len(log) == 4
        assert "webhook.test" in log[1]
        assert "paused" in said(daemon, "pause", webhook_id)
        assert "paused (asked)" in said(daemon, "list")
        assert said(daemon, "resume", webhook_id, "--from-now")
        newer = said(daemon, "rotate", webhook_id, "--overlap", "60")
        said(daemon, "test", webhook_id)
        times = ("--since", "2026-01-01T00:00:00Z", "--until", "2027-01-01T00:00:00Z")
        assert said(daemon, "redeliver", webhook_id, *times) == "0 events will be sent again"
        assert said(daemon, "log", webhook_id, "--backlog", "dead")
        assert "no webhook" in refused(daemon, "pause", "00000000-0000-0000-0000-000000000000")
        assert "user or password" in refused(daemon, "add", "https://u:p@shop.example/")
        assert "link-local" in refused(daemon, "add", "https://169.254.169.254/")
        assert "did you mean" in refused(daemon, "add", server.url, "--type", "invoice.setled")
        assert said(daemon, "remove", webhook_id)
        assert len(said(daemon, "list").splitlines()) == 1
        trail = daemon.command("audit-trail").stdout
        assert "webhook.rotated" in trail
        page = daemon.http("GET", "/metrics")[2]
    assert "tallyd_webhook_endpoints" in page
    first, *_, last = server.hooks
    for hook, good in ((first, secret), (last, newer)):
        Webhook(good).verify(hook.body, hook.headers)
        assert node_verifies(hook, good)
        assert hook.headers["content-type"] == "application/json"
        assert hook.headers["user-agent"].startswith("tallyd/")
        assert json.loads(hook.body)["id"] == hook.id
    for hook, wrong in ((first, newer),):
        with pytest.raises(WebhookVerificationError):
            Webhook(wrong).verify(hook.body, hook.headers)
        assert not node_verifies(hook, wrong)


def test_the_form_of_orders_on_the_command_line(tmp_path: Path):
    with Daemon(tmp_path, env=LOCAL) as daemon, HookServer() as server:
        secret = said(daemon, "add", server.url, "--form", "payscrypt")
        row = said(daemon, "list").splitlines()[1]
        assert "payscrypt" in row
        assert "delivered: HTTP 200" in said(daemon, "test", row.split()[0])
        other = refused(daemon, "add", server.url, "--form", "payscrypt", "--type", "payment.seen")
        assert "payment.seen" in other
        assert "invoice.settled" in other
        assert "payscrypt" in refused(daemon, "add", server.url, "--form", "paysrypt")
    (hook,) = server.hooks
    assert json.loads(hook.body)["merchant_order_id"] == "webhook.test"
    key = b64decode(secret.removeprefix("whsec_"))
    signature = hmac.digest(key, hook.body, "sha256").hex()
    assert hook.headers["x-payscrypt-signature"] == signature
    Webhook(secret).verify(hook.body, hook.headers)


def test_no_daemon_answers(tmp_path: Path):
    assert "no daemon answers" in refused(Daemon(tmp_path), "list")


def test_a_vault_key_that_is_lost_is_said(tmp_path: Path):
    key = {"TALLY_VAULT_KEY": "ab" * 32}
    with Daemon(tmp_path, env=LOCAL | key) as daemon, HookServer() as server:
        said(daemon, "add", server.url)
    assert json_has_no_secret(tmp_path)
    other = {"TALLY_VAULT_KEY": "cd" * 32}
    with Daemon(tmp_path, env=LOCAL | other) as daemon, HookServer() as server:
        assert "is not the key" in refused(daemon, "add", server.url)
    assert "is not the key that all 1 webhook secrets" in daemon.log.read_text()


def json_has_no_secret(folder: Path) -> bool:
    return all(b"whsec_" not in path.read_bytes() for path in folder.iterdir() if path.is_file())


def fill(url: str) -> None:
    """A log of INVOICES invoices, each with three events, side by side."""

    async def write() -> None:
        async with open_store(url, on_commit=lambda _facts: None) as store:

            async def one(number: int) -> None:
                invoice = await record(store, None, [creation(number)])
                await record(store, invoice, payment(invoice))

            async with trio.open_nursery() as nursery:
                for number in range(1, INVOICES + 1):
                    nursery.start_soon(one, number)

    trio.run(write)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_nothing_is_lost_when_it_is_killed_at_random(
    tmp_path: Path, backend: str, request: pytest.FixtureRequest
):
    chance = random.Random(7)
    if backend == "sqlite":
        url, env = f"sqlite:///{tmp_path / 'tally.db'}", {}
    else:
        url = request.getfixturevalue("postgres_url")
    env = LOCAL | {"TALLY_DATABASE_URL": url}
    fill(url)

    def mood(_hook: Hook) -> int:
        return 200 if chance.random() < 0.97 else chance.choice((500, 0))

    daemon = Daemon(tmp_path / "state", env=env)
    with HookServer(mood) as server:
        daemon.start()
        body = {"url": server.url, "from_start": True}
        status, _, made = daemon.http("POST", "/v1/webhooks", body)
        assert status == 201
        for kill in range(1, 5):
            enough = kill * INVOICES * 3 // 6
            wait_until(lambda: len(server.taken) >= enough, "some are taken", timeout_s=60)  # noqa: B023
            daemon.kill()
            daemon.start()
        server.mood = lambda _hook: 200

        def complete() -> bool:
            view = daemon.http("GET", f"/v1/webhooks/{made['id']}")[2]
            return view["behind"] == 0 and view["waiting"] == 0

        wait_until(complete, "everything is taken", timeout_s=120)
        assert daemon.stop()
    taken = {hook.id: json.loads(hook.body) for hook in server.taken}
    assert sorted(one["seq"] for one in taken.values()) == list(range(1, INVOICES * 3 + 1))
    order = defaultdict(list)
    for one in taken.values():
        order[one["invoice_id"]].append(one["seq"])
    assert all(one == sorted(one) for one in order.values())
    for hook in chance.sample(server.hooks, 50):
        Webhook(made["secret"]).verify(hook.body, hook.headers)
