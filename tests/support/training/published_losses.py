"""The published BCKD losses and gradients, and the same computed by our head."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.spec.detector import Detector, ResNet
from configs.spec.distillation import Bckd
from tests.support.training.detectors import a_head
from workers.distillation.batch import DetectorOutputs, DistillationBatch
from workers.distillation.head_adapters import GflHeadAdapter
from workers.distillation.heads import TandemGFLHead
from workers.distillation.methods import compute_terms

CASES = sorted((Path(__file__).parents[2] / "golden" / "bckd").glob("*.npz"))
LEVELS = 5
CPU = torch.device("cpu")
PUBLISHED_WEIGHT_OFFSET = 2e-4
"""The published code adds this to every positive's weight in its box losses; mmdet does not."""

DISTILLATION_LOSSES = ("loss_distill_cls", "loss_distill_loc")


def assert_published_losses(
    losses: Mapping[str, list[Tensor]], case: Mapping[str, np.ndarray], *, names: Sequence[str]
) -> None:
    for name in names:
        ours = [value.item() for value in losses[name]]
        np.testing.assert_allclose(ours, case[name], rtol=1e-5, atol=1e-7, err_msg=name)


def assert_published_gradients(
    losses: Mapping[str, list[Tensor]],
    student: tuple[list[Tensor], list[Tensor]],
    case: Mapping[str, np.ndarray],
) -> None:
    """Those of the distillation losses by the student's outputs."""
    sum(sum(losses[name]) for name in DISTILLATION_LOSSES).backward()  # type: ignore[union-attr]

    for outputs, key in zip(student, ("grad_distill_cls", "grad_distill_reg"), strict=True):
        for level, output in enumerate(outputs):
            wanted = case[f"{key}_{level}"]
            ours = np.zeros_like(wanted) if output.grad is None else output.grad.cpu().numpy()
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(
                ours, wanted, rtol=1e-5, atol=1e-5 * scale, err_msg=f"{key}_{level}"
            )


def published_box_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets mmdet's GFL head weigh positives as the published code does: offset, no clamp at 1."""
    sigmoid_of_scores = Tensor.sigmoid
    monkeypatch.setattr(
        Tensor,
        "sigmoid",
        lambda scores: (
            sigmoid_of_scores(scores) + (0.0 if scores.requires_grad else PUBLISHED_WEIGHT_OFFSET)
        ),
    )
    monkeypatch.setattr(Tensor, "clamp_", lambda total, min: total)


def losses_of(
    case: Mapping[str, np.ndarray], *, device: torch.device = CPU
) -> tuple[dict[str, list[Tensor]], tuple[list[Tensor], list[Tensor]]]:
    height, width, images, classes, pad_below, pad_right = (int(value) for value in case["meta"])
    head: TandemGFLHead = a_head(Detector(backbone=ResNet(depth=18)), num_classes=classes).to(
        device
    )
    student = outputs_of("student", case, requires_grad=True, device=device)
    teacher = outputs_of("teacher", case, requires_grad=False, device=device)
    shape = (height - pad_below, width - pad_right, 3)
    losses = head.loss(
        *student,
        [torch.from_numpy(case[f"gt_bboxes_{image}"]).to(device) for image in range(images)],
        [torch.from_numpy(case[f"gt_labels_{image}"]).to(device) for image in range(images)],
        [{"img_shape": shape, "pad_shape": shape}] * images,
    )
    cls_weight, loc_weight = (float(value) for value in case["alpha"])
    view = GflHeadAdapter(head)
    scene = DistillationBatch(
        student=DetectorOutputs(view, features=tuple(student[0]), outputs=student),
        teacher=DetectorOutputs(view, features=tuple(teacher[0]), outputs=teacher),
        assignment=view.read_assignment(head.targets),
        boxes=[],
    )
    method = Bckd(cls_weight=cls_weight, loc_weight=loc_weight)
    losses |= compute_terms(method, scene, nn.ModuleDict())
    return losses, student


def outputs_of(
    side: str, case: Mapping[str, np.ndarray], *, requires_grad: bool, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    logits, distributions = (
        [
            torch.from_numpy(case[f"{side}_{kind}_{level}"])
            .to(device)
            .requires_grad_(requires_grad)
            for level in range(LEVELS)
        ]
        for kind in ("cls", "reg")
    )
    return logits, distributions
