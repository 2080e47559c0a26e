"""Payment pages as customers open them: how soon they are there, and what they cost while open.

The real daemon on SQLite with a real Bitcoin node, on one core of its own where the machine has
two; the customers are another process. Each has an order of his own and an empty cache, and does
what a browser does: asks for the page on a new connection, then for style sheet and script on that
one and a second, then for the live stream on the first. The second is kept.
"""

from __future__ import annotations

import gzip
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import orjson
import trio

from benchmarks.latency import percentile
from benchmarks.process import cpu_s, memory_bytes, waits_s
from benchmarks.report import ROOT, say
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.daemon import Daemon
from tests.helpers.shop import new_key

MAX_PAGE_BYTES = 60 * 1024
"""What a whole page may have, compressed."""
_BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    "Accept-Language: de,en-US;q=0.7,en;q=0.3\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Connection: keep-alive\r\n"
)
_FILES = re.compile(rb'(?:href|src)="([^"]+\.(?:css|js))"')
_AT_ONCE = 16
"""Orders that are created at a time."""


def run(*, pages: int = 2_000, rate_per_s: float = 50.0, warm: int = 100) -> dict[str, Any]:
    """Milliseconds by percentile over all pages; KB are the growth of the daemon's memory.

    Before the measurement `warm` pages are opened and left. `first_byte` and `complete` count from
    before the first connection is asked for, `live` from before the stream is.
    """
    folder = ROOT / ".cache" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="page-") as state,
        BitcoinNode("btc") as node,
        Daemon(Path(state), nodes=(node,), env={"TALLY_ACCESS_RATE_PER_S": "0"}) as daemon,
    ):
        cores = _share_cores(daemon.pid)
        try:
            return trio.run(_measure, daemon, pages, rate_per_s, warm)
        finally:
            os.sched_setaffinity(0, cores)


def _share_cores(pid: int) -> set[int]:
    """Give the daemon a core, and us the others; returns what we had."""
    cores = os.sched_getaffinity(0)
    first, *others = sorted(cores)
    if others:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {first})
        os.sched_setaffinity(0, others)
    return cores


async def _measure(daemon: Daemon, pages: int, rate_per_s: float, warm: int) -> dict[str, Any]:
    say(f"creating {pages + warm} orders")
    orders = await _create_orders(daemon, pages + warm)
    for _ in range(2):
        await _visit(daemon.http_port, orders[:warm], rate_per_s, leave=True)
    before_bytes, before_s = memory_bytes(daemon.pid), cpu_s(daemon.pid)
    waits_before_s = sum(waits_s(daemon.pid).values())
    say(f"opening {pages} pages, {rate_per_s:g} a second")
    visits = await _visit(daemon.http_port, orders[warm:], rate_per_s, leave=False)
    worked_s = cpu_s(daemon.pid) - before_s
    waited_s = sum(waits_s(daemon.pid).values()) - waits_before_s
    grown_kb = (memory_bytes(daemon.pid) - before_bytes) / 1024
    for visit in visits:
        await visit.leave()
    size = max(visit.size for visit in visits)
    assert size <= MAX_PAGE_BYTES, f"a page has {size} bytes"
    return {
        "pages": pages,
        "rate_per_s": rate_per_s,
        **_figures("first_byte", [visit.first_byte_s for visit in visits]),
        **_figures("complete", [visit.complete_s for visit in visits]),
        **_figures("live", [visit.live_s for visit in visits]),
        "page_bytes_compressed": size,
        "kb_per_open_page": round(grown_kb / pages, 2),
        "daemon_processor_ms_per_page": round(worked_s / pages * 1000, 2),
        # Near nothing on a machine that does nothing else; otherwise the times are not our doing.
        "daemon_waited_for_processor_ms_per_page": round(waited_s / pages * 1000, 2),
    }


def _figures(name: str, taken_s: Sequence[float]) -> dict[str, float]:
    taken_ms = sorted(one * 1000 for one in taken_s)
    return {
        f"{name}_ms_p50": round(percentile(taken_ms, 50), 2),
        f"{name}_ms_p90": round(percentile(taken_ms, 90), 2),
        f"{name}_ms_p99": round(percentile(taken_ms, 99), 2),
        f"{name}_ms_max": round(taken_ms[-1], 2),
    }


# --- customers ------------------------------------------------------------------------------------


@dataclass
class _Visit:
    """One customer, from the link to the open page."""

    port: int
    order: str
    first_byte_s: float = 0.0
    complete_s: float = 0.0
    live_s: float = 0.0
    size: int = 0
    """Of all bodies, as they were sent."""
    _connections: list[_Connection] = field(default_factory=list)

    async def open(self) -> None:
        began = time.monotonic()
        path = f"/pay/{self.order}"
        one = await self._connect()
        page = await one.get(path)
        self.first_byte_s = one.first_byte_at - began
        found = dict.fromkeys(_FILES.findall(gzip.decompress(page)))
        assert len(found) == 2, f"the page loads {found}"
        style, script = (urljoin(path, name.decode()) for name in found)
        two = await self._connect()
        bodies = [page]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect, one, style, bodies)
            nursery.start_soon(_collect, two, script, bodies)
        self.complete_s = time.monotonic() - began
        self.size = sum(map(len, bodies))
        asked = time.monotonic()
        await one.follow(f"{path}/live?lang=de")
        self.live_s = time.monotonic() - asked

    async def leave(self) -> None:
        for connection in self._connections:
            await trio.aclose_forcefully(connection.stream)

    async def _connect(self) -> _Connection:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self._connections.append(_Connection(stream))
        return self._connections[-1]


class _Connection:
    """HTTP/1.1 as simply as this server answers."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.first_byte_at = 0.0
        self._data = b""

    async def get(self, path: str) -> bytes:
        """The body as it was sent."""
        length = int(_header(await self._ask(path, "*/*"), b"content-length"))
        while len(self._data) < length:
            await self._receive()
        body, self._data = self._data[:length], self._data[length:]
        return body

    async def follow(self, path: str) -> None:
        """Return with the first event that has data."""
        await self._ask(path, "text/event-stream")
        while b"\ndata: {" not in self._data or not self._data.endswith(b"\n\n\r\n"):
            await self._receive()

    async def _ask(self, path: str, accept: str) -> bytes:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{_BROWSER}Accept: {accept}\r\n\r\n"
        await self.stream.send_all(request.encode())
        await self._receive()
        self.first_byte_at = time.monotonic()
        while b"\r\n\r\n" not in self._data:
            await self._receive()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return head

    async def _receive(self) -> None:
        data = await self.stream.receive_some(65536)
        assert data, "the daemon closed a connection"
        self._data += data


def _header(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"(?im)^" + name + rb":[ ]*([^\r\n]*)", head)
    assert found is not None, f"{name!r} is missing: {head!r}"
    return found[1]


async def _collect(connection: _Connection, path: str, bodies: list[bytes]) -> None:
    bodies.append(await connection.get(path))


async def _visit(
    port: int, orders: Sequence[str], rate_per_s: float, *, leave: bool
) -> list[_Visit]:
    """Open a page of each, at an even rate; they stay unless they leave."""
    visits = [_Visit(port, order) for order in orders]
    began = trio.current_time()

    async def come(visit: _Visit) -> None:
        await visit.open()
        if leave:
            await visit.leave()

    async with trio.open_nursery() as nursery:
        for number, visit in enumerate(visits):
            await trio.sleep_until(began + number / rate_per_s)
            nursery.start_soon(come, visit)
    return visits


# --- what is prepared -----------------------------------------------------------------------------


async def _create_orders(daemon: Daemon, count: int) -> list[str]:
    """Ids of new orders of one merchant."""
    user_id = _post(daemon, "/v1/users", {})["id"]
    wallet = {"name": "shop", "keys": {"btc": new_key()}, "assets": [{"asset": "BTC"}]}
    wallet_id = _post(daemon, f"/v1/users/{user_id}/wallets", wallet)["id"]
    key = {"name": "shop", "scopes": ["write"], "user_id": user_id}
    apikey = {"apikey": _post(daemon, "/v1/keys", key)["key"]}
    ids: list[str] = []

    def create(number: int) -> None:
        wanted = {
            "merchant_order_id": f"A-{number}",
            "asset_name": "BTC",
            "target_value": "150000",
            "pg_wallet_id": str(wallet_id),
            "description": "A chair, blue",
            "callback_url": "https://shop.example.org/thanks",
        }
        found = _post(daemon, "/apis/pg/create_order", wanted, apikey)
        ids.append(found["order"]["id"])

    limiter = trio.CapacityLimiter(_AT_ONCE)
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(
                lambda one=number: trio.to_thread.run_sync(create, one, limiter=limiter)
            )
    return ids


def _post(daemon: Daemon, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    status, _, found = daemon.http("POST", path, body, headers)
    assert status in (200, 201), (path, orjson.dumps(found))
    return found
