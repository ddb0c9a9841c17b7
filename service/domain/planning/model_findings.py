"""What stands against the trained detector that a spec names: a teacher, or a job's model."""

from collections.abc import Iterator, Sequence

from configs.spec.compatibility import find_incompatibilities
from configs.spec.detector import Detector
from configs.spec.jobs import EvaluationSpec, ExportSpec, JobSpec, explain_unsupported_export
from configs.spec.run import NamedTeacher, RunSpec, RunTeacher, TeacherFiles
from service.domain.planning.findings import Facts, Finding, abbreviate, error
from service.domain.planning.references import References, references_of
from service.domain.states import RunState


def model_findings(spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    """Whether it is there, knows the classes, and fits what is asked of it."""
    references = references_of(spec)
    field = references.model_field
    if isinstance(references.model, TeacherFiles):
        yield error(
            f"{field}.checkpoint",
            "not_by_path",
            "Register the detector (POST /v1/teachers) and name it.",
        )
    elif isinstance(references.model, NamedTeacher):
        yield from _named(references.model, spec, facts)
    elif isinstance(references.model, RunTeacher):
        yield from _of_run(references.model, spec, facts)


def _named(reference: NamedTeacher, spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    field = f"{references_of(spec).model_field}.name"
    if facts.teacher is None:
        yield error(
            field,
            "teacher_not_found",
            f"No teacher is called {reference.name!r}. {facts.teacher_hint}".rstrip(),
        )
        return
    yield from _class_findings(field, facts.teacher.classes, spec, facts)
    yield from _fit_findings(field, facts.teacher.detector, spec)
    yield from _left_open(spec, references_of(spec))


def _of_run(reference: RunTeacher, spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    run, field = facts.teacher_run, f"{references_of(spec).model_field}.run"
    if run is None:
        yield error(field, "run_not_found", f"There is no run {reference.run}.")
    elif not isinstance(run.spec, RunSpec):
        yield error(
            field, "run_trains_nothing", f"Run {run.id} does not train, so it makes no detector."
        )
    elif run.state in (RunState.FAILED, RunState.CANCELLED):
        yield error(
            field,
            "teacher_run_failed",
            f"Run {run.id} is {run.state}; it has no detector to give.",
        )
    else:
        if facts.teacher_run_classes is not None:
            yield from _class_findings(field, facts.teacher_run_classes, spec, facts)
        yield from _fit_findings(field, run.spec.student, spec)


def _fit_findings(field: str, model: Detector, spec: JobSpec) -> Iterator[Finding]:
    """Whether a teacher can teach the student, and a model be written in the formats."""
    if isinstance(spec, RunSpec):
        for objection in find_incompatibilities(spec.student, model, spec.distillation):
            yield Finding(objection.severity, field, objection.code, objection.message)
    elif isinstance(spec, ExportSpec):
        for format_ in spec.formats:
            if why := explain_unsupported_export(model, format_):
                yield error("formats", "format_impossible", f"{format_}: {why}.")


def _left_open(spec: JobSpec, references: References) -> Iterator[Finding]:
    """Only a run says how large its images were, and which they were."""
    size = None
    if isinstance(spec, EvaluationSpec):
        size = ("data.image_size", spec.data.image_size)
    elif isinstance(spec, ExportSpec):
        size = ("image_size", spec.image_size)
        if references.dataset is None:
            yield error(
                "dataset",
                "dataset_missing",
                "Name a dataset: its images compare the exported files with the original.",
            )
    if size is not None and size[1] is None:
        yield error(
            size[0],
            "image_size_missing",
            "Say how large images are shown to it, as in [1333, 800]; only a run knows by itself.",
        )


def _class_findings(
    field: str, classes: Sequence[str], spec: JobSpec, facts: Facts
) -> Iterator[Finding]:
    if facts.dataset is None:
        return
    ours = facts.dataset.manifest.classes
    if isinstance(spec, RunSpec) and spec.teacher_classes == "by_name":
        if unknown := [name for name in ours if name not in classes]:
            yield error(
                field,
                "teacher_classes_missing",
                f"The teacher does not know {len(unknown)} of the dataset's {len(ours)} classes "
                f"({abbreviate(unknown)}), so they cannot be matched by name.",
            )
    elif tuple(classes) != ours:
        can_match = isinstance(spec, RunSpec) and set(ours) <= set(classes)
        hint = ", or match them with teacher_classes: by_name" if can_match else ""
        yield error(
            field,
            "teacher_classes_differ",
            f"The detector knows {len(classes)} classes ({abbreviate(classes)}) and the dataset "
            f"{facts.dataset.name!r} has {len(ours)} ({abbreviate(ours)}); "
            f"both must be the same, in the same order{hint}.",
        )
