"""The largest batch of a run, which the memory is measured with."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmcv.image import rescale_size
from torch.nn import functional

from configs.spec.data import Data
from configs.spec.run import RunSpec
from workers.data.batches import Batch
from workers.data.unlabelled import UNLABELLED
from workers.probe.builder import StudentFactory


def largest_batch(factory: StudentFactory, spec: RunSpec) -> list[Batch]:
    """The first batch, zero-padded to the largest shape in training, as micro-batches.

    It has the labels of the first batch; images without labels have a largest shape of their own.
    """
    loader: Any = factory.loader(spec)
    divisor = _pad_divisor(factory, spec)
    edges = largest_edges(loader.dataset.dataset, spec.data, divisor=divisor)
    batch = [_pad_batch(micro_batch, *edges) for micro_batch in factory.batch(spec)]
    if spec.data.unlabelled is None:
        return batch
    edges = largest_edges(loader.dataset.unlabelled, spec.data, divisor=divisor)
    return [
        {**micro_batch, UNLABELLED: _pad_batch(micro_batch[UNLABELLED], *edges)}
        for micro_batch in batch
    ]


def largest_edges(dataset: Any, data: Data, *, divisor: int) -> tuple[int, int]:
    """Longest and shortest edge, in pixels, of the largest batch of an mmdet dataset.

    All images of a batch have the same orientation; it is padded to the highest and the widest.
    """
    sizes_N2 = np.array(list(_iter_padded_sizes(dataset, data, divisor=divisor)))
    orientations = np.asarray(dataset.flag)
    by_orientation = [
        sizes_N2[orientations == orientation].max(axis=0) for orientation in np.unique(orientations)
    ]
    largest = max(by_orientation, key=np.prod)
    return int(largest.max()), int(largest.min())


def _iter_padded_sizes(dataset: Any, data: Data, *, divisor: int) -> Iterator[tuple[int, int]]:
    """Width and height of every image at its largest scale, rounded up to `divisor`."""
    longest, shortest = data.image_size
    shortest_edges = data.multi_scale or (shortest,)
    scales = [(longest, edge) for edge in shortest_edges]
    # mmdet takes the ends of a range of scales in the same way.
    largest_scale = (max(map(max, scales)), max(map(min, scales)))
    for info in dataset.data_infos:
        width, height = rescale_size((info["width"], info["height"]), largest_scale)
        yield _round_up(width, multiple=divisor), _round_up(height, multiple=divisor)


def _round_up(edge: int, *, multiple: int) -> int:
    """Round up to a multiple."""
    return -(-edge // multiple) * multiple


def _pad_divisor(factory: StudentFactory, spec: RunSpec) -> int:
    pipeline = factory.config(spec).data.train.pipeline
    return next(int(step.size_divisor) for step in pipeline if step.type == "Pad")


def _pad_batch(micro_batch: Batch, longest: int, shortest: int) -> Batch:
    """Pad to these edges, in the orientation of the images."""
    height, width = micro_batch["img"].shape[-2:]
    target = (shortest, longest) if width > height else (longest, shortest)
    pad_right, pad_bottom = max(0, target[1] - width), max(0, target[0] - height)
    images_B3HW = functional.pad(micro_batch["img"], (0, pad_right, 0, pad_bottom))
    shape = (*images_B3HW.shape[-2:], images_B3HW.shape[1])
    metas = [{**meta, "img_shape": shape, "pad_shape": shape} for meta in micro_batch["img_metas"]]
    return {**micro_batch, "img": images_B3HW, "img_metas": metas}
