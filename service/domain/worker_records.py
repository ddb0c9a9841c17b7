"""What a run becomes by what its worker says."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from configs.protocol.failure import FailureReason
from configs.protocol.names import Metric
from configs.protocol.records import (
    Behind,
    Delivery,
    Metrics,
    Outcome,
    Progress,
    Record,
    Tracked,
)
from service.domain.runs import Run


def after_records(run: Run, records: Sequence[Record], *, at: datetime) -> Run:
    """The run after the next records of its spool; its state is for the loops to change."""
    run = replace(
        run,
        heard_at=at,
        spool_next=run.spool_next + len(records),
        behind=_less(run.behind, by=len(records)),
    )
    for record in records:
        run = _after(run, record)
    return run


def heard(run: Run, delivery: Delivery, *, at: datetime) -> Run:
    """The run after a delivery came, before anything is taken of it."""
    behind = {**run.behind, **delivery.behind}
    if "service" in delivery.behind:
        # What it lacks follows from what it has: the worker may have missed a receipt.
        end = delivery.first + delivery.behind["service"]
        behind["service"] = max(0, end - run.spool_next)
    return replace(run, heard_at=at, behind=behind)


def _less(behind: Behind, *, by: int) -> Behind:
    """What is lacking once the service has so many more."""
    if "service" not in behind:
        return behind
    return {**behind, "service": max(0, behind["service"] - by)}


def _after(run: Run, record: Record) -> Run:
    if isinstance(record, Metrics):
        return _with_metrics(run, record)
    if isinstance(record, Progress):
        return replace(run, progress=record)
    if isinstance(record, Tracked):
        return replace(run, mlflow_run_id=record.mlflow_run_id)
    if isinstance(record, Outcome) and record.attempt == run.attempt:
        if run.pending_outcome is not None and record.reason is FailureReason.PREEMPTED:
            return run  # It was stopped by us, for a cause that we know better.
        return replace(run, pending_outcome=record.model_dump_json())
    return run


def _with_metrics(run: Run, record: Metrics) -> Run:
    run = replace(run, latest={**run.latest, **record.values})
    score = record.values.get(Metric.MAP)
    if score is None or (run.best_map is not None and score <= run.best_map):
        return run
    epoch = None if run.progress is None else run.progress.epoch
    return replace(run, best_map=score, best_epoch=epoch)
