"""Metric keys, which specs, service and workers share."""

from enum import StrEnum
from typing import Final


class Metric(StrEnum):
    """Metric keys in MLflow, the API and the dashboards."""

    LOSS = "train/loss"
    LOSS_CLS = "train/loss_cls"
    LOSS_BBOX = "train/loss_bbox"
    LOSS_DFL = "train/loss_dfl"
    LOSS_DISTILL_CLS = "train/loss_distill_cls"
    LOSS_DISTILL_LOC = "train/loss_distill_loc"
    LEARNING_RATE = "train/lr"
    EMA_DECAY = "train/ema_decay"
    IMAGES_PER_S = "train/images_per_s"
    MAP = "val/bbox_mAP"
    MAP_50 = "val/bbox_mAP_50"
    MAP_75 = "val/bbox_mAP_75"
    MAP_S = "val/bbox_mAP_s"
    MAP_M = "val/bbox_mAP_m"
    MAP_L = "val/bbox_mAP_l"
    TEACHER_MAP = "teacher/bbox_mAP"
    TEACHER_MAP_50 = "teacher/bbox_mAP_50"
    TEACHER_MAP_75 = "teacher/bbox_mAP_75"
    TEACHER_MAP_S = "teacher/bbox_mAP_s"
    TEACHER_MAP_M = "teacher/bbox_mAP_m"
    TEACHER_MAP_L = "teacher/bbox_mAP_l"
    INHERITED_TENSORS = "student/inherited_tensors"
    INFERENCE_IMAGES_PER_S = "inference/images_per_s"
    LATENCY_P50_MS = "inference/latency_p50_ms"
    LATENCY_P90_MS = "inference/latency_p90_ms"
    EXPORT_EDGE_DIFFERENCE = "export/largest_edge_difference_px"
    EXPORT_SCORE_DIFFERENCE = "export/largest_score_difference"


LOSS_SHARE_PREFIX: Final = "loss_share/"
"""Metrics with this prefix go to the service only; see `MlflowSink`."""

WEIGHT_PREFIX: Final = "train/weight_"
MEASURED_SHARE_PREFIX: Final = "train/share_"

DISTILLATION_TERMS: Final = frozenset(
    {
        "distill_cls",
        "distill_loc",
        "logit_kd",
        "ld_main",
        "ld_vlr",
        "fine_grained",
        "pkd",
        "cwd",
        "crosskd_cls",
        "crosskd_loc",
        "dist_inter",
        "dist_intra",
        "mgd",
        "fgd_foreground",
        "fgd_background",
        "fgd_attention",
        "fgd_relation",
    }
)
"""Loss terms of distillation, without `loss_`, of methods without `DISTILLATION_PREFIX`."""

DISTILLATION_PREFIX: Final = "distill_"
"""Loss terms of other packages' methods begin with this and the name of the method."""


UNLABELLED_PREFIX: Final = "unlabelled_"
"""Before the names of losses on images without labels."""


def is_of_distillation(term: str) -> bool:
    """Whether a loss term, without `loss_`, is of distillation. Others are the detector's own."""
    return term in DISTILLATION_TERMS or term.startswith(DISTILLATION_PREFIX)


def loss_share_metric(term: str, quantity: str, *, level: int | None) -> str:
    """Metric key of a term's `share` of the gradient or its `cosine`, at one feature level.

    Level 0 is p3 (stride 8), as the pyramid's levels are called in the literature. None stands for
    all levels.
    """
    level_name = "all" if level is None else f"p{level + 3}"
    return f"{LOSS_SHARE_PREFIX}{term.removeprefix('loss_')}/{level_name}/{quantity}"


def weight_metric(term: str) -> str:
    """Metric key of the weight of a distillation term (without `loss_`), if it moves."""
    return f"{WEIGHT_PREFIX}{term}"


def measured_share_metric(term: str) -> str:
    """Metric key of the share that the weight of a distillation term follows, as measured."""
    return f"{MEASURED_SHARE_PREFIX}{term}"


def gain_metric(part: str) -> str:
    """Metric key of the gain of a distilled run over its baseline, in one part of mAP."""
    return f"gain/{part}"
