"""Projects, priorities, pauses and leases; attempts know their node."""

import sqlalchemy as sa
from alembic import op

from service.store.tables import Utc

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

def _new_of_runs():
    return (
        sa.Column("project", sa.String(64), nullable=False, server_default="default"),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("preempted_for", sa.String(16), nullable=True),
        sa.Column("strikes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("max_step", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("not_before", Utc(timezone=True), nullable=True),
        sa.Column("queue_position", sa.Integer(), nullable=True),
        sa.Column("lease_owner", sa.String(64), nullable=True),
        sa.Column("lease_until", Utc(timezone=True), nullable=True),
    )


def upgrade() -> None:
    """Add columns and tables; runs that are there belong to the project `default`."""
    with op.batch_alter_table("runs") as batch:
        for column in _new_of_runs():
            batch.add_column(column)
        batch.create_index("ix_runs_project", ["project"])
    with op.batch_alter_table("attempts") as batch:
        batch.add_column(sa.Column("node_id", sa.String(64), nullable=True))
        batch.add_column(sa.Column("num_cpus", sa.Integer(), nullable=False, server_default="1"))
        batch.add_column(sa.Column("num_gpus", sa.Integer(), nullable=False, server_default="0"))
        batch.create_index("ix_attempts_ended_at", ["ended_at"])
    with op.batch_alter_table("events") as batch:
        batch.alter_column("actor", existing_type=sa.String(32), type_=sa.String(64))
    op.create_table(
        "projects",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("max_runs", sa.Integer(), nullable=True),
        sa.Column("max_gpus", sa.Integer(), nullable=True),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("until", Utc(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Drop them; a paused run is queued again, for older versions know no pause."""
    op.drop_table("duties")
    op.drop_table("projects")
    op.execute("UPDATE runs SET state = 'queued' WHERE state = 'paused'")
    op.execute("UPDATE runs SET desired = 'run' WHERE desired = 'paused'")
    op.execute("UPDATE events SET actor = substr(actor, 1, 32)")
    with op.batch_alter_table("events") as batch:
        batch.alter_column("actor", existing_type=sa.String(64), type_=sa.String(32))
    with op.batch_alter_table("attempts") as batch:
        batch.drop_index("ix_attempts_ended_at")
        batch.drop_column("num_gpus")
        batch.drop_column("num_cpus")
        batch.drop_column("node_id")
    with op.batch_alter_table("runs") as batch:
        batch.drop_index("ix_runs_project")
        for column in _new_of_runs():
            batch.drop_column(column.name)
