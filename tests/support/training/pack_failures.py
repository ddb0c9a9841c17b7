"""Failures of pack members, for tests and for the processes that they start."""

import torch

from workers.training.runner import Runner


def sticky() -> Exception:
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    vars(error)["error_code"] = 700  # as torch does
    return error


def rate_of(runner: Runner) -> float:
    return float(runner.optimizer.param_groups[0]["initial_lr"])
