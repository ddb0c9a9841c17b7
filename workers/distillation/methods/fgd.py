"""FGD: features weighted by boxes and attention, and their relation to the whole map."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from configs.spec.distillation import Fgd
from workers.distillation.batch import DistillationBatch
from workers.distillation.losses.attention import (
    FeatureAttention,
    attention_loss,
    background_scale,
    foreground_scale,
    squared_distance,
)
from workers.distillation.methods.base import Adapters, FeatureMethod, Terms
from workers.distillation.methods.golden import GoldenCase, GoldenOutputs, make_golden_batch

_TEMPERATURE = 0.5

_STUDENT, _TEACHER = "fgd_student_context", "fgd_teacher_context"
"""Names of the context blocks of both sides, by level, in the state dict."""


class GlobalContext(nn.Module):
    """GCNet's block (Cao et al., 2019): adds the transformed mean of all locations to each of them.

    The mean is weighted by a softmax over the locations, whose bias, without an effect, is left
    out. The last layer begins at 0, so that the block begins as the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(width, 1, 1, bias=False)
        self.transform = nn.Sequential(
            nn.Conv2d(width, width // 2, 1),
            nn.LayerNorm([width // 2, 1, 1]),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 1),
        )
        nn.init.kaiming_normal_(self.attention.weight, mode="fan_in", nonlinearity="relu")
        for parameter in self.transform[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        attention_BP1 = self.attention(maps_BCHW).flatten(2).softmax(dim=2).transpose(1, 2)
        context_BC11 = (maps_BCHW.flatten(2) @ attention_BP1).unsqueeze(3)
        added: Tensor = maps_BCHW + self.transform(context_BC11)
        return added


class FgdMethod(FeatureMethod[Fgd]):
    """Yang et al., CVPR 2022, sections 3.1 and 3.2.

    Each level has context blocks of its own; a 1x1 convolution where widths differ is shared. Boxes
    are moved to locations by the stride. The authors' code divides by the size of the image, which
    is the same for an image without padding.
    """

    spec_type = Fgd

    def build_adapters(self, spec: Fgd, student: Any, teacher: Any) -> Adapters:
        """Build context blocks of both sides, if a term has them, in addition to those of
        `FeatureMethod`."""
        adapters = super().build_adapters(spec, student, teacher)
        width, levels = teacher.neck.out_channels, student.head_adapter.strides
        for name in (_STUDENT, _TEACHER) if spec.relation_weight else ():
            adapters[name] = nn.ModuleList(GlobalContext(width) for _ in levels)
        return adapters

    def golden_cases(self) -> Sequence[GoldenCase]:
        """A student of zeros, whose attention is 1 everywhere, and a row of four locations.

        With h = ln(3) / 2 two channels of the teacher are (2, 1, 2, 1) h and two (1, 0, 1, 0) h. At
        a temperature of 1/2 its attention is (3, 1, 3, 1) / 2 over the locations and (3, 3, 1, 1) /
        2 over the channels, so absolute differences add up to 2 + 2. A box has 2 x 2 locations, of
        which the first two are on the map: 1/4 each; the other two are background, 1/2 each. The
        squares times attention are 2 (9/4 * 4 + 3/4 * 1) h^2 + 2 (3/4 * 1) h^2 = 21 h^2 in each
        half.

        The student's context adds 0. The teacher's context is weighted by (3, 1, 3, 1) / 8, so its
        channels are 7/4 h and 3/4 h, normalized 1 and -1, of which the positive one adds h to all:
        2 (9 + 4 + 9 + 4) h^2 + 2 (4 + 1 + 4 + 1) h^2 = 72 h^2.
        """
        step = math.log(3.0) / 2.0
        rows = torch.tensor([[2.0, 1, 2, 1], [2, 1, 2, 1], [1, 0, 1, 0], [1, 0, 1, 0]])
        teacher = step * rows.reshape(1, 4, 1, 4)
        batch = make_golden_batch(
            GoldenOutputs([teacher * 0.0]),
            GoldenOutputs([teacher]),
            boxes=[torch.tensor([[0.0, 0.0, 8.0, 8.0]])],
        )
        contexts = {_STUDENT: GlobalContext(4), _TEACHER: _make_golden_context(added=step)}
        adapters = nn.ModuleDict({name: nn.ModuleList([b]) for name, b in contexts.items()})
        spec = Fgd(
            foreground_weight=4.0, background_weight=2.0, attention_weight=0.5, relation_weight=0.25
        )
        expected = {
            "loss_fgd_foreground": 4.0 * 21.0 / 4.0 * step**2,
            "loss_fgd_background": 2.0 * 21.0 / 2.0 * step**2,
            "loss_fgd_attention": 0.5 * 4.0,
            "loss_fgd_relation": 0.25 * 72.0 * step**2,
        }
        return [GoldenCase(spec, batch, expected, adapters)]

    def terms(self, spec: Fgd, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
        terms: Terms = {}
        for level, (student_BCHW, teacher_BCHW) in enumerate(self.feature_pairs(batch, adapters)):
            values = dict(_focal_terms(spec, batch, level, student_BCHW, teacher_BCHW))
            if spec.relation_weight:
                contexts: list[Any] = [adapters[name] for name in (_STUDENT, _TEACHER)]
                student, teacher = (blocks[level] for blocks in contexts)
                distance = squared_distance(student(student_BCHW), teacher(teacher_BCHW))
                values["loss_fgd_relation"] = spec.relation_weight * distance
            for name, value in values.items():
                terms.setdefault(name, []).append(value)
        return terms


def _focal_terms(
    spec: Fgd, batch: DistillationBatch, level: int, student_BCHW: Tensor, teacher_BCHW: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Yield each term of attention and boxes with its value at one level."""
    if not (spec.foreground_weight or spec.background_weight or spec.attention_weight):
        return
    temperature = spec.temperature or _TEMPERATURE
    attention = FeatureAttention.of(teacher_BCHW, temperature=temperature)
    for name, weight, scale_BHW in _box_scales(spec, batch, level):
        weight_BCHW = attention.weight_BCHW * scale_BHW[:, None]
        yield name, weight * squared_distance(student_BCHW, teacher_BCHW, weight_BCHW=weight_BCHW)
    if spec.attention_weight:
        student_attention = FeatureAttention.of(student_BCHW, temperature=temperature)
        difference = attention_loss(student_attention, attention)
        yield "loss_fgd_attention", spec.attention_weight * difference


def _box_scales(
    spec: Fgd, batch: DistillationBatch, level: int
) -> Iterator[tuple[str, float, Tensor]]:
    """Yield each term of boxes with its weight and its scale at each location, (B, H, W)."""
    if not (spec.foreground_weight or spec.background_weight):
        return
    height, width = batch.student.features[level].shape[-2:]
    stride = batch.student.head_adapter.strides[level]
    scales = [
        foreground_scale(boxes_M4, size=(height, width), stride=stride) for boxes_M4 in batch.boxes
    ]
    foreground_BHW = torch.stack(scales)
    if spec.foreground_weight:
        yield "loss_fgd_foreground", spec.foreground_weight, foreground_BHW
    if spec.background_weight:
        yield "loss_fgd_background", spec.background_weight, background_scale(foreground_BHW)


def _make_golden_context(*, added: float) -> GlobalContext:
    """Four channels. The first one weights locations and, if it is the larger one in the mean, has
    `added` added to all channels; the third one is what it is compared with."""
    block = GlobalContext(4)
    layers: Any = list(block.transform)
    compare, _, _, last = layers
    with torch.no_grad():
        block.attention.weight.copy_(torch.tensor([2.0, 0, 0, 0]).reshape(1, 4, 1, 1))
        # Large numbers, beside which the smallest variance of a layer norm counts for nothing.
        compare.weight.copy_(torch.tensor([[1e3, 0, 0, 0], [0, 0, 1e3, 0]]).reshape(2, 4, 1, 1))
        compare.bias.zero_()
        last.weight.copy_(torch.tensor([added, 0.0]).expand(4, 2).reshape(4, 2, 1, 1))
    return block
