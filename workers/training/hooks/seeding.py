"""Every step begins from random states that follow from seed, step and process."""

import random
from typing import Any

import numpy as np
import torch
from mmcv.runner import Hook

from workers import distributed


class StepSeedHook(Hook):
    """Makes a step the same whether or not the run was interrupted before it."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed

    def before_train_iter(self, runner: Any) -> None:
        """Seed the generators; the step's images are loaded, with generators of their own."""
        seed_everything(self._seed, runner.iter, distributed.get_rank())


def seed_everything(*seeds: int) -> None:
    """Set the generators of Python, numpy and torch (all devices)."""
    first, second, third = np.random.SeedSequence(seeds).generate_state(3)
    random.seed(int(first))
    np.random.seed(second)
    torch.manual_seed(int(third))
