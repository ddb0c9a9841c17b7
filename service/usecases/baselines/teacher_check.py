"""A teacher no better than its student: known before anything trains, if both were measured."""

from configs.derived_specs import is_distilled, spec_digest
from configs.protocol.names import Metric
from configs.spec.run import NamedTeacher, RunSpec
from service.domain.planning.findings import Finding
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.states import RunState
from service.usecases.baselines.lookup import find_reusable_baseline, get_dataset_digest

_LOOKED_AT = 200
"""The newest runs with a teacher: one of older times is not worth the reading."""


def check_teacher(uow: UnitOfWork, spec: RunSpec, *, project: str) -> Finding | None:
    """A warning if an earlier run measured the teacher, and the student alone is as good."""
    if not is_distilled(spec):
        return None
    alone = find_reusable_baseline(uow, spec, project=project)
    if alone is None or alone.state is not RunState.SUCCEEDED or alone.best_map is None:
        return None
    measured = _that_measured(uow, spec, project=project)
    if measured is None or measured.latest[Metric.TEACHER_MAP] > alone.best_map:
        return None
    teacher_map = measured.latest[Metric.TEACHER_MAP]
    return Finding(
        "warning",
        "teacher",
        "teacher_not_better",
        f"Your teacher is no better than your student: on these images it has "
        f"{100 * teacher_map:.1f} mAP (run {measured.id}), and the student alone reached "
        f"{100 * alone.best_map:.1f} (run {alone.id}). Take a better teacher.",
    )


def _that_measured(uow: UnitOfWork, spec: RunSpec, *, project: str) -> Run | None:
    digest = get_dataset_digest(uow, spec)
    found = uow.baselines.find_with_teacher_map(project=project, limit=_LOOKED_AT)
    return next((run for run in found if _saw_the_same(uow, run, spec, digest=digest)), None)


def _saw_the_same(uow: UnitOfWork, run: Run, spec: RunSpec, *, digest: str | None) -> bool:
    """Whether a run measured the same teacher on the same images of the same size."""
    theirs = run.spec
    if digest is None or not isinstance(theirs, RunSpec):
        return False
    return (
        (theirs.teacher, theirs.teacher_classes) == (spec.teacher, spec.teacher_classes)
        and (theirs.data.image_size, theirs.evaluation.val_images)
        == (spec.data.image_size, spec.evaluation.val_images)
        and theirs.data.dataset == spec.data.dataset
        and run.spec_digest == spec_digest(theirs, dataset_digest=digest)
        and not _is_another_by_now(uow, run, spec)
    )


def _is_another_by_now(uow: UnitOfWork, run: Run, spec: RunSpec) -> bool:
    """Whether the teacher's name was given to another detector after the run was launched."""
    if not isinstance(spec.teacher, NamedTeacher):
        return False
    teacher = uow.registry.teacher(spec.teacher.name)
    return teacher is None or teacher.registered_at > run.created_at
