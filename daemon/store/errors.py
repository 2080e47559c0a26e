"""What a database's failure means for a person: whose fault, which setting, what to do."""

from __future__ import annotations

import sqlite3

import psycopg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from actors.ports import PersistentError, TransientError


class ReuseError(AssertionError):
    """An invoice, an address or an index was about to be given out twice: a bug, nothing stored."""


class UnknownAccountError(AssertionError):
    """An index was asked of an account that does not exist: a bug."""


class InUseError(PersistentError):
    """Another daemon has the database."""


class StillOpenError(TransientError):
    """The server has not noticed yet that the connection of our last transaction is gone."""


def parse_url(text: str) -> URL:
    """The address of the database with its driver. Raises PersistentError if it cannot be used."""
    wanted = "sqlite:////absolute/path or postgresql://user:password@host:port/name"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The text may hold a password, so it is not repeated.
        raise PersistentError(f"database.url is not a database address; write {wanted}") from None
    match url.drivername:
        case "sqlite" | "sqlite+pysqlite":
            if not url.database or url.database == ":memory:":
                raise PersistentError(f"database.url names no file; write {wanted}")
            return url.set(drivername="sqlite+pysqlite")
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return url.set(drivername="postgresql+psycopg")
        case other:
            raise PersistentError(f"database.url names {other!r}, which is not known; use {wanted}")


def display(url: URL) -> str:
    """The address without user, password and query, for logs and for people."""
    if url.drivername.startswith("sqlite"):
        return f"sqlite file {url.database}"
    return f"postgresql database {url.database!r} at {url.host}:{url.port or 5432}"


def explain(error: DBAPIError, url: URL) -> TransientError | PersistentError | None:
    """The failure of the whole database that `error` stands for; None when it has another cause.

    The exception returned is to be raised `from error`.
    """
    where = f"database.url ({display(url)})"
    if isinstance(error.orig, sqlite3.Error):
        return _explain_sqlite(error.orig, where)
    if isinstance(error.orig, psycopg.Error):
        return _explain_postgres(error.orig, where, lost=error.connection_invalidated)
    return None


def retryable(error: DBAPIError) -> bool:
    """Whether the same transaction may well succeed soon, without anybody's doing."""
    original = error.orig
    if isinstance(original, psycopg.Error):
        code = original.sqlstate
        return (
            error.connection_invalidated
            or (code is None and isinstance(original, psycopg.OperationalError))
            or (code or "")[:2] in ("08", "40", "57", "53")
        ) and code not in ("53100", "53200")
    return False  # SQLite has waited its busy timeout already


def _explain_sqlite(error: sqlite3.Error, where: str) -> TransientError | PersistentError | None:
    name = getattr(error, "sqlite_errorname", "") or ""
    match name.split("_")[1] if name.startswith("SQLITE_") else "":
        case "BUSY" | "LOCKED":
            return TransientError(
                f"{where} is locked by another program; nothing was recorded; end what else has"
                " the file open, such as a backup or a database browser"
            )
        case "FULL":
            return TransientError(
                f"{where}: the disk is full; nothing was recorded; free some space"
            )
        case "IOERR" | "NOMEM" | "INTERRUPT" | "PROTOCOL":
            return TransientError(
                f"{where}: reading or writing failed ({error}); nothing was recorded; look at the"
                " disk and its free space"
            )
        case "CANTOPEN":
            return PersistentError(
                f"{where} cannot be opened; its folder must exist and be writable for this user"
            )
        case "READONLY" | "PERM" | "AUTH":
            return PersistentError(f"{where} cannot be written; make it writable for this user")
        case "CORRUPT" | "NOTADB":
            return PersistentError(
                f"{where} is damaged or no SQLite database ({error}); keep it as it is, and restore"
                " a backup into a new one (`tallyd restore`)"
            )
    return None


_POSTGRES_PERSISTENT = {
    "28": "the user or password is refused; mend them in the address",
    "3D": "there is no such database; create it or mend its name",
    "42501": "the user may not use its tables; grant it the rights",
    "25006": "the server is read-only; name the primary server",
}
_POSTGRES_TRANSIENT = {
    "53100": "the server's disk is full; free some space there",
    "53300": "the server has no connection left; raise its max_connections",
    "55P03": "another session holds a lock on our tables; end it",
    "53": "the server has run out of a resource",
    "40": "the transaction lost against another one",
    "57": "the server is stopping, starting or cancelled the work",
    "08": "the connection failed; look whether the server runs",
}


def _explain_postgres(
    error: psycopg.Error, where: str, *, lost: bool
) -> TransientError | PersistentError | None:
    code = error.sqlstate or ""
    for known in (code, code[:2]):
        if known in _POSTGRES_PERSISTENT:
            return PersistentError(f"{where}: {_POSTGRES_PERSISTENT[known]} ({_line(error)})")
        if known in _POSTGRES_TRANSIENT:
            return TransientError(f"{where}: {_POSTGRES_TRANSIENT[known]} ({_line(error)})")
    if lost or not code:
        # Before a session exists the server's refusals come as mere text.
        if "authentication failed" in str(error):
            return PersistentError(f"{where}: {_POSTGRES_PERSISTENT['28']} ({_line(error)})")
        if "does not exist" in str(error):
            return PersistentError(f"{where}: {_POSTGRES_PERSISTENT['3D']} ({_line(error)})")
        if lost or isinstance(error, psycopg.OperationalError):
            return TransientError(f"{where}: {_POSTGRES_TRANSIENT['08']} ({_line(error)})")
    return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
