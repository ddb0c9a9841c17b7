"""Optimizers that do not import torch's compiler; apart from that they are torch's."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from mmcv import ConfigDict
from mmcv.runner import build_optimizer
from torch import nn

from workers.training.optimizers import UncompiledOptimizer

KINDS = {
    "AdamW": {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.05},
    "SGD": {"type": "SGD", "lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-4},
}
STEPS = 5


@pytest.fixture(params=KINDS)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return KINDS[request.param]


def test_steps_are_those_of_torch_bit_for_bit(config: dict[str, Any]) -> None:
    model, reference = build_model(), build_model()
    optimizer = build_optimizer(model, ConfigDict(config))
    torchs = build_torchs(config, reference)

    for number in range(STEPS):
        take_step(model, optimizer, number)
        take_step(reference, torchs, number)

    assert isinstance(optimizer, UncompiledOptimizer)
    assert_equal_weights(model, reference)


def test_a_state_of_torchs_optimizer_is_continued(config: dict[str, Any]) -> None:
    model, reference = build_model(), build_model()
    torchs = build_torchs(config, reference)
    take_step(reference, torchs, 0)
    model.load_state_dict(reference.state_dict())
    optimizer = build_optimizer(model, ConfigDict(config))

    optimizer.load_state_dict(deepcopy(torchs.state_dict()))  # else both update its tensors

    take_step(model, optimizer, 1)
    take_step(reference, torchs, 1)
    assert_equal_weights(model, reference)
    assert optimizer.state_dict()["param_groups"] == torchs.state_dict()["param_groups"]


def test_fused_sgd_continues_a_state_of_torchs_default_and_differs_in_the_last_place() -> None:
    model, reference = build_model(), build_model()
    optimizer = build_optimizer(model, ConfigDict(KINDS["SGD"]))
    default = torch.optim.SGD(reference.parameters(), lr=1e-2, momentum=0.9, weight_decay=1e-4)
    take_step(reference, default, 0)
    model.load_state_dict(reference.state_dict())
    optimizer.load_state_dict(deepcopy(default.state_dict()))

    for number in range(1, STEPS):
        take_step(model, optimizer, number)
        take_step(reference, default, number)

    assert optimizer.state_dict()["param_groups"] == default.state_dict()["param_groups"]
    for own, torchs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, torchs, rtol=1e-5, atol=1e-7)


def test_fused_sgd_updates_weights_of_every_memory_layout_alike() -> None:
    weights = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = nn.Conv2d(3, 4, 3).to(memory_format=layout)
        optimizer = build_optimizer(model, ConfigDict(KINDS["SGD"]))
        for _ in range(STEPS):
            model.weight.grad = (
                torch.linspace(-1, 1, 108).reshape(4, 3, 3, 3).to(memory_format=layout)
            )
            optimizer.step()
        weights.append(model.weight.detach())

    torch.testing.assert_close(*weights)


def test_fused_sgd_leaves_parameters_without_a_gradient() -> None:
    model = build_model()
    optimizer = build_optimizer(model, ConfigDict(KINDS["SGD"]))
    before = deepcopy(model)

    optimizer.step()

    assert_equal_weights(model, before)


def test_hooks_of_steps_are_called(config: dict[str, Any]) -> None:
    model = build_model()
    optimizer = build_optimizer(model, ConfigDict(config))
    called: list[Any] = []
    optimizer.register_step_post_hook(lambda stepped, *_: called.append(stepped))

    take_step(model, optimizer, 0)

    assert called == [optimizer]


def build_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def build_torchs(config: dict[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    options = {name: value for name, value in config.items() if name != "type"}
    if config["type"] == "SGD":
        options["fused"] = True
    optimizer: torch.optim.Optimizer = getattr(torch.optim, config["type"])(
        model.parameters(), **options
    )
    return optimizer


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    inputs = torch.full((3, 4), float(number + 1))
    model(inputs).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def assert_equal_weights(model: nn.Module, reference: nn.Module) -> None:
    for own, torchs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(own, torchs)
