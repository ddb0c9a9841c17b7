"""Replaces the names in a spec with the files that a worker reads."""

from pathlib import Path

from configs.protocol.names import RunFile
from configs.spec.jobs import JobSpec
from configs.spec.references import NamedDataset, NamedTeacher, RunTeacher, Teacher, TeacherFiles
from configs.spec.run import RunSpec
from configs.teacher_catalog import how_to_get_teacher
from service.domain.errors.requests import DatasetNotFound, RunNotFound, TeacherNotFound
from service.domain.planning.references import fill_from_training, references_of, replace_references
from service.domain.repositories.unit_of_work import UnitOfWork
from service.usecases.context import Context
from service.usecases.registry import explain_missing_dataset, resolve_dataset_files
from service.usecases.runs.queries import get_run_classes


def resolve_spec(spec: JobSpec, *, ctx: Context) -> JobSpec:
    """The spec with every dataset, teacher and run replaced by its files.

    Raises `NotFound` for a missing reference.
    """
    with ctx.store.snapshot() as uow:
        filled_spec = _fill_from_training(uow, spec)
        references = references_of(filled_spec)
        dataset_reference = references.dataset
        dataset = (
            None if dataset_reference is None else resolve_dataset_files(uow, dataset_reference)
        )
        unlabelled = (
            None
            if references.unlabelled is None
            else resolve_dataset_files(uow, references.unlabelled)
        )
        model = _resolve_model(uow, references.model, ctx=ctx)
    if references.run_id is not None and model is not None:
        # Outside of the transaction: hashing reads the whole file. The worker rejects a missing
        # one.
        sha256 = ctx.files.sha256(Path(model.checkpoint))
        model = model.model_copy(update={"sha256": sha256})
    return replace_references(filled_spec, dataset=dataset, model=model, unlabelled=unlabelled)


def _fill_from_training(uow: UnitOfWork, spec: JobSpec) -> JobSpec:
    run_id = references_of(spec).run_id
    training_spec = None if run_id is None else uow.runs.get(run_id).spec
    return fill_from_training(spec, training_spec) if isinstance(training_spec, RunSpec) else spec


def _resolve_model(
    uow: UnitOfWork, reference: Teacher | None, *, ctx: Context
) -> TeacherFiles | None:
    if isinstance(reference, RunTeacher):
        return _resolve_teacher_run(uow, reference, ctx=ctx)
    if not isinstance(reference, NamedTeacher):
        return reference
    teacher = uow.registry.teacher(reference.name)
    if teacher is None:
        raise TeacherNotFound(reference.name, hint=how_to_get_teacher(reference.name))
    return TeacherFiles(
        checkpoint=str(teacher.checkpoint),
        sha256=teacher.sha256,
        detector=teacher.detector,
        classes=teacher.classes,
    )


def _resolve_teacher_run(uow: UnitOfWork, reference: RunTeacher, *, ctx: Context) -> TeacherFiles:
    run = uow.runs.get(reference.run)
    if not isinstance(run.spec, RunSpec):
        raise RunNotFound(run.id)
    classes = get_run_classes(uow, run)
    if classes is None:
        dataset = run.spec.data.dataset
        name = dataset.name if isinstance(dataset, NamedDataset) else dataset.root
        raise DatasetNotFound(name, hint=explain_missing_dataset(uow, name))
    file = RunFile.BEST if reference.checkpoint == "best" else RunFile.LAST
    return TeacherFiles(
        checkpoint=str(ctx.files.run_dir(run.id) / file),
        detector=run.spec.student.architecture,
        classes=classes,
    )
