"""The trained detector: an mmdet single-stage detector with distillation losses."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from mmcv import ConfigDict
from mmdet.models import DETECTORS
from mmdet.models.detectors import SingleStageDetector
from pydantic import TypeAdapter
from torch import Tensor

from configs.metric_keys import UNLABELLED_PREFIX
from configs.protocol.inheritance import InheritedWeights
from configs.spec.active_methods import has_weight, set_method_weights, terms_by_weight
from configs.spec.compute import Compute
from configs.spec.distillation import Distillation, MethodSpec
from workers.data.batches import Batch
from workers.distillation import heads as _heads  # noqa: F401  registers them
from workers.distillation import paa_head as _paa_head  # noqa: F401  registers it
from workers.distillation import yolox_head as _yolox_head  # noqa: F401  registers it
from workers.distillation.activation_checkpointing import enable_activation_checkpointing
from workers.distillation.batch import DetectorOutputs, DistillationBatch, Features
from workers.distillation.forward import forward_detector
from workers.distillation.gradient_norms import GradientNormMeter
from workers.distillation.head_adapters.base import Outputs
from workers.distillation.head_adapters.registry import build_head_adapter
from workers.distillation.inheritance import inherit_weights
from workers.distillation.log_vars import LogVars
from workers.distillation.loss_shares import LossShareMeter
from workers.distillation.methods.registry import (
    build_adapters,
    check_no_labels_needed,
    compute_terms,
    resolve_methods,
)
from workers.distillation.norm_folding import fold_frozen_norms
from workers.distillation.teacher import ImageKind, Teacher, get_or_load_teacher
from workers.distillation.unlabelled import make_unlabelled_batch
from workers.distillation.weights import full_weights
from workers.errors import TeacherMismatch

Losses = dict[str, Any]

_DISTILLATION: TypeAdapter[Distillation] = TypeAdapter(Distillation)

_SEEDS = 2**63 - 1


@DETECTORS.register_module()
class TandemDetector(SingleStageDetector):
    """The student: mmdet's detector with the same state dict, plus a teacher and its methods.

    `teacher` holds `config` (an mmdet model), `checkpoint` (None for untrained weights), `sha256`,
    `columns`, the parts to `inherit`, `shuffle` if it gives each image the outputs of another one,
    and `unlabelled` if the student learns from images without labels; others are ignored;
    `distillation` the fields of a method of `configs.spec.distillation`; `compute` those of
    `Compute` in `configs.spec.compute`. Raises `TeacherMismatch` if student and teacher predict at
    different positions or other classes, and `MethodMismatch` if a method is not installed as
    launched.
    """

    def __init__(
        self,
        *,
        teacher: ConfigDict | None = None,
        distillation: ConfigDict | None = None,
        compute: ConfigDict | None = None,
        **student: Any,
    ) -> None:
        super().__init__(**student)
        self.compute = Compute(**(compute or {}))
        self.head_adapter = build_head_adapter(self.bbox_head)
        self._specs: dict[str, MethodSpec] = {}
        self.methods: list[MethodSpec] = []
        self.stopped_terms: list[str] = []
        self.teacher: Teacher | None = None
        self.inherited: InheritedWeights | None = None
        self.is_teacher_shuffled = False
        self.uses_unlabelled = False
        self.loss_shares = LossShareMeter()
        self.gradient_norms = GradientNormMeter()
        if teacher is not None and distillation is not None:
            self._specs = resolve_methods(_DISTILLATION.validate_python(dict(distillation)))
            self.use_weights(full_weights(self._specs))
            self._attach_teacher(teacher)
        if not self.compute.sync_bn:  # which replaces the modules
            fold_frozen_norms(self.backbone)
        if self.compute.activation_checkpointing:
            enable_activation_checkpointing(self.backbone)

    def init_weights(self) -> None:
        """Draw or load the initial weights, then copy those that are inherited from the teacher."""
        super().init_weights()
        if self.teacher is not None and self._inherited_parts:
            self.inherited = inherit_weights(
                self,
                self.teacher.detector,
                parts=self._inherited_parts,
                columns=None if self.teacher_columns is None else self.teacher_columns.tolist(),
            )

    def _attach_teacher(self, teacher: ConfigDict) -> None:
        # Building a teacher draws random weights; the initial weights of student and adapters must
        # not depend on whether there is a teacher, and whether it is built or shared.
        with torch.random.fork_rng(devices=[]):
            self.teacher = get_or_load_teacher(
                teacher["config"],
                checkpoint=None if teacher["checkpoint"] is None else Path(teacher["checkpoint"]),
                sha256=teacher.get("sha256"),
                precision=self.compute.teacher_precision or self.compute.precision,
            )
        self._inherited_parts = teacher.get("inherit", [])
        self.is_teacher_shuffled = bool(teacher.get("shuffle"))
        self.uses_unlabelled = bool(teacher.get("unlabelled"))
        if self.uses_unlabelled:
            check_no_labels_needed(self._specs.values())
        columns = teacher.get("columns")
        check_compatible(self.bbox_head, self.teacher, columns=columns)
        # A buffer, so that it is on the device: a list index would be copied there at every use.
        self.register_buffer(
            "teacher_columns",
            None if columns is None else torch.tensor(columns),
            persistent=False,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(_SEEDS, ())))  # not the stream of the student
            adapters = build_adapters(self._specs.values(), self, self.teacher.detector)
        # Without adapters the state dict has exactly the keys of mmdet's.
        if len(adapters):
            self.adapters = adapters

    def use_weights(self, weights: Mapping[str, float]) -> None:
        """Set the weights that move to the numbers of a step, by their dotted field in a spec.

        `methods` are those with a weight above 0, `stopped_terms` the terms of weights that are 0.
        """
        methods = set_method_weights(self._specs, weights)
        self.methods = [method for method in methods.values() if has_weight(method)]
        terms = terms_by_weight(methods)
        self.stopped_terms = [terms[field] for field, weight in weights.items() if not weight]

    def forward_train(
        self,
        img: Tensor,
        img_metas: list[dict[str, Any]],
        gt_bboxes: list[Tensor],
        gt_labels: list[Tensor],
        gt_bboxes_ignore: list[Tensor] | None = None,
        unlabelled: Batch | None = None,
    ) -> Losses:
        """Compute losses by term and level from images (B, 3, H, W) and boxes (M, 4) in pixels.

        `unlabelled` has further images, without boxes, as `img` and `img_metas`.
        """
        if not self.uses_unlabelled:
            unlabelled = None
        # Before the student, whose activations stay in memory until the backward pass; and a GPU
        # has work while the host waits for the number of positives.
        images = self._arrange(img)
        teacher_outputs = self._forward_teacher(images, batch=img, kind="labeled")
        if unlabelled is not None:
            more_images = self._arrange(unlabelled["img"])
            more_outputs = self._forward_teacher(
                more_images, batch=unlabelled["img"], kind="unlabelled"
            )
        features, outputs = self._forward_student(images)
        losses: Losses = self.bbox_head.loss(
            *outputs, gt_bboxes, gt_labels, img_metas, gt_bboxes_ignore=gt_bboxes_ignore
        )
        # Freed before the next step: the students of a pack would otherwise all keep theirs.
        targets, self.bbox_head.targets = self.bbox_head.targets, None
        stopped_losses = self._stopped_losses(is_unlabelled=unlabelled is not None)
        if teacher_outputs is None:
            return losses | stopped_losses
        student_outputs = DetectorOutputs(self.head_adapter, features, outputs)
        distillation_losses = self._distillation_losses(
            student_outputs, teacher_outputs, targets=targets, boxes=gt_bboxes, img_metas=img_metas
        )
        self.loss_shares.measure(losses, distillation_losses, outputs=outputs, features=features)
        losses |= distillation_losses
        self.gradient_norms.measure(losses, outputs=outputs, features=features)
        if unlabelled is not None:
            metas = unlabelled["img_metas"]
            losses |= self._unlabelled_losses(more_images, more_outputs, metas=metas)
        return losses | stopped_losses

    def _forward_teacher(
        self, images: Tensor, *, batch: Tensor, kind: ImageKind
    ) -> DetectorOutputs | None:
        """The teacher's outputs; None if no term needs them. `batch` is the key of its cache."""
        if self.teacher is None or not self.methods:
            return None
        outputs = self.teacher.forward(images, batch=batch, kind=kind)
        return outputs.shift_images() if self.is_teacher_shuffled else outputs

    def _forward_student(self, images: Tensor) -> tuple[Features, Outputs]:
        return forward_detector(
            images, self, head_adapter=self.head_adapter, precision=self.compute.precision
        )

    def _arrange(self, img: Tensor) -> Tensor:
        """The images in the memory format of the run."""
        if self.compute.channels_last:
            return img.contiguous(memory_format=torch.channels_last)
        return img

    def _unlabelled_losses(
        self, images: Tensor, teacher: DetectorOutputs | None, *, metas: list[dict[str, Any]]
    ) -> Losses:
        """Distillation terms of images without labels, below names of their own.

        The student runs on them by themselves: neither their sizes nor their statistics in a
        BatchNorm change what it computes for labeled images.
        """
        assert teacher is not None, "a step with terms has run the teacher"
        features, outputs = self._forward_student(images)
        batch = make_unlabelled_batch(
            DetectorOutputs(self.head_adapter, features, outputs),
            teacher,
            metas=metas,
            teacher_columns=self.teacher_columns,
        )
        terms = self._compute_terms(batch)
        return {f"{UNLABELLED_PREFIX}{name}": value for name, value in terms.items()}

    def _stopped_losses(self, *, is_unlabelled: bool) -> Losses:
        """A loss of 0 for each term whose weight is 0 by now, also on images without labels.

        It depends on the adapters: DistributedDataParallel fails on a parameter without a gradient,
        and the optimizer treats it alike in one process.
        """
        if not self.stopped_terms:
            return {}
        adapters = getattr(self, "adapters", torch.nn.ModuleDict())
        device = next(self.parameters()).device
        zeros = [parameter.sum() * 0.0 for parameter in adapters.parameters()]
        zero = torch.stack([torch.zeros((), device=device), *zeros]).sum()
        prefixes = ("", UNLABELLED_PREFIX) if is_unlabelled else ("",)
        return {f"{prefix}loss_{term}": zero for prefix in prefixes for term in self.stopped_terms}

    def _distillation_losses(
        self,
        student: DetectorOutputs,
        teacher: DetectorOutputs,
        *,
        targets: Any,
        boxes: list[Tensor],
        img_metas: list[dict[str, Any]],
    ) -> Losses:
        batch = DistillationBatch(
            student=student,
            teacher=teacher,
            assignment=self.head_adapter.read_assignment(targets),
            boxes=boxes,
            teacher_columns=self.teacher_columns,
            image_seeds=tuple(meta["seed"] for meta in img_metas),
        )
        return self._compute_terms(batch)

    def _compute_terms(self, batch: DistillationBatch) -> Losses:
        adapters = getattr(self, "adapters", torch.nn.ModuleDict())
        losses: Losses = {}
        for method in self.methods:
            losses |= compute_terms(method, batch, adapters)
        return losses

    def _parse_losses(self, losses: Losses) -> tuple[Tensor, LogVars]:
        """Sum the losses for the backward pass, and average each term over its levels.

        Gives the same numbers as mmdet's method, with one device synchronization and one
        all-reduce instead of one for each term.
        """
        terms = {name: _mean_over_levels(value) for name, value in losses.items()}
        loss = sum(value for name, value in terms.items() if "loss" in name)
        terms["loss"] = loss
        return loss, LogVars({name: value.detach() for name, value in terms.items()})

    def set_epoch(self, epoch: int) -> None:
        """Have the head know the epoch, from 0, as mmdet's `SetEpochInfoHook` does."""
        self.bbox_head.epoch = epoch

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if self.teacher is not None:
            self.teacher.move(fn)
        super()._apply(fn, recurse)
        self.head_adapter.move(fn)
        return self


def _mean_over_levels(value: Tensor | list[Tensor]) -> Any:
    levels = value if isinstance(value, list) else [value]
    return sum(level_loss.mean() if level_loss.dim() else level_loss for level_loss in levels)


def check_compatible(student_head: Any, teacher: Teacher, *, columns: list[int] | None) -> None:
    """Raise `TeacherMismatch` if positions or classes of the two do not correspond."""
    teacher_head = teacher.head_adapter
    if columns is None and student_head.num_classes != teacher_head.head.num_classes:
        raise TeacherMismatch(
            f"The teacher knows {teacher_head.head.num_classes} classes and the student "
            f"{student_head.num_classes}; use a teacher trained on the same classes, or match them "
            "by name with teacher_classes: by_name."
        )
    if columns is not None and -1 in columns:
        raise TeacherMismatch(
            f"The teacher does not know {columns.count(-1)} of the student's classes by name; use "
            "a teacher that was trained on them."
        )
    if not (student_head.use_sigmoid_cls and teacher_head.head.use_sigmoid_cls):
        raise TeacherMismatch("Both heads must score every class by itself, with a sigmoid.")
    student_strides = build_head_adapter(student_head).strides
    if student_strides != teacher_head.strides:
        raise TeacherMismatch(
            f"The student predicts at strides {student_strides} and the teacher at "
            f"{teacher_head.strides}; use a teacher with the same feature levels."
        )
