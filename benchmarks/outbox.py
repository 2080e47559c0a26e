"""tally.v1's stream of events: how fast it replays the log, and what a live follower costs.

The server has a process of its own; the calling process only counts frames, so that the server is
the bottleneck. `python -m benchmarks.outbox replay 1000000` and `… live` are the servers.
"""

from __future__ import annotations

import selectors
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import trio

from actors.core.assets import Asset, Catalogue, Chain
from actors.core.decision import create
from actors.core.events import Terms
from actors.core.invoice import evolve
from actors.event_hub import EventHub
from actors.idempotency import Idempotency
from actors.invoicing import Invoicing
from actors.outbox import Outbox
from actors.ports import Step, Store
from actors.repeats import Repeats
from api.grpc.goipay import InvoiceService as GoiPayInvoices
from api.grpc.server import Server
from api.grpc.tally import InvoiceService
from benchmarks.grpc_server import TRIGGER, Load, message
from benchmarks.process import cpu_s
from daemon.clock import SystemClock
from daemon.keys import KeyPlace, Keyring, TonForm, Vault
from daemon.logging import get_logger
from daemon.store import MemoryStore, open_store
from proto.goipay.user.v1 import UpdateCryptoKeysResponse, UserServiceBase
from tests.helpers.log_chain import rechain

GOIPAY = "/invoice.v1.InvoiceService/InvoiceStatusStream"
TALLY = "/tally.v1.InvoiceService/WatchInvoices"
FROM_THE_BEGINNING = b"\0\0\0\0\2\x08\0"
SELDOM_A_HEARTBEAT = b"\0\0\0\0\4\x32\2\x08\x3c"
HEARTBEAT_BYTES = 20
"""A response without events is shorter, any other is longer."""
BLOCK = 5_000
"""Events that are really recorded; a long log is copies of them."""

_CATALOGUE = Catalogue(
    chains=(Chain("btc", "Bitcoin", "bitcoin", "BTC", 600, 2),),
    assets=(Asset("BTC", "btc", "BTC", "Bitcoin", 8),),
)


def run_replay(*, events: int = 1_000_000, rounds: int = 3) -> dict[str, float]:
    """One stream reads so many events from sequence 0, out of SQLite, to the first heartbeat."""
    rates = []
    cpu = []
    with _server("replay", str(events)) as (port, pid):
        for _ in range(rounds):
            load = Load(port)
            cpu_before = cpu_s(pid)
            began = time.perf_counter()
            load.socket.sendall(load.call(load.block(TALLY), FROM_THE_BEGINNING))
            while not 0 < load.last_data_bytes < HEARTBEAT_BYTES:
                load.read()
            rates.append(events / (time.perf_counter() - began))
            cpu.append((cpu_s(pid) - cpu_before) * 1e6 / events)
            load.socket.close()
    return {
        "replay_events": events,
        "replay_events_per_s": statistics.median(rates),
        "replay_cpu_us_per_event": statistics.median(cpu),
    }


def run_followers(
    *, followers: int = 1000, events: int = 300, connections: int = 20, rounds: int = 5
) -> dict[str, float]:
    """The processor time of the server while invoices are created and every follower is told of
    each, on tally.v1's stream and on GoiPay's in turn."""
    spent: dict[str, list[float]] = {GOIPAY: [], TALLY: []}
    for _ in range(rounds):
        for path, body in ((GOIPAY, message("")), (TALLY, SELDOM_A_HEARTBEAT)):
            with _server("live") as (port, pid):
                crowd = Crowd(
                    port, path=path, body=body, followers=followers, connections=connections
                )
                crowd.gather()
                before_s = cpu_s(pid)
                if not crowd.tell(events, patience_s=30):
                    raise RuntimeError("a follower did not get all events")
                spent[path].append(cpu_s(pid) - before_s)
                crowd.close()
    deliveries = followers * events
    goipay, tally = (statistics.median(spent[path]) for path in (GOIPAY, TALLY))
    return {
        "followers": followers,
        "follower_cpu_us_goipay": goipay * 1e6 / deliveries,
        "follower_cpu_us_tally": tally * 1e6 / deliveries,
        # The kernel counts in ticks: a tiny run may take none.
        "follower_ratio": tally / max(goipay, 0.01),
    }


class Crowd:
    """Followers of one stream on some connections, and who makes it speak."""

    def __init__(
        self, port: int, *, path: str, body: bytes, followers: int, connections: int
    ) -> None:
        self.control = Load(port)
        self.loads = [Load(port) for _ in range(connections)]
        self.each = followers // connections
        self.selector = selectors.DefaultSelector()
        for load in self.loads:
            self.selector.register(load.socket, selectors.EVENT_READ, load)
            calls = [load.call(load.block(path), body) for _ in range(self.each)]
            load.socket.sendall(b"".join(calls))

    def gather(self) -> None:
        """Until an event reaches all of them, and what else they are told has been read."""
        for _ in range(100):
            if self.tell(1, patience_s=0.5):
                break
        else:
            raise RuntimeError("the followers do not all join")
        while ready := self.selector.select(0.3):
            for key, _ in ready:
                key.data.read()

    def tell(self, events: int, *, patience_s: float) -> bool:
        """Publish, and read until all have so many; False when nothing comes for so long."""
        for load in self.loads:
            load.data_frames = 0
        self.control.socket.sendall(
            self.control.call(self.control.block(TRIGGER), message(str(events)))
        )
        waiting = set(self.loads)
        while waiting:
            ready = self.selector.select(patience_s)
            if not ready:
                return False
            for key, _ in ready:
                key.data.read()
                if key.data.data_frames >= self.each * events:
                    waiting.discard(key.data)
        return True

    def close(self) -> None:
        self.selector.close()
        for load in (*self.loads, self.control):
            load.socket.close()


@contextmanager
def _server(*arguments: str) -> Iterator[tuple[int, int]]:
    """Run a server in its own process; gives its port and process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.outbox", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


# --- the servers ----------------------------------------------------------------------------------


class Publisher(UserServiceBase):
    """UpdateCryptoKeys creates as many invoices as the user id says, one commit each."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made = 0

    async def update_crypto_keys(self, message):
        for _ in range(int(message.user_id)):
            self._made += 1
            await self._store.append(None, [_creation(self._made)])
        return UpdateCryptoKeysResponse()


def _creation(number: int) -> Step:
    event = create(
        Terms(
            invoice_id=uuid4(),
            user_id=UUID(int=2),
            asset="BTC",
            chain="btc",
            network="regtest",
            address=f"bcrt1q{number:034x}",
            destination=number.to_bytes(22, "big"),
            account_id=1,
            path=(0, number),
            required_base=50_000_000,
            confirmations=2,
            created_at_ms=1_700_000_000_000 + number,
            expires_at_ms=1_700_003_600_000 + number,
            watch_depth=100,
        )
    )
    return Step(event, evolve(None, event))


async def _serve(store: Store, hub: EventHub) -> None:
    clock, log = SystemClock(), get_logger("benchmark")
    place = KeyPlace(key=bytes(32), file=Path("unused"), default=False, source="a benchmark")
    keyring = Keyring(Vault(place, warn=log.warning), ton={"ton": TonForm()})
    invoicing = Invoicing(
        store=store, deriver=keyring, catalogue=_CATALOGUE, chains={}, clock=clock
    )
    repeats = Repeats(invoicing, Idempotency(store, clock=clock, log=log))
    exact = InvoiceService(invoicing, repeats, outbox=Outbox(store, hub), clock=clock)
    server = Server([Publisher(store), GoiPayInvoices(invoicing, hub=hub), exact], log=log)
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", 0)
        print(addresses[0][1], flush=True)


async def serve_live() -> None:
    hub = EventHub(log=get_logger("benchmark"))
    await _serve(MemoryStore(hub.publish), hub)


async def serve_replay(events: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tally.db"
        block = min(BLOCK, events)
        async with open_store(f"sqlite:///{path}", on_commit=lambda _: None) as store:
            for number in range(1, block + 1):
                await store.append(None, [_creation(number)])
        _copy(path, block, events)
        hub = EventHub(log=get_logger("benchmark"))
        async with open_store(f"sqlite:///{path}", on_commit=hub.publish) as store:
            await _serve(store, hub)


def _copy(path: Path, block: int, events: int) -> None:
    """Make the log so long: every fact again and again, as later ones of the same invoice."""
    with sqlite3.connect(path) as connection:
        for copy in range(1, -(-events // block)):
            connection.execute(
                "INSERT INTO events (seq, invoice_id, version, kind, at_ms, data, hash)"
                " SELECT seq + ?, invoice_id, version + ?, kind, at_ms, data, hash FROM events"
                " WHERE seq <= ?",
                (copy * block, copy, min(block, events - copy * block)),
            )
    connection.close()
    rechain(path)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["live"]:
            trio.run(serve_live)
        case ["replay", count]:
            trio.run(serve_replay, int(count))
        case other:
            raise SystemExit(f"no such server: {other}")
