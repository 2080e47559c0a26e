"""One run: a real node, a real daemon, the processes around them, a clock for blocks, the end."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg
import zmq

from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.daemon import Daemon
from tests.helpers.postgres import PostgresServer
from tests.helpers.process import ServerError, wait_until
from tests.helpers.shop import new_key
from tests.load import ears, shops, watchers
from tests.load.account import Account, settle
from tests.load.ears import EarReport
from tests.load.purse import fill, mine_to_nobody
from tests.load.sampling import Sampler, sqlite_sizes
from tests.load.shops import ShopReport, Town
from tests.load.team import Board, Count, Merchant, new_board, worker
from tests.load.watchers import StreamReport

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "load"
DEPTH = 4
"""Blocks at the end: more than any invoice asks for."""
_TICK_S = 0.1
_PAGE = 500
_COMPLAINT = re.compile(r"\blevel=error\b|^Traceback")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    rate_per_s: float = 100.0
    """Events written to the log."""
    seconds: float = 3600.0
    merchants: int = 200
    database: str = "sqlite"
    block_s: float = 3.0
    sample_s: float = 10.0
    seed: int = 8
    end_s: float = 180.0
    """How long after the last customer everybody may take to have heard it all."""


@dataclass
class Findings:
    """All that a run found out; times are CLOCK_MONOTONIC in ns where they are not seconds."""

    options: Options
    began_ns: int
    ran_s: float
    """Shorter than asked for when it was ended early."""
    is_early: bool
    sampler: Sampler
    board: list[int]
    shops: ShopReport
    streams: StreamReport
    ears: EarReport
    account: Account
    accepted_ns: dict[str, int]
    """txid → when the node published it."""
    blocks_ns: dict[int, int]
    """Height → when the node published the block."""
    faults: dict[str, int] = field(default_factory=dict)
    fault_words: dict[str, list[str]] = field(default_factory=dict)


def run(options: Options, *, say: Say) -> Findings:
    """Raises ServerError when something does not start or does not come to an end."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=FOLDER, prefix="run-") as folder,
        _database(options, Path(folder)) as (env, sizes),
        BitcoinNode("btc") as node,
        _tap(node) as (accepted_ns, blocks_ns),
    ):
        say("mining coins and splitting them")
        secret, coins = fill(node)
        env |= {"TALLY_WEBHOOKS_ALLOW_NETWORKS": "127.0.0.0/8"}
        daemon = Daemon(Path(folder), nodes=(node,), env=env)
        board = new_board()
        with (
            daemon,
            worker(ears.work, board, daemon.http_port, options.rate_per_s) as ear,
        ):
            say(f"{options.merchants} merchants come")
            merchants = _register(daemon, options.merchants, hooks_port=_answer(ear))
            ear.send(merchants)
            town = Town(
                daemon.grpc_port,
                daemon.http_port,
                node.rpc_port,
                f"{node.user}:{node.password}",
                secret,
                coins,
                merchants,
                options.rate_per_s,
                options.seed,
            )
            with (
                worker(watchers.work, board, daemon.grpc_port, merchants) as stream,
                worker(shops.work, board, town) as shop,
            ):
                for one in (stream, ear, shop):
                    assert _answer(one) == "ready"
                began_ns = time.monotonic_ns()
                sampler = Sampler(daemon.pid, daemon.url, database=sizes, began=began_ns / 1e9)
                stage = _Stage(options, node, daemon, board, sampler, shop, say)
                ear.send("go")
                shop.send("go")
                is_early = stage.play()
                shop_report, shop_faults = stage.end()
                say("reading every invoice once more")
                polled = _list_all(daemon, merchants)
                last_seq = daemon.http("GET", "/v1/log")[2]["seq"]
                for one in (stream, ear):
                    one.send("stop")
                stream_report: StreamReport = _answer(stream)
                ear_report: EarReport = _answer(ear)
        if daemon.exit_status != 0:
            raise ServerError(f"the daemon ended with status {daemon.exit_status}")
        complaints = _complaints(daemon.log)
    say("comparing")
    account = settle(
        shop_report.stories,
        chain=stage.chain,
        last_seq=last_seq,
        streams=stream_report,
        ears=ear_report,
        polled=polled,
    )
    found = Findings(
        options=options,
        began_ns=began_ns,
        ran_s=stage.ran_s,
        is_early=is_early,
        sampler=sampler,
        board=list(board),
        shops=shop_report,
        streams=stream_report,
        ears=ear_report,
        account=account,
        accepted_ns=accepted_ns,
        blocks_ns={
            height: blocks_ns[one] for one, height in stage.blocks.items() if one in blocks_ns
        },
    )
    parts = (
        *(shop_faults, stream_report.faults, ear_report.faults),
        *((account.counts, account.words), complaints),
    )
    for counts, words in parts:
        found.faults |= counts
        found.fault_words |= words
    return found


class _Stage:
    """The clock: blocks, samples, a line of progress."""

    def __init__(
        self,
        options: Options,
        node: BitcoinNode,
        daemon: Daemon,
        board: Board,
        sampler: Sampler,
        shop: Connection,
        say: Say,
    ) -> None:
        self._options = options
        self._node = node
        self._daemon = daemon
        self._board = board
        self._sampler = sampler
        self._shop = shop
        self._say = say
        self._began = time.monotonic()
        self._next_block = self._began + options.block_s
        self._next_sample = self._began
        self._next_word = self._began
        self._height = node.height()
        self.chain: dict[str, int] = {}
        self.blocks: dict[str, int] = {}
        self.ran_s = 0.0

    def play(self) -> bool:
        """Until the time is up or Ctrl-C; whether it was that."""
        end = self._began + self._options.seconds
        try:
            while time.monotonic() < end:
                self._tick()
                if time.monotonic() >= self._next_sample:
                    self._next_sample += self._options.sample_s
                    self._sampler.take(self._board[Count.STREAMED])
        except KeyboardInterrupt:
            return True
        else:
            return False
        finally:
            self.ran_s = time.monotonic() - self._began
            self._sampler.take(self._board[Count.STREAMED])

    def end(self) -> tuple[ShopReport, tuple[dict[str, int], dict[str, list[str]]]]:
        """No new customers; wait until all have paid, and everybody has heard of it."""
        self._say("no new customers; waiting for the others to pay")
        self._shop.send("stop")
        while not self._shop.poll():
            self._tick()
        report: ShopReport = _answer(self._shop)
        faults = _answer(self._shop)
        self._shop = None  # type: ignore[assignment]
        while self._node.mempool():
            self._mine()
        for _ in range(DEPTH):
            self._mine()
        self._say("waiting until all have heard of it")
        deadline = time.monotonic() + self._options.end_s
        while not self._is_quiet(len(report.stories)) and time.monotonic() < deadline:
            time.sleep(_TICK_S)
        return report, faults

    def _is_quiet(self, invoices: int) -> bool:
        """Whether every invoice is at its end, and every wire at the log's."""
        chain = self._daemon.http("GET", "/v1/chains")[2]["items"][0]
        last_seq = self._daemon.http("GET", "/v1/log")[2]["seq"]
        heard = [self._board[one] for one in (Count.STREAMED, Count.SENT, Count.HOOKED)]
        is_read = chain["height"] == self._height
        return is_read and self._board[Count.CLOSED] == invoices and heard == [last_seq] * 3

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_block:
            self._next_block = max(self._next_block + self._options.block_s, now)
            self._mine()
        if now >= self._next_word:
            self._next_word = now + (
                1 if sys.stdout.isatty() else min(10, self._options.seconds / 6)
            )
            self._word(now - self._began)
        time.sleep(_TICK_S)

    def _mine(self) -> None:
        for block_hash in mine_to_nobody(self._node, 1):
            self._height += 1
            self.blocks[block_hash] = self._height
            txids = self._node.rpc("getblock", block_hash, 1)["tx"][1:]
            self.chain |= dict.fromkeys(txids, self._height)
            if self._shop is not None:
                self._shop.send(("block", txids))

    def _word(self, at_s: float) -> None:
        board = self._board
        faults = board[Count.SHOP_FAULTS] + board[Count.STREAM_FAULTS] + board[Count.EAR_FAULTS]
        rates = self._sampler.rates()
        samples = self._sampler.samples
        rate = f"{rates[-1][1]:.0f}" if rates else "-"
        held = f"{samples[-1].rss_bytes / 2**20:.1f} MiB" if samples else "-"
        self._say(
            f"{at_s:6.0f} s of {self._options.seconds:.0f}: {board[Count.STREAMED]} events"
            f" ({rate}/s), {board[Count.CREATED]} invoices, {board[Count.PAID]} payments,"
            f" {board[Count.HOOKED]} webhooks, {board[Count.POLLED]} polls, memory {held},"
            f" {faults} errors"
        )


def _complaints(log: Path) -> tuple[dict[str, int], dict[str, list[str]]]:
    """What the daemon called an error; its log is kept until the next run."""
    shutil.copyfile(log, FOLDER / "tallyd.log")
    lines = [one for one in log.read_text().splitlines() if _COMPLAINT.search(one)]
    kind = "daemon: errors in its log"
    return ({kind: len(lines)}, {kind: lines[:5]}) if lines else ({}, {})


def _answer(one: Connection, *, within_s: float = 120.0) -> Any:
    if not one.poll(within_s):
        raise ServerError(f"a process of the load did not answer in {within_s:g} s")
    try:
        return one.recv()
    except EOFError:
        raise ServerError("a process of the load ended: see above") from None


def _register(daemon: Daemon, count: int, *, hooks_port: int) -> list[Merchant]:
    """Users with a key for the chain, an API key of their own and a webhook."""

    def post(path: str, body: Any, method: str = "POST") -> Any:
        status, _, found = daemon.http(method, path, body)
        assert status in (200, 201, 204), (path, status, found)
        return found

    merchants = []
    for number in range(count):
        user_id = post("/v1/users", {})["id"]
        post(f"/v1/users/{user_id}/keys", {"btc": new_key()}, "PUT")
        wanted = {"name": f"shop {number}", "scopes": ["read", "write"], "user_id": user_id}
        api_key = post("/v1/keys", wanted)["key"]
        url = f"http://127.0.0.1:{hooks_port}/{number}"
        secret = post("/v1/webhooks", {"url": url, "user_id": user_id})["secret"]
        merchants.append(Merchant(number, user_id, api_key, secret))
    return merchants


def _list_all(daemon: Daemon, merchants: list[Merchant]) -> dict[str, Any]:
    """Every merchant's invoices, page by page, as that merchant's key shows them."""
    found: dict[str, Any] = {}
    for merchant in merchants:
        cursor: str | None = ""
        while cursor is not None:
            path = f"/v1/invoices?limit={_PAGE}" + (f"&cursor={cursor}" if cursor else "")
            status, _, page = daemon.http("GET", path, headers={"Authorization": merchant.bearer})
            assert status == 200, page
            for one in page["items"]:
                assert one["user_id"] == merchant.user_id
                found[one["id"]] = {name: one[name] for name in _COMPARED}
            cursor = page["next"]
    return found


_COMPARED = (
    *("status", "amount_base", "received_base", "credited_base", "payments", "version", "flags"),
)


@contextlib.contextmanager
def _database(
    options: Options, folder: Path
) -> Iterator[tuple[dict[str, str], Callable[[], tuple[int, int]]]]:
    """The daemon's settings for it, and what tells its size and that of its write-ahead log."""
    if options.database == "sqlite":
        yield {}, lambda: sqlite_sizes(folder)
        return
    with PostgresServer(fsync=True) as server:
        url = server.create_database()
        plain = url.replace("+psycopg", "")

        def sizes() -> tuple[int, int]:
            with psycopg.connect(plain) as connection:
                row = connection.execute(
                    "SELECT pg_database_size(current_database()),"
                    " (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir())"
                ).fetchone()
            assert row is not None
            return int(row[0]), int(row[1])

        yield {"TALLY_DATABASE_URL": plain}, sizes


@contextlib.contextmanager
def _tap(node: BitcoinNode) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """When the node published what: transactions entering the mempool, blocks; by hash."""
    accepted_ns: dict[str, int] = {}
    blocks_ns: dict[str, int] = {}
    ended = threading.Event()
    heard = threading.Event()

    def listen() -> None:
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"sequence")
        socket.connect(node.zmq_endpoint)
        while not ended.is_set():
            if not socket.poll(200):
                continue
            body = socket.recv_multipart()[1]
            at_ns = time.monotonic_ns()
            heard.set()
            kind = {b"A": accepted_ns, b"C": blocks_ns}.get(body[32:33])
            if kind is not None:
                kind.setdefault(body[:32].hex(), at_ns)
        context.destroy(linger=0)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    # A subscription takes effect some time after it was asked for.
    wait_until(lambda: mine_to_nobody(node, 1) and heard.wait(0.1), "the node publishes")
    try:
        yield accepted_ns, blocks_ns
    finally:
        ended.set()
        thread.join()
