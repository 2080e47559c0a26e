"""The links of the event log: made anew, and as they ought to be."""

import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from actors.ports import Store
from actors.published import LogTip
from daemon.store import rows
from daemon.store.log_chain import beginning, link, row_bytes

BATCH = 5000


def rechain(path: Path) -> str:
    """Make every link of the SQLite database's log anew; returns the newest as an anchor.

    What somebody does who may write to the database and knows how the chain is made.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        (log_id,) = database.execute("SELECT value FROM meta WHERE key = 'log_id'").fetchone()
        tip = beginning(log_id)
        database.execute("BEGIN")
        query = (
            "SELECT seq, invoice_id, version, kind, at_ms, data FROM events"
            " WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        while rows := database.execute(query, (tip.seq, BATCH)).fetchall():
            links = []
            for seq, invoice_id, version, kind, at_ms, data in rows:
                row = row_bytes(
                    invoice_id=invoice_id, version=version, kind=kind, at_ms=at_ms, data=data
                )
                tip = tip._replace(seq=seq, hash=link(tip.hash, seq, row))
                links.append((tip.hash, seq))
            database.executemany("UPDATE events SET hash = ? WHERE seq = ?", links)
        database.execute("COMMIT")
    return str(tip)


async def chain_of(store: Store) -> LogTip:
    """The chain as the module's text says, from what the store gives out."""
    newest = sha256(b"tallyd event log 1\n" + (await store.log_id()).encode()).digest()
    last = 0
    for entry in await store.read(after_seq=0, limit=100_000):
        last = entry.seq
        kind, data = entry.event.kind.encode(), rows.encode_event(entry.event).encode()
        newest = sha256(
            newest
            + last.to_bytes(8, "big")
            + entry.invoice_id.bytes
            + entry.version.to_bytes(8, "big")
            + entry.event.at_ms.to_bytes(8, "big")
            + len(kind).to_bytes(4, "big")
            + kind
            + data
        ).digest()
    return LogTip(last, newest)
