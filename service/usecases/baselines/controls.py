"""Controls of a distilled run: the same run with a teacher that knows nothing of the image.

Nothing links a control to its run: both have the same baseline, and the control is found by the
digest of the spec that is derived from the run's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import get_args

from configs.catalog import SpecError
from configs.derived_specs import control_spec, seedless_digest, spec_digest
from configs.spec.base import TeacherControl
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.baselines import PlannedControl, with_digests
from service.domain.ids import new_run_id
from service.domain.planning.findings import Finding, error
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Event, QueueEntry, Run, truncate_with_suffix
from service.domain.states import RunState
from service.domain.vocabulary import EventKind

_DESCRIPTIONS: dict[TeacherControl, str] = {
    "random_teacher": "the same run with the teacher's architecture and untrained weights",
    "shuffled_teacher": "the same run with the teacher's outputs of another image of the batch",
}


def control_findings(
    spec: JobSpec, controls: Sequence[TeacherControl], *, has_baseline: bool
) -> Iterator[Finding]:
    """What keeps a run from having these controls."""
    if not controls:
        return
    if not isinstance(spec, RunSpec) or not has_baseline:
        why = (
            "A control is compared with the run's baseline, and this run has none: choose a "
            "distillation method and leave the baseline on, or leave controls out."
        )
        yield error("controls", "no_baseline", why)
        return
    if spec.control is not None:
        why = f"The run is a control itself, {spec.control}: leave controls out."
        yield error("controls", "is_control", why)
        return
    for control in controls:
        try:
            control_spec(spec, control)
        except SpecError as problems:
            for problem in problems.problems:
                yield error("controls", "control_impossible", problem.message)


def plan_controls(
    uow: UnitOfWork,
    spec: RunSpec,
    controls: Sequence[TeacherControl],
    *,
    project: str,
    dataset_digest: str | None,
) -> tuple[PlannedControl, ...]:
    """The controls that a run would get; the spec has no `control_findings`."""
    return tuple(
        PlannedControl(
            control,
            None
            if dataset_digest is None
            else _find_control(
                uow, control_spec(spec, control), project=project, dataset_digest=dataset_digest
            ),
        )
        for control in controls
    )


def find_control_kinds(
    uow: UnitOfWork, spec: RunSpec, *, project: str, dataset_digest: str
) -> list[TeacherControl]:
    """The controls that a run has with any seed."""
    kinds: tuple[TeacherControl, ...] = get_args(TeacherControl)
    return [
        kind
        for kind in kinds
        if not any(control_findings(spec, [kind], has_baseline=True))
        and uow.baselines.find_seeds(
            seedless_digest(control_spec(spec, kind), dataset_digest=dataset_digest),
            project=project,
        )
    ]


def add_controls(
    uow: UnitOfWork,
    run: Run,
    controls: Sequence[TeacherControl],
    *,
    dataset_digest: str,
    actor: str,
    at: datetime,
) -> None:
    """Queue the controls of a stored run that do not exist yet; call `runs.lock_inserts` first."""
    assert isinstance(run.spec, RunSpec)
    for kind in controls:
        spec = control_spec(run.spec, kind)
        if _find_control(uow, spec, project=run.project, dataset_digest=dataset_digest):
            continue
        control = with_digests(_make_control(run, spec, kind, at=at), dataset_digest=dataset_digest)
        uow.runs.add(control)
        uow.events.add(*_launch_events(run, control, kind, actor=actor))


def _find_control(
    uow: UnitOfWork, spec: RunSpec, *, project: str, dataset_digest: str
) -> Run | None:
    """A run with this spec that can be compared with a baseline."""
    digest = spec_digest(spec, dataset_digest=dataset_digest)
    reusable = uow.baselines.find_reusable(digest, project=project)
    run = None if reusable is None else uow.runs.get(reusable.id)
    return run if run is not None and run.lineage.baseline_run_id is not None else None


def _make_control(run: Run, spec: RunSpec, kind: TeacherControl, *, at: datetime) -> Run:
    control = Run(
        id=new_run_id(),
        name=truncate_with_suffix(run.name, f", {kind}"),
        preset=None,
        spec=spec,
        state=RunState.QUEUED,
        created_at=at,
        updated_at=at,
        project=run.project,
        queue=QueueEntry(priority=run.queue.priority),
    )
    baseline_id = run.lineage.baseline_run_id
    return replace(control, lineage=replace(control.lineage, baseline_run_id=baseline_id))


def _launch_events(
    run: Run, control: Run, kind: TeacherControl, *, actor: str
) -> tuple[Event, Event]:
    details = f"Launched as a control of run {run.id} ({run.name}): {_DESCRIPTIONS[kind]}."
    assignment = f"Its control {kind}, run {control.id}, was launched with it."
    return (
        Event(
            control.id,
            control.created_at,
            actor,
            EventKind.LAUNCHED,
            details,
            to_state=control.state,
        ),
        Event(run.id, control.created_at, actor, EventKind.CONTROL_ASSIGNED, assignment),
    )
