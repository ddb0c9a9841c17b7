"""Translates a `Detector` spec into an mmdet config: backbone, neck and head."""

from importlib.resources import as_file, files
from typing import Any

from mmcv import Config, ConfigDict
from mmdet.models.utils import make_divisible

from configs.backbone_weights import resnet_weights_url, swin_weights_url
from configs.spec.base import DEFAULT_MAX_DETECTIONS
from configs.spec.dataset import ClassNames
from configs.spec.detector import (
    Backbone,
    CspDarknet,
    Detector,
    EfficientNetLite,
    FcosHead,
    GflHead,
    Head,
    MobileNetV2,
    Pyramid,
    ResNet,
    ResNeXt,
    RetinaHead,
    SwinTransformer,
    ToodHead,
    YoloxHead,
    YoloxPafpn,
)
from workers.models import efficientnet_lite as _backbones  # noqa: F401  registers it

_PUBLISHED_GROUPS = 32
_RESNET_CHANNELS = 64
_BOTTLENECK_EXPANSION = 4
_RESNEXT_GROUP_WIDTH = 4
_MOBILENET_OUTPUTS = {1: 24, 2: 32, 4: 96, 6: 320}
"""Channels of the blocks that feed the pyramid, at strides 4, 8, 16 and 32."""

_MOBILENET_WEIGHTS = "open-mmlab://mmdet/mobilenet_v2"
_SWIN_CHANNELS = 96
_SWIN_HEADS = (3, 6, 12, 24)
_SWIN_DEPTHS = {"tiny": (2, 2, 6, 2), "small": (2, 2, 18, 2)}
_LITE_CHANNELS = {0: [24, 40, 112, 320], 1: [24, 40, 112, 320], 2: [24, 48, 120, 352]}
"""Channels of EfficientNet-Lite by variant, at strides 4, 8, 16 and 32."""
_DARKNET_FACTORS = {
    "tiny": (0.33, 0.375),
    "s": (0.33, 0.5),
    "m": (0.67, 0.75),
    "l": (1.0, 1.0),
    "x": (1.33, 1.25),
}
"""Multipliers of the depth and of the channels of CSPDarknet, by size."""

_DARKNET_CHANNELS = (128, 256, 512, 1024)

_SINGLE_ANCHOR = {"octave_base_scale": 8, "scales_per_octave": 1, "ratios": [1.0]}

_ORIGINAL_FCOS: dict[str, Any] = {
    "norm_on_bbox": False,
    "centerness_on_reg": False,
    "center_sampling": False,
    "conv_bias": "auto",
    "loss_bbox": {"type": "IoULoss", "loss_weight": 1.0},
}
"""As in mmdet's fcos_r50_caffe_fpn_gn-head_1x_coco."""

_ORIGINAL_FCOS_NMS_IOU = 0.5

_NORMALIZATION: dict[str, dict[str, Any]] = {
    "imagenet": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True},
    "caffe": {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "to_rgb": False},
    "detectron": {"mean": [102.9801, 115.9465, 122.7717], "std": [1.0, 1.0, 1.0], "to_rgb": False},
    "half": {"mean": [127.0, 127.0, 127.0], "std": [128.0, 128.0, 128.0], "to_rgb": True},
    "none": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "to_rgb": False},
}

_GRAY = 114.0
"""Of pixels without an image, as in YOLOX."""


def load_template(head_kind: str) -> Config:
    """Load the mmdet config template for a kind of head."""
    with as_file(files("configs").joinpath("mmdet")) as folder:
        return Config.fromfile(str(folder / f"{head_kind}.py"))


def build_detector_config(
    detector: Detector, *, classes: ClassNames, max_detections: int = DEFAULT_MAX_DETECTIONS
) -> ConfigDict:
    """Build the config of a plain mmdet detector; only a backbone may have pretrained weights.

    The detector reports at most `max_detections` boxes of an image.
    """
    model: dict[str, Any] = load_template(detector.head.kind)._cfg_dict.model.to_dict()
    backbone, channels = _build_backbone_config(detector.backbone)
    model["backbone"] = backbone
    _fill_in_neck(model, detector.neck, channels=channels)
    model["bbox_head"] |= {
        "num_classes": len(classes),
        "in_channels": detector.neck.channels,
        "stacked_convs": detector.head.convs,
        "feat_channels": detector.head.channels,
    }
    _fill_in_head(model["bbox_head"], detector.head)
    if isinstance(detector.head, FcosHead) and detector.head.variant == "original":
        model["test_cfg"]["nms"]["iou_threshold"] = _ORIGINAL_FCOS_NMS_IOU
    if isinstance(detector.head, ToodHead):
        model["train_cfg"]["initial_epoch"] = detector.head.initial_epochs
    model["test_cfg"]["max_per_img"] = max_detections
    if isinstance(detector.head, YoloxHead):  # whose code in mmdet limits nothing after NMS
        model["test_cfg"]["nms"]["max_num"] = max_detections
    return ConfigDict(model)


def get_normalization(detector: Detector) -> dict[str, Any]:
    """Mean, standard deviation and channel order that the backbone expects of its images."""
    return _NORMALIZATION[detector.normalize]


def get_padding(detector: Detector) -> float:
    """The normalized value of pixels beyond an image."""
    return _GRAY if detector.normalize == "none" else 0.0


def _fill_in_neck(model: dict[str, Any], neck: Pyramid, *, channels: list[int]) -> None:
    """Fill in the neck; `channels` are those of the backbone at strides 4, 8, 16 and 32."""
    if not isinstance(neck, YoloxPafpn):
        model["neck"] |= {"in_channels": channels, "out_channels": neck.channels}
        return
    model["backbone"]["out_indices"] = model["backbone"]["out_indices"][1:]
    model["neck"] = {
        "type": "YOLOXPAFPN",
        "in_channels": channels[1:],
        "out_channels": neck.channels,
        "num_csp_blocks": neck.blocks,
    }


def _fill_in_head(config: dict[str, Any], head: Head) -> None:
    if isinstance(head, RetinaHead):
        if head.anchors == 1:
            config["anchor_generator"] |= _SINGLE_ANCHOR
        return
    if isinstance(head, YoloxHead):  # it has BatchNorm
        return
    config["norm_cfg"] = {"type": "GN", "num_groups": _count_groups(head), "requires_grad": True}
    if isinstance(head, GflHead):
        config["reg_max"] = head.reg_max
    if isinstance(head, FcosHead) and head.variant == "original":
        config |= _ORIGINAL_FCOS


def _count_groups(head: Head) -> int:
    """Number of GroupNorm's groups: 32 as published, fewer if a group would be a single channel.

    A single channel at a single position (the coarsest level of a small image) has no variance.
    """
    return min(_PUBLISHED_GROUPS, head.channels // 2)


def _build_backbone_config(backbone: Backbone) -> tuple[dict[str, Any], list[int]]:
    """Build the backbone's config; returns it with its channels at strides 4, 8, 16 and 32."""
    if isinstance(backbone, MobileNetV2):
        return _build_mobilenet_v2(backbone)
    if isinstance(backbone, SwinTransformer):
        return _build_swin(backbone)
    if isinstance(backbone, EfficientNetLite):
        return _build_efficientnet_lite(backbone)
    if isinstance(backbone, CspDarknet):
        return _build_csp_darknet(backbone)
    if isinstance(backbone, ResNeXt):
        return _build_resnext(backbone)
    return _build_resnet(backbone)


def _build_resnet(backbone: ResNet) -> tuple[dict[str, Any], list[int]]:
    first = round(_RESNET_CHANNELS * backbone.width)
    expansion = _BOTTLENECK_EXPANSION if backbone.depth >= 50 else 1
    config = _common_resnet_config(backbone) | {
        "type": "ResNet",
        "base_channels": first,
        "style": backbone.style,
    }
    if backbone.pretrained is not None:
        config["init_cfg"] = _pretrained(
            resnet_weights_url(backbone)
            if backbone.style == "caffe"
            else f"torchvision://resnet{backbone.depth}"
        )
    return config, [first * expansion * 2**stage for stage in range(4)]


def _build_resnext(backbone: ResNeXt) -> tuple[dict[str, Any], list[int]]:
    config = _common_resnet_config(backbone) | {
        "type": "ResNeXt",
        "groups": backbone.groups,
        "base_width": _RESNEXT_GROUP_WIDTH,
        "style": "pytorch",
    }
    if backbone.pretrained is not None:
        config["init_cfg"] = _pretrained(resnet_weights_url(backbone))
    return config, [_RESNET_CHANNELS * _BOTTLENECK_EXPANSION * 2**stage for stage in range(4)]


def _common_resnet_config(backbone: ResNet | ResNeXt) -> dict[str, Any]:
    return {
        "depth": backbone.depth,
        "num_stages": 4,
        "out_indices": (0, 1, 2, 3),
        "frozen_stages": backbone.frozen_stages,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "norm_eval": backbone.norm_eval,
    }


def _build_mobilenet_v2(backbone: MobileNetV2) -> tuple[dict[str, Any], list[int]]:
    config: dict[str, Any] = {
        "type": "MobileNetV2",
        "widen_factor": backbone.width,
        "out_indices": tuple(_MOBILENET_OUTPUTS),
        "frozen_stages": backbone.frozen_stages,
        "norm_eval": backbone.norm_eval,
    }
    if backbone.pretrained is not None:
        config["init_cfg"] = _pretrained(_MOBILENET_WEIGHTS)
    return config, [
        make_divisible(channels * backbone.width, 8) for channels in _MOBILENET_OUTPUTS.values()
    ]


def _build_swin(backbone: SwinTransformer) -> tuple[dict[str, Any], list[int]]:
    first = round(_SWIN_CHANNELS * backbone.width)
    config: dict[str, Any] = {
        "type": "SwinTransformer",
        "embed_dims": first,
        "depths": _SWIN_DEPTHS[backbone.size],
        "num_heads": tuple(max(1, round(heads * backbone.width)) for heads in _SWIN_HEADS),
        "window_size": 7,
        "drop_path_rate": backbone.drop_path,
        "out_indices": (0, 1, 2, 3),
        "convert_weights": True,
    }
    if backbone.pretrained is not None:
        config["init_cfg"] = _pretrained(swin_weights_url(backbone.size))
    return config, [first * 2**stage for stage in range(4)]


def _build_efficientnet_lite(backbone: EfficientNetLite) -> tuple[dict[str, Any], list[int]]:
    config = {
        "type": "TandemEfficientNetLite",
        "variant": backbone.variant,
        "frozen_stages": backbone.frozen_stages,
        "norm_eval": backbone.norm_eval,
        "pretrained": backbone.pretrained is not None,
    }
    return config, _LITE_CHANNELS[backbone.variant]


def _build_csp_darknet(backbone: CspDarknet) -> tuple[dict[str, Any], list[int]]:
    depth, width = _DARKNET_FACTORS[backbone.size]
    config = {
        "type": "CSPDarknet",
        "deepen_factor": depth,
        "widen_factor": width,
        "out_indices": (1, 2, 3, 4),
        "frozen_stages": backbone.frozen_stages,
        "norm_eval": backbone.norm_eval,
    }
    return config, [int(channels * width) for channels in _DARKNET_CHANNELS]


def _pretrained(checkpoint: str) -> dict[str, str]:
    return {"type": "Pretrained", "checkpoint": checkpoint}
