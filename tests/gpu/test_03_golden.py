"""BCKD's losses and gradients are the published ones, on the GPU as on the CPU."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.training.published_losses import (
    CASES,
    DISTILLATION_LOSSES,
    assert_published_gradients,
    assert_published_losses,
    compute_losses,
    use_published_box_weights,
)

pytestmark = [pytest.mark.gpu, pytest.mark.parametrize("file", CASES, ids=lambda path: path.stem)]
"""`tests/golden` has the same on the CPU."""


def test_losses_equal_the_published_code(file: Path, gpu: torch.device) -> None:
    case = read_case(file)

    losses, student = compute_losses(case, device=gpu)

    assert_published_losses(losses, case, names=("loss_cls", *DISTILLATION_LOSSES))
    assert_published_gradients(losses, student, case)


def test_box_losses_equal_the_published_code(
    file: Path, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = read_case(file)
    use_published_box_weights(monkeypatch)

    losses, _ = compute_losses(case, device=gpu)

    assert_published_losses(losses, case, names=("loss_bbox", "loss_dfl"))


def read_case(file: Path) -> Mapping[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)
