"""Students by the name of their backbone, as `resnet18` or `efficientnet_lite0`."""

from collections.abc import Collection, Iterator
from typing import Final

from configs.spec.detector import (
    Backbone,
    CspDarknet,
    EfficientNetLite,
    MobileNetV2,
    ResNet,
    SwinTransformer,
)
from configs.spec.run import RunSpec
from configs.spec.sweep import Values
from configs.suggestions import ask_did_you_mean

_FIELD = "student.backbone"


def _list_backbones() -> Iterator[Backbone]:
    yield from (ResNet(depth=depth) for depth in (18, 34, 50, 101, 152))
    yield from (EfficientNetLite(kind="efficientnet_lite", variant=size) for size in (0, 1, 2))
    yield MobileNetV2(kind="mobilenet_v2")
    yield from (SwinTransformer(kind="swin", size=size) for size in ("tiny", "small"))


def name_backbone(backbone: Backbone) -> str:
    """The name of a backbone, whatever its width, its frozen stages and its first weights are."""
    match backbone:
        case ResNet():
            return f"resnet{backbone.depth}"
        case EfficientNetLite():
            return f"efficientnet_lite{backbone.variant}"
        case SwinTransformer():
            return f"swin_{backbone.size}"
        case CspDarknet():
            return f"csp_darknet_{backbone.size}"
        case _:
            return backbone.kind


_BACKBONES: Final = {name_backbone(backbone): backbone for backbone in _list_backbones()}


def choose_teacher_backbone(students: Collection[str]) -> str:
    """A backbone to train as the teacher of these students: larger than each ResNet of them."""
    depths = [depth for depth in (18, 34, 50, 101, 152) if f"resnet{depth}" in students]
    deepest = max(depths, default=0)
    return next((f"resnet{depth}" for depth in (50, 101) if depth > deepest), "resnet152")


def student_values(name: str, base: RunSpec) -> Values:
    """The fields that give a run another backbone; none if it has that backbone already.

    It begins with ImageNet weights if that of `base` does. Raises `ValueError` for unknown names.
    """
    if name == name_backbone(base.student.backbone):
        return {}
    backbone = _BACKBONES.get(name)
    if backbone is None:
        names = sorted(_BACKBONES)
        advice = ask_did_you_mean(name, names) or f"choose from {', '.join(names)}"
        raise ValueError(f"there is no student {name}: {advice}")
    fields = backbone.model_dump(mode="json", include={"kind", "depth", "variant", "size"})
    values: Values = {f"{_FIELD}.{field}": value for field, value in fields.items()}
    if getattr(base.student.backbone, "pretrained", None) is not None:
        values[f"{_FIELD}.pretrained"] = "imagenet"
    return values
