"""Findings about the trained detector that a spec names: its teacher, or the model of a job."""

from collections.abc import Iterator, Sequence

from configs.spec.compatibility import find_incompatibilities
from configs.spec.detector import Detector
from configs.spec.jobs import EvaluationSpec, ExportSpec, JobSpec, explain_unsupported_export
from configs.spec.references import NamedTeacher, RunTeacher, TeacherFiles
from configs.spec.run import RunSpec
from service.domain.planning.findings import Facts, Finding, abbreviate, error
from service.domain.planning.references import References, references_of
from service.domain.states import RunState


def model_findings(spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    """Whether the detector exists, knows the classes and fits the job."""
    references = references_of(spec)
    field = references.model_field
    if isinstance(references.model, TeacherFiles):
        yield error(
            f"{field}.checkpoint",
            "not_by_path",
            "Register the detector (POST /v1/teachers) and name it.",
        )
    elif isinstance(references.model, NamedTeacher):
        yield from _registered_model_findings(references.model, spec, facts)
    elif isinstance(references.model, RunTeacher):
        yield from _run_model_findings(references.model, spec, facts)


def _registered_model_findings(
    reference: NamedTeacher, spec: JobSpec, facts: Facts
) -> Iterator[Finding]:
    field = f"{references_of(spec).model_field}.name"
    if facts.teacher is None:
        yield error(
            field,
            "teacher_not_found",
            f"No teacher is called {reference.name!r}. {facts.teacher_hint}".rstrip(),
        )
        return
    yield from _class_findings(field, facts.teacher.classes, spec, facts)
    yield from _compatibility_findings(field, facts.teacher.detector, spec)
    yield from _missing_field_findings(spec, references_of(spec))


def _run_model_findings(reference: RunTeacher, spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    run, field = facts.teacher_run, f"{references_of(spec).model_field}.run"
    if run is None:
        yield error(field, "run_not_found", f"There is no run {reference.run}.")
    elif not isinstance(run.spec, RunSpec):
        yield error(
            field, "run_trains_nothing", f"Run {run.id} does not train, so it has no detector."
        )
    elif run.state in (RunState.FAILED, RunState.CANCELLED):
        yield error(
            field,
            "teacher_run_failed",
            f"Run {run.id} is {run.state}, so it has no detector.",
        )
    else:
        if facts.teacher_run_classes is not None:
            yield from _class_findings(field, facts.teacher_run_classes, spec, facts)
        yield from _compatibility_findings(field, run.spec.student, spec)


def _compatibility_findings(field: str, model: Detector, spec: JobSpec) -> Iterator[Finding]:
    """Whether the teacher suits the student, or the model can be exported to the formats."""
    if isinstance(spec, RunSpec):
        for objection in find_incompatibilities(spec.student, model, spec.distillation):
            yield Finding(objection.severity, field, objection.code, objection.message)
    elif isinstance(spec, ExportSpec):
        for format_ in spec.formats:
            if why := explain_unsupported_export(model, format_):
                yield error("formats", "format_impossible", f"{format_}: {why}.")


def _missing_field_findings(spec: JobSpec, references: References) -> Iterator[Finding]:
    """Fields that a job must set because a registered model, unlike a run, does not record them."""
    image_size = None
    if isinstance(spec, EvaluationSpec):
        image_size = ("data.image_size", spec.data.image_size)
    elif isinstance(spec, ExportSpec):
        image_size = ("image_size", spec.image_size)
        if references.dataset is None:
            yield error(
                "dataset",
                "dataset_missing",
                "Name a dataset: the exported files are compared with the original on its images.",
            )
    if image_size is not None and image_size[1] is None:
        yield error(
            image_size[0],
            "image_size_missing",
            "Set the size to which images are resized, as in [1333, 800]; only runs record it.",
        )


def _class_findings(
    field: str, classes: Sequence[str], spec: JobSpec, facts: Facts
) -> Iterator[Finding]:
    if facts.dataset is None or not facts.dataset.manifest.has_labels:
        return
    dataset_classes = facts.dataset.manifest.classes
    if isinstance(spec, RunSpec) and spec.teacher_classes == "by_name":
        if unknown := [name for name in dataset_classes if name not in classes]:
            yield error(
                field,
                "teacher_classes_missing",
                f"The teacher does not know {len(unknown)} of the dataset's {len(dataset_classes)} "
                f"classes ({abbreviate(unknown)}), so they cannot be matched by name.",
            )
    elif tuple(classes) != dataset_classes:
        can_match = isinstance(spec, RunSpec) and set(dataset_classes) <= set(classes)
        hint = ", or match them with teacher_classes: by_name" if can_match else ""
        yield error(
            field,
            "teacher_classes_differ",
            f"The detector knows {len(classes)} classes ({abbreviate(classes)}) and the dataset "
            f"{facts.dataset.name!r} has {len(dataset_classes)} ({abbreviate(dataset_classes)}); "
            f"both must be the same, in the same order{hint}.",
        )
