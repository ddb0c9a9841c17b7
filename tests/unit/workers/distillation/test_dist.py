"""DIST: which positions are correlated, and what each level gets."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from configs.spec.distillation import Dist
from workers.distillation.batch import DistillationBatch
from workers.distillation.methods.dist import DistMethod
from workers.distillation.methods.golden import GoldenOutputs, make_golden_batch
from workers.errors import MethodMismatch

SPEC = Dist(inter_weight=2.0, intra_weight=3.0)


def make_batch(*labels: list[int]) -> DistillationBatch:
    """The batch of the golden case with two positions on each of two levels."""
    signs_KC = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [-1, 1, -1, 1], [-1, -1, 1, 1]])
    student, teacher = (
        make_outputs(signs_KC[order] * math.log(9.0)) for order in ([0, 1, 2, 3], [1, 0, 2, 3])
    )
    return make_golden_batch(student, teacher, labels=[torch.tensor(level) for level in labels])


def make_outputs(logits_KC: Tensor) -> GoldenOutputs:
    maps = [level_KC.T.reshape(1, 4, 1, 2).requires_grad_() for level_KC in logits_KC.split(2)]
    return GoldenOutputs(maps, logits=maps)


def compute_terms(batch: DistillationBatch) -> dict[str, list[float]]:
    terms = DistMethod().terms(SPEC, batch, nn.ModuleDict())
    return {name: [level.item() for level in levels] for name, levels in terms.items()}


def test_levels_have_their_parts_of_correlations_over_all_levels() -> None:
    terms = compute_terms(make_batch([0, 0], [0, 0]))

    # Only the two positions of the first level differ; the sums are those of the golden case.
    assert terms["loss_dist_inter"] == pytest.approx([1.0, 0.0], abs=1e-4)
    assert terms["loss_dist_intra"] == pytest.approx([1.5, 0.0], abs=1e-4)


def test_only_positive_positions_count() -> None:
    terms = compute_terms(make_batch([0, -1], [0, 0]))

    # Three positives, of which the first has correlation 0 over the classes.
    assert terms["loss_dist_inter"] == pytest.approx([2.0 / 3.0, 0.0], abs=1e-4)


def test_a_batch_without_positives_gives_0_and_a_gradient_of_0() -> None:
    batch = make_batch([-1, -1], [-1, -1])

    terms = DistMethod().terms(SPEC, batch, nn.ModuleDict())
    values = [level for levels in terms.values() for level in levels]
    torch.stack(values).sum().backward()

    assert [value.item() for value in values] == [0.0] * 4
    for maps in batch.student.features:
        assert maps.grad is not None
        assert (maps.grad == 0.0).all()


@pytest.mark.parametrize("num_classes", [1, 2])
def test_classes_too_few_to_correlate_are_refused(num_classes: int) -> None:
    student = SimpleNamespace(bbox_head=SimpleNamespace(num_classes=num_classes))

    with pytest.raises(MethodMismatch, match="set inter_weight to 0"):
        DistMethod().build_adapters(SPEC, student, student)
    assert DistMethod().build_adapters(Dist(inter_weight=0.0), student, student) == {}
