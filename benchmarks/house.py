"""What a house full of open invoices costs: memory, start-up, idling, and the way of one payment.

The first three are asked of the real daemon as a process, on a database prepared for it and with a
real node. Invoices are as a shop makes them: random ids, an address each, unpaid, a few hundred
users.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from actors.core.chain_events import ChainTx, MempoolChanged, OutPoint, Output
from actors.core.decision import create
from actors.core.events import InvoiceCreated, Terms
from actors.core.invoice import Invoice, evolve
from actors.core.watch_index import WatchIndex
from actors.invoice_actor import InvoiceActors
from actors.ports import Committed
from actors.router import Router
from benchmarks.process import cpu_s, memory_bytes
from benchmarks.report import ROOT, say
from benchmarks.store import fill
from daemon.store import migrate
from daemon.store.memory import MemoryStore
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.daemon import Daemon
from tests.helpers.recording_log import RecordingLog

FEW = 1_000
USERS = 300
START_LIMIT_S = 120.0
_PART = 5_000
_DAY_MS = 86_400_000


def run(
    *, invoices: int = 100_000, starts: int = 3, idle_s: float = 10.0, payments: int = 400
) -> dict[str, Any]:
    """Medians of `starts` starts with no and with so many open invoices, taking turns."""
    folder = ROOT / ".cache" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="house-") as temporary:
        return {
            "open_invoices": invoices,
            **_daemons(Path(temporary), invoices, starts=starts, idle_s=idle_s),
            **_routing(invoices, payments=payments),
        }


# --- the daemon -----------------------------------------------------------------------------------


def _daemons(folder: Path, invoices: int, *, starts: int, idle_s: float) -> dict[str, Any]:
    ready: dict[int, list[float]] = {0: [], invoices: []}
    busy: dict[int, list[float]] = {0: [], invoices: []}
    held: dict[int, list[int]] = {0: [], invoices: []}
    idle: dict[int, float] = {}
    with BitcoinNode("btc") as node:
        node.mine_empty()
        for count in ready:
            say(f"preparing a database of {count} open invoices")
            _prepare(_database(folder, count), count)
        for turn in range(starts):
            for count in (0, invoices):
                say(f"start {turn + 1} of {starts} with {count} open invoices")
                with _started(folder, count, node) as (daemon, ready_s):
                    busy[count].append(cpu_s(daemon.pid))
                    daemon.wait_current()
                    ready[count].append(ready_s)
                    held[count].append(memory_bytes(daemon.pid))
                    if turn == starts - 1:
                        idle[count] = _idle_share(daemon.pid, idle_s)
    each = [(full - bare) / invoices for bare, full in zip(held[0], held[invoices], strict=True)]
    return {
        "memory_bytes_per_invoice": round(statistics.median(each)),
        "memory_empty_bytes": round(statistics.median(held[0])),
        "memory_full_bytes": round(statistics.median(held[invoices])),
        "start_s": round(statistics.median(ready[invoices]), 2),
        "start_all_s": [round(one, 2) for one in ready[invoices]],
        "start_empty_s": round(statistics.median(ready[0]), 2),
        "start_processor_s": round(statistics.median(busy[invoices]), 2),
        "start_empty_processor_s": round(statistics.median(busy[0]), 2),
        "idle_cpu_share": round(idle[invoices], 4),
        "idle_cpu_share_empty": round(idle[0], 4),
    }


@contextlib.contextmanager
def _started(folder: Path, count: int, node: BitcoinNode) -> Iterator[tuple[Daemon, float]]:
    """A daemon, and the seconds from starting its process to READY=1."""
    path = folder / "notify"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.settimeout(START_LIMIT_S)
        ready_at: list[float] = []

        def listen() -> None:
            while not ready_at:
                if b"READY=1" in listener.recv(4096):
                    ready_at.append(time.monotonic())

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        daemon = Daemon(
            folder / f"state-{count}",
            nodes=(node,),
            env={
                "NOTIFY_SOCKET": str(path),
                "TALLY_DATABASE_URL": f"sqlite:///{_database(folder, count)}",
            },
        )
        began = time.monotonic()
        daemon.start(ready=False)
        try:
            thread.join(START_LIMIT_S)
            yield daemon, ready_at[0] - began
        finally:
            daemon.stop()


def _idle_share(pid: int, seconds: float) -> float:
    """Processor time over time while nothing happens but the node being asked how it is."""
    time.sleep(2)  # what was put off at the start
    before_s, began = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(pid) - before_s) / (time.monotonic() - began)


def _database(folder: Path, count: int) -> Path:
    return folder / f"open-{count}.db"


def _prepare(path: Path, count: int) -> None:
    migrate.upgrade(f"sqlite:///{path}")
    fill(path, _parts(count))


def _parts(count: int) -> Iterator[list[Committed]]:
    facts: list[Committed] = []
    for seq, (created, invoice) in enumerate(open_invoices(count), 1):
        facts.append(Committed(seq, None, created, invoice))
        if seq % _PART == 0 or seq == count:
            yield facts
            facts = []


def open_invoices(count: int) -> Iterator[tuple[InvoiceCreated, Invoice]]:
    """The same in every run: each with what created it."""
    rng = random.Random(11)
    users = [UUID(int=rng.getrandbits(128)) for _ in range(USERS)]
    now_ms = int(time.time() * 1000)
    for number in range(1, count + 1):
        program = rng.randbytes(20)
        first = create(
            Terms(
                invoice_id=UUID(int=rng.getrandbits(128), version=4),
                user_id=users[number % USERS],
                asset="BTC",
                chain="btc",
                network="regtest",
                # As long as a real one; nobody reads it back.
                address=f"bcrt1q{program.hex()[:38]}",
                destination=b"\x00\x14" + program,
                account_id=number % USERS + 1,
                path=(0, number),
                required_base=rng.randrange(10_000, 10_000_000),
                confirmations=rng.randrange(1, 4),
                created_at_ms=now_ms - rng.randrange(_DAY_MS),
                expires_at_ms=now_ms + _DAY_MS + rng.randrange(_DAY_MS),
                watch_depth=100,
            )
        )
        yield first, evolve(None, first)


# --- the way of one payment -----------------------------------------------------------------------


def _routing(many: int, *, payments: int) -> dict[str, float]:
    """Microseconds from a matched transaction to its recorded event, among few and many invoices.

    The store is in memory: with a disk it would be the disk that is measured.
    """
    say(f"routing {payments} payments among {FEW} and {many} open invoices")
    taken = trio.run(_route_both, many, payments)
    few_us, many_us = (statistics.median(one) * 1e6 for one in taken)
    return {
        "route_few_us": round(few_us, 1),
        "route_many_us": round(many_us, 1),
        "route_many_to_few": round(many_us / few_us, 3),
    }


async def _route_both(many: int, payments: int) -> tuple[list[float], list[float]]:
    async with trio.open_nursery() as nursery:
        houses = [await _furnished(count, nursery) for count in (FEW, many)]
        gc.collect()
        gc.freeze()
        taken: tuple[list[float], list[float]] = ([], [])
        for number in range(payments):
            for (router, actors, owned), times in zip(houses, taken, strict=True):
                event = _payment(owned[number * 7 % len(owned)], number)
                began = time.perf_counter()
                await router.route(event, actors, tip_height=1)
                times.append(time.perf_counter() - began)
    return taken


async def _furnished(
    count: int, nursery: trio.Nursery
) -> tuple[Router, InvoiceActors, list[Invoice]]:
    router, store = Router(WatchIndex()), MemoryStore()
    actors = InvoiceActors(
        chain="btc", store=store, nursery=nursery, changed=router.note, log=RecordingLog()
    )
    owned = []
    for _, invoice in open_invoices(count):
        router.index.watch(invoice.terms.destination, invoice.terms.invoice_id)
        owned.append(await actors.create(invoice.terms))
    return router, actors, owned


def _payment(invoice: Invoice, number: int) -> MempoolChanged:
    terms = invoice.terms
    txid = number.to_bytes(32, "big")
    output = Output(OutPoint(txid, 0), terms.destination, terms.required_base, terms.asset)
    tx = ChainTx(txid, (output,), (os.urandom(36),))
    return MempoolChanged((tx,), (), terms.created_at_ms + 1)
