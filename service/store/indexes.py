"""The indexes of tables that grow with every run, so that no query's cost grows with them.

SQLite has no statistics, and those of PostgreSQL lag behind, so an index is made for one query: the
columns that it compares come first, then those of its order. Rows that no query looks for through
an index are left out of it, which keeps inserts cheap.
"""

from collections.abc import Iterator

from sqlalchemy import Index, text

_RUN_FILTERS = ("task", "state", "preset", "dataset")
"""Columns by which a list of runs is filtered, in all projects or in one."""


def index_runs() -> tuple[Index, ...]:
    """Indexes for lists of runs, for comparisons, and for what loops and metrics read."""
    return (
        *_index_lists(
            "runs",
            *((), ("project",)),
            *((column,) for column in _RUN_FILTERS),
            *(("project", column) for column in _RUN_FILTERS),
        ),
        *_index_lists("runs", ("trial",), where="trial IS NOT NULL"),
        _index("ix_runs_sweep", "sweep_id", "trial", where="sweep_id IS NOT NULL"),
        _index("ix_runs_pack_job", "pack_job", where="pack_job IS NOT NULL"),
        _index(
            *("ix_runs_baseline", "baseline_run_id", "sequence"),
            where="baseline_run_id IS NOT NULL",
        ),
        _index(
            *("ix_runs_spec_digest", "spec_digest", "project", "state", "sequence"),
            where="spec_digest IS NOT NULL",
        ),
        _index(
            *("ix_runs_seedless_digest", "seedless_digest", "project", "sequence"),
            where="seedless_digest IS NOT NULL",
        ),
        _index(
            *("ix_runs_scores", "seed_group_key", "project", "sequence"),
            where="state = 'succeeded' AND best_map IS NOT NULL",
        ),
        _index(
            *("ix_runs_teacher", "teacher_key", "project", "sequence"),
            where="teacher_map IS NOT NULL",
        ),
        _index("ix_runs_report", "report_run_id", where="report_run_id IS NOT NULL"),
        _index("ix_runs_model", "model_run_id", where="model_run_id IS NOT NULL"),
        _index("ix_runs_finished_at", "finished_at", "id"),
        _index(
            *("ix_runs_queue", "project", "priority", "created_at", "sequence"),
            where="state = 'queued'",
        ),
        _index("ix_runs_queued", "state", "project", "updated_at", where="state = 'queued'"),
        _index("ix_runs_unsynced", "mlflow_synced", "sequence", where="mlflow_synced IS false"),
        _index(
            *("ix_runs_unread_reports", "task", "state", "is_report_read", "sequence"),
            where="task = 'report' AND state = 'succeeded' AND is_report_read IS false",
        ),
        _index(
            *("ix_runs_comparison_revision", "comparison_revision"),
            where="comparison_revision IS NOT NULL",
        ),
    )


def index_run_tags() -> tuple[Index, ...]:
    """Indexes for lists of runs with a tag."""
    return tuple(_index_lists("run_tags", ("key", "value"), ("project", "key", "value")))


def index_sweeps() -> tuple[Index, ...]:
    """Indexes for lists of sweeps, and for what their loop reads."""
    filters = (("state",), ("project",), ("project", "state"))
    return (
        *(_index(f"ix_sweeps_{'_'.join(f)}_sequence", *f, "sequence") for f in filters),
        _index("ix_sweeps_report", "report_run_id", where="report_run_id IS NOT NULL"),
        _index("ix_sweeps_unsynced", "mlflow_synced", "sequence", where="mlflow_synced IS false"),
    )


def index_events() -> tuple[Index, ...]:
    """Indexes for the events of a run, and for those of a project."""
    return (
        _index("ix_events_run_id", "run_id", "id"),
        _index("ix_events_project", "project", "id"),
    )


def index_comparisons() -> tuple[Index, ...]:
    """The index of comparisons that MLflow does not have."""
    columns = ("mlflow_synced", "at", "run_id")
    return (_index("ix_comparisons_unsynced", *columns, where="mlflow_synced IS false"),)


def _index_lists(
    table: str, *filters: tuple[str, ...], where: str | None = None
) -> Iterator[Index]:
    """For each combination of filters of a list: an index in each order of the list."""
    for columns in filters:
        name = "_".join(("ix", table, *columns))
        if columns:
            yield _index(f"{name}_sequence", *columns, "sequence", where=where)
        has_map = " AND ".join(filter(None, (where, "best_map IS NOT NULL")))
        yield _index(f"{name}_best_map", *columns, "best_map", "sequence", where=has_map)


def _index(name: str, *columns: str, where: str | None = None) -> Index:
    """An index, of all rows or of those with a condition.

    A database uses a partial index only for queries with the same condition, SQLite only if it is
    written alike. Among several indexes SQLite prefers one whose first columns equal something, so
    a partial index begins with the columns of its condition.
    """
    if where is None:
        return Index(name, *columns)
    sqlite_where = text(where.replace("IS false", "IS 0"))
    return Index(name, *columns, sqlite_where=sqlite_where, postgresql_where=text(where))
