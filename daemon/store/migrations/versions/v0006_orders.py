"""Wallets, orders and brands of merchants; the form in which a webhook endpoint is told."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UuidBytes = sa.LargeBinary(16).with_variant(postgresql.UUID(), "postgresql")
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "wallets",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("user_id", UuidBytes, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("archived_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_wallets"),
    )
    op.create_index("ix_wallets_user_id", "wallets", ["user_id"], unique=False)
    op.create_table(
        "wallet_accounts",
        sa.Column("wallet_id", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("wallet_id", "chain", name="pk_wallet_accounts"),
    )
    op.create_table(
        "wallet_assets",
        sa.Column("wallet_id", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("confirmations", sa.BigInteger(), nullable=True),
        sa.Column("expiry_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("wallet_id", "place", name="pk_wallet_assets"),
        sa.UniqueConstraint("wallet_id", "asset", name="uq_wallet_assets_wallet_id_asset"),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("invoice_id", UuidBytes, nullable=False),
        sa.Column("user_id", UuidBytes, nullable=False),
        sa.Column("wallet_id", sa.BigInteger(), nullable=False),
        sa.Column("merchant_order_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("callback_url", sa.Text(), nullable=False),
        sa.Column("merchant_name", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
        sa.UniqueConstraint("invoice_id", name="uq_orders_invoice_id"),
        sa.UniqueConstraint(
            "user_id",
            "merchant_order_id",
            "attempt",
            name="uq_orders_user_id_merchant_order_id_attempt",
        ),
    )
    op.create_table(
        "brands",
        sa.Column("user_id", UuidBytes, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("colour", sa.Text(), nullable=True),
        sa.Column("logo", sa.LargeBinary(), nullable=True),
        sa.Column("logo_type", sa.Text(), nullable=True),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_brands"),
    )
    op.add_column(
        "webhook_endpoints",
        sa.Column("form", sa.Text(), server_default="standard", nullable=False),
    )


def downgrade() -> None:
    op.drop_column("webhook_endpoints", "form")
    op.drop_table("brands")
    op.drop_table("orders")
    op.drop_table("wallet_assets")
    op.drop_table("wallet_accounts")
    op.drop_index("ix_wallets_user_id", table_name="wallets")
    op.drop_table("wallets")
