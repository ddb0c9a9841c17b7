"""Runs say what they do; those there are have all trained."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "runs", sa.Column("task", sa.String(length=16), nullable=False, server_default="train")
    )
    op.create_index(op.f("ix_runs_task"), "runs", ["task"])


def downgrade() -> None:
    """Drop the column, and with it the runs that an older Tandem cannot read."""
    others = "(SELECT id FROM runs WHERE task <> 'train')"
    for table in ("events", "attempts", "metric_points", "idempotency_keys"):
        op.execute(f"DELETE FROM {table} WHERE run_id IN {others}")
    op.execute("DELETE FROM runs WHERE task <> 'train'")
    op.drop_index(op.f("ix_runs_task"), table_name="runs")
    with op.batch_alter_table("runs") as batch:
        batch.drop_column("task")
