"""What distillation, export and teachers ask of a head, whatever its kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.distillation.head_adapters.label_assignment import Assignment
from workers.distillation.head_adapters.positions import flatten_positions

Outputs = tuple[list[Tensor], ...]
"""Return value of a head's `forward`: maps (B, D, H, W) by level, class logits first."""


class HeadAdapter(ABC):
    """Reads class logits and decoded boxes from the outputs of one kind of mmdet head."""

    box_output = 1
    """Index of the boxes among the head's outputs."""

    needs_fp32 = False
    """Whether the head has operators without bf16 and fp16 kernels."""

    last_layers: tuple[str, str] | None = None
    """Attributes of the layers after the classification and the box tower.

    None for a head without two plain towers, which CrossKD does not support.
    """

    clips_boxes = True
    """Whether mmdet clips the detected boxes to the image."""

    def __init__(self, head: Any) -> None:
        self.head = head

    @property
    def strides(self) -> list[int]:
        """Pixels between neighboring locations, by level."""
        return [int(stride) for stride, _ in self.head.prior_generator.strides]

    def class_logits(self, outputs: Outputs, level: int) -> Tensor:
        """Logits of every class, (N, C)."""
        return flatten_positions(outputs[0][level], self.head.cls_out_channels)

    def decode_boxes(self, outputs: Outputs, level: int) -> Tensor:
        """Decoded boxes, (N, 4), in strides."""
        maps = outputs[self.box_output][level]
        # Decoding is fp32: autocast would round edges to 1/64 of their value.
        with torch.autocast(maps.device.type, enabled=False):
            return self._decode(maps, level)

    def decode_levels(self, outputs: Outputs, levels: Sequence[int]) -> Tensor:
        """Decoded boxes of several levels, one after another, (N, 4), in strides."""
        return torch.cat([self.decode_boxes(outputs, level) for level in levels])

    def predict_class_maps(self, tower_BDHW: Tensor) -> Tensor:
        """Apply the last classification layer to a tower's output; needs `last_layers`."""
        return self._get_last_layer(0)(tower_BDHW)

    def predict_box_maps(self, tower_BDHW: Tensor, level: int) -> Tensor:
        """Apply the last box layer to a tower's output at one level; needs `last_layers`."""
        return self._scale(self._get_last_layer(1)(tower_BDHW), level)

    def _get_last_layer(self, position: int) -> Any:
        assert self.last_layers is not None, "the spec refuses CrossKD for such a head"
        return getattr(self.head, self.last_layers[position])

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Move the head's constants, which are not buffers, along with its weights.

        `change` is the function that `nn.Module._apply` gets. Without this, mmdet copies the
        constants to the device at each level and call.
        """
        generator = self.head.prior_generator
        if hasattr(generator, "base_anchors"):
            generator.base_anchors = [
                move_constant(anchors, change) for anchors in generator.base_anchors
            ]

    def prepare_features(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Feature maps (B, D, H, W) in a dtype and a memory format that the head can read."""
        return tuple(features)

    @abstractmethod
    def read_assignment(self, targets: Any) -> Assignment:
        """Convert the return value of the head's `get_targets`."""

    @abstractmethod
    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor: ...

    def _scale(self, maps_BDHW: Tensor, level: int) -> Tensor:
        return self.head.scales[level](maps_BDHW)

    def _priors(self, maps_BDHW: Tensor, level: int) -> Tensor:
        """Anchors (N, 4) or points (N, 2) of all images, in pixels."""
        priors = self.head.prior_generator.single_level_grid_priors(
            maps_BDHW.shape[-2:], level_idx=level, device=maps_BDHW.device
        )
        return priors.repeat(maps_BDHW.shape[0], 1)


def move_constant(constant: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Move to the device that `change` moves tensors to, but keep the dtype."""
    return constant.to(change(constant).device)
