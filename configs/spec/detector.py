"""Architectures of teachers and students."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from configs.spec.base import Contract, Fraction

FrozenStages = Annotated[int, Field(ge=-1, le=4)]
"""Number of frozen stages: 1 freezes the stem and the first stage, -1 nothing."""

_MIN_BOTTLENECK_DEPTH = 50
_PRETRAINED_RESNEXTS = ((50, 32), (101, 32), (101, 64))
"""Depth and groups of those with ImageNet weights."""

Pretrained = Literal["imagenet"] | None
"""Weights to start from. ImageNet weights exist for the published width only."""


class ResNet(Contract):
    """A ResNet backbone (He et al., 2016), of full or reduced width."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152]
    width: Annotated[float, Field(ge=0.125, le=1.0, multiple_of=0.125)] = 1.0
    """Multiplier of the published channel counts: 0.25 means 16 channels in the first stage."""

    # Specs and digests of versions without this field stay the same.
    style: Annotated[
        Literal["pytorch", "caffe"], Field(exclude_if=lambda style: style == "pytorch")
    ] = "pytorch"
    """Which convolution of a bottleneck has the stride: the 3 x 3 one, or the first (Caffe)."""

    frozen_stages: FrozenStages = -1
    norm_eval: bool = False
    """Keep BatchNorm's running statistics fixed; for pretrained backbones."""

    pretrained: Pretrained = None

    @model_validator(mode="after")
    def _check_style(self) -> Self:
        if self.style == "caffe" and self.depth < _MIN_BOTTLENECK_DEPTH:
            raise ValueError(
                f"style caffe has no effect: a ResNet-{self.depth} has no bottlenecks; use a depth "
                f"of {_MIN_BOTTLENECK_DEPTH} or more"
            )
        if self.style == "caffe" and self.pretrained is not None and self.depth == 152:
            raise ValueError(
                "pretrained: ImageNet weights of Caffe exist for depths 50 and 101, not 152"
            )
        return self


class ResNeXt(Contract):
    """A ResNeXt backbone (Xie et al., 2017), whose groups have 4 channels in the first stage."""

    kind: Literal["resnext"]
    depth: Literal[50, 101] = 101
    groups: Annotated[int, Field(ge=1, le=64)] = 32
    """Groups of the 3 x 3 convolutions; 32 and 64 as published (32x4d, 64x4d)."""

    frozen_stages: FrozenStages = -1
    norm_eval: bool = False
    pretrained: Pretrained = None

    @model_validator(mode="after")
    def _check_pretrained(self) -> Self:
        if self.pretrained is not None and (self.depth, self.groups) not in _PRETRAINED_RESNEXTS:
            raise ValueError(
                "pretrained: ImageNet weights exist for depth 50 with 32 groups and for depth 101 "
                f"with 32 or 64, not for depth {self.depth} with {self.groups}"
            )
        return self


class MobileNetV2(Contract):
    """A MobileNetV2 backbone (Sandler et al., 2018) with 24, 32, 96 and 320 output channels."""

    kind: Literal["mobilenet_v2"]
    width: Annotated[float, Field(ge=0.25, le=1.0, multiple_of=0.25)] = 1.0
    frozen_stages: Annotated[int, Field(ge=-1, le=7)] = -1
    norm_eval: bool = False
    pretrained: Pretrained = None


class SwinTransformer(Contract):
    """A Swin Transformer backbone (Liu et al., 2021)."""

    kind: Literal["swin"]
    size: Literal["tiny", "small"] = "tiny"
    width: Annotated[float, Field(ge=0.25, le=1.0, multiple_of=0.25)] = 1.0
    """Multiplier of the published 96 channels and 3, 6, 12, 24 attention heads."""

    drop_path: Fraction = 0.2
    """Stochastic depth: probability to skip a block of the last stage; it rises with depth."""

    pretrained: Pretrained = None


class EfficientNetLite(Contract):
    """An EfficientNet-Lite backbone: no squeeze-and-excitation, ReLU6."""

    kind: Literal["efficientnet_lite"]
    variant: Literal[0, 1, 2] = 0
    frozen_stages: FrozenStages = -1
    norm_eval: bool = False
    pretrained: Pretrained = None


class CspDarknet(Contract):
    """The CSPDarknet backbone of YOLOX (Ge et al., 2021), in sizes of mmdet."""

    kind: Literal["csp_darknet"]
    size: Literal["tiny", "s", "m", "l", "x"] = "s"
    frozen_stages: FrozenStages = -1
    norm_eval: bool = False
    pretrained: None = None
    """It starts from random weights: mmdet has none of ImageNet."""


def _discriminate_kind(*kinds: str) -> Discriminator:
    """A discriminator by `kind`, which defaults to the first one."""

    def get_kind(value: Any) -> str:
        if isinstance(value, dict):
            return str(value.get("kind", kinds[0]))
        return str(getattr(value, "kind", kinds[0]))

    return Discriminator(
        get_kind,
        custom_error_type="unknown_kind",
        custom_error_message=f"kind is one of {', '.join(kinds)}",
    )


Backbone = Annotated[
    Annotated[ResNet, Tag("resnet")]
    | Annotated[ResNeXt, Tag("resnext")]
    | Annotated[MobileNetV2, Tag("mobilenet_v2")]
    | Annotated[SwinTransformer, Tag("swin")]
    | Annotated[EfficientNetLite, Tag("efficientnet_lite")]
    | Annotated[CspDarknet, Tag("csp_darknet")],
    _discriminate_kind(
        "resnet", "resnext", "mobilenet_v2", "swin", "efficientnet_lite", "csp_darknet"
    ),
]


_PyramidChannels = Annotated[int, Field(ge=8, le=512, multiple_of=8)]


class Neck(Contract):
    """The feature pyramid (FPN, Lin et al., 2017) between backbone and head."""

    # Documents never have it: those of versions with FPN necks alone, and their digests, stay.
    kind: Annotated[Literal["fpn"], Field(exclude=True)] = "fpn"
    channels: _PyramidChannels = 256


class YoloxPafpn(Contract):
    """The pyramid of YOLOX, top-down and then bottom-up, with BatchNorm; for its head only."""

    kind: Literal["yolox_pafpn"]
    channels: _PyramidChannels = 256
    blocks: Annotated[int, Field(ge=1, le=4)] = 3
    """Bottlenecks in each of its CSP layers: 1 as published for sizes tiny and s, 2 for m, 3 for l,
    4 for x."""


Pyramid = Annotated[
    Annotated[Neck, Tag("fpn")] | Annotated[YoloxPafpn, Tag("yolox_pafpn")],
    _discriminate_kind("fpn", "yolox_pafpn"),
]


class _Towers(Contract):
    """Towers of convolutions before the last layers, by default one for each task."""

    has_plain_towers: ClassVar[bool] = True
    """Whether each task has a tower of its own that all levels share, as CrossKD needs."""

    strides: ClassVar[tuple[int, ...]] = (8, 16, 32, 64, 128)
    """Pixels between neighboring positions, by feature level."""

    convs: Annotated[int, Field(ge=1, le=8)] = 4
    channels: Annotated[int, Field(ge=32, le=512, multiple_of=32)] = 256
    """Channels of the towers; a multiple of the 32 groups of their GroupNorm."""


class GflHead(_Towers):
    """The head of Generalized Focal Loss (Li et al., 2020): edges as distributions."""

    kind: Literal["gfl"] = "gfl"
    reg_max: Annotated[int, Field(ge=4, le=32)] = 16
    """Largest distance to a box edge, in strides, that the distribution covers."""


class AtssHead(_Towers):
    """The head of ATSS (Zhang et al., 2020): one anchor, centerness."""

    kind: Literal["atss"]


class RetinaHead(_Towers):
    """The head of RetinaNet (Lin et al., 2017): anchors, sigmoid focal loss."""

    kind: Literal["retina"]
    anchors: Literal[1, 9] = 9
    """Anchors per position: 9 as published (3 scales, 3 aspect ratios), or a single square."""


class FcosHead(_Towers):
    """The head of FCOS (Tian et al., 2019): points, centerness."""

    kind: Literal["fcos"]
    # Specs and digests of versions without this field stay the same.
    variant: Annotated[
        Literal["improved", "original"], Field(exclude_if=lambda variant: variant == "improved")
    ] = "improved"
    """The head with its authors' later changes (distances in strides, centerness beside the boxes,
    positives near the centers of objects, GIoU loss), or as first published."""


class VfnetHead(_Towers):
    """The head of VarifocalNet (Zhang et al., 2021): IoU-aware scores, boxes refined once."""

    has_plain_towers = False
    kind: Literal["vfnet"]


class ToodHead(_Towers):
    """The head of TOOD (Feng et al., ICCV 2021): one tower for both tasks, aligned predictions."""

    has_plain_towers = False
    kind: Literal["tood"]
    convs: Annotated[int, Field(ge=1, le=8)] = 6
    """Convolutions of the tower; each task weights the outputs of all of them."""

    initial_epochs: Annotated[int, Field(ge=0, le=1000)] = 4
    """Epochs that assign labels by ATSS, before task alignment does; fewer than in the schedule."""


class PaaHead(_Towers):
    """The head of PAA (Kim and Lee, 2020): anchors chosen by their losses, voted boxes."""

    kind: Literal["paa"]


class YoloxHead(_Towers):
    """The head of YOLOX (Ge et al., 2021): class scores times objectness, BatchNorm, three levels.

    Each level has towers of its own.
    """

    has_plain_towers = False
    strides = (8, 16, 32)
    kind: Literal["yolox"]
    convs: Annotated[int, Field(ge=1, le=8)] = 2


Head = Annotated[
    Annotated[GflHead, Tag("gfl")]
    | Annotated[AtssHead, Tag("atss")]
    | Annotated[RetinaHead, Tag("retina")]
    | Annotated[FcosHead, Tag("fcos")]
    | Annotated[VfnetHead, Tag("vfnet")]
    | Annotated[ToodHead, Tag("tood")]
    | Annotated[PaaHead, Tag("paa")]
    | Annotated[YoloxHead, Tag("yolox")],
    _discriminate_kind("gfl", "atss", "retina", "fcos", "vfnet", "tood", "paa", "yolox"),
]


class Detector(Contract):
    """A dense detector: backbone, pyramid over the strides of the head, head."""

    backbone: Backbone
    neck: Pyramid = Neck()
    head: Head = GflHead()
    normalize: Literal["imagenet", "caffe", "detectron", "half", "none"] = "imagenet"
    """Normalization of pixels: RGB with ImageNet's mean and deviation, BGR with its mean only
    (Caffe), BGR with the mean of Detectron, RGB from about -1 to 1 (EfficientNet-Lite), or BGR from
    0 to 255, padded with gray instead of 0 (YOLOX)."""

    @model_validator(mode="after")
    def _check_pyramid(self) -> Self:
        if self.neck.kind == "fpn":
            return self
        if self.head.kind != "yolox":
            raise ValueError(
                "neck.kind yolox_pafpn has the three levels of a yolox head, and head.kind is "
                f"{self.head.kind}; use neck.kind fpn"
            )
        if self.backbone.kind == "efficientnet_lite":
            raise ValueError(
                "neck.kind yolox_pafpn takes three levels of a backbone, and efficientnet_lite "
                "gives four; use neck.kind fpn"
            )
        return self

    @property
    def title(self) -> str:
        """Display name, as in `GFL ResNet-34 x 0.5`."""
        return f"{self.head.kind.upper()} {backbone_title(self.backbone)}"

    @property
    def anchors(self) -> int:
        """Number of predictions at each position of a feature level."""
        return self.head.anchors if isinstance(self.head, RetinaHead) else 1


Part = Literal["neck", "head"]


def _sort_parts(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    if len(set(parts)) < len(parts):
        raise ValueError(f"name each part once, got {', '.join(parts)}")
    return tuple(sorted(parts, reverse=True))


class Student(Detector):
    """A detector that a run trains, and where its initial weights come from."""

    inherit: Annotated[
        tuple[Part, ...],
        AfterValidator(_sort_parts),
        # Specs and digests of versions without this field stay the same.
        Field(exclude_if=lambda parts: not parts),
    ] = ()
    """Parts that begin with the teacher's weights, layer by layer where shapes are equal. Empty for
    random ones."""

    @property
    def architecture(self) -> Detector:
        """What is built and stored of the trained detector, without where it began."""
        return Detector(**{name: getattr(self, name) for name in Detector.model_fields})


def backbone_title(backbone: Backbone) -> str:
    """Display name, as in `ResNet-34 x 0.5`."""
    if isinstance(backbone, EfficientNetLite):
        return f"EfficientNet-Lite{backbone.variant}"
    if isinstance(backbone, CspDarknet):
        return f"CSPDarknet-{backbone.size}"
    if isinstance(backbone, ResNeXt):
        return f"ResNeXt-{backbone.depth}-{backbone.groups}x4d"
    thinned = "" if backbone.width == 1.0 else f" x {backbone.width:g}"
    if isinstance(backbone, ResNet):
        style = " (Caffe)" if backbone.style == "caffe" else ""
        return f"ResNet-{backbone.depth}{style}{thinned}"
    if isinstance(backbone, MobileNetV2):
        return f"MobileNetV2{thinned}"
    return f"Swin-{backbone.size[0].upper()}{thinned}"
