"""The one writer: a thread that makes one transaction of all that is queued.

Theory of operation
-------------------
Trio tasks queue requests and sleep. The thread takes what is there (at most MAX_BATCH), writes it
in one transaction, and hands the whole batch back in one hop: on the Trio thread the listener is
called with the new facts, then the sleepers wake. A cancelled sleeper only stops waiting; what it
asked for is committed and published all the same.

Sequence numbers are the thread's own and move only after a commit, so a transaction that failed
leaves no hole. A failure of the whole database is retried for `retry_s` where that makes sense;
then every request of the batch gets it, and nothing of the batch is recorded.

When the connection breaks during COMMIT nobody knows what the server did. Each transaction there
carries a mark; the next connection first waits for our old session to end (it holds the lock that
keeps a second daemon out), then looks for the mark, and only then does anybody get an answer.
"""

from __future__ import annotations

import itertools
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue

import trio
from outcome import Error, Outcome, Value
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from actors.ports import (
    CommitListener,
    Committed,
    PersistentError,
    StoreStatistics,
    TransientError,
)
from actors.published import LogTip
from daemon.store import log
from daemon.store.database import Database
from daemon.store.errors import InUseError, display, explain, retryable
from daemon.store.log import Written
from daemon.store.log_names import name_log
from daemon.store.log_walk import verify_end
from daemon.store.requests import Request
from daemon.store.schema import meta

MAX_BATCH = 1024
"""Requests in one transaction: a bound on how long the event loop publishes without a pause."""

MAX_QUEUED = 8192
"""Requests queued or in work; who comes then waits before it may queue."""

SWITCH_INTERVAL_S = 0.0005
"""How long the thread waits at most to win the interpreter lock from a busy event loop, for the
whole process. It needs the lock some twenty times per transaction; Python's 5 ms, each time, would
make 100 ms of a commit."""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
MARK = "last_commit"
"""Key in `meta` of the mark of the last transaction."""


class Writer:
    """Queue, thread and answers. `start` and all that is async belong to the Trio thread."""

    def __init__(self, database: Database, on_commit: CommitListener, *, retry_s: float) -> None:
        self._on_commit = on_commit
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self._room = trio.lowlevel.ParkingLot()
        self._closed = False
        self._waiting = 0
        self._published_seq = 0
        self._commits = 0
        self._events = 0
        self._last_commit_s = 0.0
        self._session = _Session(database, retry_s=retry_s, late=partial(self._hop, ()))
        self._token: trio.lowlevel.TrioToken | None = None
        self.broken = trio.CancelScope()
        """To be put around everything that uses the store: cancelled when the listener fails."""
        self.listener_error: Exception | None = None
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
            request = self._requests.get(timeout=_LONGEST_PAUSE_S if self._session.unsure else None)
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
        except (DBAPIError, PersistentError):
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
        if self.listener_error is not None:
            return  # what it missed must not be followed by what came later
        try:
            self._on_commit(facts)
        except Exception as error:  # noqa: BLE001 - a boundary: raised where the store was opened
            self.listener_error = error
            self.broken.cancel()

    def _fail(self, batch: Sequence[Request], error: Exception) -> None:
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


class _Session:
    """The connection that writes, through its losses. Everything but `hurry` is the thread's."""

    def __init__(
        self, database: Database, *, retry_s: float, late: Callable[[Written], None]
    ) -> None:
        self._database = database
        self._retry_s = retry_s
        self._late = late
        """Given a batch that is there after all, when its callers have been told otherwise."""
        self._connection: Connection | None = None
        self._tip: LogTip
        """Where the log ends: moves only when a commit is known to have succeeded."""
        self._marks = (f"{secrets.token_hex(8)}:{number}" for number in itertools.count(1))
        self._doubtful: tuple[str, Written] | None = None
        self._hurry = threading.Event()

    @property
    def unsure(self) -> bool:
        """Whether the connection broke in a COMMIT, and nobody has looked yet."""
        return self._doubtful is not None

    def begin(self, connection: Connection, tip: LogTip) -> None:
        self._connection = connection
        self._tip = tip

    def end(self) -> None:
        self._drop()

    def hurry(self) -> None:
        """Stop retrying: the daemon is about to end."""
        self._hurry.set()

    def write(self, batch: Sequence[Request]) -> Written:
        """Commit the batch, with retries. Raises TransientError or PersistentError."""
        give_up_at = time.monotonic() + self._retry_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if self._doubtful is not None and (found := self.settle(batch)) is not None:
                    return found
                return self._write_once(batch)
            except DBAPIError as error:
                failure = explain(error, self._database.url)
                if failure is None:
                    raise
                failure.__cause__ = error
                again = retryable(error)
            except InUseError as error:
                failure = error  # our own old session, until the server notices
                again = True
            if not again or self._hurry.is_set() or time.monotonic() + pause_s > give_up_at:
                raise self._final(failure)
            self._hurry.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def settle(self, batch: Sequence[Request] = ()) -> Written | None:
        """Look whether the commit in doubt is there; returns it if it is that of `batch`.

        Raises what `connect` raises while that cannot be known.
        """
        assert self._doubtful is not None
        mark, written = self._doubtful
        connection = self._connected()
        with connection.begin():
            found = connection.scalar(select(meta.c.value).where(meta.c.key == MARK))
        self._doubtful = None
        if found != mark:
            return None
        self._tip = written.tip
        if written.batch is batch:
            return written
        self._late(written)
        return None

    def _write_once(self, batch: Sequence[Request]) -> Written:
        started = time.perf_counter()
        connection = self._connected()
        bulk = self._database.bulk
        try:
            try:
                with connection.begin():
                    written = log.write_together(connection, bulk, batch, self._tip)
                    self._before_commit(connection, written)
            except Exception as error:
                if isinstance(error, DBAPIError) and explain(error, self._database.url) is not None:
                    raise
                # Something in it does not fit; the second attempt finds what.
                with connection.begin():
                    written = log.write_one_by_one(connection, bulk, batch, self._tip)
                    self._before_commit(connection, written)
        except DBAPIError as error:
            if error.connection_invalidated:
                self._drop()
            else:
                self._doubtful = None  # the server answered: it has not committed
            raise
        self._doubtful = None
        self._tip = written.tip
        written.took_s = time.perf_counter() - started
        return written

    def _before_commit(self, connection: Connection, written: Written) -> None:
        if not self._database.ambiguous_commits:
            return
        mark = next(self._marks)
        connection.execute(meta.update().where(meta.c.key == MARK).values(value=mark))
        self._doubtful = (mark, written)

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._database.connect()
            self._connection = connection
            self._check_position(connection)
        return self._connection

    def _check_position(self, connection: Connection) -> None:
        with connection.begin():
            found = log.tip(connection)
        expected = {self._tip}
        if self._doubtful is not None:
            expected.add(self._doubtful[1].tip)
        if found not in expected:
            self._drop()
            raise PersistentError(
                f"database.url ({display(self._database.url)}): its log ends at {found},"
                f" not at {self._tip}: another program wrote to it, or it was replaced by a copy;"
                " restart tallyd"
            )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _final(self, failure: TransientError | PersistentError) -> Exception:
        if self._doubtful is None:
            return failure
        text = f"{failure}; it is not known yet whether the write was recorded"
        return _with_cause(TransientError(text.replace("; nothing was recorded", "")), failure)


def _with_cause(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def prepare(connection: Connection) -> LogTip:
    """Make the row that marks go to, and name the log; returns where it ends.

    Raises PersistentError when its newest links do not hold.
    """
    with connection.begin():
        name_log(connection)
        found = connection.scalar(select(meta.c.key).where(meta.c.key == MARK))
        if found is None:
            connection.execute(meta.insert().values(key=MARK, value=""))
        verify_end(connection)
        return log.tip(connection)
