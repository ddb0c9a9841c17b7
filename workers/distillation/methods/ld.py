"""LD: localization distillation of edge distributions."""

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

_VLR_GAMMA = 0.25


class LdMethod(DistillationMethod[Ld]):
    """Zheng et al., CVPR 2022.

    Positives are weighted as in GFL's own box losses, by the student's largest score. Each region
    is normalized by its total weight in the batch; the authors' code does not normalize, so its
    loss grows with the number of objects.
    """

    spec_type = Ld

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
