"""The moving average of a student's weights."""

import pytest
import torch
from mmdet.core.hook import ExpMomentumEMAHook
from torch import nn

from configs.spec.schedule import Ema
from workers.training.ema import ModelEma

EMA = Ema(decay=0.9, warmup_steps=10)


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.norm = nn.BatchNorm2d(1)
        self.adapters = nn.ModuleDict({"pkd": nn.Linear(1, 1)})


def fill(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)


def test_the_decay_rises_as_in_mmdet() -> None:
    spec = Ema(decay=0.9998, warmup_steps=2000)
    reference = ExpMomentumEMAHook(total_iter=2000, momentum=1.0 - 0.9998)
    ema = ModelEma(Student(), spec)

    for step in (1, 2, 500, 2000, 50_000):
        assert ema.decay(step) == pytest.approx(1.0 - reference.momentum_fun(step - 1), rel=1e-9)


def test_weights_and_statistics_are_averaged_by_the_formula() -> None:
    model = Student()
    fill(model, 8.0)
    ema = ModelEma(model, EMA)
    expected = 8.0

    for step, value in enumerate((4.0, -2.0, 1.0), start=1):
        fill(model, value)
        ema.update(step=step)
        expected += (1.0 - ema.decay(step)) * (value - expected)

    state = ema.state_dict()
    assert set(state) == {
        "conv.weight",
        "conv.bias",
        *(f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
    }
    for tensor in state.values():
        assert tensor.flatten().tolist() == pytest.approx([expected] * tensor.numel())


def test_a_model_gets_its_own_weights_back_also_after_an_error() -> None:
    model = Student()
    ema = ModelEma(model, EMA)
    fill(model, 3.0)
    ema.update(step=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    during: dict[str, torch.Tensor] = {}

    def evaluate() -> None:
        with ema.applied():
            during.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate()

    averaged = ema.state_dict()
    assert all(during[name].equal(averaged[name]) for name in averaged)
    assert not averaged["conv.weight"].equal(before["conv.weight"])
    assert all(during[name].equal(before[name]) for name in before.keys() - averaged.keys())
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_an_average_continues_from_its_state() -> None:
    model = Student()
    first, second = ModelEma(model, EMA), ModelEma(model, EMA)
    fill(model, 3.0)
    first.update(step=1)

    second.load_state_dict(first.state_dict() | {"another": torch.zeros(1)})
    fill(model, -1.0)
    for ema in (first, second):
        ema.update(step=2)

    expected = first.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in second.state_dict().items())
