"""The tables of the database. Times are aware and in UTC."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from configs.protocol.records import PendingRecords
from service.domain.run_fields import RUN_FIELDS
from service.store.indexes import (
    index_comparisons,
    index_events,
    index_run_tags,
    index_runs,
    index_sweeps,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite does not store time zones, so they are restored."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """One function for each value, and none on PostgreSQL: turns read 100,000 times."""
        read: Any = self.impl_instance.result_processor(dialect, coltype)
        return read if dialect.name == "postgresql" else partial(_read_utc, read)


def _read_utc(read: Callable[[Any], datetime | None] | None, value: Any) -> datetime | None:
    moment: datetime | None = value if read is None else read(value)
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Collects the metadata of all tables."""


def get_table(row: type[Base]) -> Table:
    """The table of a class, for statements without the bookkeeping of mapped objects."""
    return Base.metadata.tables[row.__tablename__]


class RunRow(Base):
    """A run, with its lease."""

    __tablename__ = "runs"
    __table_args__ = index_runs()

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, unique=True)
    """Increases with every run; orders lists and pages."""

    name: Mapped[str] = mapped_column(String(200))
    preset: Mapped[str | None] = mapped_column(String(200))
    task: Mapped[str] = mapped_column(String(16), server_default="train")
    dataset: Mapped[str | None] = mapped_column(String(64))
    """The name of the dataset in its spec; None for a report, and for a dataset as files."""

    model_run_id: Mapped[str | None] = mapped_column(String(16))
    """The run whose checkpoint is its teacher, or the model of its job."""

    spec: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    desired: Mapped[str] = mapped_column(String(16))
    project: Mapped[str] = mapped_column(String(64), server_default="default")
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    preempted_for: Mapped[str | None] = mapped_column(String(16))
    consecutive_failures: Mapped[int] = mapped_column(Integer, server_default="0")
    max_step: Mapped[int] = mapped_column(BigInteger, server_default="0")
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    """The service process that manages the run; no other one acts on its job."""

    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    attempt: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(Text)
    waiting_for: Mapped[str | None] = mapped_column(Text)
    next_spool_position: Mapped[int] = mapped_column(Integer)
    pending_records: Mapped[PendingRecords] = mapped_column(JSON, server_default="{}")
    progress: Mapped[str | None] = mapped_column(Text)
    latest: Mapped[dict[str, float]] = mapped_column(JSON)
    best_map: Mapped[float | None] = mapped_column(Float)
    best_epoch: Mapped[int | None] = mapped_column(Integer)
    pending_outcome: Mapped[str | None] = mapped_column(Text)
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    mlflow_synced: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    stop_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    spec_digest: Mapped[str | None] = mapped_column(String(64))
    seedless_digest: Mapped[str | None] = mapped_column(String(64))
    seed_group_key: Mapped[str | None] = mapped_column(String(64))
    teacher_key: Mapped[str | None] = mapped_column(String(64))
    teacher_map: Mapped[float | None] = mapped_column(Float)
    """The mAP of its teacher on its images; None until it has measured it."""

    baseline_run_id: Mapped[str | None] = mapped_column(String(16))
    is_baseline_lost: Mapped[bool] = mapped_column(Boolean, server_default=false())
    comparison_revision: Mapped[int | None] = mapped_column(Integer)
    """A random number since a change that its comparison, or one with it, depends on.

    None once the comparisons have followed the change."""

    report_run_id: Mapped[str | None] = mapped_column(String(16))
    is_report_read: Mapped[bool] = mapped_column(Boolean, server_default=false())
    sweep_id: Mapped[str | None] = mapped_column(String(16))
    trial: Mapped[int | None] = mapped_column(Integer)
    pack_size: Mapped[int] = mapped_column(Integer, server_default="1")
    pack_job: Mapped[str | None] = mapped_column(String(16))
    files_deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When retention deleted files or metric values of it; such a run cannot be retried."""


RUN_COLUMNS = tuple(getattr(RunRow, name) for name in RUN_FIELDS)
SELECT_RUNS = select(*RUN_COLUMNS)
"""What a run consists of: a third less work than mapped objects, which are for changes."""


class RunTagRow(Base):
    """A tag of a run, with copies of the columns that filter and sort lists of runs with a tag."""

    __tablename__ = "run_tags"
    __table_args__ = index_run_tags()

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(200))
    project: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(Integer)
    best_map: Mapped[float | None] = mapped_column(Float)


class RunCountRow(Base):
    """How many runs of a project are in a state."""

    __tablename__ = "run_counts"

    state: Mapped[str] = mapped_column(String(16), primary_key=True)
    project: Mapped[str] = mapped_column(String(64), primary_key=True)
    runs: Mapped[int] = mapped_column(Integer)


class AttemptTotalRow(Base):
    """The attempts of a project that ended for a reason, and the resources that they used."""

    __tablename__ = "attempt_totals"

    project: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[str] = mapped_column(String(32), primary_key=True)
    """Empty after success or a requested stop."""

    attempts: Mapped[int] = mapped_column(Integer)
    cpu_s: Mapped[float] = mapped_column(Float)
    gpu_s: Mapped[float] = mapped_column(Float)


class SweepRow(Base):
    """A sweep, with the idempotency key of its launch."""

    __tablename__ = "sweeps"
    __table_args__ = index_sweeps()

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, unique=True)
    """Increases with every sweep; orders lists and pages."""

    name: Mapped[str] = mapped_column(String(200))
    preset: Mapped[str | None] = mapped_column(String(200))
    project: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(Integer)
    spec: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    desired: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(String(64))
    driver: Mapped[int] = mapped_column(Integer)
    driver_log_start: Mapped[int] = mapped_column(Integer)
    consecutive_failures: Mapped[int] = mapped_column(Integer)
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    searching_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    pack_size: Mapped[int] = mapped_column(Integer, server_default="1")
    slots: Mapped[int] = mapped_column(Integer, server_default="1")
    search_duration_s: Mapped[float] = mapped_column(Float)
    probe: Mapped[str | None] = mapped_column(Text)
    probe_run_id: Mapped[str | None] = mapped_column(String(16))
    report_run_id: Mapped[str | None] = mapped_column(String(16))
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    mlflow_synced: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SweepEntryRow(Base):
    """An entry of a sweep's log; append-only."""

    __tablename__ = "sweep_entries"

    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweeps.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    document: Mapped[str] = mapped_column(Text)


class AttemptRow(Base):
    """An attempt of a run."""

    __tablename__ = "attempts"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    submission_id: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    processes: Mapped[int] = mapped_column(Integer, server_default="1")
    num_cpus: Mapped[int] = mapped_column(Integer, server_default="1")
    num_gpus: Mapped[int] = mapped_column(Integer, server_default="0")
    pack_job: Mapped[str | None] = mapped_column(String(16), index=True)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    host: Mapped[str | None] = mapped_column(Text)
    node_id: Mapped[str | None] = mapped_column(String(64))
    device: Mapped[str | None] = mapped_column(Text)
    resumed_from_epoch: Mapped[int | None] = mapped_column(Integer)
    exit_code: Mapped[int | None] = mapped_column(Integer)
    reason: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(Text)


class EventRow(Base):
    """An event of a run; append-only."""

    __tablename__ = "events"
    __table_args__ = index_events()

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    project: Mapped[str] = mapped_column(String(64), server_default="default")
    """The project of its run."""

    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(32))
    details: Mapped[str] = mapped_column(Text)
    from_state: Mapped[str | None] = mapped_column(String(16))
    to_state: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(32))


class MetricPointRow(Base):
    """A value of a metric; the primary key makes repeated deliveries harmless."""

    __tablename__ = "metric_points"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[float] = mapped_column(Float)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class ComparisonRow(Base):
    """The newest comparison of a distilled run with its baselines."""

    __tablename__ = "comparisons"
    __table_args__ = index_comparisons()

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    document: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    mlflow_synced: Mapped[bool] = mapped_column(Boolean)
    """Whether MLflow shows it."""


class IdempotencyKeyRow(Base):
    """An idempotency key, and the run or sweep that its request launched."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    request_digest: Mapped[str] = mapped_column(String(64))
    resource_id: Mapped[str] = mapped_column(String(16), index=True)


class DatasetRow(Base):
    """A registered dataset."""

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    root: Mapped[str] = mapped_column(Text)
    manifest: Mapped[str] = mapped_column(Text)
    project: Mapped[str | None] = mapped_column(String(64))
    """The project that registered it. None if its token was limited to none."""

    registered_at: Mapped[datetime] = mapped_column(UtcDateTime)


class TeacherRow(Base):
    """A registered teacher."""

    __tablename__ = "teachers"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    checkpoint: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    detector: Mapped[str] = mapped_column(Text)
    classes: Mapped[list[str]] = mapped_column(JSON)
    measured_map: Mapped[float | None] = mapped_column(Float)
    source: Mapped[str] = mapped_column(Text)
    project: Mapped[str | None] = mapped_column(String(64))
    """The project that registered it. None if its token was limited to none."""

    registered_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ProjectRow(Base):
    """A project that differs from the defaults."""

    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    weight: Mapped[float] = mapped_column(Float)
    max_runs: Mapped[int | None] = mapped_column(Integer)
    max_gpus: Mapped[int | None] = mapped_column(Integer)
    max_priority: Mapped[int] = mapped_column(Integer, server_default="0")


class LeaderLeaseRow(Base):
    """The lease of a task that one service process at a time performs."""

    __tablename__ = "leader_leases"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    until: Mapped[datetime] = mapped_column(UtcDateTime)


class TokenRow(Base):
    """An access token; its secret is stored as a digest only."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    project: Mapped[str | None] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AuditRow(Base):
    """An entry of the audit log."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(64))
    method: Mapped[str] = mapped_column(String(8))
    path: Mapped[str] = mapped_column(Text)
    status: Mapped[int] = mapped_column(Integer)
    request_id: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    run_id: Mapped[str | None] = mapped_column(String(16))
    token_id: Mapped[str | None] = mapped_column(String(16))
