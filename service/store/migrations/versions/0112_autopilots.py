"""Autopilots, their histories and their jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0112"
down_revision = "0111"
branch_labels = None
depends_on = None

_INDEXES = (("phase",), ("project",), ("project", "phase"))


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "autopilots",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("preset", sa.String(length=200), nullable=True),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("desired", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=True),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("active_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("active_s", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sequence"),
    )
    for columns in _INDEXES:
        name = "_".join(("ix_autopilots", *columns, "sequence"))
        op.create_index(name, "autopilots", [*columns, "sequence"])
    op.create_table(
        "autopilot_entries",
        sa.Column("autopilot_id", sa.String(length=16), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["autopilot_id"], ["autopilots.id"]),
        sa.PrimaryKeyConstraint("autopilot_id", "position"),
    )
    op.create_table(
        "autopilot_jobs",
        sa.Column("autopilot_id", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("first_attempt", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["autopilot_id"], ["autopilots.id"]),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("autopilot_id", "key"),
    )
    op.create_index("ix_autopilot_jobs_run_id", "autopilot_jobs", ["run_id"])


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("autopilot_jobs")
    op.drop_table("autopilot_entries")
    op.drop_table("autopilots")
