"""Sweeps and their lists; runs know the sweep and the trial that they are part of."""

import sqlalchemy as sa
from alembic import op

from service.store.tables import Utc

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and tables; runs that are there are of no sweep."""
    with op.batch_alter_table("runs") as batch:
        batch.add_column(sa.Column("sweep_id", sa.String(16), nullable=True))
        batch.add_column(sa.Column("trial", sa.Integer(), nullable=True))
        batch.create_index("ix_runs_sweep_id", ["sweep_id"])
        batch.create_index("ix_runs_trial", ["trial"])
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("order", sa.Integer(), nullable=False, unique=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("preset", sa.String(200), nullable=True),
        sa.Column("project", sa.String(64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("wants", sa.String(16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("driver", sa.Integer(), nullable=False),
        sa.Column("driver_log_start", sa.Integer(), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("not_before", Utc(timezone=True), nullable=True),
        sa.Column("last_seen_at", Utc(timezone=True), nullable=True),
        sa.Column("searching_since", Utc(timezone=True), nullable=True),
        sa.Column("search_duration_s", sa.Float(), nullable=False),
        sa.Column("probe", sa.Text(), nullable=True),
        sa.Column("probe_run_id", sa.String(16), nullable=True),
        sa.Column("report_run_id", sa.String(16), nullable=True),
        sa.Column("mlflow_run_id", sa.String(64), nullable=True),
        sa.Column("mlflow_synced", sa.Boolean(), nullable=False),
        sa.Column("created_at", Utc(timezone=True), nullable=False),
        sa.Column("changed_at", Utc(timezone=True), nullable=False),
        sa.Column("finished_at", Utc(timezone=True), nullable=True),
        sa.Column("key", sa.String(200), nullable=True, unique=True),
        sa.Column("request_digest", sa.String(64), nullable=True),
    )
    op.create_index("ix_sweeps_project", "sweeps", ["project"])
    op.create_index("ix_sweeps_state", "sweeps", ["state"])
    op.create_table(
        "sweep_entries",
        sa.Column("sweep_id", sa.String(16), sa.ForeignKey("sweeps.id"), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("document", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    """Drop them, and with them the runs that an older Tandem cannot read: probes and reports."""
    others = "(SELECT id FROM runs WHERE task IN ('probe', 'report'))"
    for table in ("events", "attempts", "metric_points", "idempotency_keys"):
        op.execute(f"DELETE FROM {table} WHERE run_id IN {others}")
    op.execute("DELETE FROM runs WHERE task IN ('probe', 'report')")
    op.drop_table("sweep_entries")
    op.drop_table("sweeps")
    with op.batch_alter_table("runs") as batch:
        batch.drop_index("ix_runs_trial")
        batch.drop_index("ix_runs_sweep_id")
        batch.drop_column("trial")
        batch.drop_column("sweep_id")
