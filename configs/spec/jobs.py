"""Specs of jobs that do not train: evaluations, exports, probes and reports."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from configs.spec.base import OMIT_IF_NONE, Contract, MaxDetections, Name, RunId, Task
from configs.spec.compute import Resources
from configs.spec.data import Pixels
from configs.spec.detector import Detector
from configs.spec.references import Dataset, NamedDataset, Teacher
from configs.spec.run import Label, RunSpec
from configs.spec.sweep import Space, SweepId

Model = Teacher
"""A trained detector: by the name of a teacher, by the run that trained it, or as files."""

ExportFormat = Literal["checkpoint", "onnx", "mlflow"]
"""A plain mmdet checkpoint with its config, an ONNX graph, or an MLflow model."""

ImageSize = tuple[Pixels, Pixels]
"""Longest and shortest edge after resizing, in pixels; the aspect ratio is kept."""

_ModelLimit = Annotated[MaxDetections | None, OMIT_IF_NONE]


class _ModelJob(Contract):
    """Common fields of jobs that use one trained model."""

    model: Model
    resources: Resources = Resources()
    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]

    @model_validator(mode="after")
    def _check_processes(self) -> Self:
        if self.resources.processes != 1:
            raise ValueError(
                f"resources.processes is {self.resources.processes}, but only training supports "
                "more than one process"
            )
        return self


class EvaluationData(Contract):
    """Images of an evaluation, and their preprocessing."""

    dataset: Dataset
    split: Literal["val", "train"] = "val"
    image_size: ImageSize | None = None
    """None for the size that the model's run was trained with; required for models of no run."""

    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    images: Annotated[int, Field(ge=1)] | None = None
    """Evaluate only the first so many images. None for all."""

    max_detections: _ModelLimit = None
    """Detections of an image that count. None for `evaluation.max_detections` of the model's run;
    100 for models of no run."""

    num_workers: Annotated[int, Field(ge=0, le=64)] = 2
    """Processes that load images; 0 loads them in the evaluating process."""


class Timing(Contract):
    """Latency measurement of single images: forward pass, decoding and NMS, without loading."""

    images: Annotated[int, Field(ge=1, le=10_000)] = 50
    warm_up: Annotated[int, Field(ge=0, le=1000)] = 5
    """Images before the measured ones, which do not count."""


class EvaluationSpec(_ModelJob):
    """Evaluate a detector on a dataset: COCO metrics, PR curves and latency."""

    task: Literal["evaluate"] = "evaluate"
    data: EvaluationData
    timing: Timing | None = Timing()
    """None to skip the latency measurement."""


class ExportSpec(_ModelJob):
    """Export a detector to other formats; each file is compared with the original model."""

    task: Literal["export"] = "export"
    formats: Annotated[tuple[ExportFormat, ...], Field(min_length=1, max_length=3)] = (
        "checkpoint",
        "onnx",
        "mlflow",
    )
    image_size: ImageSize | None = None
    """Input size of the model. None for the size that its run was trained with."""

    max_detections: _ModelLimit = None
    """Detections of an image that the exported model reports at most. None for
    `evaluation.max_detections` of its run; 100 for models of no run."""

    dataset: Dataset | None = None
    """Dataset whose validation images are compared. None for that of the model's run."""

    compared_images: Annotated[int, Field(ge=1, le=1000)] = 8
    tolerance: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    """Largest accepted difference of a box edge (pixels) and of a score."""

    @model_validator(mode="after")
    def _check_formats(self) -> Self:
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"formats: give each one only once, got {', '.join(self.formats)}")
        return self

    @model_validator(mode="after")
    def _check_cpu(self) -> Self:
        if self.resources.num_gpus:
            raise ValueError(
                "resources.num_gpus has no effect: exports are written and compared on a CPU, "
                "since a GPU's rounding would distort the comparison"
            )
        return self


class ProbeSpec(Contract):
    """A few steps of a sweep's base run: the effect of each parameter, the costs of a step."""

    task: Literal["probe"] = "probe"
    base: RunSpec
    space: Space
    resources: Resources = Resources()
    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]


class ReportSpec(Contract):
    """A report about a run or a sweep: whether distillation helped, by how much, and where not."""

    task: Literal["report"] = "report"
    run: RunId | None = None
    sweep: SweepId | None = None
    resources: Resources = Resources()
    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        if (self.run is None) == (self.sweep is None):
            raise ValueError("a report is about one run or one sweep: give either run or sweep")
        return self


def explain_unsupported_export(detector: Detector, format_: ExportFormat) -> str | None:
    """Why a detector cannot be exported to a format. None if it can."""
    if format_ != "checkpoint" and detector.head.kind in ("vfnet", "tood"):
        return (
            f"a {detector.head.kind} head has deformable convolutions, which torch cannot export "
            f"to ONNX, so the format {format_} is not supported; choose formats: [checkpoint]"
        )
    if format_ != "checkpoint" and detector.head.kind == "paa":
        return (
            f"a paa head votes about each box among all candidates after NMS, which the graph in "
            f"the format {format_} does not do; choose formats: [checkpoint]"
        )
    return None


def _discriminate_task(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("task", "train"))
    return str(getattr(value, "task", "train"))


JobSpec = Annotated[
    Annotated[RunSpec, Tag("train")]
    | Annotated[EvaluationSpec, Tag("evaluate")]
    | Annotated[ExportSpec, Tag("export")]
    | Annotated[ProbeSpec, Tag("probe")]
    | Annotated[ReportSpec, Tag("report")],
    Discriminator(
        _discriminate_task,
        custom_error_type="unknown_task",
        custom_error_message="task is evaluate, export, probe or report; a spec without one trains",
    ),
]
"""A spec of any task. Only training specs have no field `task`."""


def get_dataset(spec: JobSpec) -> Dataset | None:
    """The dataset that a job reads. None if the spec does not name one."""
    if isinstance(spec, RunSpec | EvaluationSpec):
        return spec.data.dataset
    if isinstance(spec, ProbeSpec):
        return spec.base.data.dataset
    return spec.dataset if isinstance(spec, ExportSpec) else None


def get_dataset_name(spec: JobSpec) -> str | None:
    """The name of that dataset. None if there is none, or it is given as files."""
    dataset = get_dataset(spec)
    return dataset.name if isinstance(dataset, NamedDataset) else None


def get_task(spec: JobSpec) -> Task:
    """The task of a spec."""
    return "train" if isinstance(spec, RunSpec) else spec.task
