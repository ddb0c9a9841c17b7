"""Runs that train side by side: how many may, and the job that they share."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them to runs, sweeps and attempts."""
    with op.batch_alter_table("runs") as batch:
        batch.add_column(sa.Column("pack_size", sa.Integer(), nullable=False, server_default="1"))
        batch.add_column(sa.Column("pack_job", sa.String(16), nullable=True))
        batch.create_index("ix_runs_pack_job", ["pack_job"])
    with op.batch_alter_table("sweeps") as batch:
        batch.add_column(sa.Column("pack_size", sa.Integer(), nullable=False, server_default="1"))
        batch.add_column(sa.Column("places", sa.Integer(), nullable=False, server_default="1"))
    with op.batch_alter_table("attempts") as batch:
        batch.add_column(sa.Column("pack_job", sa.String(16), nullable=True))
        batch.create_index("ix_attempts_pack_job", ["pack_job"])


def downgrade() -> None:
    """Drop them."""
    for table in ("attempts", "runs"):
        with op.batch_alter_table(table) as batch:
            batch.drop_index(f"ix_{table}_pack_job")
            batch.drop_column("pack_job")
    with op.batch_alter_table("sweeps") as batch:
        batch.drop_column("places")
    for table in ("sweeps", "runs"):
        with op.batch_alter_table(table) as batch:
            batch.drop_column("pack_size")
