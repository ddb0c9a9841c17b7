"""The queue's positions are computed from an index of the queued runs, and no longer stored."""

import sqlalchemy as sa
from alembic import op

revision = "0103"
down_revision = "0102"
branch_labels = None
depends_on = None

_IS_QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    """Replace the column by an index."""
    op.drop_column("runs", "queue_position")
    op.create_index(
        "ix_runs_queue",
        "runs",
        ["project", "priority", "created_at", "sequence"],
        sqlite_where=_IS_QUEUED,
        postgresql_where=_IS_QUEUED,
    )


def downgrade() -> None:
    """Restore the column; older services fill it."""
    op.drop_index("ix_runs_queue", table_name="runs")
    op.add_column("runs", sa.Column("queue_position", sa.Integer(), nullable=True))
