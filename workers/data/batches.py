"""Batches of images: collated in host memory, then copied to a device.

mmcv's `scatter` is not used: it does not run on a GPU with torch 2.1 or later, and torch cannot pin
the tensors inside of mmcv's `DataContainer`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Self, TypeVar

import torch
from mmcv.parallel import DataContainer, collate
from torch import Tensor

ItemT = TypeVar("ItemT")
PendingT = TypeVar("PendingT")
ResultT = TypeVar("ResultT")

Batch = dict[str, Any]
"""Keyword arguments of an mmdet model, with tensors on the model's device."""


class HostBatch(dict[str, Any]):
    """A collated batch in host memory, without mmcv's containers."""

    @classmethod
    def from_samples(cls, samples: Sequence[Any]) -> Self:
        """Collate the samples of an mmdet pipeline; images are padded to the largest one."""
        return cls(_unwrap_containers(collate(list(samples), samples_per_gpu=len(samples))))

    def pin_memory(self) -> Self:
        """A copy in page-locked memory; `DataLoader` calls this if it has `pin_memory`."""
        return type(self)(_map_tensors(dict(self), Tensor.pin_memory))

    @property
    def num_bytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(tensor.nbytes for tensor in _iter_tensors(self))


def to_device(batch: HostBatch, device: torch.device) -> Batch:
    """Copy the batch's tensors to `device`; copies from pinned memory do not block.

    A tensor that is on the device already stays the same object.
    """
    on_device: Batch = _map_tensors(
        dict(batch), lambda tensor: tensor.to(device, non_blocking=True)
    )
    return on_device


def prefetch_to_device(
    batches: Iterable[list[HostBatch]], device: torch.device
) -> Iterator[list[Batch]]:
    """Copy batches (lists of micro-batches) to `device`; on a GPU, one batch ahead."""
    if device.type == "cuda":
        stream = torch.cuda.Stream(device)
        yield from prefetch(
            batches, start=partial(_start_copy, stream, device), finish=_wait_for_copy
        )
        return
    for micro_batches in batches:
        yield [to_device(micro_batch, device) for micro_batch in micro_batches]


def prefetch(
    items: Iterable[ItemT],
    *,
    start: Callable[[ItemT], PendingT],
    finish: Callable[[PendingT], ResultT],
) -> Iterator[ResultT]:
    """Yield `finish(start(item))` for each item, with `start` called one item ahead.

    An item for which there is no GPU memory yet is started after its predecessor was consumed.
    """
    pending: deque[PendingT] = deque()
    for item in items:
        ahead = _try_start(item, start) if pending else start(item)
        if pending:
            yield finish(pending.popleft())  # no reference to it may stay in this frame
        pending.append(start(item) if ahead is None else ahead)
        del ahead
    while pending:
        yield finish(pending.popleft())


def _try_start(item: ItemT, start: Callable[[ItemT], PendingT]) -> PendingT | None:
    """The started item; None if there is not enough GPU memory."""
    try:
        return start(item)
    except torch.OutOfMemoryError:
        return None


_Copy = tuple[list[Batch], torch.cuda.Event]
"""Micro-batches on a GPU, and the event that is recorded after their copy."""


def _start_copy(
    stream: torch.cuda.Stream, device: torch.device, micro_batches: list[HostBatch]
) -> _Copy:
    with torch.cuda.stream(stream):
        copies = [to_device(micro_batch, device) for micro_batch in micro_batches]
        return copies, stream.record_event()


def _wait_for_copy(copy: _Copy) -> list[Batch]:
    """Make the current stream wait for the copy, and the allocator wait for the current stream."""
    micro_batches, is_copied = copy
    stream = torch.cuda.current_stream()
    stream.wait_event(is_copied)
    for micro_batch in micro_batches:
        for tensor in _iter_tensors(micro_batch):
            tensor.record_stream(stream)
    return micro_batches


def _unwrap_containers(value: Any) -> Any:
    """Replace each `DataContainer` by its only chunk; a single batch has one."""
    if isinstance(value, DataContainer):
        (chunk,) = value.data
        return _unwrap_containers(chunk)
    if isinstance(value, dict):
        return {key: _unwrap_containers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unwrap_containers(item) for item in value]
    return value


def _map_tensors(value: Any, change: Any) -> Any:
    """Apply `change` to each tensor in nested dicts and lists."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_tensors(item, change) for item in value]
    return value


def _iter_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _iter_tensors(item)
    elif isinstance(value, list):
        for item in value:
            yield from _iter_tensors(item)
