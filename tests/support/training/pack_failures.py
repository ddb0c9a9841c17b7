"""Failures of pack members, for tests and for the processes that they start."""

import torch

from workers.training.runner import Runner


def make_sticky_error() -> Exception:
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    vars(error)["error_code"] = 700  # as torch does
    return error


def get_learning_rate(runner: Runner) -> float:
    return float(runner.optimizer.param_groups[0]["initial_lr"])
