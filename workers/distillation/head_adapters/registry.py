"""The adapter of each kind of head."""

from typing import Any

from mmdet.models.dense_heads import (
    ATSSHead,
    FCOSHead,
    GFLHead,
    PAAHead,
    RetinaHead,
    TOODHead,
    VFNetHead,
    YOLOXHead,
)

from workers.distillation.head_adapters.anchor_heads import (
    AtssHeadAdapter,
    GflHeadAdapter,
    PaaHeadAdapter,
    RetinaHeadAdapter,
    ToodHeadAdapter,
)
from workers.distillation.head_adapters.base import HeadAdapter
from workers.distillation.head_adapters.point_heads import (
    FcosHeadAdapter,
    VfnetHeadAdapter,
    YoloxHeadAdapter,
)
from workers.errors import TeacherMismatch

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
    (YOLOXHead, YoloxHeadAdapter),
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
