"""Jobs that do not train: measure a detector, or make files of it that others can run."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from configs.protocol.report import ReportInputs
from configs.spec.base import Contract, Name, RunId
from configs.spec.compute import Resources
from configs.spec.detector import Detector
from configs.spec.run import Dataset, Label, Pixels, RunSpec, Teacher
from configs.spec.sweep import Space, SweepId

Task = Literal["train", "evaluate", "export", "probe", "report"]
"""What a run does."""

Model = Teacher
"""A trained detector: by a teacher's name, by the run that trained it, or as files."""

ExportFormat = Literal["checkpoint", "onnx", "mlflow"]
"""A plain mmdet checkpoint with its config, an ONNX graph, a model that MLflow serves."""

ImageSize = tuple[Pixels, Pixels]
"""Longest and shortest edge after resizing, in pixels; the aspect ratio is kept."""


class _Job(Contract):
    """What every job has that acts on one model."""

    model: Model
    resources: Resources = Resources()
    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]

    @model_validator(mode="after")
    def _one_process(self) -> Self:
        if self.resources.processes != 1:
            raise ValueError(
                f"resources.processes is {self.resources.processes}, but only training has more "
                "than one process"
            )
        return self


class EvaluationData(Contract):
    """Which images, and how they are shown to the model."""

    dataset: Dataset
    split: Literal["val", "train"] = "val"
    image_size: ImageSize | None = None
    """None: as the model's run was trained; a model of another kind has to say it."""

    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    images: Annotated[int, Field(ge=1)] | None = None
    """The first so many images only; none: all."""

    num_workers: Annotated[int, Field(ge=0, le=64)] = 2
    """Processes that read images; 0 does it in the measuring process."""


class Timing(Contract):
    """How the time of single images is measured: forward, decoding and NMS, without loading."""

    images: Annotated[int, Field(ge=1, le=10_000)] = 50
    warm_up: Annotated[int, Field(ge=0, le=1000)] = 5
    """Images before these, which are not counted."""


class EvaluationSpec(_Job):
    """Measure a detector on a dataset: COCO's numbers, curves, and how fast it is."""

    task: Literal["evaluate"] = "evaluate"
    data: EvaluationData
    timing: Timing | None = Timing()
    """None: the time of single images is not measured."""


class ExportSpec(_Job):
    """Write a detector in formats of others; every file is compared with the original."""

    task: Literal["export"] = "export"
    formats: Annotated[tuple[ExportFormat, ...], Field(min_length=1, max_length=3)] = (
        "checkpoint",
        "onnx",
        "mlflow",
    )
    image_size: ImageSize | None = None
    """Of what the model looks at; none: as its run was trained."""

    dataset: Dataset | None = None
    """Its validation images are what the comparison looks at; none: those of the model's run."""

    compared_images: Annotated[int, Field(ge=1, le=1000)] = 8
    tolerance: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    """Largest difference of an edge (pixels) and of a score that is let through."""

    @model_validator(mode="after")
    def _formats_differ(self) -> Self:
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"formats: each once, got {', '.join(self.formats)}")
        return self

    @model_validator(mode="after")
    def _on_a_cpu(self) -> Self:
        if self.resources.num_gpus:
            raise ValueError(
                "resources.num_gpus has no effect: a GPU's own rounding would hide in the "
                "comparison, so exports are written and compared on a CPU"
            )
        return self


class ProbeSpec(Contract):
    """A few steps of a run, before a sweep of it: what each parameter moves, what a step costs."""

    task: Literal["probe"] = "probe"
    base: RunSpec
    space: Space
    resources: Resources = Resources()
    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]


class ReportSpec(Contract):
    """Pages about a run or a sweep: did it help, by how much, where not."""

    task: Literal["report"] = "report"
    run: RunId | None = None
    sweep: SweepId | None = None
    inputs: ReportInputs | None = None
    """Filled in by the service when the job starts."""

    resources: Resources = Resources()
    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]

    @model_validator(mode="after")
    def _is_of_one_thing(self) -> Self:
        if (self.run is None) == (self.sweep is None):
            raise ValueError("a report is of one run or of one sweep; name one of the two")
        return self


def explain_unsupported_export(detector: Detector, format_: ExportFormat) -> str | None:
    """Why a detector cannot be written in a format; none: it can."""
    if format_ != "checkpoint" and detector.head.kind == "vfnet":
        return (
            f"a vfnet head has deformable convolutions, which torch cannot write as ONNX, so there "
            f"is no {format_} of it; choose formats: [checkpoint]"
        )
    return None


def _task_of(value: Any) -> str:
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
        _task_of,
        custom_error_type="unknown_task",
        custom_error_message="task is evaluate, export, probe or report; a spec without one trains",
    ),
]
"""Everything a run can be asked to do; only a spec that trains does not say so."""


def get_dataset(spec: JobSpec) -> Dataset | None:
    """The dataset that a job looks at; none if it leaves that open."""
    if isinstance(spec, RunSpec | EvaluationSpec):
        return spec.data.dataset
    if isinstance(spec, ExportSpec):
        return spec.dataset
    if isinstance(spec, ProbeSpec):
        return spec.base.data.dataset
    return None if spec.inputs is None else spec.inputs.dataset


def get_task(spec: JobSpec) -> Task:
    """What a spec asks for."""
    return "train" if isinstance(spec, RunSpec) else spec.task
