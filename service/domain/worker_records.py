"""Updates a run from what its worker delivers."""

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
    """The run after the next records of its spool; its state is left to the loops."""
    run = replace(
        run,
        last_seen_at=at,
        next_spool_position=run.next_spool_position + len(records),
        pending_records=_acknowledge(run.pending_records, by=len(records)),
    )
    for record in records:
        run = _apply(run, record)
    return run


def update_from_delivery(run: Run, delivery: Delivery, *, at: datetime) -> Run:
    """The run after a delivery arrived, before its records are applied."""
    pending = {**run.pending_records, **delivery.pending_records}
    if "service" in delivery.pending_records:
        # Count from what is stored: the worker may have missed the response to its last delivery.
        end = delivery.first + delivery.pending_records["service"]
        pending["service"] = max(0, end - run.next_spool_position)
    return replace(run, last_seen_at=at, pending_records=pending)


def _acknowledge(pending: PendingRecords, *, by: int) -> PendingRecords:
    if "service" not in pending:
        return pending
    return {**pending, "service": max(0, pending["service"] - by)}


def _apply(run: Run, record: Record) -> Run:
    if isinstance(record, Metrics):
        return _with_metrics(run, record)
    if isinstance(record, Progress):
        return replace(run, progress=record)
    if isinstance(record, Tracked):
        return replace(run, mlflow_run_id=record.mlflow_run_id)
    if isinstance(record, Outcome) and record.attempt == run.attempt:
        if run.pending_outcome is not None and record.reason is FailureReason.PREEMPTED:
            return run  # The service stopped it, and has recorded the cause already.
        return replace(run, pending_outcome=record.model_dump_json())
    return run


def _with_metrics(run: Run, record: Metrics) -> Run:
    run = replace(run, latest={**run.latest, **record.values})
    score = record.values.get(Metric.MAP)
    if score is None or (run.best_map is not None and score <= run.best_map):
        return run
    epoch = None if run.progress is None else run.progress.epoch
    return replace(run, best_map=score, best_epoch=epoch)
