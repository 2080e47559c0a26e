"""One store in several processes: every role opens it like this, the daemon in one does not.

What differs from `daemon.store.open_store`: the log's end is read in each transaction, what the
listener hears is followed from the table, and there are duties to share out.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio
from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from actors.core.invoice import Invoice
from actors.ports import (
    CommitListener,
    Committed,
    PersistentError,
    Step,
    VersionConflict,
)
from actors.published import LogTip
from daemon.store import migrate
from daemon.store.breakage import Breakage
from daemon.store.database import PostgresDatabase
from daemon.store.duties import SqlDuties
from daemon.store.engine import BUSY_TIMEOUT_S, RETRY_S
from daemon.store.errors import InUseError, display, explain, parse_url
from daemon.store.follower import Follower, FollowerStatistics
from daemon.store.listener import Listener
from daemon.store.shared_session import APPENDED, SharedSession, prepare_shared
from daemon.store.sql import SqlStore
from daemon.store.writer import Writer

_TURN_TO_MIGRATE_S = 0.2


class SharedStore(SqlStore):
    """A store that other processes write to as well; `duties` is our part in what is shared out.

    Its listener hears of every fact, whichever process recorded it.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        session: SharedSession,
        listener: Listener,
        on_commit: CommitListener,
        breakage: Breakage,
        *,
        seq: int,
    ) -> None:
        self.writer = Writer(session, self._committed, breakage)
        super().__init__(database, self.writer)
        self.listener = listener
        self.duties = SqlDuties(session, listener, write=self._do, read=self._read)
        self.follower = Follower(self._read, on_commit, seq=seq)

    async def append(
        self, before: Invoice | None, steps: Sequence[Step]
    ) -> tuple[Committed, ...] | VersionConflict:
        done = await super().append(before, steps)
        if not isinstance(done, VersionConflict):
            # What others have recorded before it may have to be read first.
            await self.follower.reached(done[-1].seq)
        return done

    async def last_seq(self) -> int:
        await trio.lowlevel.checkpoint()
        return self.follower.seq

    def _committed(self, facts: Sequence[Committed]) -> None:
        self.follower.committed(facts)

    def following(self) -> FollowerStatistics:
        return self.follower.statistics()


@asynccontextmanager
async def open_shared_store(
    url: str,
    *,
    on_commit: CommitListener,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    retry_s: float = RETRY_S,
) -> AsyncIterator[SharedStore]:
    """The store at `url` (`postgresql://…`), shared with other processes that open it like this.

    An empty database is given its tables, and an older one is brought up to date while no process
    has it. When the connection is lost that a duty is bound to, the block is cancelled, and
    DutyLostError raised here; likewise what the listener raises, which it must not.

    Raises PersistentError or TransientError, naming `database.url`, as `open_store` does; also for
    a SQLite file, and while a daemon without roles has the database.
    """
    database, connection, tip = await trio.to_thread.run_sync(
        _open, parse_url(url), url, busy_timeout_s
    )
    breakage = Breakage()
    session = SharedSession(database, retry_s=retry_s)
    listener = Listener(database)
    store = SharedStore(database, session, listener, on_commit, breakage, seq=tip.seq)
    store.writer.start(connection, tip)
    try:
        with breakage.scope, listener.telling(APPENDED, store.follower.wake):
            async with trio.open_nursery() as nursery:
                await nursery.start(_background, listener.run, breakage)
                await nursery.start(_background, store.follower.run, breakage)
                yield store
                nursery.cancel_scope.cancel()
    except Exception as error:
        # Whoever used the store when it broke has met the same failure, in a form of its own.
        if breakage.error is None or error is breakage.error:
            raise
        raise breakage.error from error
    finally:
        await store.writer.aclose()
        database.close()
    if breakage.error is not None:
        raise breakage.error


async def _background(
    run: Callable[..., Awaitable[None]],
    breakage: Breakage,
    task_status: trio.TaskStatus[None],
) -> None:
    try:
        await run(task_status=task_status)
    except Exception as error:  # noqa: BLE001 - a boundary: raised where the store was opened
        breakage.fail(error)


def _open(
    url: URL, text: str, busy_timeout_s: float
) -> tuple[PostgresDatabase, Connection, LogTip]:
    if url.get_backend_name() != "postgresql":
        raise PersistentError(
            f"database.url ({display(url)}): several processes can only share a PostgreSQL"
            " database; name one (postgresql://user:password@host:port/name), or run without"
            " --role"
        )
    database = PostgresDatabase(url, lock_timeout_s=busy_timeout_s, shared=True)
    try:
        with database.connect_beside() as connection:
            migrate.check(connection)
        _bring_up_to_date(url, text, busy_timeout_s)
        connection = database.connect()
        try:
            migrate.require_head(connection)
            return database, connection, prepare_shared(connection)
        except BaseException:
            connection.close()
            raise
    except BaseException as error:
        database.close()
        failure = explain(error, url) if isinstance(error, DBAPIError) else None
        if failure is not None:
            raise failure from error
        raise


def _upgrade(url: URL) -> None:
    database = PostgresDatabase(url, lock_timeout_s=_TURN_TO_MIGRATE_S)
    try:
        with database.connect() as connection:
            migrate.upgrade_connection(connection)
    finally:
        database.close()


def _bring_up_to_date(url: URL, text: str, busy_timeout_s: float) -> None:
    """Migrate if need be: one process does, and those that start at the same time wait for it.

    Nobody waits in the queue for the lock, as that would keep out the shared ones behind it.
    """
    give_up_at = time.monotonic() + busy_timeout_s
    while migrate.current(text) != migrate.head():
        try:
            _upgrade(url)
        except (InUseError, OperationalError) as error:
            if time.monotonic() > give_up_at:
                if isinstance(error, OperationalError):
                    raise  # not the lock that we share: somebody reads the tables
                raise InUseError(
                    f"database.url ({display(url)}) has to be brought up to date, and is in use by"
                    " another tallyd, or by one in roles of an older version; stop every process of"
                    f" it first ({error})"
                ) from error
            time.sleep(_TURN_TO_MIGRATE_S)
