"""Rank, world size and collectives of the training processes; no-ops in a single process.

All processes have to call a collective. Names are those of torch.distributed and detectron2.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.parallel import MMDistributedDataParallel
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

_MAX_MEANS = 63
"""The most numbers that one call of `all_reduce_mean` exchanges."""


def get_rank() -> int:
    """0 in a single process."""
    return distributed.get_rank() if _has_process_group() else 0


def get_world_size() -> int:
    """Number of training processes; 1 without a process group."""
    return distributed.get_world_size() if _has_process_group() else 1


def is_main_process() -> bool:
    """Whether this is rank 0, which reports, and writes files for all."""
    return get_rank() == 0


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum over all processes, without a gradient where there are several."""
    if get_world_size() == 1:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total


def all_reduce_sum_scalar(value: float, *, device: torch.device) -> float:
    """The sum over all processes, rounded to fp32.

    `device` is that of the collective; a single process does not use it.
    """
    tensor_device = device if get_world_size() > 1 else torch.device("cpu")
    return float(all_reduce_sum(torch.tensor(value, dtype=torch.float32, device=tensor_device)))


def all_reduce_counts(counts: Sequence[int], *, device: torch.device) -> list[int]:
    """The sums over all processes of N counts, of which all processes have as many.

    `device` is that of the collective; a single process does not use it.
    """
    if get_world_size() == 1:
        return list(counts)
    totals: list[int] = all_reduce_sum(torch.tensor(counts, device=device)).tolist()
    return totals


def all_reduce_mean(values: Tensor) -> list[float]:
    """Means over all processes of N values, (N,).

    Raises `AssertionError` if the processes pass different N. The tensor that is exchanged has a
    fixed size, because a collective with different sizes would hang.
    """
    if get_world_size() == 1:
        return values.tolist()
    assert len(values) <= _MAX_MEANS, f"{len(values)} numbers, {_MAX_MEANS} at most"
    length = values.new_full((1,), float(len(values)))
    unused = values.new_zeros(_MAX_MEANS - len(values))
    buffer = torch.cat([length, values / get_world_size(), unused])
    distributed.all_reduce(buffer)
    total_length, *means = buffer.tolist()
    assert total_length == len(values) * get_world_size(), (
        "processes have different numbers of loss terms"
    )
    return means[: len(values)]


def all_reduce_max(value: int, *, device: torch.device) -> int:
    """The maximum over all processes."""
    if get_world_size() == 1:
        return value
    maximum = torch.tensor(value, device=device)
    distributed.all_reduce(maximum, op=distributed.ReduceOp.MAX)
    return int(maximum)


def broadcast_object(value: Any) -> Any:
    """The value of rank 0; the other processes' values are ignored."""
    if get_world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Overwrite the tensors by those of rank 0, in place."""
    if get_world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, src=0)


def all_gather_object(value: Any) -> list[Any]:
    """The values of all processes, by rank."""
    if get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * get_world_size()
    distributed.all_gather_object(values, value)
    return values


def gather_object(value: Any) -> list[Any] | None:
    """The values of all processes, by rank, in rank 0; None in the others."""
    if get_world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * get_world_size() if is_main_process() else None
    distributed.gather_object(value, values, dst=0)
    return values


def wrap_ddp(model: nn.Module) -> nn.Module:
    """The model in DDP, or itself in a single process.

    Buffers are broadcast from rank 0 only if a batch norm updates its running statistics. Frozen
    ones, the usual case in detectors, are equal in all processes.
    """
    if get_world_size() == 1:
        return model
    buffers = _trains_statistics(model)
    return MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=buffers)


def _trains_statistics(model: nn.Module) -> bool:
    """Whether a batch norm updates its running statistics in training mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()  # detectors keep frozen norms in eval mode
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    updates_statistics = any(norm.training and norm.track_running_stats for norm in norms)
    for module, mode in modes:
        module.training = mode
    return updates_statistics


def unwrap_ddp(model: nn.Module) -> Any:
    """The model that was passed to `wrap_ddp`."""
    return model.module if isinstance(model, MMDistributedDataParallel) else model


def _has_process_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
