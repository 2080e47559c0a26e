"""A real PostgreSQL server of one's own, on loopback, for tests.

Everything blocks: asynchronous code calls it through ``trio.to_thread.run_sync``.
"""

import itertools
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from tests.helpers.ports import free_port
from tests.helpers.process import ServerError, ServerProcess
from tests.helpers.server import Server
from tests.nodes.install import DEFAULT_DEST, find, how_to_install

_NOBODY = 65534
_USER = "tally"


class PostgresServer(Server):
    """One server with its data in a temporary folder; a context manager, or start() and close().

    Takes ``user`` and ``password`` over TCP on 127.0.0.1:``port``; these stay the same over
    restart(). With ``fsync`` commits wait for the disk, as in production; without it the server is
    faster and a crash of the *machine* could lose data, a kill() of the server does not.
    PostgreSQL refuses to run as root: it then runs as nobody.
    """

    PREFIX = "tally-postgres-"
    PORT_TAKEN = "could not bind"
    STOP_REQUEST = signal.SIGINT  # fast: sessions are ended, everything is on disk
    STOP_GRACE_S = 10.0

    def __init__(
        self, *, program: Path | None = None, fsync: bool = False, settings: Sequence[str] = ()
    ) -> None:
        found = program or find("postgres")
        if found is None:
            raise ServerError(how_to_install("postgres"))
        super().__init__()
        self.user = _USER
        self.password = secrets.token_hex(16)
        self.port = free_port()
        self._settings = (
            f"fsync={'on' if fsync else 'off'}",
            f"full_page_writes={'on' if fsync else 'off'}",
            *settings,
        )
        self._uid = self._gid = None
        if os.geteuid() == 0:
            self._uid = self._gid = _NOBODY
            os.chown(self.datadir, _NOBODY, _NOBODY)
            found = _reachable(found, self.datadir)
        self._bin = found.parent
        self._numbers = itertools.count(1)

    @property
    def data_folder(self) -> Path:
        return self.datadir / "data"

    def url(self, database: str) -> str:
        """Return SQLAlchemy's address of a database, for the driver psycopg 3."""
        return f"postgresql+psycopg://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, *, like: str | None = None) -> str:
        """Create an empty database of its own; returns its address for SQLAlchemy.

        With ``like``, the address of another that nobody is connected to, it is a copy of that.
        """
        name = f"tally_{next(self._numbers)}"
        template = "template1" if like is None else like.rpartition("/")[2]
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database that create_database() made, ending its sessions."""
        name = url.rpartition("/")[2]
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def start(self) -> None:
        """Start, creating the cluster the first time, and wait until it takes connections."""
        if not self.data_folder.exists():
            self._create_cluster()
        super().start()

    def kill(self) -> None:
        """End at once, as in a crash; start() then recovers from the write-ahead log."""
        if self._process is not None:
            # Not SIGKILL: that would leave its children and shared memory behind.
            self._process.stop(request=signal.SIGQUIT, grace_s=self.STOP_GRACE_S)
            self._process = None

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(statement)

    def _create_cluster(self) -> None:
        password_file = self.datadir / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if self._uid is not None:
            os.chown(password_file, self._uid, -1)
        done = subprocess.run(
            [
                self._bin / "initdb",
                f"--pgdata={self.data_folder}",
                f"--username={self.user}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ],
            env=self._environment(),
            cwd="/",
            user=self._uid,
            group=self._gid,
            extra_groups=None if self._uid is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        password_file.unlink()
        if done.returncode:
            raise ServerError(f"initdb failed: {done.stdout[-500:]}{done.stderr[-1000:]}")
        with (self.data_folder / "postgresql.conf").open("a") as config:
            config.write(_CONFIG)

    def _choose_ports(self) -> None:
        self.port = free_port()

    def _start_once(self) -> None:
        log = self.datadir / "output.log"
        log.unlink(missing_ok=True)
        settings = [
            f"port={self.port}",
            f"unix_socket_directories={self.datadir}",
            *self._settings,
        ]
        self._process = ServerProcess(
            [
                self._bin / "postgres",
                f"--config-file={self.data_folder / 'postgresql.conf'}",
                "-D",
                self.data_folder,
                *(word for setting in settings for word in ("-c", setting)),
            ],
            log=log,
            env=self._environment(),
            uid=self._uid,
            gid=self._gid,
        )
        try:
            self._process.wait_ready(self._is_ready)
        except ServerError:
            self._process = None
            raise

    def _is_ready(self) -> bool:
        """Read the state that the server writes for pg_ctl: the eighth line of postmaster.pid."""
        try:
            lines = (self.data_folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _environment(self) -> dict[str, str]:
        # None of the machine's PG* settings, and no time zone database needed.
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "GMT"}


_CONFIG = """
listen_addresses = '127.0.0.1'
max_connections = 64
shared_buffers = 64MB
jit = off
timezone = 'GMT'
log_timezone = 'GMT'
"""


def _reachable(program: Path, folder: Path) -> Path:
    """Return a path of the program that nobody can reach, copying its installation if need be.

    A repository below root's home folder is closed to nobody.
    """
    if not program.is_relative_to(DEFAULT_DEST) or _is_open(program):
        return program
    installation = DEFAULT_DEST / "postgres"
    copy = folder / "program"
    shutil.copytree(installation, copy, symlinks=True)
    return copy / program.relative_to(installation)


def _is_open(program: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in program.parents)
