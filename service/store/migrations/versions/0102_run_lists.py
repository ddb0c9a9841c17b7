"""Runs have a column of their dataset's name, and indexes for each filter and order of their list."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0102"
down_revision = "0101"
branch_labels = None
depends_on = None

_FILTERS = ("task", "state", "project", "preset", "dataset")
_REPLACED = ("task", "state", "project", "preset")
"""Columns whose own index a longer one replaces."""

_BATCH_SIZE = 1000

_RUNS = sa.table("runs", sa.column("id"), sa.column("spec"), sa.column("dataset"))


def upgrade() -> None:
    """Add the column, fill it from the specs, and replace the indexes."""
    op.add_column("runs", sa.Column("dataset", sa.String(length=64), nullable=True))
    _fill_datasets(op.get_bind())
    for column in _REPLACED:
        op.drop_index(f"ix_runs_{column}", table_name="runs")
    op.create_index("ix_runs_best_map", "runs", ["best_map", "sequence"])
    for column in _FILTERS:
        op.create_index(f"ix_runs_{column}_sequence", "runs", [column, "sequence"])
        op.create_index(f"ix_runs_{column}_best_map", "runs", [column, "best_map", "sequence"])


def downgrade() -> None:
    """Restore the indexes of 0101, and remove the column."""
    for column in _FILTERS:
        op.drop_index(f"ix_runs_{column}_best_map", table_name="runs")
        op.drop_index(f"ix_runs_{column}_sequence", table_name="runs")
    op.drop_index("ix_runs_best_map", table_name="runs")
    for column in _REPLACED:
        op.create_index(f"ix_runs_{column}", "runs", [column])
    op.drop_column("runs", "dataset")


def _fill_datasets(connection: sa.Connection) -> None:
    """Fill the column in batches, because the specs of all runs may not fit into memory."""
    query = sa.select(_RUNS.c.id, _RUNS.c.spec).order_by(_RUNS.c.id).limit(_BATCH_SIZE)
    update = (
        sa.update(_RUNS)
        .where(_RUNS.c.id == sa.bindparam("run_id"))
        .values(dataset=sa.bindparam("name"))
    )
    last_id = ""
    while batch := connection.execute(query.where(_RUNS.c.id > last_id)).all():
        names = {run_id: _find_dataset_name(json.loads(spec)) for run_id, spec in batch}
        changes = [{"run_id": run_id, "name": name} for run_id, name in names.items() if name]
        if changes:
            connection.execute(update, changes)
        last_id = batch[-1].id


def _find_dataset_name(spec: dict[str, object]) -> str | None:
    """The dataset of a training run or an evaluation (`data`), of an export, or of a probe."""
    parts = [spec, spec.get("data"), base := spec.get("base")]
    parts.append(base.get("data") if isinstance(base, dict) else None)
    datasets = [part.get("dataset") for part in parts if isinstance(part, dict)]
    names = [dataset.get("name") for dataset in datasets if isinstance(dataset, dict)]
    return next((name for name in names if isinstance(name, str)), None)
