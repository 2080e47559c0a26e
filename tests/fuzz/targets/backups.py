"""Backup files: damaged, or damaged and then given a digest that is right."""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random

from actors.ports import PersistentError
from daemon.store.backup_file import BackupFile, BackupWriter, Header, TableShape
from tests.fuzz.engine import Check, Target
from tests.fuzz.mutation import mutated

TABLES = (
    TableShape("users", (("id", "uuid"),), 2),
    TableShape("events", (("seq", "integer"), ("data", "text"), ("hash", "bytes")), 3),
)


@cache
def whole() -> bytes:
    """A small backup as the writer makes it."""
    stream = io.BytesIO()
    header = Header("0.1.0", 1_700_000_000_000, "v0007", "ab" * 16, 3, "cd" * 32, TABLES)
    writer = BackupWriter(stream, header)
    writer.table("users")
    writer.rows([["0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10"], ["x" * 36]])
    writer.table("events")
    writer.rows([[number, '{"a": 1}', "ef" * 32] for number in range(3)])
    writer.close()
    return stream.getvalue()


def drawn(dice: Random) -> bytes:
    if dice.random() < 0.5:
        return mutated(dice, whole())
    body = mutated(dice, whole()[: -sha256().digest_size])
    return body + sha256(body).digest()


@asynccontextmanager
async def reading() -> AsyncIterator[Check]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "backup.tally")

        async def check(data: bytes) -> None:
            _read(data, file)

        yield check


def _read(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    said = ""
    try:
        backup = BackupFile(file)
        backup.verify(lambda done, of: None)
        # What passes has the digest of all that stands before it.
        assert data[-32:] == sha256(data[:-32]).digest()
        for line in backup.lines():
            assert isinstance(line, dict | list)
    except PersistentError as error:
        said = str(error)
    assert not said or (str(file) in said and len(said) < 1000), said


TARGETS = [Target("backup", drawn, reading, cases=800)]
