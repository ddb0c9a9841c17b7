"""Projects have a largest priority; datasets and teachers know the project that registered them."""

import sqlalchemy as sa
from alembic import op

revision = "0110"
down_revision = "0108"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. What is registered already belongs to no project: only admins replace it."""
    op.add_column(
        "projects", sa.Column("max_priority", sa.Integer(), server_default="0", nullable=False)
    )
    op.add_column("datasets", sa.Column("project", sa.String(length=64), nullable=True))
    op.add_column("teachers", sa.Column("project", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Remove the columns."""
    op.drop_column("teachers", "project")
    op.drop_column("datasets", "project")
    op.drop_column("projects", "max_priority")
