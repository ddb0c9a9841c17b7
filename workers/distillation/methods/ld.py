"""LD: localization distillation of edge distributions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from configs.spec.distillation import Ld
from workers.distillation.batch import DistillationBatch
from workers.distillation.head_adapters.anchor_heads import GflHeadAdapter
from workers.distillation.head_adapters.label_assignment import shard_normalizer
from workers.distillation.head_adapters.positions import nonzero_indices
from workers.distillation.losses.regions import valuable_region
from workers.distillation.losses.softened import edge_divergence_loss
from workers.distillation.methods.base import DistillationMethod, Terms
from workers.distillation.methods.golden import (
    GoldenCase,
    GoldenOutputs,
    make_anchor_row,
    make_golden_batch,
)

_VLR_GAMMA = 0.25


class LdMethod(DistillationMethod[Ld]):
    """Zheng et al., CVPR 2022.

    Positives are weighted as in GFL's own box losses, by the student's largest score. Each region
    is normalized by its total weight in the batch; the authors' code does not normalize, so its
    loss grows with the number of objects.
    """

    spec_type = Ld

    def golden_cases(self) -> Sequence[GoldenCase]:
        """Edges of two bins; (0, ln 3) against (0, 0) has KL = 3/4 ln 3 - ln 2, averaged over them.

        The first of three positions is positive and has the score 1/2, which is its weight; weights
        add up to less than 1, so they are not normalized. The second is the valuable region, as its
        DIoU of 1/3 - 1/13 is at least 1/4 of the threshold, 1, the DIoU of the nearest anchor.
        """
        edges = torch.tensor([0.0, math.log(3.0)] * 4).reshape(1, 8, 1, 1).expand(1, 8, 1, 3)
        anchors = make_anchor_row()
        head = {"reg_max": 1, "train_cfg": {"assigner": {"topk": 1}}}
        student, teacher = (
            GoldenOutputs(
                [torch.zeros(1, 1, 1, 3)],
                boxes=[maps],
                anchors=[anchors],
                attributes=head,
                adapter=GflHeadAdapter,
            )
            for maps in (edges * 0.0, edges * torch.tensor([1.0, 1.0, 2.0]))
        )
        batch = make_golden_batch(
            student, teacher, labels=[torch.tensor([0, -1, -1])], boxes=[anchors[:1]]
        )
        divergence = (0.75 * math.log(3.0) - math.log(2.0)) / 2.0
        spec = Ld(main_weight=8.0, vlr_weight=3.0, temperature=1.0)
        expected = {"loss_ld_main": 8.0 * divergence / 2.0, "loss_ld_vlr": 3.0 * divergence}
        return [GoldenCase(spec, batch, expected)]

    def terms(self, spec: Ld, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:  # noqa: ARG002
        levels = range(batch.num_levels)
        terms: Terms = {}
        if spec.main_weight:
            scores = [
                batch.student_logits(level).detach().sigmoid().amax(dim=1) for level in levels
            ]
            weights = [scores[level] * batch.assignment.positive_N(level) for level in levels]
            terms["loss_ld_main"] = _edge_terms(spec, batch, weights, spec.main_weight)
        if spec.vlr_weight:
            regions = valuable_regions(batch, gamma=spec.vlr_gamma or _VLR_GAMMA)
            weights = [region.float() for region in regions]
            terms["loss_ld_vlr"] = _edge_terms(spec, batch, weights, spec.vlr_weight)
        return terms


def _edge_terms(
    spec: Ld, batch: DistillationBatch, weights: list[Tensor], term_weight: float
) -> list[Tensor]:
    student, teacher = batch.student, batch.teacher
    assert isinstance(student.head_adapter, GflHeadAdapter)
    assert isinstance(teacher.head_adapter, GflHeadAdapter)
    total = shard_normalizer(
        sum(weight_N.sum() for weight_N in weights), head=student.head_adapter.head, like=weights[0]
    )
    values = []
    selected_by_level = nonzero_indices([weight_N > 0 for weight_N in weights])
    for level, (weight_N, selected) in enumerate(zip(weights, selected_by_level, strict=True)):
        edges = student.head_adapter.edges(student.outputs, level)
        value = edge_divergence_loss(
            edges[selected],
            teacher.head_adapter.edges(teacher.outputs, level)[selected],
            weight_N=weight_N[selected],
            temperature=spec.temperature,
            total_weight=total,
        )
        values.append(term_weight * value)
    return values


def valuable_regions(batch: DistillationBatch, *, gamma: float) -> list[Tensor]:
    """LD's valuable localization region by level, (N,), bool: near an object but not positive."""
    head = batch.student.head_adapter.head
    sizes = [maps.shape[-2:] for maps in batch.student.outputs[0]]
    device = batch.student.outputs[0][0].device
    anchors = head.prior_generator.grid_priors(sizes, device=device)
    counts = [len(level_anchors) for level_anchors in anchors]
    by_image = []
    for image, boxes_M4 in enumerate(batch.boxes):
        positive_P = torch.cat(
            [
                batch.assignment.positive_N(level).unflatten(0, (-1, count))[image]
                for level, count in enumerate(counts)
            ]
        )
        region_P = valuable_region(
            torch.cat(anchors),
            boxes_M4,
            positive_P=positive_P,
            num_level_anchors=counts,
            topk=head.train_cfg["assigner"]["topk"],
            gamma=gamma,
        )
        by_image.append(region_P.split(counts))
    return [torch.cat(level_regions) for level_regions in zip(*by_image, strict=True)]
