"""One request to train: what a run is told, from a preset to the trainer's command line."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from configs.spec.base import Contract, Fraction, Name, RunId, Sha256
from configs.spec.compute import Checkpoints, Compute, Resources
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector, GflHead
from configs.spec.distillation import CrossKd, Distillation, Ld, NoDistillation, iter_methods
from configs.spec.schedule import Schedule


class NamedTeacher(Contract):
    """A teacher in the service's registry."""

    name: Name


class RunTeacher(Contract):
    """The detector that another run trains; this run waits for it."""

    run: RunId
    checkpoint: Literal["best", "last"] = "best"


class TeacherFiles(Contract):
    """A teacher as files: what the trainer loads, and what a registered teacher resolves to."""

    checkpoint: Annotated[str, Field(min_length=1)]
    sha256: Sha256 | None = None
    detector: Detector
    classes: ClassNames


class NamedDataset(Contract):
    """A dataset in the service's registry."""

    name: Name


class DatasetFiles(Contract):
    """A dataset as a folder with a manifest: what the trainer reads."""

    root: Annotated[str, Field(min_length=1)]
    digest: Sha256 | None = None


def _kind_of_reference(value: object) -> str:
    fields = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    if "run" in fields:
        return "by_run"
    if "detector" in fields or "root" in fields:
        return "by_files"
    return "by_name"


Teacher = Annotated[
    Annotated[NamedTeacher, Tag("by_name")]
    | Annotated[RunTeacher, Tag("by_run")]
    | Annotated[TeacherFiles, Tag("by_files")],
    Discriminator(_kind_of_reference),
]
Dataset = Annotated[
    Annotated[NamedDataset, Tag("by_name")] | Annotated[DatasetFiles, Tag("by_files")],
    Discriminator(_kind_of_reference),
]

Pixels = Annotated[int, Field(ge=32, le=4096)]


class Data(Contract):
    """Which images, how large, and in what batches."""

    dataset: Dataset
    image_size: tuple[Pixels, Pixels] = (1333, 800)
    """Longest and shortest edge after resizing, in pixels; the aspect ratio is kept."""

    multi_scale: tuple[Pixels, Pixels] | None = None
    """Shortest edge of training images, drawn anew from this range each time; none: fixed."""

    flip: Fraction = 0.5
    """Probability that a training image is mirrored."""

    train_images: Annotated[int, Field(ge=1)] | None = None
    """Train on the first so many images only."""

    batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Images in one optimizer step, over all processes."""

    num_workers: Annotated[int, Field(ge=0, le=64)] = 2
    """Processes that read and augment images; 0 does it in the training process."""


class Evaluation(Contract):
    """How the student is measured on the validation images (COCO bbox protocol)."""

    every_epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    val_images: Annotated[int, Field(ge=1)] | None = None
    """Evaluate on the first so many validation images only."""

    pictures: Annotated[int, Field(ge=0, le=64)] = 8
    """Validation images drawn with true, teacher's and student's boxes at the end."""


Label = Annotated[str, Field(max_length=200)]


class RunSpec(Contract):
    """A whole experiment: train `student` on `data`, taught by `teacher` or not."""

    student: Detector
    teacher: Teacher | None = None
    distillation: Distillation = NoDistillation()
    data: Data
    schedule: Schedule
    evaluation: Evaluation = Evaluation()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    compute: Compute = Compute()
    checkpoints: Checkpoints = Checkpoints()
    loss_shares_every_steps: Annotated[int, Field(ge=1)] | None = 100
    """Steps between two looks at what each term of the loss does; none: never."""

    resources: Resources = Resources()
    teacher_classes: Literal["same", "by_name"] = "same"
    """The teacher's classes are the dataset's, or it knows more and they are found by name."""

    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]

    @model_validator(mode="after")
    def _teacher_and_method_agree(self) -> Self:
        alone = isinstance(self.distillation, NoDistillation)
        if not alone and self.teacher is None:
            raise ValueError(
                f"distillation.method is {self.distillation.method} but no teacher is named; "
                "add teacher: {name: ...}"
            )
        if alone and self.teacher is not None:
            raise ValueError(
                "a teacher is named but distillation.method is none, so it would have no effect; "
                "choose a method or leave the teacher out"
            )
        if alone and self.compute.teacher_precision is not None:
            raise ValueError("compute.teacher_precision has no effect without a teacher")
        if alone and self.teacher_classes != "same":
            raise ValueError("teacher_classes has no effect without a teacher")
        return self

    @model_validator(mode="after")
    def _method_fits_the_students_head(self) -> Self:
        head = self.student.head
        for lesson in iter_methods(self.distillation):
            if isinstance(lesson, Ld) and head.kind != "gfl":
                raise ValueError(
                    "distillation: ld distils the edge distributions of GFL heads, and "
                    f"student.head.kind is {head.kind}"
                )
            if isinstance(lesson, CrossKd):
                _check_crossing(lesson, self.student)
        return self

    @model_validator(mode="after")
    def _pretrained_weights_exist(self) -> Self:
        backbone = self.student.backbone
        width = getattr(backbone, "width", 1.0)
        if backbone.pretrained is not None and width != 1.0:
            raise ValueError(
                f"student.backbone.pretrained: ImageNet weights exist for width 1.0, not {width}"
            )
        return self

    @model_validator(mode="after")
    def _batch_can_be_shared(self) -> Self:
        parts = self.resources.processes * self.compute.grad_accumulation_steps
        if self.data.batch_size % parts:
            raise ValueError(
                f"data.batch_size {self.data.batch_size} cannot be shared by "
                f"{self.resources.processes} processes in {self.compute.grad_accumulation_steps} parts each; "
                f"make it a multiple of {parts}"
            )
        if self.compute.sync_bn and (self.resources.num_gpus == 0 or self.resources.processes == 1):
            raise ValueError(
                "compute.sync_bn joins the GPUs of several processes; with "
                f"resources.processes {self.resources.processes} and resources.num_gpus "
                f"{self.resources.num_gpus} it has no effect"
            )
        if self.compute.sync_bn and self.resources.min_processes is not None:
            raise ValueError(
                "compute.sync_bn and resources.min_processes exclude each other: with fewer "
                "processes BatchNorm would see fewer images at once, and the numbers would move"
            )
        return self

    @model_validator(mode="after")
    def _precision_is_of_the_device(self) -> Self:
        if self.resources.num_gpus > 0:
            return self
        if "tf32" in (self.compute.precision, self.compute.teacher_precision):
            raise ValueError(
                "compute: tf32 is a precision of GPUs and resources.num_gpus is 0; use fp32"
            )
        if not self.compute.deterministic:
            raise ValueError(
                "compute.deterministic: false has no effect while resources.num_gpus is 0: a CPU "
                "always repeats itself"
            )
        return self


def _check_crossing(lesson: CrossKd, student: Detector) -> None:
    head = student.head
    if head.kind == "vfnet":
        raise ValueError("distillation: crosskd needs a head of plain towers, and vfnet has none")
    if lesson.after_convs > head.convs:
        raise ValueError(
            f"distillation.after_convs is {lesson.after_convs}, but student.head.convs is "
            f"{head.convs}"
        )
    if lesson.temperature is not None and not isinstance(head, GflHead):
        raise ValueError(
            "distillation.temperature is for the edge distributions of GFL heads and has no "
            f"effect with student.head.kind {head.kind}"
        )
