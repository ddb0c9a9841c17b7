"""Queued runs: their dependencies and reason to wait, and unstartable ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.spec.references import RunTeacher
from service.domain.errors.requests import (
    CheckpointMissing,
    DependencyFailed,
    NotFound,
    RunNotFound,
)
from service.domain.ids import split_ids
from service.domain.planning.references import references_of
from service.domain.runs import Run, transition
from service.domain.scheduling.queue import WaitDecision
from service.domain.states import RunState, is_over
from service.domain.vocabulary import EventKind
from service.usecases.context import Context
from service.usecases.leadership import Guard, no_guard
from service.usecases.runs.transitions import record_transition

_BATCH_SIZE = 500
"""Runs in one transaction: it takes hundredths of a second, so that heartbeats hardly wait."""

_MAX_NEW_REASONS = 2_500
"""Reasons of one turn of the queue: half a second of PostgreSQL's time, which changes each index
of a run."""


def fail_queued_run(run: Run, error: NotFound, *, ctx: Context) -> None:
    """Fail a queued run that can never start, because something it needs is missing."""
    now, message = ctx.clock.now(), str(error)
    is_dependency = isinstance(error, DependencyFailed | CheckpointMissing)
    reason = FailureReason.DEPENDENCY_FAILED if is_dependency else FailureReason.INVALID_SPEC
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id)
        if current.state is not RunState.QUEUED:
            return
        failed = replace(
            transition(current, RunState.FAILED, at=now), reason=reason, message=message
        )
        record_transition(uow, current, failed, actor="service", details=message, reason=reason)


def record_waits(
    waits: Sequence[WaitDecision],
    *,
    stored: Mapping[str, str | None],
    guard: Guard = no_guard,
    ctx: Context,
) -> None:
    """Store the reasons of waiting runs where they differ from those `stored`, each with an event.

    Rows are locked in the order of their ids, some hundreds in a transaction. Of thousands, those
    behind in the queue follow in the next turns, so that starts do not wait for them.
    """
    changed = [wait for wait in waits if stored.get(wait.run.id) != wait.why]
    # Those without any reason first: they become fewer, whatever else changes.
    changed.sort(key=lambda wait: stored.get(wait.run.id) is not None)
    reasons = {wait.run.id: wait.why for wait in changed[:_MAX_NEW_REASONS]}
    for run_ids in split_ids(sorted(reasons), size=_BATCH_SIZE):
        batch = {run_id: reasons[run_id] for run_id in run_ids}
        now = ctx.clock.now()
        with ctx.store.transaction() as uow:
            guard(uow)
            ids_by_reason: dict[str, list[str]] = {}
            for run_id in uow.runs.set_waiting_for(batch):
                ids_by_reason.setdefault(batch[run_id], []).append(run_id)
            for reason, run_ids in ids_by_reason.items():
                uow.events.add_to_runs(
                    run_ids, at=now, actor="queue", kind=EventKind.WAITING, details=reason
                )


def find_dependency(run: Run) -> str | None:
    """The id of the run whose checkpoint a run needs before its first attempt; None if none."""
    return None if run.attempt > 0 else references_of(run.spec).run_id


def find_missing_dependency(
    run: Run, *, states: Mapping[str, RunState], ctx: Context
) -> str | None:
    """Describe the run whose checkpoint a run waits for; `None` if nothing is missing.

    `states` has the states of all runs that are dependencies. Raises `DependencyFailed` or
    `CheckpointMissing` if the checkpoint will never exist.
    """
    references = references_of(run.spec)
    if not isinstance(references.model, RunTeacher) or run.attempt > 0:
        return None
    field_name, dependency_id = references.model_field, references.model.run
    state = states.get(dependency_id)
    if state is None:
        raise RunNotFound(dependency_id)
    if is_over(state) and state is not RunState.SUCCEEDED:
        raise DependencyFailed(field_name, dependency_id, state)
    if not is_over(state):
        return f"its {field_name}, run {dependency_id}"
    file = RunFile.BEST if references.model.checkpoint == "best" else RunFile.LAST
    if not ctx.files.has(ctx.files.run_dir(dependency_id) / file):
        raise CheckpointMissing(field_name, dependency_id, file)
    return None
