"""Steps and names of metrics as long as a worker may say them: PostgreSQL minds a column's size."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_LARGEST = 2**31 - 1


def upgrade() -> None:
    """Widen the columns."""
    with op.batch_alter_table("metric_points") as batch:
        batch.alter_column(
            "step", existing_type=sa.Integer(), type_=sa.BigInteger(), existing_nullable=False
        )
        batch.alter_column(
            "key", existing_type=sa.String(64), type_=sa.String(250), existing_nullable=False
        )
    with op.batch_alter_table("runs") as batch:
        batch.alter_column(
            "max_step",
            existing_type=sa.Integer(),
            type_=sa.BigInteger(),
            existing_nullable=False,
            existing_server_default="0",
        )


def downgrade() -> None:
    """Narrow them again; values that an older Tandem has no room for are dropped."""
    op.execute(f"DELETE FROM metric_points WHERE step > {_LARGEST} OR length(key) > 64")
    op.execute(f"UPDATE runs SET max_step = {_LARGEST} WHERE max_step > {_LARGEST}")
    with op.batch_alter_table("runs") as batch:
        batch.alter_column(
            "max_step",
            existing_type=sa.BigInteger(),
            type_=sa.Integer(),
            existing_nullable=False,
            existing_server_default="0",
        )
    with op.batch_alter_table("metric_points") as batch:
        batch.alter_column(
            "key", existing_type=sa.String(250), type_=sa.String(64), existing_nullable=False
        )
        batch.alter_column(
            "step", existing_type=sa.BigInteger(), type_=sa.Integer(), existing_nullable=False
        )
