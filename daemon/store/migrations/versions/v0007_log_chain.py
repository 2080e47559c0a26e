"""Each event's link of the log's hash chain (daemon.store.log_chain)."""

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from daemon.logging import get_logger
from daemon.store import log_chain
from daemon.store.log_chain import beginning, link, row_bytes

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UuidBytes = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")

_log = get_logger("store")

_COLUMNS = ("seq", "invoice_id", "version", "kind", "at_ms", "data")


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.add_column("events", sa.Column("hash", sa.LargeBinary(32), nullable=True))
        for batch in _chained(connection):
            connection.exec_driver_sql(
                "UPDATE events SET hash = new.hash"
                " FROM unnest(%s::bigint[], %s::bytea[]) AS new(seq, hash)"
                " WHERE events.seq = new.seq",
                ([row[0] for row in batch], [row[-1] for row in batch]),
            )
        op.alter_column("events", "hash", nullable=False)
        return
    # SQLite cannot make a column NOT NULL afterwards: a new table takes the place of the old.
    op.create_table(
        "events_chained",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("invoice_id", UuidBytes, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sa.UniqueConstraint("invoice_id", "version", name="uq_events_invoice_id_version"),
    )
    for batch in _chained(connection):
        connection.exec_driver_sql("INSERT INTO events_chained VALUES (?, ?, ?, ?, ?, ?, ?)", batch)
    op.drop_table("events")
    op.rename_table("events_chained", "events")


def downgrade() -> None:
    op.drop_column("events", "hash")


def _chained(connection: sa.Connection) -> Iterator[list[tuple[Any, ...]]]:
    """The rows with their links, in batches."""
    last, newest = beginning(_log_id(connection))
    count = connection.exec_driver_sql("SELECT count(*) FROM events").scalar() or 0
    told = 0
    while rows := _page(connection, last):
        batch = []
        for row in rows:
            seq, invoice_id, version, kind, at_ms, data = row
            newest = link(
                newest,
                seq,
                row_bytes(
                    invoice_id=bytes(getattr(invoice_id, "bytes", invoice_id)),
                    version=version,
                    kind=kind,
                    at_ms=at_ms,
                    data=data,
                ),
            )
            batch.append((*row, newest))
            last = seq
        yield batch
        if last - told >= log_chain.TOLD_EVERY:
            told = last
            _log.info("chaining the event log", events=last, of=count)
    if count:
        _log.info("event log chained", events=count, newest=f"{last}:{newest.hex()}")


def _page(connection: sa.Connection, after: int) -> Sequence[Any]:
    table = sa.table("events", *(sa.column(name) for name in _COLUMNS))
    query = (
        sa.select(*table.c).where(table.c.seq > after).order_by(table.c.seq).limit(log_chain.BATCH)
    )
    return connection.execute(query).fetchall()


def _log_id(connection: sa.Connection) -> str:
    """What the chain begins with: the log's first id, given to it now if it has none."""
    meta = sa.table("meta", sa.column("key"), sa.column("value"))
    query = sa.select(meta.c.key, meta.c.value).where(meta.c.key.in_(("log_id", "log_earlier_ids")))
    values: dict[str, str] = {row[0]: row[1] for row in connection.execute(query)}
    if "log_earlier_ids" in values:  # a restored database that was taken back to the schema before
        return str(json.loads(values["log_earlier_ids"])[0][0])
    found: str | None = values.get("log_id")
    if found is None:
        found = secrets.token_hex(4)
        connection.execute(meta.insert().values(key="log_id", value=found))
    return found
