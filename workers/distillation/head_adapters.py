"""One interface to all dense heads: class logits and decoded boxes at shared positions.

A position is one prediction at one location of a feature level. The N positions of a level are
ordered by image, row, column and anchor.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from mmdet.models.dense_heads import ATSSHead, FCOSHead, GFLHead, RetinaHead, VFNetHead
from torch import Tensor

from workers import distributed
from workers.distillation.anchor_grid import GridCache
from workers.distillation.assignment import AtssTargets
from workers.errors import TeacherMismatch

Outputs = tuple[list[Tensor], ...]
"""Return value of a head's `forward`: maps (B, D, H, W) by level, class logits first."""


@dataclass(frozen=True)
class Assignment:
    """The positions that the label assignment of a batch made positive, by level."""

    labels_N: list[Tensor]
    """Class at each position; `num_classes` where there is no object."""

    label_weight_N: list[Tensor]
    """0 in the padding and where labels are ignored, else 1."""

    num_pos: float | Tensor
    """Number of positives that normalizes the head's own classification loss."""

    num_classes: int
    counted: AtssTargets | None = None
    """The targets that the above were read from, if they have counted the positives already."""

    def positive_N(self, level: int) -> Tensor:
        """Mask of the positive positions of a level, bool."""
        return (self.labels_N[level] >= 0) & (self.labels_N[level] < self.num_classes)

    @cached_property
    def positive_indices(self) -> list[Tensor]:
        """Indices of the positive positions of each level, ascending, int64."""
        if self.counted is not None:
            starts = itertools.accumulate(self.counted.level_sizes, initial=0)
            by_level = self.counted.positive_K.split(self.counted.positive_counts)
            return [index - start for index, start in zip(by_level, starts, strict=False)]
        return nonzero_indices([self.positive_N(level) for level in range(len(self.labels_N))])

    @cached_property
    def levels_with_positives(self) -> list[int]:
        """The levels that have any positive position."""
        counts = (
            [len(indices) for indices in self.positive_indices]
            if self.counted is None
            else self.counted.positive_counts
        )
        return [level for level, count in enumerate(counts) if count]


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
                _move_constant(anchors, change) for anchors in generator.base_anchors
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


class GflHeadAdapter(HeadAdapter):
    """Box edges are expectations of distributions over distances from the anchor's center."""

    last_layers = ("gfl_cls", "gfl_reg")

    def __init__(self, head: Any) -> None:
        super().__init__(head)
        self._grids: GridCache = getattr(head, "grids", None) or GridCache(head.prior_generator)

    def decode_levels(self, outputs: Outputs, levels: Sequence[int]) -> Tensor:
        """Decoded boxes of several levels, all at once."""
        maps = outputs[self.box_output]
        grid, num_images = self._grids.get(maps), len(maps[0])
        points = grid.points_N2(num_images).split([num_images * n for n in grid.level_counts])
        with torch.autocast(maps[0].device.type, enabled=False):
            distances_N4 = self.head.integral(flatten_levels([maps[level] for level in levels]))
            points_N2 = torch.cat([points[level] for level in levels])
            decoded_N4: Tensor = self.head.bbox_coder.decode(points_N2, distances_N4)
        return decoded_N4

    def edges(self, outputs: Outputs, level: int) -> Tensor:
        """Logits of the edge distributions, (N, 4, reg_max + 1)."""
        return flatten_positions(outputs[1][level], 4 * (self.head.reg_max + 1)).unflatten(
            1, (4, -1)
        )

    def read_assignment(self, targets: Any) -> Assignment:
        """Read the targets of GFL, which assigns labels by ATSS."""
        return _read_atss_assignment(self.head, targets)

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        centers_N2 = self.head.anchor_center(self._priors(maps_BDHW, level)) / self.strides[level]
        distances_N4 = self.head.integral(flatten_positions(maps_BDHW, 4 * (self.head.reg_max + 1)))
        return self.head.bbox_coder.decode(centers_N2, distances_N4)


class AtssHeadAdapter(HeadAdapter):
    """Boxes are offsets from one anchor at each location."""

    last_layers = ("atss_cls", "atss_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """Read the targets of ATSS, which adapts the IoU threshold to each object."""
        return _read_atss_assignment(self.head, targets)

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        return _decode_anchors(self, maps_BDHW, level)


class RetinaHeadAdapter(HeadAdapter):
    """Boxes are offsets from several anchors at each location."""

    last_layers = ("retina_cls", "retina_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """Labels are by IoU with the anchors, and ignored between the two thresholds."""
        labels, weights, *_, num_pos, _ = targets
        return _make_assignment(self.head, labels, weights, num_pos)

    def _scale(self, maps_BDHW: Tensor, level: int) -> Tensor:  # noqa: ARG002
        return maps_BDHW

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        return _decode_anchors(self, maps_BDHW, level)


class FcosHeadAdapter(HeadAdapter):
    """Boxes are edge distances from points."""

    last_layers = ("conv_cls", "conv_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """Labels are by location and object size, and no position is ignored."""
        labels = targets[0]
        return _make_assignment(
            self.head,
            labels,
            [torch.ones_like(level_labels, dtype=torch.float) for level_labels in labels],
        )

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        stride = self.strides[level]
        distances_N4 = flatten_positions(maps_BDHW, 4)
        # The head returns distances in strides in train mode, and in pixels in eval mode.
        if not (self.head.training and self.head.norm_on_bbox):
            distances_N4 = distances_N4 / stride
        points_N2 = self._priors(maps_BDHW, level) / stride
        return self.head.bbox_coder.decode(points_N2, distances_N4)

    def _scale(self, maps_BDHW: Tensor, level: int) -> Tensor:
        distances = self.head.scales[level](maps_BDHW).float()
        distances = distances.clamp(min=0) if self.head.norm_on_bbox else distances.exp()
        in_pixels = self.head.norm_on_bbox and not self.head.training
        return distances * self.strides[level] if in_pixels else distances


class VfnetHeadAdapter(HeadAdapter):
    """Boxes are edge distances from points; the last output holds the refined ones."""

    box_output = -1
    needs_fp32 = True  # its deformable convolutions

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Also move the kernel offsets of the deformable convolution, which takes NCHW only."""
        super().move(change)
        self.head.dcn_base_offset = _move_constant(self.head.dcn_base_offset, change)
        for parameter in self.head.parameters():
            parameter.data = parameter.data.contiguous()

    def prepare_features(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The deformable convolutions take fp32 and NCHW only."""
        return tuple(maps.float().contiguous() for maps in features)

    def read_assignment(self, targets: Any) -> Assignment:
        """Read the targets of VFNet, whose `get_targets` does not count positives."""
        labels, weights = targets[:2]
        return _make_assignment(
            self.head,
            labels,
            list(weights.split([level_labels.numel() for level_labels in labels])),
        )

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        stride = self.strides[level]
        points_N2 = self._priors(maps_BDHW, level) / stride
        return self.head.bbox_coder.decode(points_N2, flatten_positions(maps_BDHW, 4) / stride)


# VFNetHead is both an ATSSHead and an FCOSHead, so it comes first.
_ADAPTERS: tuple[tuple[type, type[HeadAdapter]], ...] = (
    (VFNetHead, VfnetHeadAdapter),
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


def flatten_positions(maps_BDHW: Tensor, width: int) -> Tensor:
    """Reshape (B, A * width, H, W) to (N, width), in fp32."""
    return maps_BDHW.permute(0, 2, 3, 1).reshape(-1, width).float()


def flatten_levels(maps: Sequence[Tensor]) -> Tensor:
    """Flatten maps (B, D, H, W) of a head with one anchor at each location to (N, D), in fp32."""
    return torch.cat([flatten_positions(level, level.shape[1]) for level in maps])


def level_sums(values_N: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Sum of each level, a scalar; `sizes` are the numbers of values by level."""
    return [level.sum() for level in values_N.split(list(sizes))]


def shard_normalizer(count: float | Tensor, *, head: Any, like: Tensor) -> float | Tensor:
    """Divide the count over the global batch, clamped to at least 1, by the number of shards.

    A loss sum divided by the result and averaged over all processes and micro-batches equals the
    loss sum of the global batch divided by its count. From one micro-batch the count of all is
    estimated. `like` gives the device. A count on the device stays there.
    """
    micro_batches = getattr(head, "micro_batches", 1)
    num_shards = distributed.get_world_size() * micro_batches
    if isinstance(count, Tensor):
        global_count = distributed.all_reduce_sum(count.to(torch.float32)) * micro_batches
        return global_count.clamp(min=1.0) / num_shards
    total = micro_batches * distributed.all_reduce_sum_scalar(count, device=like.device)
    return max(total, 1.0) / num_shards


def nonzero_indices(masks: Sequence[Tensor]) -> list[Tensor]:
    """Indices of the true elements of each mask (N,), ascending, int64.

    Synchronizes with the device once for all masks.
    """
    counts: list[int] = torch.stack([mask.sum() for mask in masks]).tolist()
    return [
        mask.nonzero_static(size=count).squeeze(1)
        for mask, count in zip(masks, counts, strict=True)
    ]


def _move_constant(constant: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Move to the device that `change` moves tensors to, but keep the dtype."""
    return constant.to(change(constant).device)


def _decode_anchors(adapter: HeadAdapter, maps_BDHW: Tensor, level: int) -> Tensor:
    anchors_N4 = adapter._priors(maps_BDHW, level)
    return (
        adapter.head.bbox_coder.decode(anchors_N4, flatten_positions(maps_BDHW, 4))
        / adapter.strides[level]
    )


def _read_atss_assignment(head: Any, targets: Any) -> Assignment:
    if isinstance(targets, AtssTargets):
        return Assignment(
            labels_N=list(targets.labels_N.split(targets.level_sizes)),
            label_weight_N=list(targets.label_weight_N.split(targets.level_sizes)),
            num_pos=shard_normalizer(targets.num_pos, head=head, like=targets.num_pos),
            num_classes=head.num_classes,
            counted=targets,
        )
    _, labels, weights, *_, num_pos, _ = targets
    return _make_assignment(head, labels, weights, num_pos)


def _make_assignment(
    head: Any, labels: list[Tensor], weights: list[Tensor], num_pos: float | None = None
) -> Assignment:
    flat = [level_targets.reshape(-1) for level_targets in labels]
    if num_pos is None:
        counts = [((labels_N >= 0) & (labels_N < head.num_classes)).sum() for labels_N in flat]
        num_pos = int(torch.stack(counts).sum())
    return Assignment(
        labels_N=flat,
        label_weight_N=[level_targets.reshape(-1) for level_targets in weights],
        num_pos=shard_normalizer(num_pos, head=head, like=flat[0]),
        num_classes=head.num_classes,
    )
