"""Batches of images on their way: samples, one batch in host memory, the same batch on a device.

mmcv's own way (`collate`, then `scatter`) ends on a CPU: its scatter does not run on a GPU with
torch 2.1 or later, and torch cannot pin what is inside of mmcv's containers.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Self, TypeVar

import torch
from mmcv.parallel import DataContainer, collate
from torch import Tensor

Source = TypeVar("Source")
Begun = TypeVar("Begun")
Done = TypeVar("Done")

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


def to_device(batch: HostBatch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; copies from pinned memory do not block.

    A tensor that is on the device already stays the same object.
    """
    placed: Batch = _with_tensors(dict(batch), lambda tensor: tensor.to(device, non_blocking=True))
    return placed


def prefetch_to_device(
    batches: Iterable[list[HostBatch]], device: torch.device
) -> Iterator[list[Batch]]:
    """Each batch (a list of parts) on `device`; on a GPU the next one is copied meanwhile."""
    if device.type == "cuda":
        stream = torch.cuda.Stream(device)
        yield from prefetch(batches, start=partial(_begin_copy, stream, device), finish=_arrived)
        return
    for parts in batches:
        yield [to_device(part, device) for part in parts]


def prefetch(
    sources: Iterable[Source],
    *,
    start: Callable[[Source], Begun],
    finish: Callable[[Begun], Done],
) -> Iterator[Done]:
    """What `finish` makes of each source, while the next one has begun already.

    One that finds no GPU memory beside another begins when the other is done with.
    """
    begun: deque[Begun] = deque()
    for source in sources:
        following = _begun_if_it_fits(source, start) if begun else start(source)
        if begun:
            yield finish(begun.popleft())  # and keep nothing of it
        begun.append(start(source) if following is None else following)
        del following
    while begun:
        yield finish(begun.popleft())


def _begun_if_it_fits(source: Source, begin: Callable[[Source], Begun]) -> Begun | None:
    try:
        return begin(source)
    except torch.OutOfMemoryError:
        return None


_Copy = tuple[list[Batch], torch.cuda.Event]
"""Parts on a GPU, and the event after which their values are there."""


def _begin_copy(stream: torch.cuda.Stream, device: torch.device, parts: list[HostBatch]) -> _Copy:
    with torch.cuda.stream(stream):
        return [to_device(part, device) for part in parts], stream.record_event()


def _arrived(copy: _Copy) -> list[Batch]:
    """Make the current stream wait for the copy, and the allocator wait for the current stream."""
    parts, is_copied = copy
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
