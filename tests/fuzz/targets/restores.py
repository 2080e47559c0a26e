"""Whole restores of files whose digest is right and whose content was damaged: all or nothing.

A file is refused, and then there is no database; or it is taken, and then its log is unbroken.
"""

from __future__ import annotations

import json
import tempfile
import threading
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import trio

from actors.access_book import Act
from actors.ports import PersistentError, PublicKey
from daemon.store import open_store
from daemon.store.backup import back_up
from daemon.store.backup_file import FORMAT, MAGIC, BackupFile
from daemon.store.log_audit import audit_log
from daemon.store.restore import restore
from tests.fuzz.engine import Check, Target
from tests.fuzz.mutation import as_json, mutated, mutated_json
from tests.helpers.ledger import grow, payment, record, settlement

ACT = Act(at_ms=1, actor="fuzz", address="", act="database.restored", target="x", detail="")
USER = UUID(int=9)
END = b"TALLYEND"
SAID_LIMIT = 2000


def quiet(_what: str, _done: int, _of: int) -> None:
    """Progress is shown to nobody."""


@cache
def content() -> tuple[dict[str, Any], list[Any]]:
    """The header and the lines of a small backup as the daemon makes it."""

    async def fill(url: str) -> None:
        async with open_store(url, on_commit=lambda _facts: None) as store:
            await store.add_user(USER, at_ms=5)
            await store.set_keys(USER, [PublicKey("btc", "c", "a key", secret=b"\x00")], at_ms=6)
            for number in (1, 2, 3):
                await store.allocate_index(1)
                invoice = await grow(store, number, user_id=USER)
                invoice = await record(store, invoice, payment(invoice))
                await record(store, invoice, settlement(invoice))

    with tempfile.TemporaryDirectory() as folder:
        url, file = f"sqlite:///{folder}/tally.db", Path(folder, "backup.tally")
        # Another run of Trio: in a thread of its own, where there may be one here already.
        thread = threading.Thread(target=trio.run, args=(fill, url))
        thread.start()
        thread.join()
        with file.open("wb") as stream:
            back_up(url, stream, now_ms=7, progress=quiet)
        found = BackupFile(file)
        data = file.read_bytes()
        length = int.from_bytes(data[len(MAGIC) + 2 : len(MAGIC) + 6], "big")
        header = json.loads(data[len(MAGIC) + 6 :][:length])
        return header, list(found.lines())


def file_of(header: bytes, body: bytes) -> bytes:
    """A file with a digest that is right."""
    head = MAGIC + FORMAT.to_bytes(2, "big") + len(header).to_bytes(4, "big") + header
    whole = head + zlib.compress(body, 4) + END
    return whole + sha256(whole).digest()


def drawn(dice: Random) -> bytes:
    """Mostly a few values of rows; or lines, or bytes of the unpacked body, or the header."""
    header, lines = content()
    kind = dice.random()
    if kind < 0.15:
        header = mutated_json(dice, header)
    body = b"".join(as_json(line) + b"\n" for line in lines)
    if 0.15 <= kind < 0.3:
        body = mutated(dice, body)
    elif 0.3 <= kind < 0.4:
        moved = list(lines)
        line = moved.pop(dice.randrange(len(moved)))
        for _ in range(dice.choice((0, 1, 1, 2))):
            moved.insert(dice.randrange(len(moved) + 1), line)
        body = b"".join(as_json(line) + b"\n" for line in moved)
    elif kind >= 0.4:
        changed = list(lines)
        for _ in range(dice.choice((1, 1, 2))):
            at = dice.randrange(len(lines))
            changed[at] = mutated_json(dice, changed[at])
        body = b"".join(as_json(line) + b"\n" for line in changed)
    return file_of(as_json(header), body)


@asynccontextmanager
async def restoring() -> AsyncIterator[Check]:
    honest = file_of(as_json(content()[0]), b"".join(as_json(one) + b"\n" for one in content()[1]))
    with tempfile.TemporaryDirectory() as folder:
        assert _restored(honest, Path(folder)), "the file without damage"

        async def check(data: bytes) -> None:
            _restored(data, Path(folder))

        yield check


def _restored(data: bytes, folder: Path) -> bool:
    """Whether the file was taken; what it leaves behind is looked at, and removed."""
    file, target = folder / "backup.tally", folder / "tally.db"
    file.write_bytes(data)
    url, said = f"sqlite:///{target}", ""
    try:
        restore(file, url, skip_indices=1000, act=ACT, progress=quiet)
    except PersistentError as error:
        said = str(error)
    if said:
        assert len(said) < SAID_LIMIT, said
        assert "nothing was" in said, said
        left = {one.name for one in folder.iterdir()} - {file.name, f"{target.name}.lock"}
        assert not left, (left, said)
        return False
    report = audit_log(url, anchor=None, progress=quiet)
    assert not [one for one in report.findings if one.kind in ("file", "chain")], report.findings
    for left in folder.glob(f"{target.name}*"):
        left.unlink()
    return True


TARGETS = [Target("restore", drawn, restoring, cases=25, per_session=50)]
