"""MGD: the teacher's features, generated from masked features of the student."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from configs.spec.distillation import Mgd
from workers.distillation.batch import DistillationBatch
from workers.distillation.losses.attention import squared_distance
from workers.distillation.methods.base import Adapters, FeatureMethod, Terms
from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch

_GENERATION = "mgd_generation"
"""Name of the adapters that generate features, by level, in the state dict."""


class MgdMethod(FeatureMethod[Mgd]):
    """Yang et al., ECCV 2022, section 3.2, with the masks of the authors' code: each location is
    masked by itself, on all channels.

    Each level has a generation block of its own; a 1x1 convolution where widths differ is shared.
    """

    spec_type = Mgd

    def build_adapters(self, spec: Mgd, student: Any, teacher: Any) -> Adapters:
        """Build a generation block for each level, in addition to those of `FeatureMethod`."""
        width = teacher.neck.out_channels
        blocks = nn.ModuleList(_build_generation(width) for _ in student.head_adapter.strides)
        return {**super().build_adapters(spec, student, teacher), _GENERATION: blocks}

    def golden_cases(self) -> Sequence[GoldenCase]:
        """Two images of 2 x 2 locations; the block adds up the locations that are not masked, minus
        5, cuts off what is below 0, and adds 1.

        The generators of seeds 0 and 1 draw 0.50, 0.77, 0.09, 0.13 and 0.76, 0.28, 0.40, 0.73, of
        which those up to 1 - 0.65 are not masked. The first image has 3 + 4 and becomes 3, the
        second has 2 and becomes 1. Squared differences: 4 * 1 and 4 * 4, averaged over two images.
        """
        student = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(2, 1, 2, 2)
        teacher = torch.tensor([4.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
        block = _build_generation(1)
        layers: Any = list(block)
        first, _, last = layers
        nn.init.ones_(first.weight)
        nn.init.constant_(first.bias, -5.0)
        nn.init.dirac_(last.weight)
        nn.init.ones_(last.bias)
        batch = make_golden_batch(GoldenOutputs([student]), GoldenOutputs([teacher]))
        adapters = nn.ModuleDict({_GENERATION: nn.ModuleList([block])})
        return [GoldenCase(Mgd(weight=0.5), batch, {"loss_mgd": 5.0}, adapters)]

    def terms(self, spec: Mgd, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        blocks: Any = adapters[_GENERATION]
        masks = draw_masks(batch, ratio=spec.mask_ratio)
        pairs = self.feature_pairs(batch, adapters)
        return {
            "loss_mgd": [
                spec.weight * squared_distance(generate(student_BCHW * mask_B1HW), teacher_BCHW)
                for generate, mask_B1HW, (student_BCHW, teacher_BCHW) in zip(
                    blocks, masks, pairs, strict=True
                )
            ]
        }


def draw_masks(batch: DistillationBatch, *, ratio: float) -> list[Tensor]:
    """Which locations are not masked, by level, (B, 1, H, W), bool; `ratio` of them are.

    Drawn on the CPU, by a generator for each image, so that neither the device nor the other images
    of a batch matter.
    """
    sizes = [tuple(maps.shape[-2:]) for maps in batch.student.features]
    counts = [height * width for height, width in sizes]
    is_visible_BP = torch.stack(
        [
            torch.rand(sum(counts), generator=torch.Generator().manual_seed(seed)) <= 1.0 - ratio
            for seed in batch.image_seeds
        ]
    ).to(batch.student.features[0].device, non_blocking=True)
    by_level = zip(is_visible_BP.split(counts, dim=1), sizes, strict=True)
    return [level_BP.unflatten(1, (1, *size)) for level_BP, size in by_level]


def _build_generation(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
    )
