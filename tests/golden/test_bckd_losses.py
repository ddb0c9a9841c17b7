"""Losses and gradients equal those of the published code."""

from collections.abc import Mapping

import numpy as np
import pytest

from tests.support.training.published_losses import (
    CASES,
    DISTILLATION_LOSSES,
    assert_published_gradients,
    assert_published_losses,
    compute_losses,
    use_published_box_weights,
)


@pytest.fixture(params=CASES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Mapping[str, np.ndarray]:
    with np.load(request.param) as arrays:
        return dict(arrays)


def test_losses_of_every_level_equal_the_published_code(case: Mapping[str, np.ndarray]) -> None:
    losses, _ = compute_losses(case)

    assert_published_losses(losses, case, names=("loss_cls", *DISTILLATION_LOSSES))


def test_box_losses_differ_from_the_published_code_by_its_weight_offset_and_clamp_alone(
    case: Mapping[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_published_box_weights(monkeypatch)

    losses, _ = compute_losses(case)

    assert_published_losses(losses, case, names=("loss_bbox", "loss_dfl"))


def test_gradients_of_the_distillation_losses_equal_the_published_code(
    case: Mapping[str, np.ndarray],
) -> None:
    losses, student = compute_losses(case)

    assert_published_gradients(losses, student, case)


def test_a_loss_that_is_off_by_a_ten_thousandth_is_refused(case: Mapping[str, np.ndarray]) -> None:
    losses, _ = compute_losses(case)
    losses["loss_distill_cls"] = [1.0001 * value for value in losses["loss_distill_cls"]]

    with pytest.raises(AssertionError):
        assert_published_losses(losses, case, names=DISTILLATION_LOSSES)
