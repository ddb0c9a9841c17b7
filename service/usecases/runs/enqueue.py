"""A new run into the queue, and its twin beside it."""

import secrets
import string
from dataclasses import replace
from datetime import datetime

from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.baselines import make_baseline, with_digests
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import MAX_NAME_LENGTH, Event, Run
from service.domain.scheduling.packs import PAIR_SIZE
from service.domain.states import RunState
from service.usecases.baselines.lookup import find_reusable_baseline, get_dataset_digest

_ID_ALPHABET = string.digits + string.ascii_lowercase
_ID_LENGTH = 12


def new_run_id() -> str:
    """An id that no run has."""
    return "r" + random_id_suffix()


def random_id_suffix() -> str:
    """What makes an id one of its own."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def create_queued_run(
    spec: JobSpec,
    *,
    name: str,
    project: str,
    priority: int,
    at: datetime,
    preset: str | None = None,
) -> Run:
    """A new run that waits; what is too long of its name is cut off."""
    return Run(
        id=new_run_id(),
        name=name[:MAX_NAME_LENGTH],
        preset=preset,
        spec=spec,
        state=RunState.QUEUED,
        created_at=at,
        updated_at=at,
        project=project,
        priority=priority,
    )


def add_run(
    uow: UnitOfWork,
    run: Run,
    *,
    actor: str,
    details: str | None = None,
    has_baseline: bool = False,
    is_packed: bool = False,
) -> Run:
    """Store a new run and that it was launched; with a twin, one that is there or a new one.

    After `unit.runs.alone`: nobody else books the same twin meanwhile. `is_packed`: the run and a
    twin that is new train side by side in one process; beside a twin that is there already the
    run trains alone, and waits for nobody.
    """
    why = details or f"Launched as {run.name}."
    if not has_baseline or not isinstance(run.spec, RunSpec):
        return _stored(uow, run, actor=actor, why=why)
    twin = find_reusable_baseline(uow, run.spec, project=run.project)
    made = twin or make_baseline(run, run.spec, run_id=new_run_id(), at=run.created_at)
    if is_packed and twin is None:
        run, made = replace(run, pack_size=PAIR_SIZE), replace(made, pack_size=PAIR_SIZE)
    booked = _stored(uow, replace(run, baseline_run_id=made.id), actor=actor, why=why)
    if twin is None:
        reason = (
            f"Booked as the baseline of run {run.id} ({run.name}): the same student, seed and "
            "batches without a teacher."
        )
        _stored(uow, made, actor=actor, why=reason)
        told = f"Its baseline, run {made.id}, is booked beside it."
    else:
        told = f"Its baseline is run {made.id}, which is there already ({made.state})."
    uow.events.add(Event(run.id, run.created_at, actor, "baseline", told))
    return booked


def _stored(uow: UnitOfWork, run: Run, *, actor: str, why: str) -> Run:
    found = run
    if isinstance(run.spec, RunSpec) and (digest := get_dataset_digest(uow, run.spec)) is not None:
        found = with_digests(run, dataset_digest=digest)
    uow.runs.add(found)
    uow.events.add(Event(run.id, run.created_at, actor, "launched", why, to_state=run.state))
    return found
