"""Scanning with view keys without holding up the event loop: little here, much in processes.

Work is cut into orders of about 10 ms. A scan has at most as many of them under way as there are
workers, each worker has one at a time, and whoever waits for a worker waits in turn: a transaction
of the pool gets its scan within two orders or so even while years are caught up.

A worker that dies is replaced and its order given out again, so that no answer is lost; after
`ATTEMPTS` deaths over one order the scan fails as a whole with TransientError.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import trio

from actors.ports import TransientError
from daemon.drivers.monero_scan import Candidate, Piece, Transaction, pieces, scan, unpack
from daemon.drivers.monero_worker import HEAD_BYTES, content_length, frame, order

ATTEMPTS = 3
ORDER_US = 10_000.0
INLINE_US = 2_000.0
"""What takes less, by estimate, is not worth sending away."""
KEYS_PER_ORDER = 512
# The first orders of a scan are small, so that little work is shared out as well.
_FIRST_ORDER_US, _GROWTH = 2_000.0, 1.5
# Thousands of times what an order takes: a worker that needs longer was stopped or is stuck.
_ANSWER_TIMEOUT_S = 60.0
_READ_BYTES = 1 << 16
_ROOT = Path(__file__).resolve().parents[2]
# -P keeps the working directory out. The folder of our own package comes last: it must not hide
# anything, and is on the path already when tallyd is installed.
WORKER_COMMAND = (
    sys.executable,
    "-P",
    "-c",
    "import sys; sys.path.append(sys.argv[1]); import daemon.drivers.monero_worker as w; w.main()",
    str(_ROOT),
)


@dataclass(frozen=True, slots=True)
class ScannerStatistics:
    workers: int
    """Processes alive."""
    busy: int
    waiting: int
    """Orders that wait for a worker."""
    scans: int
    inline: int
    """Scans that were small enough to be made at once."""
    orders: int
    """Orders answered."""
    deaths: int
    """Workers that died or were stuck over an order."""
    candidates: int


class _Order(NamedTuple):
    content: bytes
    first_view_key: int


class _WorkerDiedError(Exception):
    """The pipes of a worker are closed."""


class Scanner:
    """Scans with up to `workers` processes, by default one for each core we may use.

    They start when they are first needed and stay until `aclose`, which leaves none behind.
    With 0 workers everything is made inline.
    """

    def __init__(self, *, workers: int | None = None) -> None:
        self._workers = _cores() if workers is None else workers
        self._turns = trio.CapacityLimiter(max(self._workers, 1))
        self._idle: list[_Worker] = []
        self._alive: set[_Worker] = set()
        self._closed = False
        self._scans = self._inline = self._orders = self._deaths = self._candidates = 0

    def statistics(self) -> ScannerStatistics:
        return ScannerStatistics(
            workers=len(self._alive),
            busy=len(self._alive) - len(self._idle),
            waiting=self._turns.statistics().tasks_waiting,
            scans=self._scans,
            inline=self._inline,
            orders=self._orders,
            deaths=self._deaths,
            candidates=self._candidates,
        )

    async def scan(self, txs: Sequence[Transaction], view_keys: Sequence[bytes]) -> list[Candidate]:
        """All candidates, each once, ordered by transaction, output and view key.

        `view_keys` are canonical scalars and not zero, 32 bytes each. All or nothing: raises
        TransientError if workers keep dying or cannot start, trio.ClosedResourceError if the
        scanner is closed. Cancelled, it ends the workers that were at it.
        """
        self._check_open()
        self._scans += 1
        work = pieces(txs) if view_keys else iter(())
        first, cost_us = [], 0.0
        for piece in work:
            first.append(piece)
            cost_us += piece.once_us + piece.per_key_us * len(view_keys)
            if cost_us > INLINE_US and self._workers:
                work = itertools.chain(first, work)
                found = await self._share_out(_orders(work, tuple(view_keys)))
                break
        else:
            await trio.lowlevel.checkpoint()
            self._inline += 1
            found = unpack(scan(b"".join(piece.packed for piece in first), view_keys))
        self._candidates += len(found)
        # A key that a transaction names in two ways finds the same output twice.
        return sorted(set(found), key=_place)

    async def aclose(self) -> None:
        """End all workers; scans that are under way fail. Cannot be cancelled; soon done."""
        self._closed = True
        with trio.CancelScope(shield=True):
            for worker in self._alive:
                worker.kill()
            # Who has a turn now gives it back at once, and who starts a worker ends it first.
            turns = [object() for _ in range(int(self._turns.total_tokens))]
            for turn in turns:
                await self._turns.acquire_on_behalf_of(turn)
            for worker in tuple(self._alive):
                await self._end(worker)
            for turn in turns:
                self._turns.release_on_behalf_of(turn)

    async def _share_out(self, orders: Iterator[_Order]) -> list[Candidate]:
        found: list[Candidate] = []
        failures: list[TransientError | trio.ClosedResourceError] = []

        async def help_out() -> None:
            # `orders` is read by all helpers: between two awaits nobody comes in between.
            for each in orders:
                try:
                    answer = await self._carry_out(each)
                except (TransientError, trio.ClosedResourceError) as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()
                    return
                found.extend(unpack(answer, first_view_key=each.first_view_key))

        async with trio.open_nursery() as nursery:
            # One more than there are workers: it has an order ready when one of them gets idle.
            for _ in range(self._workers + 1):
                nursery.start_soon(help_out)
        if failures:
            raise failures[0]
        return found

    async def _carry_out(self, each: _Order) -> bytes:
        async with self._turns:
            for _ in range(ATTEMPTS):
                self._check_open()
                try:
                    worker = await self._idle_worker() or await self._start()
                except OSError as error:
                    raise TransientError(
                        f"No process for scanning Monero could be started: {error.strerror}."
                        " Look at the limits on processes and memory (TasksMax, MemoryMax)."
                    ) from error
                answer = await self._ask(worker, each.content)
                if answer is not None:
                    self._orders += 1
                    return answer
            self._check_open()
            raise TransientError(
                f"{ATTEMPTS} processes for scanning Monero ended over the same work. Look into the"
                " system's log for who ended them; too little memory is the usual reason."
            )

    async def _idle_worker(self) -> _Worker | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            self._deaths += 1
            await self._end(worker)
        return None

    async def _start(self) -> _Worker:
        process = await trio.lowlevel.open_process(
            WORKER_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        worker = _Worker(process)
        self._alive.add(worker)
        if self._closed:
            await self._end(worker)
            self._check_open()
        return worker

    async def _ask(self, worker: _Worker, content: bytes) -> bytes | None:
        """None if the worker has died over it."""
        answer = None
        try:
            with suppress(_WorkerDiedError), trio.move_on_after(_ANSWER_TIMEOUT_S):
                answer = await worker.ask(content)
        finally:
            # Also when cancelled: it would give this answer to the next who asks.
            if answer is None:
                await self._end(worker)
            else:
                self._idle.append(worker)
        if answer is None and not self._closed:
            self._deaths += 1
        return answer

    async def _end(self, worker: _Worker) -> None:
        with trio.CancelScope(shield=True):
            await worker.end()
        self._alive.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the Monero scanner is closed")


class _Worker:
    """One process; see `monero_worker`."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._orders, self._answers = process.stdin, process.stdout
        self._received = bytearray()

    async def ask(self, content: bytes) -> bytes:
        """The answer to an order; raises _WorkerDiedError if there will be none."""
        try:
            await self._orders.send_all(frame(content))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _WorkerDiedError from error
        return await self._receive(content_length(await self._receive(HEAD_BYTES)))

    async def _receive(self, count: int) -> bytes:
        while len(self._received) < count:
            try:
                chunk = await self._answers.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise _WorkerDiedError from error
            if not chunk:
                raise _WorkerDiedError
            self._received += chunk
        content = bytes(self._received[:count])
        del self._received[:count]
        return content

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        self._process.kill()

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.kill()
        await self._process.wait()
        await self._orders.aclose()
        await self._answers.aclose()


def _orders(work: Iterator[Piece], view_keys: Sequence[bytes]) -> Iterator[_Order]:
    """The work in portions of about ORDER_US, each for at most KEYS_PER_ORDER view keys."""
    target_us = _FIRST_ORDER_US
    keys = min(len(view_keys), KEYS_PER_ORDER)
    portion: list[Piece] = []
    once_us = per_key_us = 0.0
    for piece in itertools.chain(work, (None,)):
        if piece is not None:
            portion.append(piece)
            once_us += piece.once_us
            per_key_us += piece.per_key_us
            if once_us + per_key_us * keys < target_us:
                continue
        if not portion:
            return
        packed = b"".join(each.packed for each in portion)
        step = min(max(int(ORDER_US / per_key_us), 1), keys)
        for first in range(0, len(view_keys), step):
            yield _Order(order(packed, view_keys[first : first + step]), first)
        portion, once_us, per_key_us = [], 0.0, 0.0
        target_us = min(target_us * _GROWTH, ORDER_US)


def _place(each: Candidate) -> tuple[int, int, int]:
    return each.tx, each.output, each.view_key


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except OSError:
        return os.cpu_count() or 1
