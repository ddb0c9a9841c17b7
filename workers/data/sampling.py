"""Which images a step gets and how they are augmented: both follow from seed, epoch and image.

Two runs of the same seed and data see the same batches, so they differ by their method alone. A
resumed run, with as many processes or fewer, sees the batches that it would have seen.
"""

import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from workers.data.mixing import ImageMixer


@dataclass(frozen=True)
class BatchShard:
    """Which images of a batch one process loads: its own `num_micro_batches` micro-batches."""

    rank: int = 0
    world_size: int = 1
    num_micro_batches: int = 1

    def split(self, batch: np.ndarray) -> Iterator[list[int]]:
        """This process's micro-batches of a batch of image indices."""
        chunks = np.split(batch, self.world_size * self.num_micro_batches)
        for micro_batch in range(self.num_micro_batches):
            yield [int(index) for index in chunks[micro_batch * self.world_size + self.rank]]


class SeededDataset(Dataset[Any]):
    """An mmdet dataset whose augmentation of an image follows from (seed, epoch, image).

    So does the `seed` in the metas of an image, for what a method draws.
    """

    def __init__(self, dataset: Any, *, seed: int, mixer: ImageMixer | None = None) -> None:
        """`mixer` loads the images of epochs with mosaic or mixup; None for a run without them."""
        self.dataset = dataset
        self._seed = seed
        self._mixer = mixer
        # In shared memory: persistent loader workers outlive an epoch.
        self._epoch = multiprocessing.RawValue("q", 0)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.load(index, epoch=int(self._epoch.value))

    def load(self, index: int, *, epoch: int) -> Any:
        """The image as augmented in an epoch, whichever epoch is set."""
        sequence = np.random.SeedSequence((self._seed, epoch, index))
        random_state, image_seed = sequence.generate_state(2)
        random.seed(int(random_state))
        np.random.seed(random_state)
        sample = self._load(index, epoch=epoch, sequence=sequence)
        sample["img_metas"].data["seed"] = int(image_seed)
        return sample

    def _load(self, index: int, *, epoch: int, sequence: np.random.SeedSequence) -> Any:
        if self._mixer is None or not self._mixer.is_active(epoch):
            return self.dataset[index]
        return self._mixer.load(index, epoch=epoch, random_state=np.random.default_rng(sequence))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, that augmentations follow from."""
        self._epoch.value = epoch


class GroupedBatchSampler(Sampler[list[int]]):
    """Shuffles all images by (seed, epoch) into batches of one orientation, and can resume.

    Batches of one orientation need less padding. As in mmdet's GroupSampler, an incomplete batch is
    filled up with images of its own group. Each item is one micro-batch of this process.
    """

    def __init__(
        self, orientations: np.ndarray, *, batch_size: int, seed: int, shard: BatchShard
    ) -> None:
        self._orientations = orientations
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0
        self._first_step = 0
        self.shard = shard
        counts = np.bincount(orientations)
        self.steps_per_epoch = int(sum(-(-count // batch_size) for count in counts))

    def __len__(self) -> int:
        return (self.steps_per_epoch - self._first_step) * self.shard.num_micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._shuffle_batches()[self._first_step :]:
            yield from self.shard.split(batch)

    def set_position(self, epoch: int, *, step: int) -> None:
        """Set the epoch and the step that the next iteration starts with, both counted from 0."""
        self._epoch = epoch
        self._first_step = step

    def _shuffle_batches(self) -> list[np.ndarray]:
        random_state = np.random.default_rng((self._seed, self._epoch))
        batches = [
            batch
            for orientation in np.unique(self._orientations)
            for batch in self._group_batches(orientation, random_state)
        ]
        return [batches[position] for position in random_state.permutation(len(batches))]

    def _group_batches(
        self, orientation: int, random_state: np.random.Generator
    ) -> list[np.ndarray]:
        images = random_state.permutation(np.flatnonzero(self._orientations == orientation))
        full_length = -(-len(images) // self._batch_size) * self._batch_size
        return list(np.resize(images, full_length).reshape(-1, self._batch_size))
