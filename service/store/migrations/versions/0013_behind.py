"""How many records each destination lacks of a run's spool."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it to runs; of those that are there nothing was said."""
    with op.batch_alter_table("runs") as batch:
        batch.add_column(sa.Column("behind", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("runs") as batch:
        batch.drop_column("behind")
