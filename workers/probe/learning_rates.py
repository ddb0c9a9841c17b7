"""The learning rate of every step of a schedule, without training."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import mmcv
from mmcv import Config
from mmcv.runner import HOOKS


@dataclass
class _Rates:
    """An optimizer's learning rate, as mmcv sets it."""

    param_groups: list[dict[str, float]]


@dataclass
class _Course:
    """As much of a runner as mmcv's hook of the learning rate looks at."""

    optimizer: _Rates
    max_epochs: int
    max_iters: int
    epoch: int = 0
    iter: int = 0
    data_loader: tuple[()] = field(default=())


def learning_rates(config: Config, *, steps_per_epoch: int) -> Iterator[float]:
    """Of each step in turn, from the first to the last of the last epoch.

    All of our parameters have the same one, so a single group stands for them.
    """
    epochs = config.runner.max_epochs
    rates = _Rates([{"lr": config.optimizer.lr}])
    course = _Course(rates, max_epochs=epochs, max_iters=epochs * steps_per_epoch)
    hook = _hook_of(config)
    hook.before_run(course)
    for step in range(course.max_iters):
        course.epoch, course.iter = step // steps_per_epoch, step
        if step % steps_per_epoch == 0:
            hook.before_train_epoch(course)
        hook.before_train_iter(course)
        yield rates.param_groups[0]["lr"]


def _hook_of(config: Config) -> Any:
    """As mmcv's runner finds it by the policy's name."""
    policy = dict(config.lr_config)
    name = policy.pop("policy")
    if name == name.lower():
        name = name.title()
    return mmcv.build_from_cfg({**policy, "type": f"{name}LrUpdaterHook"}, HOOKS)
