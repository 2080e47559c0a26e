"""The connection that writes, among those of other processes on the same database.

One transaction at a time, over all processes: each takes a lock first and keeps it until its commit
is done. So sequence order is commit order, a reader that has seen event n has seen all before it,
and what one transaction reads, no other changes before its end: the books are as safe against other
processes as they are against other tasks. Within the lock the log's end is read, not remembered.

Duties are locks of this very session (actors.duties): they end when it ends, and so does everything
that is not committed yet. A session that held one is never replaced: the process has to end.

A COMMIT whose answer was lost is looked up by its transaction's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy import Connection, text

from actors.duties import DutyLostError
from actors.ports import PersistentError
from actors.published import LogTip
from daemon.store import log
from daemon.store.database import CHANNEL, PostgresDatabase
from daemon.store.errors import StillOpenError, display
from daemon.store.log import Written
from daemon.store.requests import Append, Request
from daemon.store.session import Session, prepare_within

APPENDED = "log"
"""Notified with every transaction that appends."""

TURN = 0x74616C6C796401
"""The lock that a transaction holds from its first statement to the end of its commit."""


class SharedSession(Session):
    """Everything but `hurry` is the writer thread's, as in Session."""

    def __init__(self, database: PostgresDatabase, *, retry_s: float) -> None:
        super().__init__(database, retry_s=retry_s)
        self._held: set[str] = set()

    def try_hold(self, connection: Connection, duty: str) -> bool:
        """Hold `duty` from now on, unless another session does; called within a transaction.

        The lock outlives the transaction, committed or not.
        """
        if duty not in self._held:
            lock = text("SELECT pg_try_advisory_lock(:key)")
            if not connection.scalar(lock, {"key": _key(duty)}):
                return False
            self._held.add(duty)
        return True

    def _start(self, connection: Connection, batch: Sequence[Request]) -> LogTip:
        _take_turn(connection)
        # Not in the same statement: that sees the log as it was before it waited for its turn.
        return log.tip(connection) if any(isinstance(r, Append) for r in batch) else self._tip

    def _before_commit(self, connection: Connection, written: Written) -> None:
        number = "pg_current_xact_id_if_assigned()::text"
        if written.appends:
            notified = text(f"SELECT {number}, pg_notify(:channel, :what)")
            found = connection.execute(notified, {"channel": CHANNEL, "what": APPENDED}).one()[0]
        else:
            found = connection.scalar(text(f"SELECT {number}"))
        # Without a number nothing was changed, and it is all the same whether that was committed.
        self._doubtful = None if found is None else (found, written)

    def _was_committed(self, connection: Connection, mark: str) -> bool:
        found = connection.scalar(
            text("SELECT pg_xact_status(CAST(:mark AS xid8))"), {"mark": mark}
        )
        if found == "in progress":
            raise StillOpenError(
                f"database.url ({display(self._database.url)}): the server has not noticed yet that"
                " a connection was lost in the middle of a commit"
            )
        return bool(found == "committed")

    def _connected(self) -> Connection:
        if self._connection is None and self._held:
            held = ", ".join(sorted(self._held))
            raise DutyLostError(
                f"database.url ({display(self._database.url)}): the connection broke with which"
                f" this process held {held}; another process may have taken over already, so this"
                " one ends; systemd starts it again, as a stand-by"
            )
        return super()._connected()

    def _check_position(self, connection: Connection) -> None:
        with connection.begin():
            found = log.tip_at(connection, self._tip.seq)
        if found != self._tip:
            self._drop()
            raise PersistentError(
                f"database.url ({display(self._database.url)}): event {self._tip.seq} of its log is"
                " not the one that was there: the database was replaced by a copy; restart tallyd"
            )


def prepare_shared(connection: Connection) -> LogTip:
    """As `session.prepare`, while other processes may do the same."""
    with connection.begin():
        _take_turn(connection)
        return prepare_within(connection)


def _take_turn(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": TURN})


def _key(duty: str) -> int:
    """The number of the lock that stands for a duty: 64 bits of a hash, signed."""
    digest = sha256(f"tallyd duty {duty}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
