"""The hash chain of the event log: each row is bound to all rows before it.

    link(0) = SHA-256("tallyd event log 1" LF, the id that the log was born with, in ASCII)
    link(n) = SHA-256(link(n - 1), seq, invoice id, version, at_ms, length of kind, kind, data)

Numbers are big-endian: `seq`, `version` and `at_ms` signed of 64 bits, the length unsigned of 32,
in bytes; the id has 16 bytes, `kind` and `data` are the stored texts in UTF-8. Everything before
`data` has a fixed length or one that is said, so no two rows have the same preimage.

Who changes, removes or puts in a row breaks every later link. Who may write to the database can
make the whole chain anew: that shows only against a link that was noted elsewhere, an anchor
(`tallyd audit --log --anchor SEQ:HASH`).
"""

from __future__ import annotations

import struct
from hashlib import sha256

from actors.published import LogTip

BATCH = 2000
"""Rows at a time when an old log is given its links."""
TOLD_EVERY = 100_000
"""Rows after which the log says how far that is."""

_ROW = struct.Struct(">16sqqI")
_SEQ = struct.Struct(">q")
_BORN = b"tallyd event log 1\n"


def beginning(log_id: str) -> LogTip:
    """What the first event follows."""
    return LogTip(0, sha256(_BORN + log_id.encode("ascii")).digest())


def row_bytes(*, invoice_id: bytes, version: int, kind: str, at_ms: int, data: str) -> bytes:
    """What a link covers besides the link before and the sequence number.

    Raises struct.error, TypeError or AttributeError for what cannot stand in a row.
    """
    kind_bytes = kind.encode()
    head = _ROW.pack(invoice_id, version, at_ms, len(kind_bytes))
    return head + kind_bytes + data.encode()


def link(before: bytes, seq: int, row: bytes) -> bytes:
    """The hash of event `seq`, 32 bytes; `before` is that of the event before it."""
    return sha256(before + _SEQ.pack(seq) + row).digest()
