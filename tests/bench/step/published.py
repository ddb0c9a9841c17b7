"""The published BCKD: `python -m tests.bench.step.published CASE`, with its checkout on the path.

The checkout (github.com/TinyTigerPan/BCKD) is a fork of mmdet 2.28.2, so it cannot be imported
beside ours.
"""

import sys
import types
from typing import Any

import numpy as np
import torch

from tests.bench.step.serve import serve_steps

# The checkout imports a name that it does not use, and that numpy 2 has elsewhere.
_twodim_base = types.ModuleType("numpy.lib.twodim_base")
_twodim_base.tri = np.tri  # type: ignore[attr-defined]
sys.modules[_twodim_base.__name__] = _twodim_base

from mmcv import ConfigDict  # noqa: E402
from mmdet.models import build_detector  # noqa: E402


def _detector_config(depth: int, *, head: dict[str, Any], frozen_stages: int) -> dict[str, Any]:
    channels = [256, 512, 1024, 2048] if depth >= 50 else [64, 128, 256, 512]
    return {
        "backbone": {
            "type": "ResNet",
            "depth": depth,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": frozen_stages,
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "norm_eval": True,
            "style": "pytorch",
        },
        "neck": {
            "type": "FPN",
            "in_channels": channels,
            "out_channels": 256,
            "start_level": 1,
            "add_extra_convs": "on_output",
            "num_outs": 5,
        },
        "bbox_head": {
            "num_classes": 80,
            "in_channels": 256,
            "stacked_convs": 4,
            "feat_channels": 256,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "ratios": [1.0],
                "octave_base_scale": 8,
                "scales_per_octave": 1,
                "strides": [8, 16, 32, 64, 128],
            },
            "loss_cls": {
                "type": "QualityFocalLoss",
                "use_sigmoid": True,
                "beta": 2.0,
                "loss_weight": 1.0,
            },
            "loss_dfl": {"type": "DistributionFocalLoss", "loss_weight": 0.25},
            "reg_max": 16,
            "loss_bbox": {"type": "GIoULoss", "loss_weight": 2.0},
            **head,
        },
        "train_cfg": {
            "assigner": {"type": "ATSSAssigner", "topk": 9},
            "allowed_border": -1,
            "pos_weight": -1,
            "debug": False,
        },
        "test_cfg": {
            "nms_pre": 1000,
            "min_bbox_size": 0,
            "score_thr": 0.05,
            "nms": {"type": "nms", "iou_threshold": 0.6},
            "max_per_img": 100,
        },
    }


def _build_model(case: dict[str, Any]) -> Any:
    divergence = {"type": "KnowledgeDistillationKLDivLoss", "loss_weight": 0.0, "T": 10}
    head = {
        "type": "LDHead",
        "loss_ld": divergence,
        "loss_ld_vlr": divergence,
        "loss_kd": {"type": "NovelKDLoss", "loss_weight": case["cls_weight"]},
        "loss_kd_vlr": {"type": "NovelKDLoss", "loss_weight": 0.0},
        "loss_score_kd": {"type": "GIoULoss", "loss_weight": case["loc_weight"]},
        "loss_score_kd_vlr": {"type": "GIoULoss", "loss_weight": 0.0},
        "loss_im": {"type": "IMLoss", "loss_weight": 0.0},
        "imitation_method": "finegrained",
    }
    teacher = _detector_config(case["teacher_depth"], head={"type": "GFLHead"}, frozen_stages=1)
    config = {
        "type": "KnowledgeDistillationSingleStageDetector",
        "teacher_config": {"model": {"type": "GFL", **teacher}},
        "output_feature": True,
        **_detector_config(case["student_depth"], head=head, frozen_stages=1),
    }
    model = build_detector(ConfigDict(config))
    model.load_state_dict(case["student"], strict=True)
    model.teacher_model.load_state_dict(case["teacher"], strict=True)
    model.train()
    return model


def main() -> None:
    torch.set_num_threads(1)
    case = torch.load(sys.argv[1], weights_only=True)
    model = _build_model(case)
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=case["learning_rate"],
        momentum=0.9,
        weight_decay=1e-4,
    )
    del case["student"], case["teacher"]  # they would count as memory of the step
    height, width = case["images"].shape[-2:]
    shape = (height, width, 3)
    batch = {
        "img": case["images"],
        "img_metas": [{"img_shape": shape, "pad_shape": shape}] * len(case["images"]),
        "gt_bboxes": case["boxes"],
        "gt_labels": case["labels"],
    }

    def step() -> dict[str, float]:
        outputs = model.train_step(batch, optimizer)
        optimizer.zero_grad()
        outputs["loss"].backward()
        optimizer.step()
        return {name: float(value) for name, value in outputs["log_vars"].items()}

    serve_steps(step)


if __name__ == "__main__":
    main()
