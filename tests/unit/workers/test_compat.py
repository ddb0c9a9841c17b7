"""The two libraries run on today's torch and numpy."""

import numpy as np
import torch
from mmcv.ops import nms
from mmcv.parallel import MMDistributedDataParallel

from workers import compat


def test_the_fixes_are_harmless_when_repeated() -> None:
    compat.apply()
    compat.apply()

    assert vars(np)["int"] is int
    assert vars(np)["float"] is float
    assert MMDistributedDataParallel._use_replicated_tensor_module is False


def test_the_compiled_operators_run() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])

    _, kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)

    assert kept.tolist() == [0, 2]
