"""The datasets and the trained detector that a spec refers to."""

from dataclasses import dataclass, replace

from configs.spec.base import DEFAULT_MAX_DETECTIONS
from configs.spec.jobs import EvaluationSpec, ExportSpec, JobSpec, ProbeSpec, ReportSpec
from configs.spec.references import Dataset, RunTeacher, Teacher
from configs.spec.run import RunSpec


@dataclass(frozen=True)
class References:
    """The references of a spec, and the fields that hold them."""

    dataset: Dataset | None
    dataset_field: str
    model: Teacher | None
    """The teacher of a training run, or the detector that another job uses."""

    model_field: str
    unlabelled: Dataset | None = None
    """The dataset of a run's images without labels. None for jobs and runs without such."""

    @property
    def unlabelled_field(self) -> str:
        """The field of that dataset, beside `dataset_field`."""
        return self.dataset_field.removesuffix("dataset") + "unlabelled.dataset"

    @property
    def run_id(self) -> str | None:
        """The id of the run that trains the model; None if it does not come from a run."""
        return self.model.run if isinstance(self.model, RunTeacher) else None


def references_of(spec: JobSpec) -> References:
    if isinstance(spec, RunSpec):
        images = spec.data.unlabelled
        unlabelled = None if images is None else images.dataset
        return References(
            spec.data.dataset, "data.dataset", spec.teacher, "teacher", unlabelled=unlabelled
        )
    if isinstance(spec, EvaluationSpec):
        return References(spec.data.dataset, "data.dataset", spec.model, "model")
    if isinstance(spec, ProbeSpec):
        base = references_of(spec.base)
        return replace(base, dataset_field="base.data.dataset", model_field="base.teacher")
    if isinstance(spec, ReportSpec):
        return References(None, "", None, "")
    return References(spec.dataset, "dataset", spec.model, "model")


def replace_references(
    spec: JobSpec,
    *,
    dataset: Dataset | None,
    model: Teacher | None,
    unlabelled: Dataset | None = None,
) -> JobSpec:
    """The spec with other references, as files instead of names."""
    if isinstance(spec, ReportSpec):
        return spec
    if isinstance(spec, ProbeSpec):
        base = replace_references(spec.base, dataset=dataset, model=model, unlabelled=unlabelled)
        return spec.model_copy(update={"base": base})
    if isinstance(spec, RunSpec):
        unlabelled_data = spec.data.unlabelled
        if unlabelled_data is not None:
            unlabelled_data = unlabelled_data.model_copy(update={"dataset": unlabelled})
        data = spec.data.model_copy(update={"dataset": dataset, "unlabelled": unlabelled_data})
        return spec.model_copy(update={"data": data, "teacher": model})
    if isinstance(spec, EvaluationSpec):
        images = spec.data.model_copy(update={"dataset": dataset})
        return spec.model_copy(update={"data": images, "model": model})
    return spec.model_copy(update={"dataset": dataset, "model": model})


def fill_from_training(spec: JobSpec, trained: RunSpec) -> JobSpec:
    """The job with an image size, a dataset and a limit of detections that it does not set taken
    from the model's run."""
    if isinstance(spec, EvaluationSpec):
        defaults = {
            "image_size": spec.data.image_size or trained.data.image_size,
            "max_detections": _choose_limit(spec.data.max_detections, trained),
        }
        return spec.model_copy(update={"data": spec.data.model_copy(update=defaults)})
    if isinstance(spec, ExportSpec):
        size = spec.image_size or trained.data.image_size
        dataset = spec.dataset or trained.data.dataset
        limit = _choose_limit(spec.max_detections, trained)
        return spec.model_copy(
            update={"image_size": size, "dataset": dataset, "max_detections": limit}
        )
    return spec


def _choose_limit(max_detections: int | None, trained: RunSpec) -> int | None:
    """None for the default, which jobs of earlier versions do not name either."""
    if max_detections is not None:
        return max_detections
    limit = trained.evaluation.max_detections
    return None if limit == DEFAULT_MAX_DETECTIONS else limit
