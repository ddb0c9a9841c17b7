"""Updates a run from what its worker delivers."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from configs.metric_keys import Metric
from configs.protocol.failure import FailureReason
from configs.protocol.records import (
    Delivery,
    Metrics,
    Outcome,
    PendingRecords,
    Progress,
    Record,
    Tracked,
)
from service.domain.runs import Run, RunResults


def update_from_records(run: Run, records: Sequence[Record], *, at: datetime) -> Run:
    """The run after the next records of its spool; its state is left to the loops."""
    ingest = replace(
        run.ingest,
        last_seen_at=at,
        next_spool_position=run.ingest.next_spool_position + len(records),
        pending_records=_acknowledge(run.ingest.pending_records, by=len(records)),
    )
    run = replace(run, ingest=ingest)
    for record in records:
        run = _apply(run, record)
    return run


def update_from_delivery(run: Run, delivery: Delivery, *, at: datetime) -> Run:
    """The run after a delivery arrived, before its records are applied."""
    pending = {**run.ingest.pending_records, **delivery.pending_records}
    if "service" in delivery.pending_records:
        # Count from what is stored: the worker may have missed the response to its last delivery.
        end = delivery.first + delivery.pending_records["service"]
        pending["service"] = max(0, end - run.ingest.next_spool_position)
    return replace(run, ingest=replace(run.ingest, last_seen_at=at, pending_records=pending))


def _acknowledge(pending: PendingRecords, *, by: int) -> PendingRecords:
    if "service" not in pending:
        return pending
    return {**pending, "service": max(0, pending["service"] - by)}


def _apply(run: Run, record: Record) -> Run:
    if isinstance(record, Metrics):
        return replace(run, results=_with_metrics(run.results, record))
    if isinstance(record, Progress):
        return replace(run, results=replace(run.results, progress=record))
    if isinstance(record, Tracked):
        tracking = replace(run.tracking, mlflow_run_id=record.mlflow_run_id)
        return replace(run, tracking=tracking)
    if isinstance(record, Outcome) and record.attempt == run.attempt:
        if run.ingest.pending_outcome is not None and record.reason is FailureReason.PREEMPTED:
            return run  # The service stopped it, and has recorded the cause already.
        ingest = replace(run.ingest, pending_outcome=record.model_dump_json())
        return replace(run, ingest=ingest)
    return run


def _with_metrics(results: RunResults, record: Metrics) -> RunResults:
    results = replace(results, latest={**results.latest, **record.values})
    score = record.values.get(Metric.MAP)
    if score is None or (results.best_map is not None and score <= results.best_map):
        return results
    epoch = None if results.progress is None else results.progress.epoch
    return replace(results, best_map=score, best_epoch=epoch)
