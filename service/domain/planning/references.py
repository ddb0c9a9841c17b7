"""What a spec refers to, whatever it asks for: one dataset and one trained detector at most."""

from dataclasses import dataclass

from configs.spec.jobs import EvaluationSpec, ExportSpec, JobSpec, ProbeSpec, ReportSpec
from configs.spec.run import Dataset, RunSpec, RunTeacher, Teacher


@dataclass(frozen=True)
class References:
    """The things by name in a spec, and the fields that name them."""

    dataset: Dataset | None
    dataset_field: str
    model: Teacher | None
    """Of a training run the teacher, of other jobs the detector that they act on."""

    model_field: str

    @property
    def run_id(self) -> str | None:
        """The run that makes the model, if one does."""
        return self.model.run if isinstance(self.model, RunTeacher) else None


def references_of(spec: JobSpec) -> References:
    """What `spec` refers to."""
    if isinstance(spec, RunSpec):
        return References(spec.data.dataset, "data.dataset", spec.teacher, "teacher")
    if isinstance(spec, EvaluationSpec):
        return References(spec.data.dataset, "data.dataset", spec.model, "model")
    if isinstance(spec, ProbeSpec):
        base = spec.base
        return References(base.data.dataset, "base.data.dataset", base.teacher, "base.teacher")
    if isinstance(spec, ReportSpec):
        return References(None, "", None, "")
    return References(spec.dataset, "dataset", spec.model, "model")


def replace_references(spec: JobSpec, *, dataset: Dataset | None, model: Teacher | None) -> JobSpec:
    """The spec with other references: files where names were."""
    if isinstance(spec, ReportSpec):
        return spec
    if isinstance(spec, ProbeSpec):
        base = replace_references(spec.base, dataset=dataset, model=model)
        return spec.model_copy(update={"base": base})
    if isinstance(spec, RunSpec):
        data = spec.data.model_copy(update={"dataset": dataset})
        return spec.model_copy(update={"data": data, "teacher": model})
    if isinstance(spec, EvaluationSpec):
        images = spec.data.model_copy(update={"dataset": dataset})
        return spec.model_copy(update={"data": images, "model": model})
    return spec.model_copy(update={"dataset": dataset, "model": model})


def fill_from_training(spec: JobSpec, trained: RunSpec) -> JobSpec:
    """A job with what it leaves open as the model's run had it: image size, dataset."""
    if isinstance(spec, EvaluationSpec) and spec.data.image_size is None:
        data = spec.data.model_copy(update={"image_size": trained.data.image_size})
        return spec.model_copy(update={"data": data})
    if isinstance(spec, ExportSpec):
        size = spec.image_size or trained.data.image_size
        dataset = spec.dataset or trained.data.dataset
        return spec.model_copy(update={"image_size": size, "dataset": dataset})
    return spec
