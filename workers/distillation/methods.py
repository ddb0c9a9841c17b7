"""The distillation methods as loss terms: one tensor per feature level under each term's name."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from configs.spec.distillation import Bckd, CrossKd, Cwd, FineGrained, Ld, LogitKd, Method, Pkd
from workers.distillation.batch import DistillationBatch
from workers.distillation.head_adapters import (
    GflHeadAdapter,
    Outputs,
    level_sums,
    nonzero_indices,
    shard_normalizer,
)
from workers.distillation.losses.bckd import (
    classification_loss,
    classification_losses,
    disagreement,
    localization_loss,
    localization_losses,
)
from workers.distillation.losses.features import cwd_loss, fine_grained_loss, pkd_loss
from workers.distillation.losses.regions import imitation_mask, valuable_region
from workers.distillation.losses.softened import edge_divergence_loss, logit_divergence_loss

Terms = dict[str, list[Tensor]]
"""Weighted loss values by term, one for each feature level."""

_VLR_GAMMA = 0.25
_CROSSKD_TEMPERATURE = 1.0
_POINT_ANCHOR_STRIDES = 8.0
"""Side, in strides, of the square that replaces an anchor where a head has only points."""

_CROSSKD_CLS, _CROSSKD_LOC = "crosskd_cls", "crosskd_loc"
"""Names of CrossKD's adapters in the state dict."""


def compute_terms(method: Method, batch: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
    """Compute the loss terms of one method. Terms with weight 0 are not computed at all."""
    make: dict[type, Callable[..., Terms]] = {
        Bckd: _bckd,
        LogitKd: _logit_kd,
        Ld: _ld,
        FineGrained: partial(_fine_grained, adapters=adapters),
        Pkd: partial(_pkd, adapters=adapters),
        Cwd: partial(_cwd, adapters=adapters),
        CrossKd: partial(_crosskd, adapters=adapters),
    }
    return make[type(method)](method, batch)


def build_feature_adapters(methods: list[Method], student: Any, teacher: Any) -> nn.ModuleDict:
    """Build 1x1 convolutions from the student's to the teacher's channels where they differ.

    They are trained with the student and are not exported.
    """
    adapters = nn.ModuleDict()
    for method in methods:
        if isinstance(method, FineGrained | Pkd | Cwd):
            student_width, teacher_width = student.neck.out_channels, teacher.neck.out_channels
            if student_width != teacher_width:
                adapters[method.method] = nn.Conv2d(student_width, teacher_width, 1)
        elif isinstance(method, CrossKd):
            student_width = _tower_width(student, method.after_convs)
            teacher_width = _tower_width(teacher, method.after_convs)
            # DistributedDataParallel fails on a parameter without a gradient, so an adapter that no
            # term uses is not built.
            weights = {_CROSSKD_CLS: method.cls_weight, _CROSSKD_LOC: method.loc_weight}
            for name, weight in weights.items():
                if student_width != teacher_width and weight:
                    adapters[name] = nn.Conv2d(student_width, teacher_width, 1)
    return adapters


def _tower_width(detector: Any, after_convs: int) -> int:
    head = detector.bbox_head
    return int(head.feat_channels if after_convs else head.in_channels)


def _bckd(method: Bckd, batch: DistillationBatch) -> Terms:
    """Yang et al., ICCV 2023: sections 3.2 and 3.3, for all levels at once."""
    assignment = batch.assignment
    levels = (
        assignment.levels_with_positives
        if method.levels == "with_positives"
        else list(range(batch.num_levels))
    )
    weights = {"loss_distill_cls": method.cls_weight, "loss_distill_loc": method.loc_weight}
    zero = batch.student.outputs[0][0].sum() * 0.0
    terms: Terms = {name: [zero] * batch.num_levels for name, weight in weights.items() if weight}
    if not levels:
        return terms
    for name, loss_N in _bckd_losses(method, batch, levels):
        sums = level_sums(loss_N, [len(assignment.labels_N[level]) for level in levels])
        normalized_L = weights[name] * (torch.stack(sums) / assignment.num_pos)
        for level, value in zip(levels, normalized_L.unbind(), strict=True):
            terms[name][level] = value
    return terms


def _bckd_losses(
    method: Bckd, batch: DistillationBatch, levels: list[int]
) -> Iterator[tuple[str, Tensor]]:
    """Yield each term's name and its values at the positions of some levels, (N,)."""
    logits_NC, teacher_logits_NC = (
        torch.cat([read_logits(level) for level in levels])
        for read_logits in (batch.student_logits, batch.teacher_logits)
    )
    label_weight_N = torch.cat([batch.assignment.label_weight_N[level] for level in levels])
    disagreement_NC = disagreement(logits_NC, teacher_logits_NC)
    if method.cls_weight:
        loss_N = classification_losses(logits_NC, teacher_logits_NC, disagreement_NC)
        yield "loss_distill_cls", loss_N * label_weight_N
    if method.loc_weight:
        yield (
            "loss_distill_loc",
            localization_losses(
                batch.decode_levels(batch.student, levels),
                batch.decode_levels(batch.teacher, levels),
                importance_N=disagreement_NC.detach().amax(dim=1) * label_weight_N,
            ),
        )


def _logit_kd(method: LogitKd, batch: DistillationBatch) -> Terms:
    """Hinton et al., 2015, at the positive positions."""
    assignment = batch.assignment
    return {
        "loss_logit_kd": [
            method.weight
            * logit_divergence_loss(
                batch.student_logits(level),
                batch.teacher_logits(level),
                positive_N=assignment.positive_indices[level],
                label_weight_N=assignment.label_weight_N[level],
                temperature=method.temperature,
                num_pos=assignment.num_pos,
            )
            for level in range(batch.num_levels)
        ]
    }


def _ld(method: Ld, batch: DistillationBatch) -> Terms:
    """Zheng et al., CVPR 2022.

    Positives are weighted as in GFL's own box losses, by the student's largest score. Each region
    is normalized by its total weight in the batch; the authors' code does not normalize, so its
    loss grows with the number of objects.
    """
    levels = range(batch.num_levels)
    terms: Terms = {}
    if method.main_weight:
        scores = [batch.student_logits(level).detach().sigmoid().amax(dim=1) for level in levels]
        weights = [scores[level] * batch.assignment.positive_N(level) for level in levels]
        terms["loss_ld_main"] = _edge_terms(method, batch, weights, method.main_weight)
    if method.vlr_weight:
        regions = valuable_regions(batch, gamma=method.vlr_gamma or _VLR_GAMMA)
        weights = [region.float() for region in regions]
        terms["loss_ld_vlr"] = _edge_terms(method, batch, weights, method.vlr_weight)
    return terms


def _edge_terms(
    method: Ld, batch: DistillationBatch, weights: list[Tensor], term_weight: float
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
            temperature=method.temperature,
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


def _fine_grained(
    method: FineGrained, batch: DistillationBatch, *, adapters: nn.ModuleDict
) -> Terms:
    """Wang et al., CVPR 2019."""
    masks = imitation_masks(batch, threshold=method.threshold)
    total = shard_normalizer(
        sum(mask.sum() for mask in masks), head=batch.student.head_adapter.head, like=masks[0]
    )
    return {
        "loss_fine_grained": [
            method.weight
            * fine_grained_loss(student_BCHW, teacher_BCHW, mask_BHW=masks[level], total=total)
            for level, (student_BCHW, teacher_BCHW) in enumerate(
                _feature_pairs(batch, adapters, method.method)
            )
        ]
    }


def imitation_masks(batch: DistillationBatch, *, threshold: float) -> list[Tensor]:
    """Masks of locations near an object by level, (B, H, W), bool.

    Anchors are those of the student's head, or squares of 8 strides where it has only points.
    """
    features = batch.student.features
    # The best anchor of a box is searched over all levels: within one level, even a poor anchor
    # would be the best and count as near.
    anchors_PA4 = torch.cat([_anchors(batch, level) for level in range(batch.num_levels)])
    by_image = torch.stack(
        [imitation_mask(anchors_PA4, boxes_M4, threshold=threshold) for boxes_M4 in batch.boxes]
    )
    sizes = [maps.shape[-2:] for maps in features]
    by_level = by_image.split([height * width for height, width in sizes], dim=1)
    return [mask.unflatten(1, size) for mask, size in zip(by_level, sizes, strict=True)]


def _anchors(batch: DistillationBatch, level: int) -> Tensor:
    """Anchors at each location of a level, (P, A, 4)."""
    maps = batch.student.features[level]
    generator = batch.student.head_adapter.head.prior_generator
    priors = generator.single_level_grid_priors(
        maps.shape[-2:], level_idx=level, device=maps.device
    )
    if priors.shape[-1] == 4:
        return priors.unflatten(0, (maps.shape[-2] * maps.shape[-1], -1))
    half = _POINT_ANCHOR_STRIDES / 2.0 * batch.student.head_adapter.strides[level]
    return torch.cat([priors - half, priors + half], dim=1).unsqueeze(1)


def _pkd(method: Pkd, batch: DistillationBatch, *, adapters: nn.ModuleDict) -> Terms:
    """Cao et al., NeurIPS 2022."""
    return {
        "loss_pkd": [
            method.weight * pkd_loss(student_BCHW, teacher_BCHW)
            for student_BCHW, teacher_BCHW in _feature_pairs(batch, adapters, method.method)
        ]
    }


def _cwd(method: Cwd, batch: DistillationBatch, *, adapters: nn.ModuleDict) -> Terms:
    """Shu et al., ICCV 2021."""
    return {
        "loss_cwd": [
            method.weight * cwd_loss(student_BCHW, teacher_BCHW, temperature=method.temperature)
            for student_BCHW, teacher_BCHW in _feature_pairs(batch, adapters, method.method)
        ]
    }


def _feature_pairs(
    batch: DistillationBatch, adapters: nn.ModuleDict, name: str
) -> Iterator[tuple[Tensor, Tensor]]:
    adapt = adapters[name] if name in adapters else nn.Identity()
    pairs = zip(batch.student.features, batch.teacher.features, strict=True)
    for student_BCHW, teacher_BCHW in pairs:
        yield adapt(student_BCHW.float()), teacher_BCHW.float()


def _crosskd(method: CrossKd, batch: DistillationBatch, *, adapters: nn.ModuleDict) -> Terms:
    """Wang et al., CVPR 2024, sections 3.2 and 3.3, implemented from the paper.

    Classification: quality focal loss to the teacher's scores at every position, which equals
    BCKD's classification loss for exponent 1. Localization at the positives: GIoU, or LD's
    divergence where edges are distributions.
    """
    terms: Terms = {}
    for level in range(batch.num_levels):
        if method.cls_weight:
            terms.setdefault("loss_crosskd_cls", []).append(
                method.cls_weight * _crosskd_cls_loss(method, batch, level, adapters)
            )
        if method.loc_weight:
            terms.setdefault("loss_crosskd_loc", []).append(
                method.loc_weight * _crosskd_loc_loss(method, batch, level, adapters)
            )
    return terms


def _crosskd_tower(
    batch: DistillationBatch, level: int, *, tower: str, after_convs: int, adapter: nn.Module | None
) -> Tensor:
    """Run the student's features through its first convolutions, then the rest of the teacher's."""
    student_convs, teacher_convs = (
        getattr(side.head_adapter.head, tower) for side in (batch.student, batch.teacher)
    )
    maps = batch.student.features[level].float()
    for conv in student_convs[:after_convs]:
        maps = conv(maps)
    if adapter is not None:
        maps = adapter(maps)
    for conv in teacher_convs[after_convs:]:
        maps = conv(maps)
    return maps


def _crosskd_cls_loss(
    method: CrossKd, batch: DistillationBatch, level: int, adapters: nn.ModuleDict
) -> Tensor:
    head_adapter = batch.teacher.head_adapter
    tower = _crosskd_tower(
        batch,
        level,
        tower="cls_convs",
        after_convs=method.after_convs,
        adapter=getattr(adapters, _CROSSKD_CLS, None),
    )
    logits_NC = batch.select_student_classes(
        head_adapter.class_logits(([head_adapter.predict_class_maps(tower)],), 0)
    )
    return classification_loss(
        logits_NC,
        batch.teacher_logits(level),
        label_weight_N=batch.assignment.label_weight_N[level],
        num_pos=batch.assignment.num_pos,
    )


def _crosskd_loc_loss(
    method: CrossKd, batch: DistillationBatch, level: int, adapters: nn.ModuleDict
) -> Tensor:
    assignment, head_adapter = batch.assignment, batch.teacher.head_adapter
    tower = _crosskd_tower(
        batch,
        level,
        tower="reg_convs",
        after_convs=method.after_convs,
        adapter=getattr(adapters, _CROSSKD_LOC, None),
    )
    maps = head_adapter.predict_box_maps(tower, level)
    crossed: Outputs = ([], [maps] * batch.num_levels)
    positive_N = assignment.positive_N(level).float()
    if isinstance(head_adapter, GflHeadAdapter):
        return edge_divergence_loss(
            head_adapter.edges(crossed, level),
            head_adapter.edges(batch.teacher.outputs, level),
            weight_N=positive_N,
            temperature=method.temperature or _CROSSKD_TEMPERATURE,
            total_weight=assignment.num_pos,
        )
    return localization_loss(
        head_adapter.decode_boxes(crossed, level),
        batch.decode_boxes(batch.teacher, level),
        importance_N=positive_N,
        num_pos=assignment.num_pos,
    )
