"""The tables, the same on SQLite and PostgreSQL; `migrations` brings a database to this shape.

Instants are Unix milliseconds, amounts are inside the JSON as text (they may exceed 64 bits), ids
are 16 bytes on SQLite and `uuid` on PostgreSQL. `events` is the truth; `invoices` and
`destinations` are its projections, written in the same transaction.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

WITHOUT_END = 2**63 - 1
"""`invoices.watched_until` of an invoice that must be watched at any height."""

MAX_INDEX = 2**31 - 1
"""The last minor index of a major one: child numbers from 2**31 on are hardened (BIP-32)."""


class UuidBytes(TypeDecorator[UUID]):
    """A UUID in 16 bytes; both forms sort like the UUIDs themselves."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=True))
        return dialect.type_descriptor(LargeBinary(16))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        if value is None or dialect.name == "postgresql":
            return value  # type: ignore[no-any-return]  # psycopg gives UUIDs
        return UUID(bytes=value)


RowId = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite's own row id has to be called INTEGER."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

users = Table(
    "users",
    metadata,
    Column("id", UuidBytes, primary_key=True),
    Column("created_at_ms", BigInteger, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("user_id", UuidBytes, ForeignKey(users.c.id), nullable=False),
    Column("chain", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("current", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("next_major", BigInteger, nullable=False),
    Column("next_minor", BigInteger, nullable=False),
    # Sealed (daemon.keys.vault); the key to it is not in the database.
    Column("secret", LargeBinary, nullable=True),
    UniqueConstraint("chain", "key"),
)
Index(
    "uq_accounts_current",
    accounts.c.user_id,
    accounts.c.chain,
    unique=True,
    sqlite_where=text("current"),
    postgresql_where=text("current"),
)

events = Table(
    "events",
    metadata,
    Column("seq", RowId, primary_key=True, autoincrement=False),
    Column("invoice_id", UuidBytes, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    # This row's link of the chain: daemon.store.log_chain.
    Column("hash", LargeBinary(32), nullable=False),
    UniqueConstraint("invoice_id", "version"),
)

invoices = Table(
    "invoices",
    metadata,
    Column("id", UuidBytes, primary_key=True),
    Column("user_id", UuidBytes, nullable=False),
    Column("chain", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("account_id", BigInteger, nullable=False),
    Column("major", BigInteger, nullable=False),
    Column("minor", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("terms", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("watched_until", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("updated_seq", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("snapshot", Text, nullable=False),
    UniqueConstraint("account_id", "major", "minor"),
)
Index(None, invoices.c.created_at_ms, invoices.c.id)
Index(None, invoices.c.user_id, invoices.c.created_at_ms, invoices.c.id)
Index(None, invoices.c.state, invoices.c.created_at_ms, invoices.c.id)
Index(None, invoices.c.updated_seq, unique=True)
Index(None, invoices.c.user_id, invoices.c.updated_seq)
Index(None, invoices.c.updated_at_ms, invoices.c.updated_seq)
Index(None, invoices.c.chain, invoices.c.watched_until)

destinations = Table(
    "destinations",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("destination", LargeBinary, primary_key=True),
    Column("invoice_id", UuidBytes, nullable=False),
    # All of them are read at every start: a narrow table of their own, in one tree on SQLite.
    sqlite_with_rowid=False,
)

chain_cursors = Table(
    "chain_cursors",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("network", Text, nullable=False),
    Column("genesis", LargeBinary, nullable=False),
    Column("tip_height", BigInteger, nullable=False),
    Column("view", LargeBinary, nullable=False),
    Column("saved_at_ms", BigInteger, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("invoice_id", UuidBytes, primary_key=True),
    Column("chain", Text, nullable=False, index=True),
    Column("from_height", BigInteger, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("prefix", Text, primary_key=True),
    # SHA-256 of the secret part: 190 bits of chance need no slow hash.
    Column("digest", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("user_id", UuidBytes, nullable=True),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=True),
    Column("revoked_at_ms", BigInteger, nullable=True),
    Column("last_used_at_ms", BigInteger, nullable=True),
)

audit = Table(
    "audit",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("resource_id", UuidBytes, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False, index=True),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", UuidBytes, primary_key=True),
    Column("user_id", UuidBytes, nullable=True),
    Column("url", Text, nullable=False),
    Column("types", Text, nullable=False),
    # Sealed, both.
    Column("secret", LargeBinary, nullable=False),
    Column("old_secret", LargeBinary, nullable=True),
    Column("old_until_ms", BigInteger, nullable=True),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("cursor", BigInteger, nullable=False),
    Column("paused", Text, nullable=True),
    Column("paused_at_ms", BigInteger, nullable=True),
    Column("failing_since_ms", BigInteger, nullable=True),
    Column("failures", BigInteger, nullable=False),
    # What bodies look like: actors.webhook_book.Form.
    Column("form", Text, nullable=False, server_default="standard"),
)

webhook_owed = Table(
    "webhook_owed",
    metadata,
    Column("endpoint_id", UuidBytes, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("lane", UuidBytes, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("first_at_ms", BigInteger, nullable=True),
    Column("next_at_ms", BigInteger, nullable=False),
    Column("dead", Boolean, nullable=False),
    Column("error", Text, nullable=True),
    Column("notice", LargeBinary, nullable=True),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("endpoint_id", UuidBytes, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("seq", BigInteger, nullable=True),
    Column("invoice_id", UuidBytes, nullable=True),
    Column("number", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("latency_ms", BigInteger, nullable=False),
    Column("status", BigInteger, nullable=True),
    Column("error", Text, nullable=True),
    Column("outcome", Text, nullable=False),
)
Index(None, webhook_attempts.c.endpoint_id, webhook_attempts.c.id)

policies = Table(
    "policies",
    metadata,
    Column("user_id", UuidBytes, primary_key=True),
    Column("asset", Text, primary_key=True),
    # JSON, as actors.core.policy_json writes it.
    Column("policy", Text, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

wallets = Table(
    "wallets",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("user_id", UuidBytes, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("archived_at_ms", BigInteger, nullable=True),
)

wallet_accounts = Table(
    "wallet_accounts",
    metadata,
    Column("wallet_id", BigInteger, primary_key=True, autoincrement=False),
    Column("chain", Text, primary_key=True),
    Column("account_id", BigInteger, nullable=False),
)

wallet_assets = Table(
    "wallet_assets",
    metadata,
    Column("wallet_id", BigInteger, primary_key=True, autoincrement=False),
    # From 0, in the order in which the assets are shown.
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("asset", Text, nullable=False),
    Column("confirmations", BigInteger, nullable=True),
    Column("expiry_ms", BigInteger, nullable=True),
    UniqueConstraint("wallet_id", "asset"),
)

orders = Table(
    "orders",
    metadata,
    # Random, below 2**53.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("invoice_id", UuidBytes, nullable=False, unique=True),
    Column("user_id", UuidBytes, nullable=False),
    Column("wallet_id", BigInteger, nullable=False),
    Column("merchant_order_id", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("callback_url", Text, nullable=False),
    Column("merchant_name", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    UniqueConstraint("user_id", "merchant_order_id", "attempt"),
)

brands = Table(
    "brands",
    metadata,
    Column("user_id", UuidBytes, primary_key=True),
    Column("name", Text, nullable=False),
    Column("colour", Text, nullable=True),
    Column("logo", LargeBinary, nullable=True),
    Column("logo_type", Text, nullable=True),
    Column("updated_at_ms", BigInteger, nullable=False),
)

# Between processes, PostgreSQL only (daemon.store.duties); empty elsewhere. What stands here is of
# use for seconds: the tables are unlogged, so to write only to them waits for no disk, and a crash
# of the server empties them. Instants are the server's, as the processes' clocks may differ.
posts = Table(
    "posts",
    metadata,
    Column("id", UuidBytes, primary_key=True),
    Column("duty", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # The process that waits for the answer.
    Column("asked_by", Text, nullable=False),
    Column("asked_at_ms", BigInteger, nullable=False),
    # The process that has begun with it; an answer of any other does not count.
    Column("begun_by", Text, nullable=True),
    Column("answer", LargeBinary, nullable=True),
    # `transient`, `persistent`: then the answer is the failure's text.
    Column("failure", Text, nullable=True),
    Column("answered_at_ms", BigInteger, nullable=True),
)
Index(None, posts.c.duty, posts.c.answered_at_ms)
Index(None, posts.c.asked_at_ms)

standings = Table(
    "standings",
    metadata,
    Column("duty", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    # The holder's process: only it confirms what it said.
    Column("process", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

PASSING = frozenset({posts, standings})
"""Tables of which a backup has no use."""
