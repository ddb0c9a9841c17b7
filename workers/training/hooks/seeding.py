"""Seeds the random generators before every step from seed, step and rank."""

import random
from typing import Any

import numpy as np
import torch
from mmcv.runner import Hook

from workers import distributed


class StepSeedHook(Hook):
    """Makes the random numbers of a step independent of the steps and attempts before it."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed

    def before_train_iter(self, runner: Any) -> None:
        """Seed the generators; `SeededDataset` seeds those of image augmentation."""
        seed_all(self._seed, runner.iter, distributed.get_rank())


def seed_all(*seeds: int) -> None:
    """Seed the generators of Python, numpy and torch (all devices)."""
    python_seed, numpy_seed, torch_seed = np.random.SeedSequence(seeds).generate_state(3)
    random.seed(int(python_seed))
    np.random.seed(numpy_seed)
    torch.manual_seed(int(torch_seed))
