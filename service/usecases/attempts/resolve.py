"""From the names in a spec to the files that a worker reads."""

from pathlib import Path

from configs.protocol.names import RunFile
from configs.spec.jobs import JobSpec, ReportSpec
from configs.spec.run import NamedTeacher, RunSpec, RunTeacher, Teacher, TeacherFiles
from configs.teacher_catalog import way_to_get
from service.domain.errors import DatasetNotFound, RunNotFound, TeacherNotFound
from service.domain.planning.references import as_trained, references_of, with_files
from service.domain.repositories.unit_of_work import Unit
from service.usecases.context import World
from service.usecases.registry import dataset_files
from service.usecases.report_inputs import dossier_of
from service.usecases.runs.queries import classes_of_run


def resolved_spec(spec: JobSpec, *, world: World) -> JobSpec:
    """The spec with every name replaced by files; raises if one of them is gone.

    A report is told everything that we know of its runs.
    """
    if isinstance(spec, ReportSpec):
        return spec.model_copy(update={"dossier": dossier_of(spec, world=world)})
    with world.store.begin() as unit:
        open_spec = _as_trained(unit, spec)
        references = references_of(open_spec)
        named = references.dataset
        dataset = None if named is None else dataset_files(unit, named)
        model = _model_files(unit, references.model, world=world)
    if references.run_id is not None and model is not None:
        # Outside of the transaction: it reads the whole file. The worker refuses a missing one.
        sha256 = world.files.sha256(Path(model.checkpoint))
        model = model.model_copy(update={"sha256": sha256})
    return with_files(open_spec, dataset=dataset, model=model)


def _as_trained(unit: Unit, spec: JobSpec) -> JobSpec:
    run_id = references_of(spec).run_id
    trained = None if run_id is None else unit.runs.get(run_id).spec
    return as_trained(spec, trained) if isinstance(trained, RunSpec) else spec


def _model_files(unit: Unit, reference: Teacher | None, *, world: World) -> TeacherFiles | None:
    if isinstance(reference, RunTeacher):
        return _files_of_teacher_run(unit, reference, world=world)
    if not isinstance(reference, NamedTeacher):
        return reference
    teacher = unit.registry.teacher(reference.name)
    if teacher is None:
        raise TeacherNotFound(reference.name, way_to_get=way_to_get(reference.name))
    return TeacherFiles(
        checkpoint=str(teacher.checkpoint),
        sha256=teacher.sha256,
        detector=teacher.detector,
        classes=teacher.classes,
    )


def _files_of_teacher_run(unit: Unit, reference: RunTeacher, *, world: World) -> TeacherFiles:
    run = unit.runs.get(reference.run)
    if not isinstance(run.spec, RunSpec):
        raise RunNotFound(run.id)
    classes = classes_of_run(unit, run)
    if classes is None:
        raise DatasetNotFound(run.spec.data.dataset.model_dump_json())
    file = RunFile.BEST if reference.checkpoint == "best" else RunFile.LAST
    return TeacherFiles(
        checkpoint=str(world.files.run_dir(run.id) / file),
        detector=run.spec.student,
        classes=classes,
    )
