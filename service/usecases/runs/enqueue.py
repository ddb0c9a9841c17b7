"""A new run into the queue, and its twin beside it."""

import secrets
import string
from dataclasses import replace
from datetime import datetime

from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.baselines import twin_of, with_digests
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import LONGEST_NAME, Event, Run
from service.domain.scheduling.packs import PAIR_SIZE
from service.domain.states import RunState
from service.usecases.baselines.lookup import dataset_digest_of, reusable_twin

_ID_ALPHABET = string.digits + string.ascii_lowercase
_ID_LENGTH = 12


def new_run_id() -> str:
    """An id that no run has."""
    return "r" + random_letters()


def random_letters() -> str:
    """What makes an id one of its own."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def queued_run(
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
        name=name[:LONGEST_NAME],
        preset=preset,
        spec=spec,
        state=RunState.QUEUED,
        created_at=at,
        changed_at=at,
        project=project,
        priority=priority,
    )


def add_run(
    unit: Unit,
    run: Run,
    *,
    actor: str,
    details: str | None = None,
    has_twin: bool = False,
    is_packed: bool = False,
) -> Run:
    """Store a new run and that it was launched; with a twin, one that is there or a new one.

    After `unit.runs.alone`: nobody else books the same twin meanwhile. `is_packed`: the run and a
    twin that is new train side by side in one process; beside a twin that is there already the
    run trains alone, and waits for nobody.
    """
    why = details or f"Launched as {run.name}."
    if not has_twin or not isinstance(run.spec, RunSpec):
        return _stored(unit, run, actor=actor, why=why)
    twin = reusable_twin(unit, run.spec, project=run.project)
    made = twin or twin_of(run, run.spec, run_id=new_run_id(), at=run.created_at)
    if is_packed and twin is None:
        run, made = replace(run, pack_size=PAIR_SIZE), replace(made, pack_size=PAIR_SIZE)
    booked = _stored(unit, replace(run, baseline_run_id=made.id), actor=actor, why=why)
    if twin is None:
        reason = (
            f"Booked as the baseline of run {run.id} ({run.name}): the same student, seed and "
            "batches without a teacher."
        )
        _stored(unit, made, actor=actor, why=reason)
        told = f"Its baseline, run {made.id}, is booked beside it."
    else:
        told = f"Its baseline is run {made.id}, which is there already ({made.state})."
    unit.events.add(Event(run.id, run.created_at, actor, "baseline", told))
    return booked


def _stored(unit: Unit, run: Run, *, actor: str, why: str) -> Run:
    found = run
    if isinstance(run.spec, RunSpec) and (digest := dataset_digest_of(unit, run.spec)) is not None:
        found = with_digests(run, dataset_digest=digest)
    unit.runs.add(found)
    unit.events.add(Event(run.id, run.created_at, actor, "launched", why, to_state=run.state))
    return found
