"""Every epoch begins from random states that follow from seed and epoch."""

import random
from typing import Any

import numpy as np
import torch
from mmcv.runner import Hook


class OrderHook(Hook):
    """Makes an epoch the same whether or not the process was restarted before it."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed

    def before_train_epoch(self, runner: Any) -> None:
        """Seed the generators and tell the loader which epoch it is."""
        seed_everything(self._seed, epoch=runner.epoch)
        runner.data_loader.sampler.set_epoch(runner.epoch)
        runner.data_loader.dataset.set_epoch(runner.epoch)


def seed_everything(seed: int, *, epoch: int) -> None:
    """Set the generators of Python, numpy and torch (all devices) from (seed, epoch)."""
    first, second, third = np.random.SeedSequence((seed, epoch)).generate_state(3)
    random.seed(int(first))
    np.random.seed(second)
    torch.manual_seed(int(third))
