"""The file of a backup, the same whichever database it comes from.

    magic | format, 2 bytes | length of the header, 4 bytes | header, JSON
    body: one zlib stream of lines of JSON; an object says which table comes next, an array is a row
    "TALLYEND" | SHA-256 of everything before it

Numbers are big-endian. Binary values and ids are hexadecimal text; instants and amounts are as they
are stored. The header says what is inside, so it can be read without the rest; the digest is looked
at before anything of the body is used. It tells of accidents: whoever alters a file on purpose can
make its digest anew, and only an anchor kept elsewhere shows that (`tallyd audit --log --anchor`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import orjson

from actors.ports import PersistentError
from actors.published import LogTip

MAGIC = b"\x89TALLY\r\n\x1a\n"
"""As PNG's: shows at once when a file was copied as text."""
FORMAT = 1
_LENGTHS = struct.Struct(">HI")
_END = b"TALLYEND"
_TRAILER_BYTES = len(_END) + sha256().digest_size
_MAX_HEADER_BYTES = 1 << 20
_MAX_ROW_BYTES = 1 << 26
_CHUNK = 1 << 20
_LEVEL = 4
"""Of compression: three times as fast as the usual 6, and a tenth larger."""


@dataclass(frozen=True, slots=True)
class TableShape:
    name: str
    columns: tuple[tuple[str, str], ...]
    """Name and kind: `integer`, `text`, `bytes`, `uuid`, `boolean`."""
    rows: int


@dataclass(frozen=True, slots=True)
class Header:
    version: str
    """Of the tallyd that wrote it."""
    made_at_ms: int
    schema: str
    """The revision of the tables."""
    log_id: str
    seq: int
    hash: str
    """The newest event's link, hexadecimal."""
    tables: tuple[TableShape, ...]
    """In an order in which they can be filled."""

    @property
    def tip(self) -> LogTip:
        return LogTip(self.seq, bytes.fromhex(self.hash))

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    def count(self, table: str) -> int:
        return next((one.rows for one in self.tables if one.name == table), 0)


class BackupWriter:
    """Writes one backup, front to back; holds one chunk in memory."""

    def __init__(self, stream: IO[bytes], header: Header) -> None:
        self._stream = stream
        self._digest = sha256()
        self._body = zlib.compressobj(_LEVEL)
        self.bytes = 0
        encoded = orjson.dumps(asdict(header))
        self._write(MAGIC + _LENGTHS.pack(FORMAT, len(encoded)) + encoded)

    def table(self, name: str) -> None:
        """Rows of `name` follow."""
        self._write(self._body.compress(orjson.dumps({"table": name}) + b"\n"))

    def rows(self, rows: Sequence[Sequence[Any]]) -> None:
        lines = b"".join([orjson.dumps(row) + b"\n" for row in rows])
        self._write(self._body.compress(lines))

    def close(self) -> None:
        """Write what makes the file complete; the stream stays open."""
        self._write(self._body.flush())
        self._write(_END)
        self._stream.write(self._digest.digest())
        self.bytes += sha256().digest_size

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._stream.write(data)
        self.bytes += len(data)


class BackupFile:
    """A backup to be read; every method raises PersistentError, naming the file, if it is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._body_at = 0
        self.header = self._open()

    def verify(self, progress: Callable[[int, int], None]) -> None:
        """Read the whole file and compare it with its digest; called with bytes done and of how
        many."""
        size = self._path.stat().st_size
        left = size - sha256().digest_size
        digest = sha256()
        with self._reading() as stream:
            last = b""
            while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
                digest.update(chunk)
                last = (last + chunk)[-len(_END) :]
                left -= len(chunk)
                progress(size - left, size)
            if left > 0 or last != _END or stream.read() != digest.digest():
                raise self.refused("is cut off or was altered: its digest does not fit")

    def lines(self) -> Iterator[Any]:
        """The body's lines, each a dict or a list."""
        unpack = zlib.decompressobj()
        rest = b""
        with self._reading() as stream:
            stream.seek(self._body_at)
            while not unpack.eof:
                data = unpack.unconsumed_tail or stream.read(_CHUNK // 8)
                if not data:
                    raise self.refused("ends within its body")
                try:
                    rest += unpack.decompress(data, _CHUNK)
                except zlib.error as error:
                    raise self.refused(f"cannot be unpacked ({error})") from error
                *lines, rest = rest.split(b"\n")
                if len(rest) > _MAX_ROW_BYTES:
                    raise self.refused("holds a row that no table has")
                for line in lines:
                    yield self._json(line)
            if rest:
                raise self.refused("ends within a row")

    def refused(self, why: str) -> PersistentError:
        return PersistentError(
            f"{self._path} {why}; nothing was written. Take another copy of the backup, or an older"
            " one"
        )

    def _open(self) -> Header:
        with self._reading() as stream:
            start = stream.read(len(MAGIC) + _LENGTHS.size)
            if not start.startswith(MAGIC):
                raise self.refused("is no backup of tallyd")
            if len(start) < len(MAGIC) + _LENGTHS.size:
                raise self.refused("is cut off")
            found, length = _LENGTHS.unpack_from(start, len(MAGIC))
            if found != FORMAT:
                raise PersistentError(
                    f"{self._path} is of format {found}, and this version knows {FORMAT}: it was"
                    " written by a newer tallyd; nothing was written. Restore it with that version"
                )
            encoded = stream.read(min(length, _MAX_HEADER_BYTES))
            if len(encoded) < length:
                raise self.refused("is cut off")
            self._body_at = stream.tell()
        return self._header(self._json(encoded))

    def _header(self, found: Any) -> Header:
        try:
            shapes = [
                TableShape(
                    str(one["name"]),
                    tuple((str(name), str(kind)) for name, kind in one["columns"]),
                    int(one["rows"]),
                )
                for one in found.pop("tables")
            ]
            header = Header(**found, tables=tuple(shapes))
            bytes.fromhex(header.hash)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise self.refused(f"has a header that cannot be read ({error})") from error
        return header

    def _json(self, data: bytes) -> Any:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise self.refused(f"holds what cannot be read ({error})") from error

    def _reading(self) -> IO[bytes]:
        try:
            return self._path.open("rb")
        except OSError as error:
            raise PersistentError(f"{self._path} cannot be read: {error.strerror}") from error
