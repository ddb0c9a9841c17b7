"""The learning rate of every step of a schedule, without training."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import mmcv
from mmcv import Config
from mmcv.runner import HOOKS


@dataclass
class _OptimizerStub:
    """The part of an optimizer that mmcv's learning rate hooks write to."""

    param_groups: list[dict[str, float]]


@dataclass
class _RunnerStub:
    """The part of a runner that mmcv's learning rate hooks read."""

    optimizer: _OptimizerStub
    max_epochs: int
    max_iters: int
    epoch: int = 0
    iter: int = 0
    data_loader: tuple[()] = field(default=())


def learning_rates(config: Config, *, steps_per_epoch: int) -> Iterator[float]:
    """Yield the learning rate of each step of the schedule.

    All parameters have the same one, so a single parameter group represents them.
    """
    epochs = config.runner.max_epochs
    optimizer = _OptimizerStub([{"lr": config.optimizer.lr}])
    runner = _RunnerStub(optimizer, max_epochs=epochs, max_iters=epochs * steps_per_epoch)
    hook = _build_lr_hook(config)
    hook.before_run(runner)
    for step in range(runner.max_iters):
        runner.epoch, runner.iter = step // steps_per_epoch, step
        if step % steps_per_epoch == 0:
            hook.before_train_epoch(runner)
        hook.before_train_iter(runner)
        yield optimizer.param_groups[0]["lr"]


def _build_lr_hook(config: Config) -> Any:
    """Build the hook of the policy as mmcv's runner does."""
    policy = dict(config.lr_config)
    name = policy.pop("policy")
    if name == name.lower():
        name = name.title()
    return mmcv.build_from_cfg({**policy, "type": f"{name}LrUpdaterHook"}, HOOKS)
