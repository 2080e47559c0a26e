"""How soon a daemon with a full house serves again after it was killed.

The real daemon as a process, on a database with so many open invoices and with a real Bitcoin node.
`kill -9`, a block that it has to catch up with, and a new process at once, as systemd starts it
without `RestartSec`. The clock runs from the kill until gRPC's health service says SERVING and
`/readyz` says that every chain is current, whichever is later.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import trio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from actors.ports import Step, VersionConflict
from benchmarks.house import open_invoices
from benchmarks.process import cpu_s
from benchmarks.report import ROOT, say
from daemon.store import SqlStore, open_store
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.daemon import Daemon
from tests.helpers.postgres import PostgresServer
from tests.helpers.process import wait_until

WRITERS = 1_000
LIMIT_S = 120.0
RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 20),
)


def run(*, invoices: int = 100_000, kills: int = 5) -> dict[str, Any]:
    """Seconds on SQLite and on PostgreSQL: the slowest of so many kills, and all of them."""
    folder = ROOT / ".cache" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"open_invoices": invoices, "kills": kills}
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="recovery-") as temporary,
        BitcoinNode("btc") as node,
        PostgresServer(fsync=True) as server,
    ):
        node.mine_empty()
        path = Path(temporary)
        urls = {"sqlite": f"sqlite:///{path / 'tally.db'}", "postgres": server.create_database()}
        for name, url in urls.items():
            say(f"preparing {invoices} open invoices on {name}")
            trio.run(_fill, url, invoices)
            with _started(path / name, url, node) as daemon:
                both = [_recovery_s(daemon, node) for _ in range(kills)]
            each = [one for one, _ in both]
            found[f"{name}_recovery_s"] = round(max(each), 2)
            found[f"{name}_recovery_s_median"] = round(statistics.median(each), 2)
            found[f"{name}_recovery_all_s"] = [round(one, 2) for one in each]
            # What it would come to, about, if nobody else used the machine.
            processor_s = statistics.median(used_s for _, used_s in both)
            found[f"{name}_recovery_processor_s"] = round(processor_s, 2)
    return found


@contextmanager
def _started(folder: Path, url: str, node: BitcoinNode) -> Iterator[Daemon]:
    daemon = Daemon(folder, nodes=(node,), env={"TALLY_DATABASE_URL": url})
    with daemon:
        yield daemon


def _recovery_s(daemon: Daemon, node: BitcoinNode) -> tuple[float, float]:
    """Seconds until it served, and what the new process has used of the processor until then."""
    node.mine_empty()
    daemon.wait_current()
    began = time.monotonic()
    daemon.kill()
    daemon.spawn()
    with ThreadPoolExecutor() as pool:
        serving = pool.submit(_wait_serving, daemon.grpc_port)
        node.mine_empty()
        daemon.wait_current(timeout_s=LIMIT_S)
        current_at = time.monotonic()
        return max(current_at, serving.result()) - began, cpu_s(daemon.pid)


def _wait_serving(port: int) -> float:
    """When it was said."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=RECONNECT) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def serves() -> bool:
            answer = health.Check(
                health_pb2.HealthCheckRequest(), timeout=LIMIT_S, wait_for_ready=True
            )
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        wait_until(serves, "gRPC says SERVING", timeout_s=LIMIT_S)
        return time.monotonic()


# --- the house ------------------------------------------------------------------------------------


async def _fill(url: str, count: int) -> None:
    """Through the store itself, many at a time: the same on both databases."""
    waiting = open_invoices(count)

    async def write(store: SqlStore) -> None:
        for created, invoice in waiting:
            done = await store.append(None, [Step(created, invoice)])
            assert not isinstance(done, VersionConflict)

    async with (
        open_store(url, on_commit=lambda _facts: None) as store,
        trio.open_nursery() as nursery,
    ):
        for _ in range(WRITERS):
            nursery.start_soon(write, store)
