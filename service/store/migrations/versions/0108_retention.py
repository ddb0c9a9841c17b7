"""What retention needs: the run of a run's model, whether files are deleted, and indexes."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0108"
down_revision = "0106"
branch_labels = None
depends_on = None

_BATCH_SIZE = 1000
_REFERENCES = (("runs", "model"), ("runs", "report"), ("sweeps", "report"))

_RUNS = sa.table("runs", sa.column("id"), sa.column("spec"), sa.column("model_run_id"))


def upgrade() -> None:
    """Add the columns and indexes, and fill the model's run from the specs."""
    op.add_column("runs", sa.Column("model_run_id", sa.String(length=16), nullable=True))
    op.add_column("runs", sa.Column("files_deleted_at", sa.DateTime(timezone=True), nullable=True))
    _fill_models(op.get_bind())
    for table, column in _REFERENCES:
        is_set = sa.text(f"{column}_run_id IS NOT NULL")
        op.create_index(
            f"ix_{table}_{column}",
            table,
            [f"{column}_run_id"],
            sqlite_where=is_set,
            postgresql_where=is_set,
        )
    op.create_index("ix_runs_finished_at", "runs", ["finished_at", "id"])
    op.create_index("ix_idempotency_keys_resource_id", "idempotency_keys", ["resource_id"])


def downgrade() -> None:
    """Remove the columns and indexes."""
    op.drop_index("ix_idempotency_keys_resource_id", table_name="idempotency_keys")
    op.drop_index("ix_runs_finished_at", table_name="runs")
    for table, column in _REFERENCES:
        op.drop_index(f"ix_{table}_{column}", table_name=table)
    op.drop_column("runs", "files_deleted_at")
    op.drop_column("runs", "model_run_id")


def _fill_models(connection: sa.Connection) -> None:
    """Fill the column in batches, because the specs of all runs may not fit into memory."""
    query = sa.select(_RUNS.c.id, _RUNS.c.spec).order_by(_RUNS.c.id).limit(_BATCH_SIZE)
    update = (
        sa.update(_RUNS)
        .where(_RUNS.c.id == sa.bindparam("run_id"))
        .values(model_run_id=sa.bindparam("model"))
    )
    last_id = ""
    while batch := connection.execute(query.where(_RUNS.c.id > last_id)).all():
        models = {run_id: _find_model(json.loads(spec)) for run_id, spec in batch}
        changes = [{"run_id": run_id, "model": model} for run_id, model in models.items() if model]
        if changes:
            connection.execute(update, changes)
        last_id = batch[-1].id


def _find_model(spec: dict[str, object]) -> str | None:
    """The run that trains the teacher of a training run or a probe, or the model of a job."""
    base = spec.get("base")
    models = [spec.get("teacher"), spec.get("model")]
    models.append(base.get("teacher") if isinstance(base, dict) else None)
    run_ids = [model.get("run") for model in models if isinstance(model, dict)]
    return next((run_id for run_id in run_ids if isinstance(run_id, str)), None)
