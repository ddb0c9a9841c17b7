"""Attempts have rows of their own; those of earlier runs are made from what their runs say."""

import sqlalchemy as sa
from alembic import op

import service.store.tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "attempts",
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", service.store.tables.Utc(timezone=True), nullable=False),
        sa.Column("ended_at", service.store.tables.Utc(timezone=True), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("resumed_from_epoch", sa.Integer(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "number"),
        sa.UniqueConstraint("submission_id"),
    )
    op.execute(
        "INSERT INTO attempts (run_id, number, submission_id, created_at, ended_at, message) "
        "SELECT id, attempt, id || '-a' || attempt, created_at, finished_at, '' "
        "FROM runs WHERE attempt > 0"
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("attempts")
