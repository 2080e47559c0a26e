"""`kill -9` in the middle of `tallyd restore`: the database is empty, or it is whole.

An empty one takes the backup again; a whole one has everything and an unbroken log. The moments of
the kills are spread over the time that a restore takes; a seed would not repeat them.
"""

import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from actors.ports import PersistentError
from benchmarks.store import fill
from daemon.store import migrate
from daemon.store.errors import parse_url
from daemon.store.log_audit import audit_log
from daemon.store.restore import restore
from tests.e2e.test_delivery import FACTS, history
from tests.fuzz.targets.restores import ACT, quiet
from tests.helpers.daemon import TALLYD, Daemon

INVOICES = 1_000
KILLS = 2
"""On each database."""


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a database that takes a while to be restored."""
    folder = tmp_path_factory.mktemp("source")
    url = f"sqlite:///{folder / 'tally.db'}"
    migrate.upgrade(url)
    fill(folder / "tally.db", history(INVOICES))
    file = folder / "backup.tally"
    done = Daemon(folder, env={"TALLY_DATABASE_URL": url}).command("backup", str(file))
    assert done.returncode == 0, done.stderr
    return file


def tables(url: str) -> list[str]:
    if url.startswith("sqlite") and not Path(parse_url(url).database or "").exists():
        return []
    engine = create_engine(parse_url(url))
    try:
        return inspect(engine).get_table_names()
    finally:
        engine.dispose()


def start_restore(daemon: Daemon, file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [TALLYD, "restore", str(file)],
        env=daemon.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )


def check_whole(url: str) -> None:
    report = audit_log(url, anchor=None, progress=quiet)
    assert not report.findings
    assert (report.events, report.invoices) == (INVOICES * FACTS, INVOICES)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_restore_that_is_killed_is_done_or_undone(store, backup, request, tmp_path):
    def target(number: int) -> tuple[Daemon, str]:
        url = f"sqlite:///{tmp_path / f'tally{number}.db'}"
        if store == "postgres":
            server = request.getfixturevalue("postgres_server")
            url = server.create_database()
            request.addfinalizer(lambda: server.drop_database(url))
        folder = tmp_path / f"state{number}"
        folder.mkdir()
        return Daemon(folder, env={"TALLY_DATABASE_URL": url}), url

    daemon, url = target(0)
    began = time.monotonic()
    assert start_restore(daemon, backup).wait() == 0
    took_s = time.monotonic() - began
    check_whole(url)
    ends = []
    for number in range(1, KILLS + 1):
        daemon, url = target(number)
        process = start_restore(daemon, backup)
        # The moments of the kills: from the first writes to after the last.
        time.sleep(took_s * (0.5 + 0.5 * number / KILLS))
        process.kill()
        process.wait()
        ends.append(bool(tables(url)))
        if ends[-1]:
            with pytest.raises(PersistentError, match="is not empty"):
                restore(backup, url, skip_indices=0, act=ACT, progress=quiet)
        else:
            restore(backup, url, skip_indices=0, act=ACT, progress=quiet)
        check_whole(url)
    print(f"whether it was whole when it was killed, on {store}: {ends}")
