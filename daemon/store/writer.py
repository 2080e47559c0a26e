"""The one writer: a thread that makes one transaction of all that is queued.

Theory of operation
-------------------
Trio tasks queue requests and sleep. The thread takes what is there (at most MAX_BATCH), writes it
in one transaction, and hands the whole batch back in one hop: on the Trio thread the listener is
called with the new facts, then the sleepers wake. A cancelled sleeper only stops waiting; what it
asked for is committed and published all the same.

The thread writes through a session, which lives through losses of its connection (store.session).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from functools import partial
from queue import Empty, SimpleQueue

import trio
from outcome import Error, Outcome, Value
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from actors.duties import DutyLostError
from actors.ports import (
    CommitListener,
    Committed,
    PersistentError,
    StoreStatistics,
    TransientError,
)
from actors.published import LogTip
from daemon.store.breakage import Breakage
from daemon.store.log import Written
from daemon.store.requests import Request
from daemon.store.session import LONGEST_PAUSE_S, Session

MAX_BATCH = 1024
"""Requests in one transaction: a bound on how long the event loop publishes without a pause."""

MAX_QUEUED = 8192
"""Requests queued or in work; who comes then waits before it may queue."""

SWITCH_INTERVAL_S = 0.0005
"""How long the thread waits at most to win the interpreter lock from a busy event loop, for the
whole process. It needs the lock some twenty times per transaction; Python's 5 ms, each time, would
make 100 ms of a commit."""


class Writer:
    """Queue, thread and answers. `start` and all that is async belong to the Trio thread."""

    def __init__(self, session: Session, on_commit: CommitListener, breakage: Breakage) -> None:
        self._on_commit = on_commit
        self._breakage = breakage
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self._room = trio.lowlevel.ParkingLot()
        self._closed = False
        self._waiting = 0
        self._published_seq = 0
        self._commits = 0
        self._events = 0
        self._last_commit_s = 0.0
        self._session = session
        session.late = partial(self._hop, ())
        self._token: trio.lowlevel.TrioToken | None = None
        # A daemon thread: it must not keep a program alive that crashed before `aclose`.
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    @property
    def published_seq(self) -> int:
        """The last sequence number that the listener has been told of."""
        return self._published_seq

    def start(self, connection: Connection, tip: LogTip) -> None:
        """Write through `connection` from now on, which from now on belongs to the thread."""
        self._published_seq = tip.seq
        self._session.begin(connection, tip)
        self._token = trio.lowlevel.current_trio_token()
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        self._thread.start()

    async def submit(self, request: Request) -> object:
        """Queue a write and wait for its answer; once queued, cancelling only ends the waiting."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._waiting >= MAX_QUEUED and not self._closed:
            await self._room.park()
        if self._closed:
            raise TransientError("the store is closing; nothing was recorded")
        self._waiting += 1
        request.task = trio.lowlevel.current_task()
        self._requests.put(request)

        def abandon(_: object) -> trio.lowlevel.Abort:
            request.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abandon)

    async def aclose(self) -> None:
        """Write what is queued, answer everybody, end the thread. Not interrupted by cancelling."""
        self._closed = True
        self._room.unpark_all()
        self._session.hurry()
        self._requests.put(None)
        with trio.CancelScope(shield=True):
            # The thread's last hops were queued before its end is noticed, so they run before.
            await trio.to_thread.run_sync(self._thread.join, limiter=trio.CapacityLimiter(1))

    def statistics(self, backend: str) -> StoreStatistics:
        return StoreStatistics(
            backend=backend,
            queued=self._waiting,
            commits=self._commits,
            events=self._events,
            last_commit_s=self._last_commit_s,
        )

    # --- on the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._take()
            if batch:
                self._write(batch)
            elif self._session.unsure:
                self._settle()
        self._session.end()

    def _take(self) -> tuple[list[Request], bool]:
        """What is queued, at least one request unless the time is up; False once closed."""
        batch: list[Request] = []
        try:
            # With a commit in doubt, look now and then even if nobody writes.
            request = self._requests.get(timeout=LONGEST_PAUSE_S if self._session.unsure else None)
            while request is not None:
                batch.append(request)
                if len(batch) >= MAX_BATCH:
                    return batch, True
                request = self._requests.get_nowait()
        except Empty:
            return batch, True
        return batch, False

    def _write(self, batch: list[Request]) -> None:
        try:
            written = self._session.write(batch)
        except Exception as error:  # noqa: BLE001 - a boundary: who waits must get an answer
            self._hop(batch, error)
        else:
            self._hop(batch, written)

    def _settle(self) -> None:
        try:
            self._session.settle()
        except DutyLostError as error:
            self._hop((), error)
        except (DBAPIError, PersistentError, TransientError):
            return  # still in doubt; the next write meets the same failure and reports it

    def _hop(self, batch: Sequence[Request], result: Written | Exception) -> None:
        assert self._token is not None
        if isinstance(result, Exception):
            self._token.run_sync_soon(self._fail, batch, result)
        else:
            self._token.run_sync_soon(self._publish, len(batch), result)

    # --- on the Trio thread -----------------------------------------------------------------------

    def _publish(self, count: int, written: Written) -> None:
        facts: list[Committed] = []
        answers = written.answers
        for append, first_seq in written.appends:
            mine = []
            before = append.before
            for seq, step in enumerate(append.steps, first_seq):
                mine.append(Committed(seq, before, step.event, step.after))
                before = step.after
            facts.extend(mine)
            answers[append] = Value(tuple(mine))
        self._commits += 1
        self._events += len(facts)
        self._last_commit_s = written.took_s
        if facts:
            self._published_seq = facts[-1].seq
            self._tell(facts)
        for request in written.batch:
            _answer(request, answers[request])
        self._make_room(count)

    def _tell(self, facts: Sequence[Committed]) -> None:
        if self._breakage.error is not None:
            return  # what it missed must not be followed by what came later
        try:
            self._on_commit(facts)
        except Exception as error:  # noqa: BLE001 - a boundary: raised where the store was opened
            self._breakage.fail(error)

    def _fail(self, batch: Sequence[Request], error: Exception) -> None:
        if isinstance(error, DutyLostError):
            self._breakage.fail(error)
        for request in batch:
            _answer(request, Error(_copy(error)))
        self._make_room(len(batch))

    def _make_room(self, count: int) -> None:
        self._waiting -= count
        self._room.unpark(count=count)


def _answer(request: Request, answer: Outcome[object]) -> None:
    task, request.task = request.task, None
    if task is not None:
        trio.lowlevel.reschedule(task, answer)


def _copy(error: Exception) -> Exception:
    """One exception each: a shared one would collect the tracebacks of all who raise it."""
    if isinstance(error, TransientError | PersistentError):
        copy = type(error)(*error.args)
        copy.__cause__ = error.__cause__
        return copy
    return error
