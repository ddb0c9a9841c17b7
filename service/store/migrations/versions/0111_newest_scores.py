"""The index of scores is in the order of runs, so that the newest ones are read without the rest."""

import sqlalchemy as sa
from alembic import op

revision = "0111"
down_revision = "0110"
branch_labels = None
depends_on = None

_NAME = "ix_runs_scores"


def upgrade() -> None:
    """Replace the index."""
    _replace("seed_group_key", "project", "sequence")


def downgrade() -> None:
    """Restore the index, which was in the order of equal runs."""
    _replace("seed_group_key", "project", "spec_digest", "sequence")


def _replace(*columns: str) -> None:
    has_score = sa.text("state = 'succeeded' AND best_map IS NOT NULL")
    op.drop_index(_NAME, table_name="runs")
    op.create_index(
        _NAME, "runs", list(columns), sqlite_where=has_score, postgresql_where=has_score
    )
