"""Adds new runs to the queue, with their baselines."""

from dataclasses import replace
from datetime import datetime

from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.baselines import make_baseline, with_digests
from service.domain.ids import new_run_id
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import MAX_NAME_LENGTH, Event, PackMembership, QueueEntry, Run
from service.domain.scheduling.packs import PAIR_SIZE
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.usecases.baselines.lookup import BaselineLookup, get_dataset_digest


def create_queued_run(
    spec: JobSpec,
    *,
    name: str,
    project: str,
    priority: int,
    at: datetime,
    preset: str | None = None,
) -> Run:
    """A new queued run, not yet stored; a longer name is truncated to `MAX_NAME_LENGTH`."""
    return Run(
        id=new_run_id(),
        name=name[:MAX_NAME_LENGTH],
        preset=preset,
        spec=spec,
        state=RunState.QUEUED,
        created_at=at,
        updated_at=at,
        project=project,
        queue=QueueEntry(priority=priority),
    )


def add_run(
    uow: UnitOfWork,
    run: Run,
    *,
    actor: str,
    details: str | None = None,
    lookup: BaselineLookup | None = None,
    is_packed: bool = False,
) -> Run:
    """Store a new run and its launch event; with a lookup, reuse or add its baseline as well.

    Call `runs.lock_inserts` first, so that no concurrent launch adds the same baseline.
    `is_packed`: the run and a new baseline train in one process; with a reused baseline the run
    trains alone.
    """
    details = details or f"Launched as {run.name}."
    if lookup is None or not isinstance(run.spec, RunSpec):
        stored = _add_digests(uow, run)
        uow.runs.add(stored)
        uow.events.add(_launch_event(run, actor=actor, details=details))
        return stored
    digest, reusable = lookup.dataset_digest, lookup.reusable
    added, events = [run], [_launch_event(run, actor=actor, details=details)]
    if reusable is not None:
        baseline_id = reusable.id
        assignment = f"Its baseline is the existing run {reusable.id} ({reusable.state})."
    else:
        baseline = make_baseline(run, run.spec, run_id=new_run_id(), at=run.created_at)
        if is_packed:
            pack = PackMembership(size=PAIR_SIZE)
            run, baseline = replace(run, pack=pack), replace(baseline, pack=pack)
        baseline_id, added = baseline.id, [run, baseline]
        launch_details = (
            f"Launched as the baseline of run {run.id} ({run.name}): the same student, seed and "
            "batches without a teacher."
        )
        events.append(_launch_event(baseline, actor=actor, details=launch_details))
        assignment = f"Its baseline, run {baseline.id}, was launched with it."
    added[0] = replace(run, lineage=replace(run.lineage, baseline_run_id=baseline_id))
    events.append(Event(run.id, run.created_at, actor, EventKind.BASELINE_ASSIGNED, assignment))
    stored_runs = [_with_digests(item, dataset_digest=digest) for item in added]
    uow.runs.add(*stored_runs)
    uow.events.add(*events)
    return stored_runs[0]


def _add_digests(uow: UnitOfWork, run: Run) -> Run:
    if not isinstance(run.spec, RunSpec) or run.lineage.spec_digest is not None:
        return run
    return _with_digests(run, dataset_digest=get_dataset_digest(uow, run.spec))


def _with_digests(run: Run, *, dataset_digest: str | None) -> Run:
    if dataset_digest is None or run.lineage.spec_digest is not None:
        return run
    return with_digests(run, dataset_digest=dataset_digest)


def _launch_event(run: Run, *, actor: str, details: str) -> Event:
    return Event(run.id, run.created_at, actor, EventKind.LAUNCHED, details, to_state=run.state)
