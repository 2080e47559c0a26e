"""One database, opened for us alone or for one of several roles: connections, locks, pragmas.

The lock on PostgreSQL is an advisory one of the session that writes. A daemon that does all takes
it for itself, the processes of a daemon in roles share it: so neither starts beside the other.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from actors.ports import PersistentError
from daemon.store.bulk import Bulk, PostgresBulk, SqliteBulk
from daemon.store.errors import InUseError, display

READERS = 4
"""Connections for reading, each used from a worker thread."""

CHANNEL = "tallyd"
"""What the processes of one tallyd notify each other on; the server keeps databases apart."""

_ADVISORY_LOCK = 0x74616C6C7964  # "tallyd"
_LOCK_NOT_AVAILABLE = "55P03"
_CONNECT_TIMEOUT_S = 5
GIVEN_UP_AFTER_S = 4.0
"""How long a process may stop in the middle of a transaction, which the others wait for: then the
server ends its session. Less than they wait (`busy_timeout_s`), more than a busy machine takes."""

_SHARED_SETTINGS = (
    # A machine that vanishes says no farewell: its session, and with it its duties, must end all
    # the same, within four seconds. On a Unix-domain socket these have no effect and need none.
    "SET tcp_keepalives_idle = 1",
    "SET tcp_keepalives_interval = 1",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 4000",
)


class Database(Protocol):
    """What differs between the engines. Every method blocks and raises SQLAlchemy's DBAPIError."""

    url: URL
    backend: str
    bulk: Bulk
    ambiguous_commits: bool
    """Whether a COMMIT that failed may have succeeded."""

    @property
    def readers(self) -> Engine:
        """Read-only connections; each transaction sees one consistent state."""
        ...

    def connect(self) -> Connection:
        """The one connection that writes; its `begin()` takes the write lock.

        Raises InUseError when another daemon has the database.
        """
        ...

    def connect_beside(self) -> Connection:
        """A connection that writes while a daemon may have the database: see `store.beside`."""
        ...

    def close(self) -> None:
        """Close all but the connections that `connect` gave, and release the lock."""
        ...


def open_database(url: URL, *, busy_timeout_s: float, read_only: bool) -> Database:
    """Lock the database for us (unless `read_only`) and make its engines; connects to nothing yet.

    Raises InUseError when another daemon has the SQLite file, PersistentError when its folder is
    missing.
    """
    if url.get_backend_name() == "sqlite":
        return SqliteDatabase(url, busy_timeout_s=busy_timeout_s, read_only=read_only)
    return PostgresDatabase(url, lock_timeout_s=busy_timeout_s)


class SqliteDatabase:
    backend = "sqlite"
    ambiguous_commits = False

    def __init__(self, url: URL, *, busy_timeout_s: float, read_only: bool) -> None:
        assert url.database
        self.url = url
        self.bulk: Bulk = SqliteBulk()
        path = Path(url.database)
        if not path.parent.is_dir():
            raise PersistentError(f"database.url: the folder {path.parent} does not exist")
        if read_only and not path.exists():
            raise PersistentError(f"database.url: there is no file {path}")
        self._lock = None if read_only else FileLock(path)
        self._writer = _sqlite_engine(url, busy_timeout_s, pool=NullPool, writes=True)
        self.readers: Engine = _sqlite_engine(url, busy_timeout_s, pool=QueuePool, writes=False)

    def connect(self) -> Connection:
        return self._writer.connect()

    def connect_beside(self) -> Connection:
        return self._writer.connect()

    def close(self) -> None:
        self.readers.dispose()
        self._writer.dispose()
        if self._lock is not None:
            self._lock.release()


class FileLock:
    """`<database>.lock`, held while a daemon has the database; the kernel frees it on a crash."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.lock")
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PersistentError(
                f"database.url: the lock file {self._path} cannot be made ({error.strerror}); its"
                " folder must be writable for this user"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise InUseError(
                f"database.url: {database} is in use by another tallyd (process {holder}); stop it,"
                " or give this one a database of its own"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        # The file stays: removing it would let two daemons lock two files of the same name.
        os.close(self._fd)


class PostgresDatabase:
    backend = "postgresql"
    ambiguous_commits = True

    def __init__(self, url: URL, *, lock_timeout_s: float, shared: bool = False) -> None:
        self.url = url
        self.bulk: Bulk = PostgresBulk()
        self._shared = shared
        self._lock_timeout_ms = int(lock_timeout_s * 1000)
        self._writer = _postgres_engine(url, NullPool)
        self.readers: Engine = _postgres_engine(url, QueuePool).execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    def connect(self) -> Connection:
        connection = self._writer.connect()
        try:
            self._take(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_beside(self) -> Connection:
        return self._writer.connect()

    def listen(self) -> Connection:
        """A connection that is told what other processes notify; its statements commit by
        themselves.
        """
        connection = self._writer.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            connection.execute(text(f"LISTEN {CHANNEL}"))
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def _take(self, connection: Connection) -> None:
        connection.execute(text(f"SET lock_timeout = {self._lock_timeout_ms}"))
        suffix, others = "", "another tallyd"
        if self._shared:
            suffix, others = "_shared", "a tallyd that runs without --role"
            patience_ms = int(GIVEN_UP_AFTER_S * 1000)
            stopped = f"SET idle_in_transaction_session_timeout = {patience_ms}"
            for setting in (*_SHARED_SETTINGS, stopped):
                connection.execute(text(setting))
        try:
            # Session-wide, so it ends with the connection. We wait a little for it: the session of
            # a daemon that was killed, or our own whose connection broke, may be committing still.
            statement = text(f"SELECT pg_advisory_lock{suffix}(:key)")
            connection.execute(statement, {"key": _ADVISORY_LOCK})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            raise InUseError(
                f"database.url ({display(self.url)}) is in use by {others}; stop it, or give this"
                " one a database of its own"
            ) from error
        if connection.scalar(text("SHOW synchronous_commit")) == "off":
            connection.execute(text("SET synchronous_commit = on"))
        connection.commit()

    def close(self) -> None:
        self.readers.dispose()
        self._writer.dispose()


def _sqlite_engine(
    url: URL, busy_timeout_s: float, *, pool: type[QueuePool | NullPool], writes: bool
) -> Engine:
    sizes: dict[str, Any] = {"pool_size": READERS, "max_overflow": 0} if pool is QueuePool else {}
    engine = create_engine(
        url,
        poolclass=pool,
        connect_args={
            "timeout": busy_timeout_s,
            "check_same_thread": False,
            "cached_statements": 256,  # `bulk` has 44
        },
        **sizes,
    )

    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # We say BEGIN ourselves: the driver's own would come too late for a consistent read.
        connection.isolation_level = None
        for pragma in _pragmas(writes=writes):
            connection.execute(f"PRAGMA {pragma}").close()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", begin)
    return engine


def _pragmas(*, writes: bool) -> tuple[str, ...]:
    common = ("foreign_keys = ON", "temp_store = MEMORY")
    if writes:
        return (
            "journal_mode = WAL",
            "synchronous = FULL",
            "journal_size_limit = 67108864",
            # Four times as much saves no time at 75 MB of data: the kernel has the rest anyway.
            "cache_size = -16384",
            *common,
        )
    # A start reads everything once: what a reader would keep of it, the kernel has anyway.
    return (*common, "cache_size = -2048", "query_only = ON")


def _postgres_engine(url: URL, pool: type[QueuePool | NullPool]) -> Engine:
    sizes: dict[str, Any] = (
        {"pool_size": READERS, "max_overflow": 0, "pool_pre_ping": True}
        if pool is QueuePool
        else {}
    )
    return create_engine(
        url,
        poolclass=pool,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "application_name": "tallyd",
            "keepalives_idle": 30,
            "tcp_user_timeout": 10_000,
        },
        **sizes,
    )
