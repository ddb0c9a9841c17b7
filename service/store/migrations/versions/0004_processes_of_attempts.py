"""Attempts say how many processes train; those of earlier attempts were one."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "attempts", sa.Column("processes", sa.Integer(), nullable=False, server_default="1")
    )


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("attempts") as batch:
        batch.drop_column("processes")
