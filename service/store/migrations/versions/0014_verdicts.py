"""Verdicts of one pair without a noise floor are none: MLflow is to be told again of those."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_OF_ONE_PAIR_ALONE = "%nothing else: there is one seed%"


def upgrade() -> None:
    """Have them shown again; when they are read they have no verdict any more."""
    op.execute(
        "UPDATE comparisons SET is_shown = false "
        f"WHERE document LIKE '{_OF_ONE_PAIR_ALONE}' "
        "AND (document LIKE '%\"verdict\":\"helps\"%' OR document LIKE '%\"verdict\":\"hurts\"%')"
    )


def downgrade() -> None:
    """Nothing was added."""
