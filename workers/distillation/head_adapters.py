"""What any dense head says, in one language: class logits and boxes at shared positions.

A position is one prediction at one place of a feature level; N of them are all images, places and
anchors of a level: image by image, row by row, anchor by anchor.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from mmdet.models.dense_heads import ATSSHead, FCOSHead, GFLHead, RetinaHead, VFNetHead
from torch import Tensor

from workers import distributed
from workers.errors import TeacherMismatch

Outputs = tuple[list[Tensor], ...]
"""What a head's `forward` returns: maps (B, D, H, W) by level, class logits first."""


@dataclass(frozen=True)
class Assignment:
    """Which positions the labels of a batch made positive, by level."""

    labels_N: list[Tensor]
    """Class at each position; the number of classes where there is no object."""

    label_weight_N: list[Tensor]
    """0 outside of the padded image and where labels are ignored, else 1."""

    num_pos: float
    """The number of positives that normalises the head's own classification loss."""

    num_classes: int

    def positive_N(self, level: int) -> Tensor:
        """Where an object is, as booleans."""
        return (self.labels_N[level] >= 0) & (self.labels_N[level] < self.num_classes)

    @cached_property
    def positive_indices(self) -> list[Tensor]:
        """Which positions of each level have an object, ascending, int64."""
        return nonzero_indices([self.positive_N(level) for level in range(len(self.labels_N))])


class HeadAdapter(ABC):
    """A head as `class_logits` and `boxes_at_positions`."""

    box_output = 1
    """Which of the head's outputs holds boxes."""

    needs_fp32 = False
    """Whether the head knows no other precision."""

    last_layers: tuple[str, str] | None = None
    """The head's layers after its two towers, for classes and boxes; none: it is not so simple."""

    def __init__(self, head: Any) -> None:
        self.head = head

    @property
    def strides(self) -> list[int]:
        """Pixels between places, by level."""
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

    def predict_class_maps(self, tower_BDHW: Tensor) -> Tensor:
        """The head's class logits, if its tower for classes gave this map; needs `last_layers`."""
        return self._last_layer(0)(tower_BDHW)

    def predict_box_maps(self, tower_BDHW: Tensor, level: int) -> Tensor:
        """The head's output for boxes, if its tower for boxes gave this map of a level."""
        return self._rescaled(self._last_layer(1)(tower_BDHW), level)

    def _last_layer(self, position: int) -> Any:
        assert self.last_layers is not None, "the spec refuses CrossKD for such a head"
        return getattr(self.head, self.last_layers[position])

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Bring the head's constants, which are no buffers, to where `change` brings its weights.

        Without this mmdet copies them to the device at each level and call.
        """
        generator = self.head.prior_generator
        if hasattr(generator, "base_anchors"):
            generator.base_anchors = [
                _following(anchors, change) for anchors in generator.base_anchors
            ]

    @abstractmethod
    def read_assignment(self, targets: Any) -> Assignment:
        """What the head's `get_targets` said of the batch."""

    @abstractmethod
    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor: ...

    def _rescaled(self, maps_BDHW: Tensor, level: int) -> Tensor:
        return self.head.scales[level](maps_BDHW)

    def _priors(self, maps_BDHW: Tensor, level: int) -> Tensor:
        """Anchors (N, 4) or points (N, 2) of every image, in pixels."""
        priors = self.head.prior_generator.single_level_grid_priors(
            maps_BDHW.shape[-2:], level_idx=level, device=maps_BDHW.device
        )
        return priors.repeat(maps_BDHW.shape[0], 1)


class GflHeadAdapter(HeadAdapter):
    """Edges are expectations of distributions, from the anchor's centre."""

    last_layers = ("gfl_cls", "gfl_reg")

    def edges(self, outputs: Outputs, level: int) -> Tensor:
        """Logits of the edge distributions, (N, 4, reg_max + 1)."""
        return flatten_positions(outputs[1][level], 4 * (self.head.reg_max + 1)).unflatten(
            1, (4, -1)
        )

    def read_assignment(self, targets: Any) -> Assignment:
        """As ATSS assigns."""
        return _atss_assignment(self.head, targets)

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        centres_N2 = self.head.anchor_center(self._priors(maps_BDHW, level)) / self.strides[level]
        distances_N4 = self.head.integral(flatten_positions(maps_BDHW, 4 * (self.head.reg_max + 1)))
        return self.head.bbox_coder.decode(centres_N2, distances_N4)


class AtssHeadAdapter(HeadAdapter):
    """Boxes are offsets of one anchor."""

    last_layers = ("atss_cls", "atss_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """As ATSS assigns."""
        return _atss_assignment(self.head, targets)

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        return _anchor_boxes(self, maps_BDHW, level)


class RetinaHeadAdapter(HeadAdapter):
    """Boxes are offsets of several anchors."""

    last_layers = ("retina_cls", "retina_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """By IoU with the anchors; between the two thresholds labels are ignored."""
        labels, weights, *_, num_pos, _ = targets
        return _assignment(self.head, labels, weights, num_pos)

    def _rescaled(self, maps_BDHW: Tensor, level: int) -> Tensor:  # noqa: ARG002
        return maps_BDHW

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        return _anchor_boxes(self, maps_BDHW, level)


class FcosHeadAdapter(HeadAdapter):
    """Boxes are distances from points."""

    last_layers = ("conv_cls", "conv_reg")

    def read_assignment(self, targets: Any) -> Assignment:
        """By place and size; every position counts."""
        labels = targets[0]
        return _assignment(
            self.head, labels, [torch.ones_like(of, dtype=torch.float) for of in labels]
        )

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        stride = self.strides[level]
        distances_N4 = flatten_positions(maps_BDHW, 4)
        # In training the head gives distances in strides, otherwise in pixels.
        if not (self.head.training and self.head.norm_on_bbox):
            distances_N4 = distances_N4 / stride
        points_N2 = self._priors(maps_BDHW, level) / stride
        return self.head.bbox_coder.decode(points_N2, distances_N4)

    def _rescaled(self, maps_BDHW: Tensor, level: int) -> Tensor:
        distances = self.head.scales[level](maps_BDHW).float()
        distances = distances.clamp(min=0) if self.head.norm_on_bbox else distances.exp()
        in_pixels = self.head.norm_on_bbox and not self.head.training
        return distances * self.strides[level] if in_pixels else distances


class VfnetHeadAdapter(HeadAdapter):
    """Boxes are distances from points, refined once: the refined ones count."""

    box_output = -1
    needs_fp32 = True  # its deformable convolutions

    def move(self, change: Callable[[Tensor], Tensor]) -> None:
        """Of a deformable convolution the kernel's own offsets, too."""
        super().move(change)
        self.head.dcn_base_offset = _following(self.head.dcn_base_offset, change)

    def read_assignment(self, targets: Any) -> Assignment:
        """As ATSS assigns."""
        labels, weights = targets[:2]
        return _assignment(self.head, labels, list(weights.split([of.numel() for of in labels])))

    def _decode(self, maps_BDHW: Tensor, level: int) -> Tensor:
        stride = self.strides[level]
        points_N2 = self._priors(maps_BDHW, level) / stride
        return self.head.bbox_coder.decode(points_N2, flatten_positions(maps_BDHW, 4) / stride)


# VFNetHead is both an ATSSHead and an FCOSHead, so it comes first.
_VIEWS: tuple[tuple[type, type[HeadAdapter]], ...] = (
    (VFNetHead, VfnetHeadAdapter),
    (GFLHead, GflHeadAdapter),
    (ATSSHead, AtssHeadAdapter),
    (RetinaHead, RetinaHeadAdapter),
    (FCOSHead, FcosHeadAdapter),
)


def build_head_adapter(head: Any) -> HeadAdapter:
    """The view of an mmdet head; `TeacherMismatch` if there is none for it."""
    for kind, view in _VIEWS:
        if isinstance(head, kind):
            return view(head)
    known = ", ".join(kind.__name__ for kind, _ in _VIEWS)
    raise TeacherMismatch(f"A {type(head).__name__} cannot be compared with; known are {known}.")


def flatten_positions(maps_BDHW: Tensor, width: int) -> Tensor:
    """(B, A * width, H, W) as (N, width), in fp32."""
    return maps_BDHW.permute(0, 2, 3, 1).reshape(-1, width).float()


def global_normalizer(count: float | Tensor, *, head: Any, like: Tensor) -> float:
    """One piece's share of a count over the whole batch, which is at least 1.

    What is divided by it has, as the mean over processes and micro_batches, the whole batch's value.
    """
    micro_batches = getattr(head, "micro_batches", 1)
    whole = micro_batches * (
        float(distributed.all_reduce_sum(count.to(torch.float32)))
        if isinstance(count, Tensor)
        else distributed.all_reduce_sum_scalar(count, device=like.device)
    )
    return max(whole, 1.0) / (distributed.get_world_size() * micro_batches)


def nonzero_indices(masks: Sequence[Tensor]) -> list[Tensor]:
    """Where each of several masks (N,) is true, ascending, int64; one wait for all of them."""
    counts: list[int] = torch.stack([mask.sum() for mask in masks]).tolist()
    return [
        mask.nonzero_static(size=count).squeeze(1)
        for mask, count in zip(masks, counts, strict=True)
    ]


def _following(constant: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """On the device that `change` brings it to, in its own precision."""
    return constant.to(change(constant).device)


def _anchor_boxes(view: HeadAdapter, maps_BDHW: Tensor, level: int) -> Tensor:
    anchors_N4 = view._priors(maps_BDHW, level)
    return (
        view.head.bbox_coder.decode(anchors_N4, flatten_positions(maps_BDHW, 4))
        / view.strides[level]
    )


def _atss_assignment(head: Any, targets: Any) -> Assignment:
    _, labels, weights, *_, num_pos, _ = targets
    return _assignment(head, labels, weights, num_pos)


def _assignment(
    head: Any, labels: list[Tensor], weights: list[Tensor], num_pos: float | None = None
) -> Assignment:
    flat = [of_level.reshape(-1) for of_level in labels]
    if num_pos is None:
        counts = [((of >= 0) & (of < head.num_classes)).sum() for of in flat]
        num_pos = int(torch.stack(counts).sum())
    return Assignment(
        labels_N=flat,
        label_weight_N=[of_level.reshape(-1) for of_level in weights],
        num_pos=global_normalizer(num_pos, head=head, like=flat[0]),
        num_classes=head.num_classes,
    )
