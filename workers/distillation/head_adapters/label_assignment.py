"""Which positions of a batch are positive, read from the targets of its head."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from workers import distributed
from workers.distillation.assignment import AtssTargets
from workers.distillation.head_adapters.positions import nonzero_indices


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
        """The levels with any positive position in the batch of all processes; a collective."""
        counts = (
            [len(indices) for indices in self.positive_indices]
            if self.counted is None
            else self.counted.positive_counts
        )
        totals = distributed.all_reduce_counts(counts, device=self.labels_N[0].device)
        return [level for level, count in enumerate(totals) if count]


class ScoreAssignment(Assignment):
    """Of images without labels: nothing is positive, and every level has the teacher's targets."""

    @cached_property
    def levels_with_positives(self) -> list[int]:
        """All levels, as each of them is distilled."""
        return list(range(len(self.labels_N)))


def read_atss_assignment(head: Any, targets: Any) -> Assignment:
    """Read `AtssTargets`, or what `ATSSHead.get_targets` of mmdet returns."""
    if isinstance(targets, AtssTargets):
        return Assignment(
            labels_N=list(targets.labels_N.split(targets.level_sizes)),
            label_weight_N=list(targets.label_weight_N.split(targets.level_sizes)),
            num_pos=shard_normalizer(targets.num_pos, head=head, like=targets.num_pos),
            num_classes=head.num_classes,
            counted=targets,
        )
    _, labels, weights, *_, num_pos, _ = targets
    return make_assignment(head, labels, weights, num_pos)


def make_assignment(
    head: Any,
    labels: Sequence[Tensor],
    weights: Sequence[Tensor] | None = None,
    num_pos: float | None = None,
) -> Assignment:
    """Flatten labels and their weights by level; positives are counted if `num_pos` is None.

    Without weights no position is ignored.
    """
    flat = [level_targets.reshape(-1) for level_targets in labels]
    if weights is None:
        weights = [torch.ones_like(labels_N, dtype=torch.float) for labels_N in flat]
    if num_pos is None:
        counts = [((labels_N >= 0) & (labels_N < head.num_classes)).sum() for labels_N in flat]
        num_pos = int(torch.stack(counts).sum())
    return Assignment(
        labels_N=flat,
        label_weight_N=[level_weights.reshape(-1) for level_weights in weights],
        num_pos=shard_normalizer(num_pos, head=head, like=flat[0]),
        num_classes=head.num_classes,
    )


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
