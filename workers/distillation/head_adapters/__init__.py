"""One interface to all dense heads: class logits and decoded boxes at shared positions.

A position is one prediction at one location of a feature level. The N positions of a level are
ordered by image, row, column and anchor.
"""

from typing import Any

from mmdet.models.dense_heads import (
    ATSSHead,
    FCOSHead,
    GFLHead,
    PAAHead,
    RetinaHead,
    TOODHead,
    VFNetHead,
)

from workers.distillation.head_adapters.anchor_heads import (
    AtssHeadAdapter,
    GflHeadAdapter,
    PaaHeadAdapter,
    RetinaHeadAdapter,
    ToodHeadAdapter,
)
from workers.distillation.head_adapters.base import HeadAdapter, Outputs
from workers.distillation.head_adapters.label_assignment import Assignment, shard_normalizer
from workers.distillation.head_adapters.point_heads import FcosHeadAdapter, VfnetHeadAdapter
from workers.distillation.head_adapters.positions import (
    flatten_levels,
    flatten_positions,
    level_sums,
    nonzero_indices,
)
from workers.errors import TeacherMismatch

__all__ = [
    "Assignment",
    "GflHeadAdapter",
    "HeadAdapter",
    "Outputs",
    "build_head_adapter",
    "flatten_levels",
    "flatten_positions",
    "level_sums",
    "nonzero_indices",
    "shard_normalizer",
]

# VFNetHead is both an ATSSHead and an FCOSHead; TOODHead and PAAHead are ATSSHeads. So all three
# come first.
_ADAPTERS: tuple[tuple[type, type[HeadAdapter]], ...] = (
    (VFNetHead, VfnetHeadAdapter),
    (TOODHead, ToodHeadAdapter),
    (PAAHead, PaaHeadAdapter),
    (GFLHead, GflHeadAdapter),
    (ATSSHead, AtssHeadAdapter),
    (RetinaHead, RetinaHeadAdapter),
    (FCOSHead, FcosHeadAdapter),
)


def build_head_adapter(head: Any) -> HeadAdapter:
    """Build the adapter of an mmdet head; `TeacherMismatch` if the head is not supported."""
    for head_type, adapter in _ADAPTERS:
        if isinstance(head, head_type):
            return adapter(head)
    supported = ", ".join(head_type.__name__ for head_type, _ in _ADAPTERS)
    raise TeacherMismatch(
        f"{type(head).__name__} is not supported in distillation; supported heads: {supported}."
    )
