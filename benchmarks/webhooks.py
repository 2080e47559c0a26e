"""Webhooks delivered to a receiver on the same machine, and what a paused endpoint costs the rest.

The whole way from the event log to the answer: read, signed, sent over kept connections, recorded
in SQLite with its attempt. The receiver is a process of its own that says 200 to everything.
Deliveries are counted per second of processor time of the sending process, all of its threads
together, which is what one core could do.
"""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from actors.audit import Audit
from actors.event_hub import EventHub
from actors.outbox import Outbox
from actors.webhooks import NewWebhook, Shown, Webhooks
from benchmarks.report import ROOT, say
from daemon.clock import SystemClock
from daemon.config import WebhooksConfig
from daemon.keys import KeyPlace, Vault
from daemon.store import open_store
from daemon.webhooks import open_webhooks
from tests.helpers.ledger import creation, payment, record
from tests.helpers.log_chain import rechain
from tests.helpers.recording_log import RecordingLog

CONFIG = WebhooksConfig(
    allow_networks=(ip_network("127.0.0.0/8"),),
    allow_http=False,
    concurrency=8,
    pause_after_s=432_000,
    log_days=30,
    log_attempts=10_000,
)
RECEIVER = ROOT / "benchmarks" / "hook_receiver.py"


def run(*, invoices: int = 2_000, queued: int = 1_000_000, rounds: int = 4) -> dict[str, Any]:
    """Three events of each invoice, with and without a paused endpoint before `queued` older ones.

    They take turns, and turns at being first: the database grows with each. The best of the rounds,
    and for the paused one's cost the median of the rounds' ratios.
    """
    folder = ROOT / ".cache" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    alone: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(dir=folder, prefix="webhooks-") as temporary:
        path = Path(temporary) / "tally.db"
        say(f"preparing a log of {queued} events")
        trio.run(_fill, path, 0, 1)
        _lengthen(path, queued)
        first = 2
        for number in range(rounds):
            pair = ((alone, False), (beside, True))
            for measured, paused in pair if number % 2 else reversed(pair):
                turn = partial(_measure, path, first, invoices, paused=paused)
                measured.append(trio.run(turn))
                first += invoices
    ratios = [one[0] / other[0] for one, other in zip(alone, beside, strict=True)]
    best, best_beside = max(one[0] for one in alone), max(one[0] for one in beside)
    return {
        "webhooks": 3 * invoices,
        "queued_for_the_paused": queued,
        "webhooks_per_cpu_s": round(best),
        "webhooks_per_s": round(max(one[1] for one in alone)),
        "webhooks_per_cpu_s_beside_paused": round(best_beside),
        "paused_cost": round(statistics.median(ratios), 3),
        "paused_costs": [round(ratio, 3) for ratio in ratios],
    }


async def _fill(path: Path, first: int, count: int) -> None:
    async with (
        open_store(f"sqlite:///{path}", on_commit=lambda _facts: None) as store,
        trio.open_nursery() as nursery,
    ):
        for number in range(first, first + count):
            nursery.start_soon(_sell, store, number)


async def _sell(store: Any, number: int) -> None:
    invoice = await record(store, None, [creation(number)])
    await record(store, invoice, payment(invoice))


def _lengthen(path: Path, count: int) -> None:
    """Repeat the last event of the log so many times, as later events of its invoice."""
    with sqlite3.connect(path) as database:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO events (seq, invoice_id, version, kind, at_ms, data, hash)"
            " SELECT 3 + i, invoice_id, 3 + i, kind, at_ms, data, hash FROM n, events"
            " WHERE seq = 3",
            (count,),
        )
    database.close()
    rechain(path)


async def _measure(path: Path, first: int, invoices: int, *, paused: bool) -> tuple[float, float]:
    """Webhooks per second of processor time, and of time."""
    hub = EventHub(log=RecordingLog())
    vault = Vault(KeyPlace(key=bytes(32), file=path, default=False), warn=lambda _text: None)
    with _receiver() as url:
        async with open_store(f"sqlite:///{path}", on_commit=hub.publish) as store:
            opened = open_webhooks(
                CONFIG,
                store=store,
                hub=hub,
                outbox=Outbox(store, hub),
                vault=vault,
                audit=Audit(store, clock=SystemClock()),
            )
            async with opened as webhooks:
                if paused:
                    shelf = await _add_paused(webhooks, url)
                    await _back_to_the_start(path, shelf)
                webhook_id = await _add_paused(webhooks, url)
                async with trio.open_nursery() as nursery:
                    for number in range(first, first + invoices):
                        nursery.start_soon(_sell, store, number)
                cpu, started = time.process_time(), time.perf_counter()
                await webhooks.resume(webhook_id, from_now=False)
                last_seq = await store.last_seq()
                cursor = 0
                while cursor < last_seq:
                    await trio.sleep(0.01)
                    endpoint = await store.webhooks.endpoint(webhook_id)
                    assert endpoint is not None
                    cursor = endpoint.cursor
                cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - started
                assert webhooks.engine.statistics().delivered == 3 * invoices
                for one in await webhooks.find():
                    await webhooks.remove(one.id)
    return 3 * invoices / cpu_s, 3 * invoices / wall_s


async def _add_paused(webhooks: Webhooks, url: str) -> UUID:
    shown = await webhooks.add(NewWebhook(url, None))
    assert isinstance(shown, Shown)
    await webhooks.pause(shown.endpoint.id)
    return shown.endpoint.id


@contextlib.contextmanager
def _receiver() -> Iterator[str]:
    """Its URL."""
    with subprocess.Popen(
        [sys.executable, RECEIVER], stdout=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stdout is not None
        yield f"http://127.0.0.1:{int(receiver.stdout.readline())}/hook"
        receiver.kill()


async def _back_to_the_start(path: Path, webhook_id: UUID) -> None:
    """Put the cursor of an endpoint that is paused before everything."""

    def run() -> None:
        with sqlite3.connect(path, timeout=10) as database:
            database.execute(
                "UPDATE webhook_endpoints SET cursor = 0 WHERE id = ?", (webhook_id.bytes,)
            )
        database.close()

    await trio.to_thread.run_sync(run)
