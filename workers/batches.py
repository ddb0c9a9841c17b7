"""Batches of images on their way: samples, one batch in host memory, the same batch on a device.

mmcv's own way (`collate`, then `scatter`) ends on a CPU: its scatter does not run on a GPU with
torch 2.1 or later, and torch cannot pin what is inside of mmcv's containers.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from mmcv.parallel import DataContainer, collate
from torch import Tensor

Batch = dict[str, Any]
"""Keyword arguments of an mmdet model, its tensors on the model's device."""


class HostBatch(dict[str, Any]):
    """A batch in host memory, as a loader gives it, without mmcv's containers."""

    @classmethod
    def from_samples(cls, samples: Sequence[Any]) -> Self:
        """Samples of an mmdet pipeline as one batch, images padded to the largest."""
        return cls(_without_containers(collate(list(samples), samples_per_gpu=len(samples))))

    def pin_memory(self) -> Self:
        """A copy in page-locked memory, from which a GPU copies by itself; torch's loader asks."""
        return type(self)(_with_tensors(dict(self), Tensor.pin_memory))

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in _tensors(self))


def place(batch: HostBatch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; copies from pinned memory do not block.

    A tensor that is on the device already stays the same object.
    """
    placed: Batch = _with_tensors(dict(batch), lambda tensor: tensor.to(device, non_blocking=True))
    return placed


def place_ahead(batches: Iterable[list[HostBatch]], device: torch.device) -> Iterator[list[Batch]]:
    """Each batch (a list of parts) on `device`; on a GPU the next one is copied meanwhile."""
    if device.type != "cuda":
        for parts in batches:
            yield [place(part, device) for part in parts]
        return
    stream = torch.cuda.Stream(device)
    ahead: tuple[list[Batch], torch.cuda.Event] | None = None
    for parts in batches:
        with torch.cuda.stream(stream):
            copied = [place(part, device) for part in parts], stream.record_event()
        if ahead is not None:
            yield _arrived(*ahead)
        ahead = copied
        del copied
    if ahead is not None:
        yield _arrived(*ahead)


def _arrived(parts: list[Batch], is_copied: torch.cuda.Event) -> list[Batch]:
    """Make the current stream wait for the copy, and the allocator wait for the current stream."""
    stream = torch.cuda.current_stream()
    stream.wait_event(is_copied)
    for part in parts:
        for tensor in _tensors(part):
            tensor.record_stream(stream)
    return parts


def _without_containers(value: Any) -> Any:
    """The value with each container replaced by its only chunk: one batch has one."""
    if isinstance(value, DataContainer):
        (chunk,) = value.data
        return _without_containers(chunk)
    if isinstance(value, dict):
        return {key: _without_containers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_containers(item) for item in value]
    return value


def _with_tensors(value: Any, change: Any) -> Any:
    """The value with `change` applied to each tensor in its dicts and lists."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _with_tensors(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_tensors(item, change) for item in value]
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list):
        for item in value:
            yield from _tensors(item)
