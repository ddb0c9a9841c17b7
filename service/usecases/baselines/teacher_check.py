"""Warns before training if an earlier measurement shows the teacher no better than the student."""

from configs.derived_specs import is_distilled, teacher_key
from configs.metric_keys import Metric
from configs.spec.references import NamedTeacher
from configs.spec.run import RunSpec
from service.domain.planning.findings import Finding
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.states import RunState
from service.usecases.baselines.lookup import BaselineLookup


def check_teacher(
    uow: UnitOfWork, spec: RunSpec, *, project: str, lookup: BaselineLookup
) -> Finding | None:
    """A warning if earlier runs measured the teacher and a baseline that is at least as good."""
    if not is_distilled(spec):
        return None
    baseline = lookup.reusable
    if baseline is None or baseline.state is not RunState.SUCCEEDED:
        return None
    student_map = uow.runs.get(baseline.id).results.best_map
    if student_map is None:
        return None
    measured = _find_teacher_measurement(
        uow, spec, project=project, dataset_digest=lookup.dataset_digest
    )
    if measured is None or measured.results.latest[Metric.TEACHER_MAP] > student_map:
        return None
    teacher_map = measured.results.latest[Metric.TEACHER_MAP]
    return Finding(
        "warning",
        "teacher",
        "teacher_not_better",
        f"Your teacher is no better than your student: on these images it has "
        f"{100 * teacher_map:.1f} mAP (run {measured.id}), and the student alone reached "
        f"{100 * student_map:.1f} (run {baseline.id}). Choose a better teacher.",
    )


def _find_teacher_measurement(
    uow: UnitOfWork, spec: RunSpec, *, project: str, dataset_digest: str | None
) -> Run | None:
    """The newest run that measured the teacher of `spec` on the same images at the same size."""
    key = None if dataset_digest is None else teacher_key(spec, dataset_digest=dataset_digest)
    run = None if key is None else uow.baselines.find_teacher_measurement(key, project=project)
    return None if run is None or _was_teacher_replaced(uow, run, spec) else run


def _was_teacher_replaced(uow: UnitOfWork, run: Run, spec: RunSpec) -> bool:
    """Whether another detector was registered under the teacher's name after the run's launch."""
    if not isinstance(spec.teacher, NamedTeacher):
        return False
    teacher = uow.registry.teacher(spec.teacher.name)
    return teacher is None or teacher.registered_at > run.created_at
