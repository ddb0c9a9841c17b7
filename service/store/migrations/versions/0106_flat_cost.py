"""No query's cost grows with the history: totals, tags in a table, what is left to do, indexes."""

import sqlalchemy as sa
from alembic import op

revision = "0106"
down_revision = "0103"
branch_labels = None
depends_on = None

_RUN_FILTERS = ("task", "state", "preset", "dataset")
_LISTS = (
    ("project",),
    *((name,) for name in _RUN_FILTERS),
    *(("project", name) for name in _RUN_FILTERS),
)
_OLD_INDEXES = (
    ("runs", ("spec_digest",)),
    ("runs", ("seedless_digest",)),
    ("runs", ("seed_group_key",)),
    ("runs", ("baseline_run_id",)),
    ("runs", ("report_run_id",)),
    ("runs", ("sweep_id",)),
    ("runs", ("trial",)),
    ("runs", ("pack_job",)),
    ("runs", ("best_map", "sequence")),
    *(("runs", (name, "best_map", "sequence")) for name in (*_RUN_FILTERS, "project")),
    ("events", ("run_id",)),
    ("comparisons", ("mlflow_synced",)),
    ("sweeps", ("project",)),
    ("sweeps", ("state",)),
)
_NEW_INDEXES = (
    *(
        (f"ix_runs_{'_'.join(names)}_sequence", "runs", (*names, "sequence"), None)
        for names in _LISTS
        if len(names) == 2
    ),
    *(
        (
            "_".join(("ix_runs", *names, "best_map")),
            "runs",
            (*names, "best_map", "sequence"),
            "best_map IS NOT NULL",
        )
        for names in ((), *_LISTS)
    ),
    ("ix_runs_trial_sequence", "runs", ("trial", "sequence"), "trial IS NOT NULL"),
    (
        "ix_runs_trial_best_map",
        "runs",
        ("trial", "best_map", "sequence"),
        "trial IS NOT NULL AND best_map IS NOT NULL",
    ),
    ("ix_runs_sweep", "runs", ("sweep_id", "trial"), "sweep_id IS NOT NULL"),
    ("ix_runs_pack_job", "runs", ("pack_job",), "pack_job IS NOT NULL"),
    ("ix_runs_baseline", "runs", ("baseline_run_id", "sequence"), "baseline_run_id IS NOT NULL"),
    (
        "ix_runs_spec_digest",
        "runs",
        ("spec_digest", "project", "state", "sequence"),
        "spec_digest IS NOT NULL",
    ),
    (
        "ix_runs_seedless_digest",
        "runs",
        ("seedless_digest", "project", "sequence"),
        "seedless_digest IS NOT NULL",
    ),
    (
        "ix_runs_scores",
        "runs",
        ("seed_group_key", "project", "spec_digest", "sequence"),
        "state = 'succeeded' AND best_map IS NOT NULL",
    ),
    ("ix_runs_teacher", "runs", ("teacher_key", "project", "sequence"), "teacher_map IS NOT NULL"),
    ("ix_runs_queued", "runs", ("state", "project", "updated_at"), "state = 'queued'"),
    ("ix_runs_unsynced", "runs", ("mlflow_synced", "sequence"), "mlflow_synced IS false"),
    (
        "ix_runs_unread_reports",
        "runs",
        ("task", "state", "is_report_read", "sequence"),
        "task = 'report' AND state = 'succeeded' AND is_report_read IS false",
    ),
    (
        "ix_runs_comparison_revision",
        "runs",
        ("comparison_revision",),
        "comparison_revision IS NOT NULL",
    ),
    *(
        (f"ix_run_tags_{'_'.join(names)}_sequence", "run_tags", (*names, "sequence"), None)
        for names in (("key", "value"), ("project", "key", "value"))
    ),
    *(
        (
            f"ix_run_tags_{'_'.join(names)}_best_map",
            "run_tags",
            (*names, "best_map", "sequence"),
            "best_map IS NOT NULL",
        )
        for names in (("key", "value"), ("project", "key", "value"))
    ),
    *(
        (f"ix_sweeps_{'_'.join(names)}_sequence", "sweeps", (*names, "sequence"), None)
        for names in (("state",), ("project",), ("project", "state"))
    ),
    ("ix_sweeps_unsynced", "sweeps", ("mlflow_synced", "sequence"), "mlflow_synced IS false"),
    ("ix_events_run_id", "events", ("run_id", "id"), None),
    ("ix_events_project", "events", ("project", "id"), None),
    (
        "ix_comparisons_unsynced",
        "comparisons",
        ("mlflow_synced", "at", "run_id"),
        "mlflow_synced IS false",
    ),
)


def upgrade() -> None:
    """Add tables and columns, fill them from the rows that there are, and replace the indexes."""
    for table, columns in _OLD_INDEXES:
        op.drop_index(_old_name(table, columns), table_name=table)
    op.drop_index("ix_points_of_key", table_name="metric_points")
    _create_tables()
    op.add_column("runs", sa.Column("teacher_key", sa.String(length=64), nullable=True))
    op.add_column("runs", sa.Column("teacher_map", sa.Float(), nullable=True))
    op.add_column("runs", sa.Column("comparison_revision", sa.Integer(), nullable=True))
    project = sa.Column("project", sa.String(64), server_default="default", nullable=False)
    op.add_column("events", project)
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _FILL_SQLITE if is_sqlite else _FILL_POSTGRESQL:
        op.execute(sa.text(statement))
    op.drop_column("runs", "tags")
    for name, table, columns, where in _NEW_INDEXES:
        _create_index(name, table, columns, where)


def downgrade() -> None:
    """Restore the tags of runs and the indexes of 0102, and remove the rest."""
    for name, table, _, _ in _NEW_INDEXES:
        op.drop_index(name, table_name=table)
    op.add_column("runs", sa.Column("tags", sa.JSON(), server_default="{}", nullable=False))
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    op.execute(sa.text(_RESTORE_TAGS_SQLITE if is_sqlite else _RESTORE_TAGS_POSTGRESQL))
    op.drop_column("events", "project")
    for column in ("comparison_revision", "teacher_map", "teacher_key"):
        op.drop_column("runs", column)
    for table in ("attempt_totals", "run_counts", "run_tags"):
        op.drop_table(table)
    op.create_index("ix_points_of_key", "metric_points", ["run_id", "key", "step"])
    for table, columns in _OLD_INDEXES:
        op.create_index(_old_name(table, columns), table, list(columns))


def _old_name(table: str, columns: tuple[str, ...]) -> str:
    return "_".join((f"ix_{table}", *(column for column in columns if column != "sequence")))


def _create_index(name: str, table: str, columns: tuple[str, ...], where: str | None) -> None:
    if where is None:
        op.create_index(name, table, list(columns))
        return
    op.create_index(
        name,
        table,
        list(columns),
        sqlite_where=sa.text(where.replace("IS false", "IS 0")),
        postgresql_where=sa.text(where),
    )


def _create_tables() -> None:
    op.create_table(
        "run_tags",
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("best_map", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "key"),
    )
    op.create_table(
        "run_counts",
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("state", "project"),
    )
    op.create_table(
        "attempt_totals",
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("cpu_s", sa.Float(), nullable=False),
        sa.Column("gpu_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "reason"),
    )


_COUNT_RUNS = """
    INSERT INTO run_counts (state, project, runs)
    SELECT state, project, count(*) FROM runs GROUP BY state, project
"""
_COPY_PROJECTS = """
    UPDATE events SET project = runs.project FROM runs
    WHERE runs.id = events.run_id AND runs.project <> 'default'
"""
_MARK_PAIRS_TO_COMPARE = """
    UPDATE runs SET comparison_revision = 1 WHERE id IN (
      SELECT run.id FROM runs AS run JOIN runs AS baseline ON baseline.id = run.baseline_run_id
      WHERE (
        baseline.state IN ('failed', 'cancelled') AND run.is_baseline_lost IS false
        AND run.state NOT IN ('failed', 'cancelled')
      ) OR (
        baseline.state NOT IN ('failed', 'cancelled') AND run.is_baseline_lost IS true
      ) OR (
        baseline.state = 'succeeded' AND run.state = 'succeeded'
        AND run.report_run_id IS NULL AND run.sweep_id IS NULL
      )
    )
"""


def _sum_attempts(duration_s: str) -> str:
    """Attempts that have ended, each with its resources; a pack counts once, when it is over.

    `duration_s` is the SQL of a duration in seconds, with placeholders `start` and `end`.
    """
    of_attempt = duration_s.format(start="a.created_at", end="a.ended_at")
    of_pack = duration_s.format(start="min(a.created_at)", end="max(a.ended_at)")
    return f"""
    INSERT INTO attempt_totals (project, reason, attempts, cpu_s, gpu_s)
    SELECT project, reason, sum(attempts), sum(cpu_s), sum(gpu_s) FROM (
      SELECT r.project AS project, coalesce(a.reason, '') AS reason, 1 AS attempts,
        {of_attempt} * a.processes * a.num_cpus AS cpu_s,
        {of_attempt} * a.processes * a.num_gpus AS gpu_s
      FROM attempts AS a JOIN runs AS r ON r.id = a.run_id
      WHERE a.ended_at IS NOT NULL AND a.pack_job IS NULL
      UNION ALL
      SELECT r.project, coalesce(a.reason, ''), 1, 0, 0
      FROM attempts AS a JOIN runs AS r ON r.id = a.run_id
      WHERE a.ended_at IS NOT NULL AND a.pack_job IS NOT NULL
      UNION ALL
      SELECT min(r.project), coalesce(min(a.reason), ''), 0,
        {of_pack} * max(a.processes) * max(a.num_cpus),
        {of_pack} * max(a.processes) * max(a.num_gpus)
      FROM attempts AS a JOIN runs AS r ON r.id = a.run_id
      WHERE a.pack_job IS NOT NULL
      GROUP BY a.pack_job HAVING count(a.ended_at) = count(*)
    ) AS ended GROUP BY project, reason
    """


_FILL_SQLITE = (
    """
    INSERT INTO run_tags (run_id, key, value, project, sequence, best_map)
    SELECT runs.id, tag.key, tag.value, runs.project, runs.sequence, runs.best_map
    FROM runs, json_each(runs.tags) AS tag
    """,
    """
    UPDATE runs SET teacher_map = json_extract(latest, '$."teacher/bbox_mAP"')
    WHERE json_extract(latest, '$."teacher/bbox_mAP"') IS NOT NULL
    """,
    _COUNT_RUNS,
    _sum_attempts("max(0, (julianday({end}) - julianday({start})) * 86400.0)"),
    _COPY_PROJECTS,
    _MARK_PAIRS_TO_COMPARE,
)
_FILL_POSTGRESQL = (
    """
    INSERT INTO run_tags (run_id, key, value, project, sequence, best_map)
    SELECT runs.id, tag.key, tag.value, runs.project, runs.sequence, runs.best_map
    FROM runs, json_each_text(runs.tags) AS tag
    """,
    """
    UPDATE runs SET teacher_map = CAST(latest ->> 'teacher/bbox_mAP' AS float)
    WHERE latest ->> 'teacher/bbox_mAP' IS NOT NULL
    """,
    _COUNT_RUNS,
    _sum_attempts("greatest(0, extract(epoch FROM {end} - {start}))"),
    _COPY_PROJECTS,
    _MARK_PAIRS_TO_COMPARE,
)
_RESTORE_TAGS_SQLITE = """
    UPDATE runs SET tags = (
      SELECT json_group_object(key, value) FROM run_tags WHERE run_tags.run_id = runs.id
    )
"""
_RESTORE_TAGS_POSTGRESQL = """
    UPDATE runs SET tags = (
      SELECT coalesce(json_object_agg(key, value), '{}') FROM run_tags WHERE run_id = runs.id
    )
"""
