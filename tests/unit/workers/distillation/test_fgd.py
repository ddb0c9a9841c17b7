"""FGD: its context blocks, and what weights of 0 leave out."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from configs.spec.distillation import Fgd
from workers.distillation.batch import DistillationBatch
from workers.distillation.methods.fgd import FgdMethod, GlobalContext
from workers.distillation.methods.golden import GoldenOutputs, make_golden_batch


def make_batch() -> DistillationBatch:
    """One level, with two channels in the student and four in the teacher."""
    student, teacher = (GoldenOutputs([torch.rand(2, width, 3, 3)]) for width in (2, 4))
    boxes = [torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.zeros(0, 4)]
    return make_golden_batch(student, teacher, boxes=boxes)


def build_adapters(spec: Fgd) -> nn.ModuleDict:
    student, teacher = (
        SimpleNamespace(
            neck=SimpleNamespace(out_channels=width), head_adapter=SimpleNamespace(strides=[8])
        )
        for width in (2, 4)
    )
    return nn.ModuleDict(FgdMethod().build_adapters(spec, student, teacher))


def compute_terms(**weights: Any) -> tuple[dict[str, float], nn.ModuleDict]:
    spec = Fgd(**weights)
    adapters = build_adapters(spec)
    terms = FgdMethod().terms(spec, make_batch(), adapters)
    torch.stack([level for levels in terms.values() for level in levels]).sum().backward()
    return {name: levels[0].item() for name, levels in terms.items()}, adapters


def test_a_context_block_begins_as_the_identity() -> None:
    maps = torch.rand(2, 4, 3, 3)

    assert torch.equal(GlobalContext(4)(maps), maps)


def test_a_context_is_the_same_at_all_locations() -> None:
    torch.manual_seed(0)
    block = GlobalContext(4)
    last: Any = block.transform[-1]
    nn.init.normal_(last.weight)
    maps = torch.rand(2, 4, 3, 3)

    added = block(maps) - maps

    assert added.abs().sum() > 0.0
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added))


@pytest.mark.parametrize("weight", Fgd.traits.terms)
def test_a_weight_of_0_leaves_out_its_term_and_no_adapter_without_a_gradient(weight: str) -> None:
    terms, adapters = compute_terms(**{weight: 0.0})

    expected = {f"loss_{term}" for name, term in Fgd.traits.terms.items() if name != weight}
    assert terms.keys() == expected
    assert all(parameter.grad is not None for parameter in adapters.parameters())
    assert ("fgd_student_context" in adapters) == (weight != "relation_weight")


def test_one_weight_computes_one_term() -> None:
    zeros = dict.fromkeys(Fgd.traits.terms, 0.0)

    for weight, term in Fgd.traits.terms.items():
        terms, _ = compute_terms(**(zeros | {weight: 1.0}))
        assert terms.keys() == {f"loss_{term}"}
