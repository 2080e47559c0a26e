"""Accounts keep the sealed secret of a key that has one (a Monero view key)."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("secret", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("accounts", "secret")
