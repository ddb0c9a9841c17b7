"""What a probe measures of a device: the memory of a step, and whether it is deterministic."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.support.training.probes import (
    UNMEASURED,
    make_analyzer,
    make_distilled_spec,
    make_probe_spec,
    uniform,
)
from workers.errors import NanLoss
from workers.probe.builder import StudentFactory
from workers.probe.costs import measure_costs
from workers.probe.memory import peak_bytes
from workers.probe.two_steps import deterministic_kernels, fingerprint
from workers.training.runner import Runner

STEPS = {"policy": {"kind": "step", "milestones": [1]}}


def test_memory_is_measured_with_the_largest_batch_and_loss_shares(
    factory: StudentFactory, digits: Path
) -> None:
    data = {"image_size": [160, 96], "multi_scale": [32, 160], "batch_size": 2}
    document = make_distilled_spec(digits)
    spec = parse_spec(document | {"data": document["data"] | data})
    first = tuple(factory.batch(spec)[0]["img"].shape)
    steps: list[_Step] = []

    measure_costs(_ChangedFactory(factory, lambda runner: record_steps(runner, steps)), spec)

    largest = (2, 3, 160, 160)
    assert first != largest
    assert steps[:2] == [
        _Step(largest, measures_shares=False),
        _Step(largest, measures_shares=True),
    ]
    assert steps[2:]
    assert set(steps[2:]) == {_Step(first, measures_shares=False)}


def test_a_run_without_loss_shares_is_measured_without_them(
    factory: StudentFactory, digits: Path
) -> None:
    spec = parse_spec(make_distilled_spec(digits) | {"loss_shares_every_steps": None})
    steps: list[_Step] = []

    measure_costs(_ChangedFactory(factory, lambda runner: record_steps(runner, steps)), spec)

    assert steps
    assert not any(step.measures_shares for step in steps)


def test_a_step_leaves_no_gradient_behind(factory: StudentFactory, base: RunSpec) -> None:
    runner = factory.runner(base)
    before = fingerprint(runner.model.parameters())

    runner.train_step.step(factory.batch(base), number=1)

    assert fingerprint(runner.model.parameters()) != before
    assert all(parameter.grad is None for parameter in runner.model.parameters())
    assert runner.model.bbox_head.targets is None


def test_a_step_that_is_refused_leaves_no_gradient_behind(
    factory: StudentFactory, base: RunSpec
) -> None:
    runner = factory.runner(base)
    had_gradients: list[bool] = []
    weight = runner.model.bbox_head.gfl_cls.weight
    weight.register_hook(lambda gradient: gradient * float("nan"))
    weight.register_post_accumulate_grad_hook(
        lambda parameter: had_gradients.append(parameter.grad is not None)
    )

    with pytest.raises(NanLoss):
        runner.train_step.step(factory.batch(base), number=1)

    assert had_gradients == [True]
    assert all(parameter.grad is None for parameter in runner.model.parameters())


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("schedule.max_grad_norm", uniform(1e6, 1e7)),
        ("schedule.optimizer.weight_decay", uniform(0, 0.1)),
    ],
)
def test_a_device_that_does_not_repeat_itself_tells_nothing_of_later_steps(
    factory: StudentFactory, digits: Path, path: str, parameter: dict[str, Any]
) -> None:
    spec = make_probe_spec(make_distilled_spec(digits), {path: parameter})

    effect = make_analyzer(_ChangedFactory(factory, add_noise), spec, UNMEASURED).analyze(
        spec.space, path
    )

    assert effect.has_effect
    assert effect.detail == (
        "unknown: this CPU is not deterministic: two traces of the base differ in the gradient, "
        "the first update, a later update"
    )


def test_a_device_that_does_not_repeat_itself_still_tells_what_the_losses_show(
    factory: StudentFactory, digits: Path
) -> None:
    space = {
        "distillation.cls_weight": uniform(0.5, 2),
        "schedule.epochs": {"kind": "integer", "low": 3, "high": 5},
    }
    spec = make_probe_spec(make_distilled_spec(digits, **STEPS), space)
    effects = make_analyzer(_ChangedFactory(factory, add_noise), spec, UNMEASURED)

    assert effects.analyze(spec.space, "distillation.cls_weight").detail == "the losses"
    assert effects.analyze(spec.space, "schedule.epochs").detail == "the number of epochs"


@pytest.mark.parametrize("was_enabled", [False, True])
def test_a_trace_leaves_the_choice_of_kernels_as_it_was(was_enabled: bool) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(was_enabled)
    try:
        with deterministic_kernels(torch.device("cuda")):
            assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled() == was_enabled
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def test_memory_that_is_taken_of_a_gpu_is_what_the_allocator_reserved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 10)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 12)

    assert peak_bytes(torch.device("cuda")) == 12


class _ChangedFactory(StudentFactory):
    """A student factory with the images of another one, whose students a test changes."""

    def __init__(self, factory: StudentFactory, change: Callable[[Runner], None]) -> None:
        run_dir = Path(
            factory.config(parse_spec(make_distilled_spec(factory.dataset.root))).work_dir
        )
        super().__init__(dataset=factory.dataset, run_dir=run_dir, device=factory.device)
        self._change = change

    def runner(self, spec: RunSpec) -> Runner:
        runner = super().runner(spec)
        self._change(runner)
        return runner


@dataclass(frozen=True)
class _Step:
    """The batch of a step, and whether it measured loss shares."""

    shape: tuple[int, ...]
    measures_shares: bool


def record_steps(runner: Runner, steps: list[_Step]) -> None:
    step = runner.train_step.step

    def load_and_record(micro_batches: Any, *, number: int) -> dict[str, Any]:
        for part in micro_batches:
            steps.append(
                _Step(tuple(part["img"].shape), measures_shares=runner.model.loss_shares.is_due)
            )
        return step(micro_batches, number=number)

    runner.train_step.step = load_and_record  # type: ignore[method-assign]


def add_noise(runner: Runner) -> None:
    """Add noise, like kernels that sum in the order of their threads."""
    for parameter in runner.model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(
                lambda gradient: gradient * (1.0 + 1e-6 * torch.rand((), generator=_noise))
            )


_noise = torch.Generator().manual_seed(0)
"""A seed that differs from that of a step."""
