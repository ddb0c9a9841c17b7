"""The interface of a distillation method."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from configs.spec.distillation import MethodSpec
from workers.distillation.batch import DistillationBatch
from workers.distillation.methods.golden import GoldenCase

Terms = dict[str, list[Tensor]]
"""Weighted loss values by term, one for each feature level."""

Adapters = dict[str, nn.Module]
"""Modules by their names in the student's state dict, below `adapters`."""

SpecT = TypeVar("SpecT", bound=MethodSpec)


class DistillationMethod(ABC, Generic[SpecT]):
    """Computes the loss terms of one method from the outputs of both detectors.

    It has no state: what depends on a run is in its spec, what is trained in its adapters.
    """

    spec_type: ClassVar[type[MethodSpec]]
    """The class of its fields, with its name, title, version and needs."""

    @abstractmethod
    def terms(self, spec: SpecT, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        """Compute the terms. One whose weight is 0 is left out, and costs nothing.

        What a method draws follows from `batch.image_seeds`.
        """

    def build_adapters(self, spec: SpecT, student: Any, teacher: Any) -> Adapters:  # noqa: ARG002
        """Build modules that are trained with the student and are not exported.

        `student` and `teacher` are mmdet detectors. Their names are that of the method, or begin
        with it and `_`. Each needs a gradient at every step: DistributedDataParallel fails on a
        parameter without one.
        """
        return {}

    def golden_cases(self) -> Sequence[GoldenCase]:
        """Batches whose losses were worked out by hand."""
        return ()


class FeatureMethod(DistillationMethod[SpecT]):
    """A method that compares the feature maps of both pyramids, level by level."""

    def build_adapters(self, spec: SpecT, student: Any, teacher: Any) -> Adapters:
        """Build a 1x1 convolution from the student's to the teacher's channels if they differ."""
        student_width, teacher_width = student.neck.out_channels, teacher.neck.out_channels
        if student_width == teacher_width:
            return {}
        return {spec.method: nn.Conv2d(student_width, teacher_width, 1)}

    def feature_pairs(
        self, batch: DistillationBatch, adapters: nn.ModuleDict
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the adapted maps of the student and those of the teacher, (B, C, H, W) in fp32."""
        name = self.spec_type.name()
        adapt = adapters[name] if name in adapters else nn.Identity()
        pairs = zip(batch.student.features, batch.teacher.features, strict=True)
        for student_BCHW, teacher_BCHW in pairs:
            yield adapt(student_BCHW.float()), teacher_BCHW.float()
