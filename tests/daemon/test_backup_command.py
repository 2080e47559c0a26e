"""`tallyd backup` and `tallyd restore`: everything comes back, or nothing is written."""

from __future__ import annotations

import io
import json
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.sql import text

from actors.event_hub import EventHub
from actors.outbox import CursorRefused, Outbox
from actors.ports import PersistentError, PublicKey
from actors.published import LogNames
from daemon.__main__ import main
from daemon.store import backup_file, migrate, open_store
from daemon.store import database as database_module
from daemon.store import restore as restore_module
from daemon.store.backup import back_up
from daemon.store.backup_file import FORMAT, MAGIC, BackupFile
from daemon.store.database import open_database
from daemon.store.errors import parse_url
from daemon.store.schema import MAX_INDEX, PASSING, metadata
from tests.helpers.ledger import grow, payment, record, settlement
from tests.helpers.recording_log import RecordingLog

USER = UUID(int=9)
KEPT = sorted(set(metadata.tables) - {"meta", "audit", "accounts"})
"""Tables of which a restore changes nothing."""


class Place:
    """Databases to back up and to restore into, of both engines."""

    def __init__(self, folder: Path, postgres: Callable[[], str], monkeypatch: Any) -> None:
        self.folder = folder
        self._postgres = postgres
        self._monkeypatch = monkeypatch
        self._count = 0
        monkeypatch.setenv("STATE_DIRECTORY", str(folder))

    def database(self, engine: str) -> str:
        """The address of an empty one."""
        self._count += 1
        if engine == "postgresql":
            return self._postgres()
        return f"sqlite:///{self.folder / f'tally{self._count}.db'}"

    def run(self, url: str, *arguments: str) -> int:
        self._monkeypatch.setenv("TALLY_DATABASE_URL", url)
        return main(list(arguments))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> Place:
    def postgres() -> str:
        server = request.getfixturevalue("postgres_server")
        url = str(server.create_database())
        request.addfinalizer(lambda: server.drop_database(url))
        return url

    return Place(tmp_path, postgres, monkeypatch)


def on(url: str, action: Any) -> Any:
    engine = create_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            return action(connection)
    finally:
        engine.dispose()


def execute(url: str, statement: str) -> None:
    on(url, lambda connection: connection.execute(text(statement)))


def content(url: str, name: str) -> list[tuple[Any, ...]]:
    table = metadata.tables[name]
    query = select(table).order_by(*table.primary_key.columns)
    return [tuple(row) for row in on(url, lambda connection: connection.execute(query).all())]


async def live(store: Any, number: int) -> None:
    invoice = await grow(store, number, user_id=USER)
    invoice = await record(store, invoice, payment(invoice))
    await record(store, invoice, settlement(invoice))


async def fill(url: str, numbers: range) -> None:
    async with open_store(url, on_commit=lambda _facts: None) as store:
        await store.add_user(USER, at_ms=5)
        key = PublicKey("btc", "canonical", "a key", secret=b"\x00sealed\xff")
        await store.set_keys(USER, [key], at_ms=6)
        for number in numbers:
            await store.allocate_index(1)
            await live(store, number)


@pytest.fixture
def made(place: Place) -> str:
    """An SQLite database with a few invoices."""
    url = place.database("sqlite")
    trio.run(fill, url, range(1, 6))
    return url


@pytest.fixture
def copy(place: Place, made: str) -> Path:
    """Its backup."""
    path = place.folder / "backup"
    assert place.run(made, "backup", str(path)) == 0
    return path


@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_everything_comes_back_on_either_engine(place, source, target, capsys):
    url, empty = place.database(source), place.database(target)
    trio.run(fill, url, range(1, 6))
    execute(
        url,
        "INSERT INTO audit (id, at_ms, actor, address, act, target, detail)"
        " VALUES (40, 1, 'cli', '', 'user.registered', 'ü', '')",
    )
    path = place.folder / "backup"
    assert place.run(url, "backup", str(path)) == 0
    told = capsys.readouterr().err
    assert "25 events of 5 invoices" in told
    assert "NOT in it: the vault's key, vault.key_file" in told
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert place.run(empty, "restore", str(path)) == 0
    assert "25 events of 5 invoices" in capsys.readouterr().out
    for name in KEPT:
        assert content(empty, name) == content(url, name), name
    assert place.run(empty, "audit", "--log") == 0
    assert migrate.current(empty) == migrate.head()
    *_, registered, restored = content(empty, "audit")
    assert registered == content(url, "audit")[-1]
    assert restored[4:6] == ("database.restored", "backup")
    trio.run(fill, empty, range(50, 53))  # ids go on where they were
    assert place.run(empty, "audit", "--log") == 0


def test_a_backup_of_a_restored_database(place, copy):
    """What was restored twice knows all its names, and still begins its chain with the first."""
    first, second = place.database("sqlite"), place.database("sqlite")
    assert place.run(first, "restore", str(copy)) == 0
    trio.run(fill, first, range(20, 22))
    again = place.folder / "again"
    assert place.run(first, "backup", str(again)) == 0
    assert place.run(second, "restore", str(again)) == 0
    assert place.run(second, "audit", "--log") == 0

    async def names() -> LogNames:
        async with open_store(second, on_commit=lambda _facts: None) as store:
            return await store.log_names()

    found = trio.run(names)
    assert [until for _, until in found.earlier] == [25, 35]
    assert found.born == BackupFile(copy).header.log_id
    assert found.of(25) == found.born
    assert found.of(26) == found.of(35) == found.earlier[1][0]
    assert found.of(36) == found.current
    migrate.downgrade(second, "0006")
    migrate.upgrade(second)
    assert place.run(second, "audit", "--log") == 0


def test_old_cursors_hold_up_to_the_backup_and_not_beyond(place, made, copy):
    empty = place.database("sqlite")
    assert place.run(empty, "restore", str(copy)) == 0

    async def look() -> None:
        async with open_store(made, on_commit=lambda _facts: None) as old:
            await live(old, 30)
            lost = Outbox(old, EventHub(log=RecordingLog()))
            before = await lost.read(20, 10)
        async with open_store(empty, on_commit=lambda _facts: None) as store:
            outbox = Outbox(store, EventHub(log=RecordingLog()))
            assert await outbox.read(20, 10) == before[:5], "ids included"
            await live(store, 31)
            after = await outbox.read(20, 10)
            assert [one.seq for one in after] == [one.seq for one in before]
            assert {one.id for one in after[5:]}.isdisjoint(one.id for one in before)
            assert await outbox.parse_cursor(before[4].id) == 25
            assert await outbox.parse_cursor(after[7].id) == 28
            refused = await outbox.parse_cursor(before[5].id)
            assert isinstance(refused, CursorRefused)
            assert (
                f"was lost: this database was restored from a backup that ends with {before[4].id}"
                in refused.reason
            )
            assert "read again from there" in refused.reason

    trio.run(look)


def test_addresses_given_out_since_the_backup_are_not_given_again(place, copy):
    for skip, first in (("1000", 1006), ("0", 6), ("70", 76)):
        url = place.database("sqlite")
        assert place.run(url, "restore", str(copy), "--skip-indices", skip) == 0

        async def look(url: str = url, first: int = first, skip: int = int(skip)) -> None:
            async with open_store(url, on_commit=lambda _facts: None) as store:
                assert await store.allocate_index(1) == (0, first)
                other = PublicKey("ltc", "one that may have been there", "a key")
                await store.set_keys(USER, [other], at_ms=7)
                assert await store.accounts("ltc", used=True) == ()
                (new,) = await store.accounts("ltc", used=False)
                assert await store.allocate_index(new.id) == (0, 1 + skip)
                assert await store.accounts("ltc", used=True) == (new,)

        trio.run(look)


def test_the_leap_goes_over_the_end_of_a_major_index(place, made):
    execute(made, f"UPDATE accounts SET next_minor = {MAX_INDEX - 400}")
    path = place.folder / "backup"
    assert place.run(made, "backup", str(path)) == 0
    url = place.database("sqlite")
    assert place.run(url, "restore", str(path)) == 0
    assert [row[6:8] for row in content(url, "accounts")] == [(1, 599)]


@pytest.mark.parametrize("number", ["-1", "x", "2000000000"])
def test_a_leap_that_is_none(place, copy, number, capsys):
    with pytest.raises(SystemExit):
        place.run(place.database("sqlite"), "restore", str(copy), f"--skip-indices={number}")
    assert "is not a number from 0 to" in capsys.readouterr().err


def test_the_backup_is_consistent_while_much_is_written(place):
    url = place.database("sqlite")
    trio.run(fill, url, range(1, 30))
    path = place.folder / "backup"

    async def write_on() -> None:
        async with open_store(url, on_commit=lambda _facts: None) as store:

            async def write(first: int) -> None:
                number = first
                while not done:
                    await live(store, number)
                    number += 1

            done = False
            async with trio.open_nursery() as nursery:
                for first in (1_000, 10_000, 20_000):
                    nursery.start_soon(write, first)
                for copy in range(3):
                    status = await trio.to_thread.run_sync(
                        place.run, url, "backup", f"{path}{copy}"
                    )
                    assert status == 0
                done = True

    trio.run(write_on)
    last = 0
    for copy in range(3):
        empty = place.database("sqlite")
        assert place.run(empty, "restore", f"{path}{copy}") == 0
        assert place.run(empty, "audit", "--log") == 0
        seq = len(content(empty, "events"))
        assert seq == BackupFile(Path(f"{path}{copy}")).header.seq > last
        last = seq


# --- files that are refused -----------------------------------------------------------------------


def refused(place: Place, path: Path, capsys: Any, words: str) -> None:
    """Before anything is written."""
    url = place.database("sqlite")
    assert place.run(url, "restore", str(path)) == 1
    told = capsys.readouterr().err
    assert words in told
    assert "nothing was written" in told
    assert not list(place.folder.glob(f"{Path(parse_url(url).database or '').name}*"))


def test_a_file_that_was_cut_off_is_refused_wherever_it_was(place, copy, capsys):
    whole = copy.read_bytes()
    for length in (0, 5, 12, 40, 300, len(whole) // 2, len(whole) - 33, len(whole) - 1):
        copy.write_bytes(whole[:length])
        refused(place, copy, capsys, "is no backup" if length < len(MAGIC) else "is cut off")


def test_a_file_that_was_altered_is_refused_wherever_it_was(place, copy, capsys):
    whole = copy.read_bytes()
    for at in (len(MAGIC) + 40, len(whole) // 3, len(whole) // 2, len(whole) - 36, len(whole) - 1):
        data = bytearray(whole)
        data[at] ^= 1
        copy.write_bytes(data)
        url = place.database("sqlite")
        assert place.run(url, "restore", str(copy)) == 1
        assert "nothing was written" in capsys.readouterr().err
        assert not Path(parse_url(url).database or "").exists()
    copy.write_bytes(whole + b"\n")
    refused(place, copy, capsys, "was altered")


def test_files_of_others_and_of_later_versions_are_refused(place, copy, capsys, made):
    whole = copy.read_bytes()
    other = place.folder / "other"
    other.write_bytes(b"PK\x03\x04" + bytes(100))
    refused(place, other, capsys, "is no backup of tallyd")
    refused(place, Path(parse_url(made).database or ""), capsys, "is no backup of tallyd")
    other.write_bytes(MAGIC + struct.pack(">H", FORMAT + 1) + whole[len(MAGIC) + 2 :])
    refused(place, other, capsys, "is of format 2, and this version knows 1")
    other.write_bytes(whole.replace(b'"schema":"0008"', b'"schema":"9999"'))
    refused(place, other, capsys, "was written by a newer tallyd")
    other.write_bytes(whole.replace(b'"tables"', b'"stools"'))
    refused(place, other, capsys, "has a header that cannot be read")
    missing = place.folder / "none"
    assert place.run(place.database("sqlite"), "restore", str(missing)) == 1
    assert "none cannot be read: No such file" in capsys.readouterr().err


class Forger:
    """Writes files whose digest fits and whose content does not."""

    def __init__(self, path: Path) -> None:
        self._file = BackupFile(path)
        self.header = self._file.header
        self.lines = list(self._file.lines())

    def write(self, path: Path) -> Path:
        with path.open("wb") as stream:
            writer = backup_file.BackupWriter(stream, self.header)
            for line in self.lines:
                if isinstance(line, dict):
                    writer.table(line["table"])
                else:
                    writer.rows([line])
            writer.close()
        return path

    def rows(self, table: str) -> Iterator[int]:
        """Where they are."""
        at = self.lines.index({"table": table}) + 1
        while at < len(self.lines) and isinstance(self.lines[at], list):
            yield at
            at += 1


def _change_event(forger: Forger) -> None:
    at = list(forger.rows("events"))[3]
    forger.lines[at][5] = forger.lines[at][5].replace("1", "2")


def _drop_event(forger: Forger) -> None:
    del forger.lines[list(forger.rows("events"))[-1]]


def _spoil_id(forger: Forger) -> None:
    forger.lines[next(forger.rows("events"))][1] = "not hexadecimal"


def _widen(forger: Forger) -> None:
    forger.lines[next(forger.rows("events"))].append(1)


def _rename(forger: Forger) -> None:
    forger.lines[forger.lines.index({"table": "events"})] = {"table": "recipes"}


def _headless(forger: Forger) -> None:
    forger.lines.insert(0, [1])


def _misname(forger: Forger) -> None:
    forger.lines[list(forger.rows("events"))[2]][0] = "0x3"


def _swell(forger: Forger) -> None:
    forger.lines[next(forger.rows("events"))][4] = 2**63


def _repeat(forger: Forger) -> None:
    rows = list(forger.rows("users"))
    forger.lines.insert(rows[0], list(forger.lines[rows[0]]))


def _empty(forger: Forger) -> None:
    forger.lines[next(forger.rows("events"))][3] = None


def _invent_kind(forger: Forger) -> None:
    shapes = [
        replace(one, columns=tuple((name, "colour") for name, _ in one.columns))
        for one in forger.header.tables
    ]
    forger.header = replace(forger.header, tables=tuple(shapes))


FORGERIES = {
    "a changed event": (_change_event, "hash chain is broken: event 4 does not follow"),
    "a row too few": (_drop_event, "does not hold what its header says"),
    "an id that is none": (_spoil_id, "holds a row that cannot be read"),
    "a row too long": (_widen, "holds a row that cannot be read"),
    "a table that is none": (_rename, "holds a table 'recipes'"),
    "rows of no table": (_headless, "has rows before its first table"),
    "a number that is none": (_misname, "holds a row that cannot be read (a value is no integer)"),
    "a number too large": (_swell, "holds a row that cannot be read (a number is too large)"),
    "a row twice": (_repeat, "holds a row that the table users does not take"),
    "nothing where something must be": (_empty, "holds a row that the table events does not take"),
    "a kind of value that is none": (_invent_kind, "holds other columns of"),
}


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_what_is_wrong_inside_leaves_an_empty_database(place, copy, name, engine, capsys):
    forge, words = FORGERIES[name]
    forger = Forger(copy)
    forge(forger)
    url = place.database(engine)
    assert place.run(url, "restore", str(forger.write(place.folder / "forged"))) == 1
    told = capsys.readouterr().err
    assert words in told
    assert "nothing was written" in told
    if engine == "sqlite":
        assert not Path(parse_url(url).database or "").exists()
    else:
        assert on(url, lambda connection: inspect(connection).get_table_names()) == []
    assert place.run(url, "restore", str(copy)) == 0, "the same place can be used again"


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_who_stops_a_restore_has_an_empty_database(place, copy, engine, monkeypatch):
    class Impatient:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def __call__(self, what: str, done: int, of: int) -> None:
            if what == "restore" and done > of // 2:
                raise KeyboardInterrupt

    url = place.database(engine)
    with monkeypatch.context() as patch:
        patch.setattr("daemon.commands.restore.Progress", Impatient)
        assert place.run(url, "restore", str(copy)) == 130
    if engine == "sqlite":
        assert not Path(parse_url(url).database or "").exists()
    assert place.run(url, "restore", str(copy)) == 0


def test_a_full_disk_is_told_when_restoring_and_leaves_nothing(place, copy, capsys, monkeypatch):
    pragmas = database_module._pragmas
    monkeypatch.setattr(
        database_module,
        "_pragmas",
        lambda *, writes: (*pragmas(writes=writes), "max_page_count = 40"),
    )
    url = place.database("sqlite")
    assert place.run(url, "restore", str(copy)) == 1
    assert "the disk is full; nothing was recorded; free some space" in capsys.readouterr().err
    assert not Path(parse_url(url).database or "").exists()


# --- places that are refused ----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_database_that_is_not_empty_is_left_alone(place, copy, engine, capsys):
    url = place.database(engine)
    trio.run(fill, url, range(70, 72))
    before = {name: content(url, name) for name in metadata.tables}
    assert place.run(url, "restore", str(copy)) == 1
    told = capsys.readouterr().err
    assert "is not empty" in told
    assert "move" in told or "create a new database" in told
    assert {name: content(url, name) for name in metadata.tables} == before


def test_somebody_elses_and_damaged_files_are_left_alone(place, copy, capsys):
    url = place.database("sqlite")
    path = Path(parse_url(url).database or "")
    execute(url, "CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    assert place.run(url, "restore", str(copy)) == 1
    assert "is not empty" in capsys.readouterr().err
    assert path.read_bytes() == before
    path.write_bytes(b"Dear diary, today " * 500)
    assert place.run(url, "restore", str(copy)) == 1
    told = capsys.readouterr().err
    assert "no SQLite database" in told
    assert f"move {path}" in told
    assert path.read_bytes() == b"Dear diary, today " * 500


def test_the_last_changes_of_a_lost_database_are_not_thrown_away(place, copy, capsys):
    url = place.database("sqlite")
    wal = Path(f"{parse_url(url).database}-wal")
    wal.write_bytes(b"the last changes")
    assert place.run(url, "restore", str(copy)) == 1
    told = capsys.readouterr().err
    assert "holds the last changes of a database that was moved or removed" in told
    assert wal.read_bytes() == b"the last changes"
    wal.unlink()
    assert place.run(url, "restore", str(copy)) == 0


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_not_beside_a_daemon(place, copy, engine, capsys, monkeypatch):
    url = place.database(engine)
    monkeypatch.setattr(restore_module, "BUSY_TIMEOUT_S", 0.1)
    database = open_database(parse_url(url), busy_timeout_s=1, read_only=False)
    try:
        with database.connect():
            assert place.run(url, "restore", str(copy)) == 1
    finally:
        database.close()
    assert "is in use by another tallyd" in capsys.readouterr().err


# --- writing --------------------------------------------------------------------------------------


def test_nothing_is_overwritten_by_a_backup(place, made, copy, capsys):
    before = copy.read_bytes()
    assert place.run(made, "backup", str(copy)) == 1
    assert "exists, and nothing is overwritten" in capsys.readouterr().err
    assert copy.read_bytes() == before
    copy.with_name("next.part").write_bytes(b"")
    assert place.run(made, "backup", str(copy.with_name("next"))) == 1
    assert "one was cut short; remove it" in capsys.readouterr().err
    assert place.run(made, "backup", str(place.folder / "no" / "such")) == 1
    assert "cannot be made: No such file or directory" in capsys.readouterr().err


def test_a_full_disk_is_told_and_leaves_nothing(place, made, capsys, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    def on_a_full_disk(fd: int, mode: str) -> Any:
        del fd, mode
        return Full()

    monkeypatch.setattr("daemon.commands.backup.os.fdopen", on_a_full_disk)
    assert place.run(made, "backup", str(place.folder / "backup")) == 1
    told = capsys.readouterr().err
    assert "No space left on device; no backup was made. Free some space" in told
    assert not list(place.folder.glob("backup*"))


def test_a_database_that_cannot_be_backed_up_leaves_no_file(place, capsys):
    assert place.run(place.database("sqlite"), "backup", str(place.folder / "backup")) == 1
    assert "there is no file" in capsys.readouterr().err
    assert not list(place.folder.glob("backup*"))


def test_a_broken_chain_is_told_when_it_is_backed_up(place, made, capsys):
    execute(made, "UPDATE events SET at_ms = 1 WHERE seq = 3")
    path = place.folder / "backup"
    assert place.run(made, "backup", str(path)) == 1
    told = capsys.readouterr().err
    assert "the hash chain of the log is broken: event 3 does not follow" in told
    assert path.exists()
    assert place.run(place.database("sqlite"), "restore", str(path)) == 1
    assert "holds a log whose hash chain is broken" in capsys.readouterr().err


def test_through_a_pipe(place, made, tmp_path):
    """Compressed and encrypted elsewhere, as operators do."""
    ran = subprocess.run(
        [sys.executable, "-m", "daemon", "backup", "-"],
        env={"STATE_DIRECTORY": str(tmp_path), "TALLY_DATABASE_URL": made, "PATH": "/bin"},
        capture_output=True,
        check=True,
    )
    path = tmp_path / "piped"
    path.write_bytes(ran.stdout)
    assert b"25 events" in ran.stderr
    assert place.run(place.database("sqlite"), "restore", str(path)) == 0


def test_not_from_a_pipe(place, capsys):
    assert place.run(place.database("sqlite"), "restore", "-") == 1
    assert "a backup is read twice" in capsys.readouterr().err


def test_not_to_a_terminal(place, made, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert place.run(made, "backup", "-") == 1
    assert "is no text for a terminal" in capsys.readouterr().err


def test_memory_is_bounded(place, made, monkeypatch):
    """However many rows, no more than a page of them is held."""
    sizes: list[int] = []
    rows = backup_file.BackupWriter.rows

    def counted(self: Any, page: Any) -> None:
        sizes.append(len(page))
        rows(self, page)

    monkeypatch.setattr("daemon.store.backup.PAGE", 4)
    monkeypatch.setattr(backup_file.BackupWriter, "rows", counted)
    monkeypatch.setattr(restore_module, "BATCH", 3)
    told: list[tuple[str, int, int]] = []
    with (place.folder / "backup").open("wb") as stream:
        header, broken = back_up(
            made, stream, now_ms=7, progress=lambda what, done, of: told.append((what, done, of))
        )
    assert broken is None
    assert max(sizes) == 4
    assert told[-1] == ("backup", header.rows, header.rows)
    assert place.run(place.database("sqlite"), "restore", str(place.folder / "backup")) == 0


def test_the_header_can_be_read_by_itself(copy):
    data = copy.read_bytes()
    (length,) = struct.unpack_from(">I", data, len(MAGIC) + 2)
    header = json.loads(data[len(MAGIC) + 6 :][:length])
    assert (header["schema"], header["seq"]) == ("0008", 25)
    kept = set(metadata.sorted_tables) - PASSING
    assert {table["name"] for table in header["tables"]} == {table.name for table in kept}


def test_rows_without_end_are_not_read_into_memory(copy, monkeypatch):
    monkeypatch.setattr(backup_file, "_MAX_ROW_BYTES", 100)
    monkeypatch.setattr(backup_file, "_CHUNK", 128)
    with pytest.raises(PersistentError, match="holds a row that no table has"):
        list(BackupFile(copy).lines())
