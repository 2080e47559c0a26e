"""The connection that writes, through its losses, for a daemon that has the database to itself.

Sequence numbers are the session's own and move only after a commit, so a transaction that failed
leaves no hole. A failure of the whole database is retried for `retry_s` where that makes sense;
then every request of the batch gets it, and nothing of the batch is recorded.

When the connection breaks during COMMIT nobody knows what the server did. Each transaction there
carries a mark; the next connection first waits for our old session to end (it holds the lock that
keeps a second daemon out), then looks for the mark, and only then does anybody get an answer.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from actors.ports import PersistentError, TransientError
from actors.published import LogTip
from daemon.store import log
from daemon.store.database import Database
from daemon.store.errors import InUseError, StillOpenError, display, explain, retryable
from daemon.store.log import Written
from daemon.store.log_names import name_log
from daemon.store.log_walk import verify_end
from daemon.store.requests import Request
from daemon.store.schema import meta

LONGEST_PAUSE_S = 1.0
_FIRST_PAUSE_S = 0.05
MARK = "last_commit"
"""Key in `meta` of the mark of the last transaction."""


def _nobody(_written: Written) -> None:
    raise AssertionError("a session belongs to a writer")


class Session:
    """Everything but `hurry` is the writer thread's. `_start`, `_before_commit`, `_was_committed`
    and `_check_position` are what a session among others does otherwise (store.shared_session).
    """

    def __init__(self, database: Database, *, retry_s: float) -> None:
        self._database = database
        self._retry_s = retry_s
        self.late: Callable[[Written], None] = _nobody
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
            except (InUseError, StillOpenError) as error:
                failure = error  # our own old session, until the server notices
                again = True
            if not again or self._hurry.is_set() or time.monotonic() + pause_s > give_up_at:
                raise self._final(failure)
            self._hurry.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def settle(self, batch: Sequence[Request] = ()) -> Written | None:
        """Look whether the commit in doubt is there; returns it if it is that of `batch`.

        Raises what `connect` raises while that cannot be known.
        """
        assert self._doubtful is not None
        mark, written = self._doubtful
        connection = self._connected()
        with connection.begin():
            there = self._was_committed(connection, mark)
        self._doubtful = None
        if not there:
            return None
        self._tip = written.tip
        if written.batch is batch:
            return written
        self.late(written)
        return None

    def _write_once(self, batch: Sequence[Request]) -> Written:
        started = time.perf_counter()
        connection = self._connected()
        bulk = self._database.bulk
        try:
            try:
                with connection.begin():
                    tip = self._start(connection, batch)
                    written = log.write_together(connection, bulk, batch, tip)
                    self._before_commit(connection, written)
            except Exception as error:
                if isinstance(error, DBAPIError) and explain(error, self._database.url) is not None:
                    raise
                # Something in it does not fit; the second attempt finds what.
                with connection.begin():
                    tip = self._start(connection, batch)
                    written = log.write_one_by_one(connection, bulk, batch, tip)
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

    def _start(self, _connection: Connection, _batch: Sequence[Request]) -> LogTip:
        """Begin a transaction that writes `_batch`; returns where the log ends."""
        return self._tip

    def _before_commit(self, connection: Connection, written: Written) -> None:
        if not self._database.ambiguous_commits:
            return
        mark = next(self._marks)
        connection.execute(meta.update().where(meta.c.key == MARK).values(value=mark))
        self._doubtful = (mark, written)

    def _was_committed(self, connection: Connection, mark: str) -> bool:
        found = connection.scalar(select(meta.c.value).where(meta.c.key == MARK))
        return bool(found == mark)

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
        return prepare_within(connection)


def prepare_within(connection: Connection) -> LogTip:
    """As `prepare`, in the transaction that is open."""
    name_log(connection)
    found = connection.scalar(select(meta.c.key).where(meta.c.key == MARK))
    if found is None:
        connection.execute(meta.insert().values(key=MARK, value=""))
    verify_end(connection)
    return log.tip(connection)
