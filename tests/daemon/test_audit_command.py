"""`tallyd audit --log`: clean, or the first bad place and what to do; nothing is written."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import create_engine, text

from actors.published import LogTip
from daemon.__main__ import main
from daemon.commands.progress import Progress, line
from daemon.store import log_audit, migrate, open_store
from daemon.store.errors import parse_url
from tests.helpers.ledger import grow, payment, record, settlement
from tests.helpers.log_chain import rechain

INVOICES = 4
FACTS = 5  # of each


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a database with a few settled invoices."""
    found = f"sqlite:///{tmp_path / 'tally.db'}"
    if request.param == "postgresql":
        found = str(request.getfixturevalue("postgres_url"))
    return prepared(found, tmp_path, monkeypatch)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in an SQLite file."""
    path = tmp_path / "tally.db"
    prepared(f"sqlite:///{path}", tmp_path, monkeypatch)
    return path


def prepared(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STATE_DIRECTORY", str(folder))
    monkeypatch.setenv("TALLY_DATABASE_URL", url)
    trio.run(fill, url)
    return url


async def fill(url: str, first: int = 1, count: int = INVOICES) -> None:
    async with open_store(url, on_commit=lambda _facts: None) as store:
        for number in range(first, first + count):
            invoice = await grow(store, number)
            invoice = await record(store, invoice, payment(invoice))
            await record(store, invoice, settlement(invoice))


def execute(url: str, *statements: str) -> None:
    engine = create_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def audit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["audit", "--log", *arguments])
    told = capsys.readouterr()
    return status, told.out + told.err


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = main(["audit", "--log", "--json", *arguments])
    return status, json.loads(capsys.readouterr().out)


def test_a_whole_log_is_clean_and_its_end_can_be_noted(url, capsys):
    status, told = audit(capsys)
    assert status == 0
    assert f"clean: {INVOICES * FACTS} events" in told
    assert f"{INVOICES} invoices" in told
    status, document = findings(capsys)
    assert (status, document["clean"], document["findings"]) == (0, True, [])
    assert document["anchor"] == f"{INVOICES * FACTS}:{document['hash']}"
    assert f"newest: {document['anchor']}" in told
    trio.run(fill, url, 100, 2)
    assert audit(capsys, "--anchor", document["anchor"])[0] == 0


def test_an_empty_log_is_clean(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    trio.run(fill, f"sqlite:///{tmp_path / 'tally.db'}", 1, 0)
    monkeypatch.setenv("TALLY_DATABASE_URL", f"sqlite:///{tmp_path / 'tally.db'}")
    status, document = findings(capsys)
    assert (status, document["seq"], document["events"]) == (0, 0, 0)
    assert audit(capsys, "--anchor", document["anchor"])[0] == 0
    status, told = audit(capsys, "--anchor", f"0:{'00' * 32}")
    assert (status, "not that of the anchor" in told) == (1, True)


def test_pages_meet_without_gap(url, capsys, monkeypatch):
    monkeypatch.setattr(log_audit, "PAGE_EVENTS", 3)
    monkeypatch.setattr(log_audit, "PAGE_INVOICES", 2)
    status, document = findings(capsys)
    assert (status, document["events"], document["invoices"]) == (0, INVOICES * FACTS, INVOICES)
    execute(url, "UPDATE invoices SET state = 'pending' WHERE updated_seq = 20")
    assert findings(capsys)[1]["findings"][0]["seq"] == 20


FIRST = "(SELECT id FROM invoices ORDER BY created_at_ms LIMIT 1)"
DAMAGE = {
    "a changed event": (
        "UPDATE events SET data = replace(data, '60000', '60001') WHERE seq = 2",
        ("chain", 2, "event 2 does not follow"),
    ),
    "a removed event": (
        "DELETE FROM events WHERE seq = 7",
        ("chain", 7, "event 7 is missing"),
    ),
    "many removed": (
        "DELETE FROM events WHERE seq BETWEEN 7 AND 9",
        ("chain", 7, "event 7 to 9 is missing"),
    ),
    "an event before the first": (
        "UPDATE events SET seq = -1 WHERE seq = 1",
        ("chain", 1, "there is an event numbered -1"),
    ),
    "a changed state": (
        f"UPDATE invoices SET state = 'expired' WHERE id = {FIRST}",
        ("state", 5, "its state is 'expired', but the log says"),
    ),
    "a changed snapshot": (
        f"UPDATE invoices SET snapshot = replace(snapshot, '500000', '600000') WHERE id = {FIRST}",
        ("state", 5, "its snapshot is"),
    ),
    "no snapshot": (
        f"UPDATE invoices SET snapshot = '[]' WHERE id = {FIRST}",
        ("state", 5, "makes no sense"),
    ),
    "changed terms": (
        f"UPDATE invoices SET terms = replace(terms, 'bcrt1q', 'bcrt1p') WHERE id = {FIRST}",
        ("state", 5, "its terms is"),
    ),
    "a changed owner": (
        f"UPDATE invoices SET asset = 'LTC' WHERE id = {FIRST}",
        ("state", 5, "its asset is 'LTC'"),
    ),
    "another place in the log": (
        f"UPDATE invoices SET updated_seq = 77 WHERE id = {FIRST}",
        ("state", 5, "its updated_seq is 77"),
    ),
    "a lost invoice": (
        f"DELETE FROM invoices WHERE id = {FIRST}",
        ("state", 1, "has events, from 1 on, but is not stored"),
    ),
    "a lost address": (
        f"DELETE FROM destinations WHERE invoice_id = {FIRST}",
        ("destination", None, "is not watched for"),
    ),
    "a swapped address": (
        (
            "UPDATE destinations SET invoice_id ="
            " (SELECT id FROM invoices ORDER BY created_at_ms DESC LIMIT 1)"
            f" WHERE invoice_id = {FIRST}"
        ),
        ("destination", None, "is watched for invoice"),
    ),
    "an address too many": (
        (
            "INSERT INTO destinations SELECT 'ltc', destination, invoice_id FROM destinations"
            f" WHERE invoice_id = {FIRST}"
        ),
        ("destination", None, "more than one address"),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_with_its_place_and_what_to_do(url, capsys, name):
    statement, (kind, seq, words) = DAMAGE[name]
    execute(url, statement)
    status, document = findings(capsys)
    assert (status, document["clean"]) == (1, False)
    first = document["findings"][0]
    assert (first["kind"], first["seq"]) == (kind, seq)
    assert words in first["what"]
    status, told = audit(capsys)
    assert status == 1
    assert words in told
    assert "tallyd restore" in told


def test_an_address_of_no_invoice(url, capsys):
    execute(
        url,
        "DELETE FROM events WHERE invoice_id = (SELECT id FROM invoices WHERE updated_seq = 20)",
        "DELETE FROM invoices WHERE updated_seq = 20",
    )
    document = findings(capsys)[1]
    assert [one["kind"] for one in document["findings"]] == ["destination"]
    assert "which is not stored" in document["findings"][0]["what"]
    assert document["seq"] == 15, "the newest events are gone, and only an anchor shows that"


def test_an_invoice_without_events(url, capsys):
    execute(
        url,
        "DELETE FROM events WHERE invoice_id = (SELECT id FROM invoices WHERE updated_seq = 20)",
    )
    document = findings(capsys)[1]
    assert [one["kind"] for one in document["findings"]] == ["state"]
    assert "the log has no event of it" in document["findings"][0]["what"]


def test_who_makes_the_chain_anew_is_shown_by_an_anchor(file, capsys):
    anchor = findings(capsys)[1]["anchor"]
    execute(
        f"sqlite:///{file}",
        "UPDATE events SET version = 7 WHERE seq = 5",
    )
    rechain(file)
    status, document = findings(capsys)
    assert status == 1, "the states still differ"
    assert document["findings"][0]["kind"] == "versions"
    assert "its version 5 is missing before event 5" in document["findings"][0]["what"]
    execute(f"sqlite:///{file}", "UPDATE events SET version = 5 WHERE seq = 5")
    execute(f"sqlite:///{file}", "UPDATE meta SET value = 'ffffffff' WHERE key = 'log_id'")
    rechain(file)
    assert audit(capsys)[0] == 0, "whoever may write can make everything fit"
    status, document = findings(capsys, "--anchor", anchor)
    assert status == 1
    assert [one["kind"] for one in document["findings"]] == ["anchor"]
    assert document["findings"][0]["seq"] == INVOICES * FACTS


def test_an_end_that_was_cut_off_is_shown_by_an_anchor(url, capsys):
    anchor = findings(capsys)[1]["anchor"]
    execute(
        url,
        "DELETE FROM destinations WHERE invoice_id IN"
        " (SELECT id FROM invoices WHERE updated_seq = 20)",
        "DELETE FROM events WHERE invoice_id IN (SELECT id FROM invoices WHERE updated_seq = 20)",
        "DELETE FROM invoices WHERE updated_seq = 20",
    )
    assert audit(capsys)[0] == 0
    status, told = audit(capsys, "--anchor", anchor)
    assert status == 1
    assert "the log ends with event 15, before the anchor's 20" in told


def test_an_event_that_contradicts_itself(file, capsys):
    execute(f"sqlite:///{file}", "UPDATE events SET at_ms = 1 WHERE seq = 2")
    rechain(file)
    assert "event 2 bears two instants" in audit(capsys)[1]
    execute(f"sqlite:///{file}", "UPDATE events SET kind = 'payment.teleported' WHERE seq = 2")
    rechain(file)
    status, told = audit(capsys)
    assert status == 1
    assert "event 2 or the state after it makes no sense" in told


def test_many_differences_are_counted_and_not_all_listed(url, capsys, monkeypatch):
    monkeypatch.setattr(log_audit, "MAX_FINDINGS", 3)
    execute(url, "UPDATE invoices SET state = 'expired'")
    document = findings(capsys)[1]
    assert (len(document["findings"]), document["differences"]) == (3, INVOICES)
    assert "… and 1 more" in audit(capsys)[1]


@pytest.mark.parametrize("text", ["", "7", "7:abc", "x:" + "00" * 32, "-1:" + "00" * 32])
def test_an_anchor_that_is_none(capsys, text):
    with pytest.raises(SystemExit) as caught:
        main(["audit", "--log", f"--anchor={text}"])
    assert caught.value.code == 2
    assert "is not SEQ:HASH" in capsys.readouterr().err


def test_what_cannot_be_looked_at(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("TALLY_DATABASE_URL", f"sqlite:///{tmp_path / 'none.db'}")
    status, told = audit(capsys)
    assert (status, "there is no file" in told) == (2, True)
    (tmp_path / "none.db").write_bytes(b"Dear diary, today " * 500)
    status, told = audit(capsys)
    assert (status, "no SQLite database" in told) == (2, True)
    status, document = findings(capsys)
    assert (status, document["clean"]) == (2, None)
    assert "database.url" in document["error"]
    (tmp_path / "none.db").unlink()
    migrate.upgrade(f"sqlite:///{tmp_path / 'none.db'}", "0006")
    status, told = audit(capsys)
    assert (status, "tallyd migrate" in told) == (2, True)


def test_nothing_is_written_beside_a_daemon_that_writes(file, capsys):
    url = f"sqlite:///{file}"

    async def beside() -> None:
        async with open_store(url, on_commit=lambda _facts: None) as store:
            await grow(store, 50)
            assert await trio.to_thread.run_sync(main, ["audit", "--log"]) == 0
            await grow(store, 51)

    trio.run(beside)
    assert "clean: 21 events" in capsys.readouterr().out


def test_flipped_pages_are_refused_and_nothing_is_overwritten(file, capsys):
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'events'"
        ).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    data = bytearray(file.read_bytes())
    at = (root - 1) * size
    data[at : at + 64] = bytes(byte ^ 0xFF for byte in data[at : at + 64])
    file.write_bytes(data)
    status, told = audit(capsys)
    assert status in (1, 2)
    assert "damaged" in told
    assert "restore a backup" in told
    assert main(["migrate"]) == 0, "its schema is as it should be"
    capsys.readouterr()
    with pytest.raises(Exception, match=r"is damaged .*restore a backup"):
        trio.run(fill, f"sqlite:///{file}", 60, 1)
    assert file.read_bytes() == data


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


def test_the_bar_is_for_terminals():
    stream: Any = Terminal()
    with Progress(stream) as progress:
        progress("pages", 0, 0)
        progress("chain", 1, 4)
        progress("chain", 2, 4)
        progress("chain", 4, 4)
    assert "pages …" in stream.text
    assert " 25%" in stream.text
    assert " 50%" not in stream.text, "not more often than it can be read"
    assert "100%" in stream.text
    assert stream.text.endswith("\r\x1b[K")
    assert len(line("chain", 10**9, 10**9, took_s=2)) <= 80
    assert line("chain", 10, 40, took_s=2).endswith(" 25% 5/s")
    stream = Terminal()
    stream.isatty = lambda: False
    with Progress(stream) as progress:
        progress("chain", 1, 4)
    assert stream.text == ""


def test_an_anchor_is_a_tip_and_reads_back():
    assert str(LogTip(3, b"\1" * 32)) == "3:" + "01" * 32
