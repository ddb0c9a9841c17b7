"""From the names in a spec to the files that the trainer reads."""

from pathlib import Path

from configs.known_teachers import way_to_get
from configs.spec import (
    DatasetFiles,
    NamedDataset,
    NamedTeacher,
    RunFile,
    RunSpec,
    RunTeacher,
    Teacher,
    TeacherFiles,
)
from service.domain.errors import DatasetNotFound, TeacherNotFound
from service.domain.ports import Unit
from service.usecases.runs import classes_of_run
from service.usecases.world import World


def resolved_spec(spec: RunSpec, *, world: World) -> RunSpec:
    """The spec with every name replaced by files; raises if one of them is gone."""
    with world.store.begin() as unit:
        dataset = _dataset_files(unit, spec)
        teacher = _teacher_files(unit, spec.teacher, world=world)
    if isinstance(spec.teacher, RunTeacher) and teacher is not None:
        # Outside of the transaction: it reads the whole file. The worker refuses a missing one.
        sha256 = world.files.sha256(Path(teacher.checkpoint))
        teacher = teacher.model_copy(update={"sha256": sha256})
    data = spec.data.model_copy(update={"dataset": dataset})
    return spec.model_copy(update={"data": data, "teacher": teacher})


def _dataset_files(unit: Unit, spec: RunSpec) -> DatasetFiles:
    reference = spec.data.dataset
    if not isinstance(reference, NamedDataset):
        return reference
    dataset = unit.registry.dataset(reference.name)
    if dataset is None:
        raise DatasetNotFound(reference.name)
    return DatasetFiles(root=str(dataset.root), digest=dataset.manifest.digest)


def _teacher_files(unit: Unit, reference: Teacher | None, *, world: World) -> TeacherFiles | None:
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
    classes = classes_of_run(unit, run)
    if classes is None:
        raise DatasetNotFound(run.spec.data.dataset.model_dump_json())
    file = RunFile.BEST if reference.checkpoint == "best" else RunFile.LAST
    return TeacherFiles(
        checkpoint=str(world.files.run_dir(run.id) / file),
        detector=run.spec.student,
        classes=classes,
    )
