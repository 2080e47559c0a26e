"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Types are spelled out, not imported from the schema: a migration says what was, for ever.
UuidBytes = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "chain_cursors",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("genesis", sa.LargeBinary(), nullable=False),
        sa.Column("tip_height", sa.BigInteger(), nullable=False),
        sa.Column("view", sa.LargeBinary(), nullable=False),
        sa.Column("saved_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain", name="pk_chain_cursors"),
    )
    op.create_table(
        "destinations",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("destination", sa.LargeBinary(), nullable=False),
        sa.Column("invoice_id", UuidBytes, nullable=False),
        sa.PrimaryKeyConstraint("chain", "destination", name="pk_destinations"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "events",
        sa.Column("seq", RowId, autoincrement=False, nullable=False),
        sa.Column("invoice_id", UuidBytes, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sa.UniqueConstraint("invoice_id", "version", name="uq_events_invoice_id_version"),
    )
    op.create_table(
        "invoices",
        sa.Column("id", UuidBytes, nullable=False),
        sa.Column("user_id", UuidBytes, nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("major", sa.BigInteger(), nullable=False),
        sa.Column("minor", sa.BigInteger(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("watched_until", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("updated_seq", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_invoices"),
        sa.UniqueConstraint(
            "account_id", "major", "minor", name="uq_invoices_account_id_major_minor"
        ),
    )
    op.create_index(
        "ix_invoices_chain_watched_until", "invoices", ["chain", "watched_until"], unique=False
    )
    op.create_index(
        "ix_invoices_created_at_ms_id", "invoices", ["created_at_ms", "id"], unique=False
    )
    op.create_index(
        "ix_invoices_state_created_at_ms_id",
        "invoices",
        ["state", "created_at_ms", "id"],
        unique=False,
    )
    op.create_index(
        "ix_invoices_updated_at_ms_updated_seq",
        "invoices",
        ["updated_at_ms", "updated_seq"],
        unique=False,
    )
    op.create_index("ix_invoices_updated_seq", "invoices", ["updated_seq"], unique=True)
    op.create_index(
        "ix_invoices_user_id_created_at_ms_id",
        "invoices",
        ["user_id", "created_at_ms", "id"],
        unique=False,
    )
    op.create_index(
        "ix_invoices_user_id_updated_seq", "invoices", ["user_id", "updated_seq"], unique=False
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "quarantine",
        sa.Column("invoice_id", UuidBytes, nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("from_height", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("invoice_id", name="pk_quarantine"),
    )
    op.create_index("ix_quarantine_chain", "quarantine", ["chain"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", UuidBytes, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
    )
    op.create_table(
        "accounts",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("user_id", UuidBytes, nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("next_major", sa.BigInteger(), nullable=False),
        sa.Column("next_minor", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_accounts_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("chain", "key", name="uq_accounts_chain_key"),
    )
    op.create_index(
        "uq_accounts_current",
        "accounts",
        ["user_id", "chain"],
        unique=True,
        sqlite_where=sa.text("current"),
        postgresql_where=sa.text("current"),
    )


def downgrade() -> None:
    op.drop_index(
        "uq_accounts_current",
        table_name="accounts",
        sqlite_where=sa.text("current"),
        postgresql_where=sa.text("current"),
    )
    op.drop_table("accounts")
    op.drop_table("users")
    op.drop_index("ix_quarantine_chain", table_name="quarantine")
    op.drop_table("quarantine")
    op.drop_table("meta")
    op.drop_index("ix_invoices_user_id_updated_seq", table_name="invoices")
    op.drop_index("ix_invoices_user_id_created_at_ms_id", table_name="invoices")
    op.drop_index("ix_invoices_updated_seq", table_name="invoices")
    op.drop_index("ix_invoices_updated_at_ms_updated_seq", table_name="invoices")
    op.drop_index("ix_invoices_state_created_at_ms_id", table_name="invoices")
    op.drop_index("ix_invoices_created_at_ms_id", table_name="invoices")
    op.drop_index("ix_invoices_chain_watched_until", table_name="invoices")
    op.drop_table("invoices")
    op.drop_table("events")
    op.drop_table("destinations")
    op.drop_table("chain_cursors")
