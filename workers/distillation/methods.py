"""Every method of distillation as terms of the loss: by name, one value a feature level."""

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
    global_normalizer,
    nonzero_indices,
)
from workers.distillation.losses.bckd import classification_loss, disagreement, localization_loss
from workers.distillation.losses.features import cwd_loss, fine_grained_loss, pkd_loss
from workers.distillation.losses.regions import imitation_mask, valuable_region
from workers.distillation.losses.softened import edge_divergence_loss, logit_divergence_loss

Terms = dict[str, list[Tensor]]
"""Weighted values of each term of the loss, one a level."""

_VLR_GAMMA = 0.25
_CROSSING_TEMPERATURE = 1.0
_SQUARE_IN_STRIDES = 8.0
"""Side of the square that stands for an anchor where a head has points only."""

_CROSSED_CLS, _CROSSED_LOC = "crosskd_cls", "crosskd_loc"
"""CrossKD's adapters."""


def compute_terms(lesson: Method, scene: DistillationBatch, adapters: nn.ModuleDict) -> Terms:
    """The terms of one method; those of weight 0 are left out and cost nothing."""
    make: dict[type, Callable[..., Terms]] = {
        Bckd: _bckd,
        LogitKd: _logit_kd,
        Ld: _ld,
        FineGrained: partial(_fine_grained, adapters=adapters),
        Pkd: partial(_pkd, adapters=adapters),
        Cwd: partial(_cwd, adapters=adapters),
        CrossKd: partial(_crosskd, adapters=adapters),
    }
    return make[type(lesson)](lesson, scene)


def build_feature_adapters(lessons: list[Method], student: Any, teacher: Any) -> nn.ModuleDict:
    """1x1 convolutions to the teacher's channels where the student's differ, by name.

    They learn with the student and are no part of what is exported.
    """
    adapters = nn.ModuleDict()
    for lesson in lessons:
        if isinstance(lesson, FineGrained | Pkd | Cwd):
            ours, theirs = student.neck.out_channels, teacher.neck.out_channels
            if ours != theirs:
                adapters[lesson.method] = nn.Conv2d(ours, theirs, 1)
        elif isinstance(lesson, CrossKd):
            ours = _width_after(student, lesson.after_convs)
            theirs = _width_after(teacher, lesson.after_convs)
            # One that no term uses would get no gradient, which DistributedDataParallel refuses.
            weights = {_CROSSED_CLS: lesson.cls_weight, _CROSSED_LOC: lesson.loc_weight}
            for name, weight in weights.items():
                if ours != theirs and weight:
                    adapters[name] = nn.Conv2d(ours, theirs, 1)
    return adapters


def _width_after(detector: Any, convs: int) -> int:
    head = detector.bbox_head
    return int(head.feat_channels if convs else head.in_channels)


def _bckd(method: Bckd, scene: DistillationBatch) -> Terms:
    """Yang et al., ICCV 2023: sections 3.2 and 3.3."""
    terms: Terms = {}
    for level in range(scene.num_levels):
        for name, value in _bckd_level(method, scene, level):
            terms.setdefault(name, []).append(value)
    return terms


def _bckd_level(method: Bckd, scene: DistillationBatch, level: int) -> Iterator[tuple[str, Tensor]]:
    given = scene.assignment
    if method.levels == "with_positives" and not len(given.positive_indices[level]):
        nothing = scene.student.outputs[0][level].sum() * 0.0
        if method.cls_weight:
            yield "loss_distill_cls", nothing
        if method.loc_weight:
            yield "loss_distill_loc", nothing
        return
    logits_NC, teacher_logits_NC = scene.student_logits(level), scene.teacher_logits(level)
    label_weight_N = given.label_weight_N[level]
    if method.cls_weight:
        yield (
            "loss_distill_cls",
            method.cls_weight
            * classification_loss(
                logits_NC, teacher_logits_NC, label_weight_N=label_weight_N, num_pos=given.num_pos
            ),
        )
    if method.loc_weight:
        importance_N = disagreement(logits_NC, teacher_logits_NC).amax(dim=1) * label_weight_N
        yield (
            "loss_distill_loc",
            method.loc_weight
            * localization_loss(
                scene.decode_boxes(scene.student, level),
                scene.decode_boxes(scene.teacher, level),
                importance_N=importance_N,
                num_pos=given.num_pos,
            ),
        )


def _logit_kd(method: LogitKd, scene: DistillationBatch) -> Terms:
    """Hinton et al., 2015, at positive positions."""
    given = scene.assignment
    return {
        "loss_logit_kd": [
            method.weight
            * logit_divergence_loss(
                scene.student_logits(level),
                scene.teacher_logits(level),
                positive_N=given.positive_indices[level],
                label_weight_N=given.label_weight_N[level],
                temperature=method.temperature,
                num_pos=given.num_pos,
            )
            for level in range(scene.num_levels)
        ]
    }


def _ld(method: Ld, scene: DistillationBatch) -> Terms:
    """Zheng et al., CVPR 2022.

    Positives weigh as in GFL's own box losses: by the student's largest score. Each region is
    normalised by its whole weight in the batch; the published code does not, and grows with it.
    """
    levels = range(scene.num_levels)
    terms: Terms = {}
    if method.main_weight:
        scores = [scene.student_logits(level).detach().sigmoid().amax(dim=1) for level in levels]
        weights = [scores[level] * scene.assignment.positive_N(level) for level in levels]
        terms["loss_ld_main"] = _edge_terms(method, scene, weights, method.main_weight)
    if method.vlr_weight:
        regions = valuable_regions(scene, gamma=method.vlr_gamma or _VLR_GAMMA)
        weights = [region.float() for region in regions]
        terms["loss_ld_vlr"] = _edge_terms(method, scene, weights, method.vlr_weight)
    return terms


def _edge_terms(
    method: Ld, scene: DistillationBatch, weights: list[Tensor], term_weight: float
) -> list[Tensor]:
    student, teacher = scene.student, scene.teacher
    assert isinstance(student.head_adapter, GflHeadAdapter)
    assert isinstance(teacher.head_adapter, GflHeadAdapter)
    total = global_normalizer(
        sum(of.sum() for of in weights), head=student.head_adapter.head, like=weights[0]
    )
    values = []
    chosen_P = nonzero_indices([weight_N > 0 for weight_N in weights])
    for level, (weight_N, chosen) in enumerate(zip(weights, chosen_P, strict=True)):
        edges = student.head_adapter.edges(student.outputs, level)
        value = edge_divergence_loss(
            edges[chosen],
            teacher.head_adapter.edges(teacher.outputs, level)[chosen],
            weight_N=weight_N[chosen],
            temperature=method.temperature,
            total_weight=total,
        )
        values.append(term_weight * value)
    return values


def valuable_regions(scene: DistillationBatch, *, gamma: float) -> list[Tensor]:
    """LD's valuable localization region by level, (N,): near an object, and not positive."""
    head = scene.student.head_adapter.head
    sizes = [maps.shape[-2:] for maps in scene.student.outputs[0]]
    device = scene.student.outputs[0][0].device
    anchors = head.prior_generator.grid_priors(sizes, device=device)
    counts = [len(of_level) for of_level in anchors]
    by_image = []
    for image, boxes_M4 in enumerate(scene.boxes):
        positive_P = torch.cat(
            [
                scene.assignment.positive_N(level).unflatten(0, (-1, count))[image]
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
    return [torch.cat(of_level) for of_level in zip(*by_image, strict=True)]


def _fine_grained(
    method: FineGrained, scene: DistillationBatch, *, adapters: nn.ModuleDict
) -> Terms:
    """Wang et al., CVPR 2019."""
    masks = imitation_masks(scene, threshold=method.threshold)
    total = global_normalizer(
        sum(mask.sum() for mask in masks), head=scene.student.head_adapter.head, like=masks[0]
    )
    return {
        "loss_fine_grained": [
            method.weight * fine_grained_loss(ours, theirs, mask_BHW=masks[level], total=total)
            for level, (ours, theirs) in enumerate(_feature_pairs(scene, adapters, method.method))
        ]
    }


def imitation_masks(scene: DistillationBatch, *, threshold: float) -> list[Tensor]:
    """Places near an object by level, (B, H, W); anchors are the student's, or squares of 8."""
    features = scene.student.features
    # A box's best anchor is sought over all levels: on a level alone even bad ones would be near.
    anchors_PA4 = torch.cat([_anchors(scene, level) for level in range(scene.num_levels)])
    by_image = torch.stack(
        [imitation_mask(anchors_PA4, boxes_M4, threshold=threshold) for boxes_M4 in scene.boxes]
    )
    sizes = [maps.shape[-2:] for maps in features]
    by_level = by_image.split([height * width for height, width in sizes], dim=1)
    return [mask.unflatten(1, size) for mask, size in zip(by_level, sizes, strict=True)]


def _anchors(scene: DistillationBatch, level: int) -> Tensor:
    """Anchors at each place of a level, (P, A, 4)."""
    maps = scene.student.features[level]
    generator = scene.student.head_adapter.head.prior_generator
    priors = generator.single_level_grid_priors(
        maps.shape[-2:], level_idx=level, device=maps.device
    )
    if priors.shape[-1] == 4:
        return priors.unflatten(0, (maps.shape[-2] * maps.shape[-1], -1))
    half = _SQUARE_IN_STRIDES / 2.0 * scene.student.head_adapter.strides[level]
    return torch.cat([priors - half, priors + half], dim=1).unsqueeze(1)


def _pkd(method: Pkd, scene: DistillationBatch, *, adapters: nn.ModuleDict) -> Terms:
    """Cao et al., NeurIPS 2022."""
    return {
        "loss_pkd": [
            method.weight * pkd_loss(ours, theirs)
            for ours, theirs in _feature_pairs(scene, adapters, method.method)
        ]
    }


def _cwd(method: Cwd, scene: DistillationBatch, *, adapters: nn.ModuleDict) -> Terms:
    """Shu et al., ICCV 2021."""
    return {
        "loss_cwd": [
            method.weight * cwd_loss(ours, theirs, temperature=method.temperature)
            for ours, theirs in _feature_pairs(scene, adapters, method.method)
        ]
    }


def _feature_pairs(
    scene: DistillationBatch, adapters: nn.ModuleDict, name: str
) -> Iterator[tuple[Tensor, Tensor]]:
    adapt = adapters[name] if name in adapters else nn.Identity()
    for ours, theirs in zip(scene.student.features, scene.teacher.features, strict=True):
        yield adapt(ours.float()), theirs.float()


def _crosskd(method: CrossKd, scene: DistillationBatch, *, adapters: nn.ModuleDict) -> Terms:
    """Wang et al., CVPR 2024, sections 3.2 and 3.3, from the paper.

    Classes: quality focal loss to the teacher's scores at every position, which with exponent 1 is
    BCKD's classification loss. Boxes: at positives, GIoU, or LD's divergence where edges are
    distributions.
    """
    terms: Terms = {}
    for level in range(scene.num_levels):
        if method.cls_weight:
            terms.setdefault("loss_crosskd_cls", []).append(
                method.cls_weight * _crossed_classes(method, scene, level, adapters)
            )
        if method.loc_weight:
            terms.setdefault("loss_crosskd_loc", []).append(
                method.loc_weight * _crossed_boxes(method, scene, level, adapters)
            )
    return terms


def _crossed_tower(
    scene: DistillationBatch, level: int, *, tower: str, after_convs: int, adapter: nn.Module | None
) -> Tensor:
    """The student's features through its own first convolutions and the rest of the teacher's."""
    ours, theirs = (getattr(of.head_adapter.head, tower) for of in (scene.student, scene.teacher))
    maps = scene.student.features[level].float()
    for conv in ours[:after_convs]:
        maps = conv(maps)
    if adapter is not None:
        maps = adapter(maps)
    for conv in theirs[after_convs:]:
        maps = conv(maps)
    return maps


def _crossed_classes(
    method: CrossKd, scene: DistillationBatch, level: int, adapters: nn.ModuleDict
) -> Tensor:
    view = scene.teacher.head_adapter
    tower = _crossed_tower(
        scene,
        level,
        tower="cls_convs",
        after_convs=method.after_convs,
        adapter=getattr(adapters, _CROSSED_CLS, None),
    )
    logits_NC = scene.select_student_classes(
        view.class_logits(([view.predict_class_maps(tower)],), 0)
    )
    return classification_loss(
        logits_NC,
        scene.teacher_logits(level),
        label_weight_N=scene.assignment.label_weight_N[level],
        num_pos=scene.assignment.num_pos,
    )


def _crossed_boxes(
    method: CrossKd, scene: DistillationBatch, level: int, adapters: nn.ModuleDict
) -> Tensor:
    given, view = scene.assignment, scene.teacher.head_adapter
    tower = _crossed_tower(
        scene,
        level,
        tower="reg_convs",
        after_convs=method.after_convs,
        adapter=getattr(adapters, _CROSSED_LOC, None),
    )
    maps = view.predict_box_maps(tower, level)
    crossed: Outputs = ([], [maps] * scene.num_levels)
    positive_N = given.positive_N(level).float()
    if isinstance(view, GflHeadAdapter):
        return edge_divergence_loss(
            view.edges(crossed, level),
            view.edges(scene.teacher.outputs, level),
            weight_N=positive_N,
            temperature=method.temperature or _CROSSING_TEMPERATURE,
            total_weight=given.num_pos,
        )
    return localization_loss(
        view.decode_boxes(crossed, level),
        scene.decode_boxes(scene.teacher, level),
        importance_N=positive_N,
        num_pos=given.num_pos,
    )
