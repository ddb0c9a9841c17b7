"""The spec of a training run."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.spec.active_methods import (
    describe_missing_labels,
    iter_methods,
    method_name,
    method_needs,
    methods_by_field,
    moving_weights,
    needs_labels,
    own_methods,
)
from configs.spec.base import (
    DEFAULT_MAX_DETECTIONS,
    OMIT_IF_NONE,
    Contract,
    MaxDetections,
    Name,
    TeacherControl,
)
from configs.spec.compute import Checkpoints, Compute, Resources
from configs.spec.data import Data
from configs.spec.detector import Detector, GflHead, Student, ToodHead, YoloxHead
from configs.spec.distillation import CrossKd, Distillation, Ld, NoDistillation
from configs.spec.references import Teacher
from configs.spec.schedule import Schedule
from configs.spec.weights import WeightShare, check_weight_epochs


class Evaluation(Contract):
    """Evaluation of the student on the validation images (COCO bbox protocol)."""

    every_epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    val_images: Annotated[int, Field(ge=1)] | None = None
    """Evaluate on the first so many validation images only. None for all."""

    max_detections: Annotated[
        MaxDetections,
        # Specs and digests of versions without this field stay the same.
        Field(exclude_if=lambda limit: limit == DEFAULT_MAX_DETECTIONS),
    ] = DEFAULT_MAX_DETECTIONS
    """Detections of an image that student and teacher report at most, and that mAP counts."""

    pictures: Annotated[int, Field(ge=0, le=64)] = 8
    """Number of validation images to draw with true, teacher's and student's boxes at the end."""


Label = Annotated[str, Field(max_length=200)]

MIN_SHUFFLED_IMAGES = 2
"""Images that a process loads at once, from which outputs of another one can be taken."""


class RunSpec(Contract):
    """A training run: `student` on `data`, distilled from `teacher` or not."""

    student: Student
    teacher: Teacher | None = None
    distillation: Distillation = NoDistillation()
    data: Data
    schedule: Schedule
    evaluation: Evaluation = Evaluation()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    compute: Compute = Compute()
    checkpoints: Checkpoints = Checkpoints()
    loss_shares_every_steps: Annotated[int, Field(ge=1)] | None = 100
    """Steps between two measurements of the loss shares. None for no measurements."""

    resources: Resources = Resources()
    teacher_classes: Literal["same", "by_name"] = "same"
    """`same`: the teacher's classes are those of the dataset. `by_name`: it has more classes, and
    those of the dataset are selected by name."""

    control: Annotated[TeacherControl | None, OMIT_IF_NONE] = None
    """Whether the run is a control of a distilled one, and of which kind."""

    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]

    @model_validator(mode="after")
    def _check_teacher_and_method(self) -> Self:
        is_baseline = isinstance(self.distillation, NoDistillation)
        if not is_baseline and self.teacher is None:
            raise ValueError(
                f"distillation.method is {self.distillation.method} but no teacher is named; "
                "add teacher: {name: ...}"
            )
        if is_baseline and self.teacher is not None:
            raise ValueError(
                "a teacher is named but distillation.method is none, so it would have no effect; "
                "choose a method or leave the teacher out"
            )
        if is_baseline and self.compute.teacher_precision is not None:
            raise ValueError("compute.teacher_precision has no effect without a teacher")
        if is_baseline and self.teacher_classes != "same":
            raise ValueError("teacher_classes has no effect without a teacher")
        if is_baseline and self.student.inherit:
            raise ValueError(
                "student.inherit takes weights of the teacher, and there is none; name a teacher "
                "and a method, or leave it out"
            )
        if is_baseline and self.control is not None:
            raise ValueError("control has no effect without a teacher")
        if is_baseline and self.data.unlabelled is not None:
            raise ValueError(
                "data.unlabelled has no effect without a teacher, which labels the images; name a "
                "teacher and a method, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_method_and_head(self) -> Self:
        head = self.student.head
        for method in iter_methods(self.distillation):
            if isinstance(method, Ld) and head.kind != "gfl":
                raise ValueError(
                    "distillation: ld distills the edge distributions of GFL heads, and "
                    f"student.head.kind is {head.kind}"
                )
            if "towers" in method_needs(method) and not head.has_plain_towers:
                raise ValueError(
                    f"distillation: {method_name(method)} needs a head with plain towers, and "
                    f"{head.kind} has none"
                )
            if isinstance(method, CrossKd):
                _check_crosskd(method, self.student)
        return self

    @model_validator(mode="after")
    def _check_initial_epochs(self) -> Self:
        head = self.student.head
        if isinstance(head, ToodHead) and head.initial_epochs >= self.schedule.epochs:
            raise ValueError(
                f"student.head.initial_epochs is {head.initial_epochs}, but schedule.epochs is "
                f"{self.schedule.epochs}, so labels would never be assigned by task alignment; "
                "lower it (0: from the start), or train longer"
            )
        return self

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        weights = moving_weights(own_methods(self.distillation))
        for field, weight in weights.items():
            for problem in check_weight_epochs(weight, epochs=self.schedule.epochs):
                raise ValueError(f"{field}: {problem}")
        shares = [weight.share for weight in weights.values() if isinstance(weight, WeightShare)]
        if sum(shares) >= 1.0:
            raise ValueError(
                f"distillation: the shares add up to {sum(shares):g}, which leaves nothing for the "
                "labels; lower them"
            )
        return self

    @model_validator(mode="after")
    def _check_pretrained(self) -> Self:
        backbone = self.student.backbone
        width = getattr(backbone, "width", 1.0)
        if backbone.pretrained is not None and width != 1.0:
            raise ValueError(
                f"student.backbone.pretrained: ImageNet weights exist for width 1.0, not {width}"
            )
        return self

    @model_validator(mode="after")
    def _check_batch_size(self) -> Self:
        num_shards = self.resources.processes * self.compute.grad_accumulation_steps
        if self.data.batch_size % num_shards:
            raise ValueError(
                f"data.batch_size {self.data.batch_size} cannot be shared by "
                f"{self.resources.processes} processes with "
                f"{self.compute.grad_accumulation_steps} micro-batches each; make it a multiple of "
                f"{num_shards}"
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
                "processes BatchNorm would see fewer images at once, and the results would change"
            )
        return self

    @model_validator(mode="after")
    def _check_unlabelled(self) -> Self:
        if self.data.unlabelled is None:
            return self
        for field, method in methods_by_field(self.distillation).items():
            if needs_labels(method):
                raise ValueError(f"{field}: {describe_missing_labels(method_name(method))}")
        num_shards = self.resources.processes * self.compute.grad_accumulation_steps
        if self.data.unlabelled.images_per_batch % num_shards:
            raise ValueError(
                f"data.unlabelled.images_per_batch {self.data.unlabelled.images_per_batch} cannot "
                f"be shared evenly by {num_shards} micro-batches (resources.processes times "
                f"compute.grad_accumulation_steps); make it a multiple of {num_shards}"
            )
        return self

    @model_validator(mode="after")
    def _check_measured_shares(self) -> Self:
        is_measured = self.teacher is not None and self.loss_shares_every_steps is not None
        if self.compute.sync_bn and is_measured and isinstance(self.student.head, YoloxHead):
            raise ValueError(
                "loss_shares_every_steps: one process measures the loss shares, while "
                "compute.sync_bn would have the batch norms of a yolox head wait for the others; "
                "set it to null"
            )
        return self

    @model_validator(mode="after")
    def _check_shuffled_images(self) -> Self:
        num_shards = self.resources.processes * self.compute.grad_accumulation_steps
        sizes = {"batch_size": self.data.batch_size}
        if self.data.unlabelled is not None:
            sizes["unlabelled.images_per_batch"] = self.data.unlabelled.images_per_batch
        for field, size in sizes.items():
            images = size // num_shards
            if self.control == "shuffled_teacher" and images < MIN_SHUFFLED_IMAGES:
                raise ValueError(
                    "control shuffled_teacher takes the teacher's outputs of another image that "
                    f"the process has loaded, and with data.{field} {size} it loads {images} at "
                    f"once; make it {MIN_SHUFFLED_IMAGES * num_shards} or more"
                )
        return self

    @model_validator(mode="after")
    def _check_mixtures(self) -> Self:
        for name in ("mosaic", "mixup"):
            mixture = getattr(self.data, name)
            if mixture is not None and mixture.stop_epochs >= self.schedule.epochs:
                raise ValueError(
                    f"data.{name} has no effect: the last {mixture.stop_epochs} epochs are without "
                    f"it (data.{name}.stop_epochs), and there are {self.schedule.epochs}"
                )
        return self

    @model_validator(mode="after")
    def _check_precision(self) -> Self:
        if self.resources.num_gpus > 0:
            return self
        if "tf32" in (self.compute.precision, self.compute.teacher_precision):
            raise ValueError("compute: tf32 needs a GPU, and resources.num_gpus is 0; use fp32")
        if not self.compute.deterministic:
            raise ValueError(
                "compute.deterministic: false has no effect while resources.num_gpus is 0: a CPU "
                "is always deterministic"
            )
        return self


def _check_crosskd(method: CrossKd, student: Detector) -> None:
    head = student.head
    if method.after_convs > head.convs:
        raise ValueError(
            f"distillation.after_convs is {method.after_convs}, but student.head.convs is "
            f"{head.convs}"
        )
    if method.temperature is not None and not isinstance(head, GflHead):
        raise ValueError(
            "distillation.temperature is for the edge distributions of GFL heads and has no "
            f"effect with student.head.kind {head.kind}"
        )
