"""This process among those that train together: which one it is, and how they agree."""

from typing import Any

import torch
from mmcv.parallel import MMDistributedDataParallel
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

_MOST_NUMBERS = 63
"""How many numbers `all_reduce_mean` exchanges at most."""


def get_rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if _is_group() else 0


def get_world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _is_group() else 1


def is_main_process() -> bool:
    """Whether this process reports, evaluates and writes for all."""
    return get_rank() == 0


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum of the processes' values; all of them must ask."""
    if get_world_size() == 1:
        return value
    whole = value.detach().clone()
    distributed.all_reduce(whole)
    return whole


def all_reduce_sum_scalar(value: float, *, device: torch.device) -> float:
    """The sum of the processes' numbers, rounded to fp32; all of them must ask.

    `device` is where the processes exchange it; a single process computes nothing there.
    """
    exchanged_on = device if get_world_size() > 1 else torch.device("cpu")
    return float(all_reduce_sum(torch.tensor(value, dtype=torch.float32, device=exchanged_on)))


def all_reduce_mean(values: Tensor) -> list[float]:
    """The processes' means of some numbers, (N,); all of them must ask, for equally many.

    Raises `AssertionError` where one asks for another number of them. What is exchanged has always
    one size: exchanges of several sizes would wait for each other.
    """
    if get_world_size() == 1:
        return values.tolist()
    assert len(values) <= _MOST_NUMBERS, f"{len(values)} numbers, {_MOST_NUMBERS} at most"
    length = values.new_full((1,), float(len(values)))
    unused = values.new_zeros(_MOST_NUMBERS - len(values))
    exchanged = torch.cat([length, values / get_world_size(), unused])
    distributed.all_reduce(exchanged)
    numbers, *means = exchanged.tolist()
    assert numbers == len(values) * get_world_size(), (
        "processes have different numbers of loss terms"
    )
    return means[: len(values)]


def all_reduce_max(value: int, *, device: torch.device) -> int:
    """The largest of the processes' values; all of them must ask."""
    if get_world_size() == 1:
        return value
    agreed = torch.tensor(value, device=device)
    distributed.all_reduce(agreed, op=distributed.ReduceOp.MAX)
    return int(agreed)


def broadcast_object(value: Any) -> Any:
    """The first process's value; all of them must ask."""
    if get_world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def all_gather_object(value: Any) -> list[Any]:
    """Every process's value, in all of them."""
    if get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * get_world_size()
    distributed.all_gather_object(values, value)
    return values


def gather_object(value: Any) -> list[Any] | None:
    """Every process's value in the first one, none in the others; all of them must ask."""
    if get_world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * get_world_size() if is_main_process() else None
    distributed.gather_object(value, values, dst=0)
    return values


def wrap_ddp(model: nn.Module) -> nn.Module:
    """The model with gradients averaged over the processes; itself where there is one process.

    Running statistics are the first process's where a norm is trained; frozen ones, the usual case
    in detectors, are equal anyway and are not sent at each step.
    """
    if get_world_size() == 1:
        return model
    buffers = _trains_statistics(model)
    return MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=buffers)


def _trains_statistics(model: nn.Module) -> bool:
    """Whether a batch norm of the model updates its running statistics in training mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()  # detectors keep frozen norms in evaluation mode
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    answer = any(norm.training and norm.track_running_stats for norm in norms)
    for module, mode in modes:
        module.training = mode
    return answer


def unwrap_ddp(model: nn.Module) -> Any:
    """The detector inside of what `wrap_ddp` made."""
    return model.module if isinstance(model, MMDistributedDataParallel) else model


def _is_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
