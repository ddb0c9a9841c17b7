"""The published BCKD losses and gradients, and those of Tandem's head."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.spec.detector import Detector, ResNet
from configs.spec.distillation import Bckd
from tests.support.training.detectors import make_head
from workers.distillation.batch import DetectorOutputs, DistillationBatch
from workers.distillation.head_adapters.anchor_heads import GflHeadAdapter
from workers.distillation.heads import TandemGFLHead
from workers.distillation.methods.registry import compute_terms

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
        actual = [value.item() for value in losses[name]]
        np.testing.assert_allclose(actual, case[name], rtol=1e-5, atol=1e-7, err_msg=name)


def assert_published_gradients(
    losses: Mapping[str, list[Tensor]],
    student: tuple[list[Tensor], list[Tensor]],
    case: Mapping[str, np.ndarray],
) -> None:
    """Compare the gradients of the distillation losses by the student's outputs."""
    sum(sum(losses[name]) for name in DISTILLATION_LOSSES).backward()  # type: ignore[union-attr]

    for outputs, key in zip(student, ("grad_distill_cls", "grad_distill_reg"), strict=True):
        for level, output in enumerate(outputs):
            expected = case[f"{key}_{level}"]
            actual = np.zeros_like(expected) if output.grad is None else output.grad.cpu().numpy()
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                actual, expected, rtol=1e-5, atol=1e-5 * scale, err_msg=f"{key}_{level}"
            )


def use_published_box_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch mmdet's GFL head to weight positives like the published code: offset, no clamp."""
    sigmoid_of_scores = Tensor.sigmoid
    monkeypatch.setattr(
        Tensor,
        "sigmoid",
        lambda scores: (
            sigmoid_of_scores(scores) + (0.0 if scores.requires_grad else PUBLISHED_WEIGHT_OFFSET)
        ),
    )
    monkeypatch.setattr(Tensor, "clamp_", lambda total, min: total)


def compute_losses(
    case: Mapping[str, np.ndarray], *, device: torch.device = CPU
) -> tuple[dict[str, list[Tensor]], tuple[list[Tensor], list[Tensor]]]:
    height, width, images, classes, pad_below, pad_right = (int(value) for value in case["meta"])
    head: TandemGFLHead = make_head(Detector(backbone=ResNet(depth=18)), num_classes=classes).to(
        device
    )
    student = load_outputs("student", case, requires_grad=True, device=device)
    teacher = load_outputs("teacher", case, requires_grad=False, device=device)
    shape = (height - pad_below, width - pad_right, 3)
    losses = head.loss(
        *student,
        [torch.from_numpy(case[f"gt_bboxes_{image}"]).to(device) for image in range(images)],
        [torch.from_numpy(case[f"gt_labels_{image}"]).to(device) for image in range(images)],
        [{"img_shape": shape, "pad_shape": shape}] * images,
    )
    cls_weight, loc_weight = (float(value) for value in case["alpha"])
    adapter = GflHeadAdapter(head)
    batch = DistillationBatch(
        student=DetectorOutputs(adapter, features=tuple(student[0]), outputs=student),
        teacher=DetectorOutputs(adapter, features=tuple(teacher[0]), outputs=teacher),
        assignment=adapter.read_assignment(head.targets),
        boxes=[],
    )
    method = Bckd(cls_weight=cls_weight, loc_weight=loc_weight)
    losses |= compute_terms(method, batch, nn.ModuleDict())
    return losses, student


def load_outputs(
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
