"""Runs know their twin without a teacher and what makes two runs equal; comparisons are kept."""

import sqlalchemy as sa
from alembic import op

from service.store.tables import Utc

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_UNKNOWN_BEFORE = ("spec_digest", "seedless_digest", "seed_group_key")
_LINKS = ("baseline_run_id", "report_run_id")


def upgrade() -> None:
    """Add columns and the table; of runs that are there the digests stay unknown."""
    with op.batch_alter_table("runs") as batch:
        for name in _UNKNOWN_BEFORE:
            batch.add_column(sa.Column(name, sa.String(64), nullable=True))
            batch.create_index(f"ix_runs_{name}", [name])
        for name in _LINKS:
            batch.add_column(sa.Column(name, sa.String(16), nullable=True))
            batch.create_index(f"ix_runs_{name}", [name])
        batch.add_column(
            sa.Column("is_baseline_lost", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        batch.add_column(
            sa.Column("is_report_read", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    op.create_table(
        "comparisons",
        sa.Column("run_id", sa.String(16), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("at", Utc(timezone=True), nullable=False),
        sa.Column("is_shown", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_comparisons_is_shown", "comparisons", ["is_shown"])


def downgrade() -> None:
    """Drop them, and with them the jobs that an older Tandem cannot read."""
    op.drop_index("ix_comparisons_is_shown", table_name="comparisons")
    op.drop_table("comparisons")
    newer = "(SELECT id FROM runs WHERE task IN ('probe', 'report'))"
    for table in ("events", "attempts", "metric_points", "idempotency_keys"):
        op.execute(f"DELETE FROM {table} WHERE run_id IN {newer}")
    op.execute("DELETE FROM runs WHERE task IN ('probe', 'report')")
    with op.batch_alter_table("runs") as batch:
        for name in (*_UNKNOWN_BEFORE, *_LINKS):
            batch.drop_index(f"ix_runs_{name}")
            batch.drop_column(name)
        batch.drop_column("is_report_read")
        batch.drop_column("is_baseline_lost")
