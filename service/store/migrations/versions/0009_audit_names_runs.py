"""The audit says which run and which token a request was about."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of lines that are there both stay unknown."""
    with op.batch_alter_table("audit") as batch:
        batch.add_column(sa.Column("run_id", sa.String(16), nullable=True))
        batch.add_column(sa.Column("token_id", sa.String(16), nullable=True))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("audit") as batch:
        batch.drop_column("token_id")
        batch.drop_column("run_id")
