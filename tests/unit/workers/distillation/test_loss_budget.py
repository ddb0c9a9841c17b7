"""The look at a step's losses: its numbers, the memory it takes, and how often the host waits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode

from workers.distillation.loss_budget import LossShareMeter, TermShare

SIDES = (40, 20, 10, 5, 3)
BATCH, CLASSES, EDGES, CHANNELS = 2, 80, 68, 256
OWN = ("loss_cls", "loss_bbox", "loss_dfl")
MOST_COPIES = 4.0
"""Of what is differentiated by: the detector's gradient, one term's, and what makes them."""


class Scene:
    """Maps of a pyramid, a head's outputs made of them, and losses of both."""

    def __init__(self, *, on_features: bool, dtype: torch.dtype = torch.float32) -> None:
        draw = torch.Generator().manual_seed(0)
        self.features = tuple(
            torch.randn(BATCH, CHANNELS, side, side, generator=draw).to(dtype).requires_grad_()
            for side in SIDES
        )
        self.outputs = tuple(
            [_convolved(maps, channels, draw=draw) for maps in self.features]
            for channels in (CLASSES, EDGES)
        )
        scores, edges = self.outputs
        self.own: dict[str, Any] = {
            "loss_cls": [maps.square().mean() for maps in scores],
            "loss_bbox": [maps.abs().mean() for maps in edges],
            "loss_dfl": [maps.exp().mean() for maps in edges],
            "num_pos": torch.tensor(3.0),
        }
        self.taught: dict[str, Any] = {
            "loss_distill_cls": [maps.sin().mean() for maps in scores],
            "loss_distill_loc": sum(maps.cos().mean() for maps in edges),
        }
        if on_features:
            self.taught["loss_pkd"] = [
                torch.nn.functional.mse_loss(maps.float(), torch.zeros(maps.shape))
                for maps in self.features
            ]

    @property
    def terms(self) -> dict[str, Tensor]:
        """Each loss over all levels."""
        losses = {name: value for name, value in (self.own | self.taught).items() if "loss" in name}
        return {
            name: torch.stack(value).sum() if isinstance(value, list) else value
            for name, value in losses.items()
        }

    def look(self) -> list[TermShare]:
        budget = LossShareMeter()
        budget.is_due = True
        budget.measure(self.own, self.taught, outputs=self.outputs, features=self.features)
        return budget.shares


def _convolved(maps: Tensor, channels: int, *, draw: torch.Generator) -> Tensor:
    weights = 0.1 * torch.randn(channels, CHANNELS, 1, 1, generator=draw)
    return torch.nn.functional.conv2d(maps.float(), weights)


@pytest.mark.parametrize("on_features", [False, True], ids=["outputs", "features"])
def test_shares_are_those_of_all_gradients_side_by_side(on_features: bool) -> None:
    scene = Scene(on_features=on_features)
    levels = (
        [[maps] for maps in scene.features]
        if on_features
        else [[maps[level] for maps in scene.outputs] for level in range(len(SIDES))]
    )

    shares = scene.look()

    expected = side_by_side(scene.terms, levels)
    assert len(shares) == len(scene.terms) * (len(SIDES) + 1) == len(expected)
    for share in shares:
        norm, part, cosine = expected[share.term, share.level]
        assert share.norm == pytest.approx(norm, rel=1e-6)
        assert share.share == pytest.approx(part, abs=1e-6)
        assert share.cosine == pytest.approx(cosine, abs=1e-6)


def test_features_in_half_precision_are_multiplied_in_whole_precision() -> None:
    scene = Scene(on_features=True, dtype=torch.bfloat16)

    shares = scene.look()

    expected = side_by_side(scene.terms, [[maps] for maps in scene.features])
    for share in shares:
        _, part, cosine = expected[share.term, share.level]
        assert share.share == pytest.approx(part, abs=1e-6)
        assert share.cosine == pytest.approx(cosine, abs=1e-3)  # the sum of gradients is rounded


def test_a_term_that_no_gradient_reaches_has_a_share_of_0() -> None:
    scene = Scene(on_features=False)
    scene.taught["loss_none"] = torch.tensor(1.0)

    silent = [share for share in scene.look() if share.term == "loss_none"]

    assert {(share.norm, share.share, share.cosine) for share in silent} == {(0.0, 0.0, 0.0)}


@pytest.mark.parametrize("on_features", [False, True], ids=["outputs", "features"])
def test_a_look_takes_at_most_four_times_what_it_differentiates_by(on_features: bool) -> None:
    scene = Scene(on_features=on_features)
    tensors = scene.features if on_features else [m for maps in scene.outputs for m in maps]
    measured_bytes = sum(tensor.nbytes for tensor in tensors)

    peak_bytes = most_bytes_of(scene.look)

    assert measured_bytes < peak_bytes <= MOST_COPIES * measured_bytes


@pytest.mark.parametrize("on_features", [False, True], ids=["outputs", "features"])
def test_no_number_is_read_from_the_device_by_itself(on_features: bool) -> None:
    scene = Scene(on_features=on_features)

    with SingleReads() as reads:
        scene.look()

    assert reads.count == 0


def side_by_side(
    terms: dict[str, Tensor], levels: list[list[Tensor]]
) -> dict[tuple[str, int | None], tuple[float, float, float]]:
    """Norm, share and cosine by term and level, from gradients that are all kept, in fp64."""
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
        for name, term in terms.items()
    }
    expected = {}
    for level in (None, *range(len(levels))):
        gradients = {
            name: torch.cat(of_term) if level is None else of_term[level]
            for name, of_term in flat.items()
        }
        detector = torch.stack([gradients[name] for name in OWN]).sum(dim=0)
        total = sum(float(gradient.norm()) for gradient in gradients.values())
        for name, gradient in gradients.items():
            norms = float(gradient.norm()) * float(detector.norm())
            cosine = float(gradient @ detector) / norms if norms else 0.0
            expected[name, level] = float(gradient.norm()), float(gradient.norm()) / total, cosine
    return expected


def most_bytes_of(work: Callable[[], object]) -> int:
    """The most bytes of tensors made while it worked that existed at one time."""
    tracker = MemTracker()
    with tracker:
        work()
    peak = tracker.get_tracker_snapshot("peak")
    return sum(by_kind["Total"] for by_kind in peak.values())


class SingleReads(TorchDispatchMode):
    """Counts the numbers that are read one at a time: on a GPU each is a wait."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += operator is torch.ops.aten._local_scalar_dense.default
        return operator(*args, **(kwargs or {}))
