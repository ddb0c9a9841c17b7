"""Images without labels, which are loaded together with the labeled ones of a step.

Which images a step gets follows from the seed and its number over all epochs; how an image is
augmented follows from the seed, the pass over the dataset and the image. A pass ends at any step,
so it is no epoch of the labeled images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from workers.data.batches import HostBatch
from workers.data.sampling import BatchShard, GroupedBatchSampler, SeededDataset

UNLABELLED = "unlabelled"
"""Key of a micro-batch: the images without labels, as a batch of their own."""

_STREAM = 0x756E6C62
"""Separates the draws of these images from those of the labeled ones."""


@dataclass(frozen=True)
class UnlabelledKey:
    """An image of a pass over the dataset; both are counted from 0."""

    cycle: int
    index: int


@dataclass(frozen=True)
class UnlabelledSample:
    """The output of a pipeline for an image without labels."""

    sample: Any


class UnlabelledBatches:
    """Batches of one orientation, pass after pass over the dataset, without an end."""

    def __init__(
        self, orientations: np.ndarray, *, batch_size: int, seed: int, shard: BatchShard
    ) -> None:
        self._sampler = GroupedBatchSampler(
            orientations, batch_size=batch_size, seed=derive_seed(seed), shard=shard
        )

    def iter_from(self, step: int) -> Iterator[list[UnlabelledKey]]:
        """This process's micro-batches from a step on, counted from 0 over all epochs."""
        cycle, position = divmod(step, self._sampler.steps_per_epoch)
        while True:
            self._sampler.set_position(cycle, step=position)
            for indices in self._sampler:
                yield [UnlabelledKey(cycle, index) for index in indices]
            cycle, position = cycle + 1, 0


class MixedBatchSampler(Sampler[list[Any]]):
    """Micro-batches of labeled images, each with images without labels at its end."""

    def __init__(self, labeled: GroupedBatchSampler, unlabelled: UnlabelledBatches) -> None:
        self._labeled = labeled
        self._unlabelled = unlabelled
        self._step = 0
        self.shard = labeled.shard
        self.steps_per_epoch = labeled.steps_per_epoch

    def __len__(self) -> int:
        return len(self._labeled)

    def __iter__(self) -> Iterator[list[Any]]:
        unlabelled = self._unlabelled.iter_from(self._step)
        for indices, keys in zip(self._labeled, unlabelled, strict=False):
            yield [*indices, *keys]

    def set_position(self, epoch: int, *, step: int) -> None:
        """Set the epoch and its step that the next iteration starts with, counted from 0."""
        self._labeled.set_position(epoch, step=step)
        self._step = epoch * self.steps_per_epoch + step


class MixedDataset(Dataset[Any]):
    """Labeled images by their index, and images without labels by an `UnlabelledKey`."""

    def __init__(self, labeled: SeededDataset, unlabelled: Any, *, seed: int) -> None:
        """`unlabelled` is an mmdet dataset."""
        self.labeled = labeled
        self.unlabelled = unlabelled
        self._seeded = SeededDataset(unlabelled, seed=derive_seed(seed))

    def __len__(self) -> int:
        return len(self.labeled)

    def __getitem__(self, key: int | UnlabelledKey) -> Any:
        if isinstance(key, UnlabelledKey):
            return UnlabelledSample(self._seeded.load(key.index, epoch=key.cycle))
        return self.labeled[key]

    @property
    def dataset(self) -> Any:
        """The mmdet dataset of the labeled images."""
        return self.labeled.dataset

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentations of the labeled images follow from."""
        self.labeled.set_epoch(epoch)


def collate_mixed(samples: Sequence[Any]) -> HostBatch:
    """A batch of the labeled samples; the others are a batch below the key `UNLABELLED`."""
    unlabelled = [item.sample for item in samples if isinstance(item, UnlabelledSample)]
    labeled = [item for item in samples if not isinstance(item, UnlabelledSample)]
    batch = HostBatch.from_samples(labeled)
    batch[UNLABELLED] = dict(HostBatch.from_samples(unlabelled))
    return batch


def derive_seed(seed: int) -> int:
    """The seed of images without labels in a run with this seed."""
    return int(np.random.SeedSequence((seed, _STREAM)).generate_state(1)[0])
