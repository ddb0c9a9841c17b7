"""The largest batch that a run may train on: memory is measured with that, not with the first."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmcv.image import rescale_size
from torch.nn import functional

from configs.spec.run import Data, RunSpec
from workers.data.batches import Batch
from workers.probe.builder import StudentFactory


def largest_batch(factory: StudentFactory, spec: RunSpec) -> list[Batch]:
    """The parts of the first batch, padded with zeros to the largest shape that training will see.

    The labels are the first batch's.
    """
    loader: Any = factory.loader(spec)
    longest, shortest = largest_edges(
        loader.dataset.dataset, spec.data, divisor=_pad_divisor(factory, spec)
    )
    return [_padded(part, longest=longest, shortest=shortest) for part in factory.batch(spec)]


def largest_edges(dataset: Any, data: Data, *, divisor: int) -> tuple[int, int]:
    """Longest and shortest edge, in pixels, of the largest batch of an mmdet dataset's images.

    A batch has images of one orientation, and is padded to the highest and the widest of them.
    """
    sizes_N2 = np.array(list(_padded_sizes(dataset, data, divisor=divisor)))
    orientations = np.asarray(dataset.flag)
    by_orientation = [
        sizes_N2[orientations == orientation].max(axis=0) for orientation in np.unique(orientations)
    ]
    largest = max(by_orientation, key=np.prod)
    return int(largest.max()), int(largest.min())


def _padded_sizes(dataset: Any, data: Data, *, divisor: int) -> Iterator[tuple[int, int]]:
    """Width and height of every image at its largest, a multiple of `divisor`."""
    longest, shortest = data.image_size
    shortest_edges = data.multi_scale or (shortest,)
    scales = [(longest, edge) for edge in shortest_edges]
    # As mmdet reads the two ends of a range.
    largest_scale = (max(map(max, scales)), max(map(min, scales)))
    for info in dataset.data_infos:
        width, height = rescale_size((info["width"], info["height"]), largest_scale)
        yield _multiple(width, of=divisor), _multiple(height, of=divisor)


def _multiple(edge: int, *, of: int) -> int:
    """The next one, upwards."""
    return -(-edge // of) * of


def _pad_divisor(factory: StudentFactory, spec: RunSpec) -> int:
    pipeline = factory.config(spec).data.train.pipeline
    return next(int(step.size_divisor) for step in pipeline if step.type == "Pad")


def _padded(part: Batch, *, longest: int, shortest: int) -> Batch:
    """As if its images filled a batch with these edges, which lies as the images do."""
    height, width = part["img"].shape[-2:]
    wanted = (shortest, longest) if width > height else (longest, shortest)
    pad_right, pad_bottom = max(0, wanted[1] - width), max(0, wanted[0] - height)
    images_B3HW = functional.pad(part["img"], (0, pad_right, 0, pad_bottom))
    shape = (*images_B3HW.shape[-2:], images_B3HW.shape[1])
    metas = [{**meta, "img_shape": shape, "pad_shape": shape} for meta in part["img_metas"]]
    return {**part, "img": images_B3HW, "img_metas": metas}
