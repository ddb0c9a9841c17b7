"""What a run becomes by what its worker says."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from configs.protocol.failure import FailureReason
from configs.protocol.names import Metric
from configs.protocol.records import (
    Delivery,
    Metrics,
    Outcome,
    PendingRecords,
    Progress,
    Record,
    Tracked,
)
from service.domain.runs import Run


def update_from_records(run: Run, records: Sequence[Record], *, at: datetime) -> Run:
    """The run after the next records of its spool; its state is for the loops to change."""
    run = replace(
        run,
        last_seen_at=at,
        next_spool_position=run.next_spool_position + len(records),
        pending_records=_less(run.pending_records, by=len(records)),
    )
    for record in records:
        run = _after(run, record)
    return run


def update_from_delivery(run: Run, delivery: Delivery, *, at: datetime) -> Run:
    """The run after a delivery came, before anything is taken of it."""
    behind = {**run.pending_records, **delivery.pending_records}
    if "service" in delivery.pending_records:
        # What it lacks follows from what it has: the worker may have missed a receipt.
        end = delivery.first + delivery.pending_records["service"]
        behind["service"] = max(0, end - run.next_spool_position)
    return replace(run, last_seen_at=at, pending_records=behind)


def _less(behind: PendingRecords, *, by: int) -> PendingRecords:
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
