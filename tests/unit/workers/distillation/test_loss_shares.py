"""Loss shares of a step: their values, peak memory and device synchronizations."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode

from workers.distillation.loss_shares import LossShareMeter, TermShare

SIDES = (40, 20, 10, 5, 3)
BATCH, CLASSES, EDGES, CHANNELS = 2, 80, 68, 256
DETECTOR_TERMS = ("loss_cls", "loss_bbox", "loss_dfl")
MAX_COPIES = 4.0
"""Peak memory in sizes of the differentiated tensors: two gradients and their intermediates."""


class LossCase:
    """Feature maps, head outputs computed from them, and losses on both."""

    def __init__(self, *, on_features: bool, dtype: torch.dtype = torch.float32) -> None:
        draw = torch.Generator().manual_seed(0)
        self.features = tuple(
            torch.randn(BATCH, CHANNELS, side, side, generator=draw).to(dtype).requires_grad_()
            for side in SIDES
        )
        self.outputs = tuple(
            [_convolve(maps, channels, draw=draw) for maps in self.features]
            for channels in (CLASSES, EDGES)
        )
        scores, edges = self.outputs
        self.detector_losses: dict[str, Any] = {
            "loss_cls": [maps.square().mean() for maps in scores],
            "loss_bbox": [maps.abs().mean() for maps in edges],
            "loss_dfl": [maps.exp().mean() for maps in edges],
            "num_pos": torch.tensor(3.0),
        }
        self.distillation_losses: dict[str, Any] = {
            "loss_distill_cls": [maps.sin().mean() for maps in scores],
            "loss_distill_loc": sum(maps.cos().mean() for maps in edges),
        }
        if on_features:
            self.distillation_losses["loss_pkd"] = [
                torch.nn.functional.mse_loss(maps.float(), torch.zeros(maps.shape))
                for maps in self.features
            ]

    @property
    def terms(self) -> dict[str, Tensor]:
        """Each loss summed over all levels."""
        losses = {
            name: value
            for name, value in (self.detector_losses | self.distillation_losses).items()
            if "loss" in name
        }
        return {
            name: torch.stack(value).sum() if isinstance(value, list) else value
            for name, value in losses.items()
        }

    def measure(self) -> list[TermShare]:
        meter = LossShareMeter()
        meter.is_due = True
        meter.measure(
            self.detector_losses,
            self.distillation_losses,
            outputs=self.outputs,
            features=self.features,
        )
        return meter.shares


def _convolve(maps: Tensor, channels: int, *, draw: torch.Generator) -> Tensor:
    weights = 0.1 * torch.randn(channels, CHANNELS, 1, 1, generator=draw)
    return torch.nn.functional.conv2d(maps.float(), weights)


@pytest.mark.parametrize("on_features", [False, True], ids=["outputs", "features"])
def test_shares_are_those_of_all_gradients_side_by_side(on_features: bool) -> None:
    case = LossCase(on_features=on_features)
    levels = (
        [[maps] for maps in case.features]
        if on_features
        else [[maps[level] for maps in case.outputs] for level in range(len(SIDES))]
    )

    shares = case.measure()

    expected = compute_expected_shares(case.terms, levels)
    assert len(shares) == len(case.terms) * (len(SIDES) + 1) == len(expected)
    for share in shares:
        norm, expected_share, cosine = expected[share.term, share.level]
        assert share.norm == pytest.approx(norm, rel=1e-6)
        assert share.share == pytest.approx(expected_share, abs=1e-6)
        assert share.cosine == pytest.approx(cosine, abs=1e-6)


def test_features_in_half_precision_are_multiplied_in_whole_precision() -> None:
    case = LossCase(on_features=True, dtype=torch.bfloat16)

    shares = case.measure()

    expected = compute_expected_shares(case.terms, [[maps] for maps in case.features])
    for share in shares:
        _, expected_share, cosine = expected[share.term, share.level]
        assert share.share == pytest.approx(expected_share, abs=1e-6)
        assert share.cosine == pytest.approx(cosine, abs=1e-3)  # the sum of gradients is rounded


def test_a_term_that_no_gradient_reaches_has_a_share_of_0() -> None:
    case = LossCase(on_features=False)
    case.distillation_losses["loss_none"] = torch.tensor(1.0)

    shares = [share for share in case.measure() if share.term == "loss_none"]

    assert {(share.norm, share.share, share.cosine) for share in shares} == {(0.0, 0.0, 0.0)}


@pytest.mark.parametrize("on_features", [False, True], ids=["outputs", "features"])
def test_measuring_shares_takes_at_most_four_times_what_it_differentiates_by(
    on_features: bool,
) -> None:
    case = LossCase(on_features=on_features)
    tensors = case.features if on_features else [m for maps in case.outputs for m in maps]
    measured_bytes = sum(tensor.nbytes for tensor in tensors)

    peak_bytes = measure_peak_tensor_bytes(case.measure)

    assert measured_bytes < peak_bytes <= MAX_COPIES * measured_bytes


@pytest.mark.parametrize("on_features", [False, True], ids=["outputs", "features"])
def test_no_number_is_read_from_the_device_by_itself(on_features: bool) -> None:
    case = LossCase(on_features=on_features)

    with SingleReads() as reads:
        case.measure()

    assert reads.count == 0


def compute_expected_shares(
    sum_terms: dict[str, Tensor], levels: list[list[Tensor]]
) -> dict[tuple[str, int | None], tuple[float, float, float]]:
    """Norm, share and cosine by term and level, from all gradients at once, in fp64."""
    flat: dict[str, list[Tensor]] = {
        name: [
            torch.cat(
                [
                    torch.zeros_like(tensor).double().flatten()
                    if gradient is None
                    else gradient.double().flatten()
                    for gradient, tensor in zip(
                        torch.autograd.grad(term, level, retain_graph=True, allow_unused=True),
                        level,
                        strict=True,
                    )
                ]
            )
            for level in levels
        ]
        for name, term in sum_terms.items()
    }
    expected = {}
    for level in (None, *range(len(levels))):
        gradients = {
            name: torch.cat(gradients_by_level) if level is None else gradients_by_level[level]
            for name, gradients_by_level in flat.items()
        }
        detector = torch.stack([gradients[name] for name in DETECTOR_TERMS]).sum(dim=0)
        total = sum(float(gradient.norm()) for gradient in gradients.values())
        for name, gradient in gradients.items():
            norms = float(gradient.norm()) * float(detector.norm())
            cosine = float(gradient @ detector) / norms if norms else 0.0
            expected[name, level] = float(gradient.norm()), float(gradient.norm()) / total, cosine
    return expected


def measure_peak_tensor_bytes(function: Callable[[], object]) -> int:
    """Peak bytes of the tensors that `function` allocates."""
    tracker = MemTracker()
    with tracker:
        function()
    peak = tracker.get_tracker_snapshot("peak")
    return sum(by_kind["Total"] for by_kind in peak.values())


class SingleReads(TorchDispatchMode):
    """Counts reads of single numbers: on a GPU each synchronizes with the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += operator is torch.ops.aten._local_scalar_dense.default
        return operator(*args, **(kwargs or {}))
