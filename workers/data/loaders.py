"""Data loaders whose batches depend on seed, epoch and image only.

Two runs of the same seed and data see the same batches, so they differ by their method alone. A
resumed run, with as many processes or fewer, sees the batches that it would have seen.
"""

import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmcv import ConfigDict
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from configs.spec.dataset import Split
from configs.spec.run import RunSpec
from workers import distributed
from workers.data.batches import HostBatch
from workers.data.datasets import open_dataset
from workers.data.mixing import ImageMixer
from workers.errors import DatasetError, InvalidSpec
from workers.process.children import make_worker_init_fn


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
    """An mmdet dataset whose augmentation of an image follows from (seed, epoch, image)."""

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
        epoch = int(self._epoch.value)
        sequence = np.random.SeedSequence((self._seed, epoch, index))
        random_state = sequence.generate_state(1)[0]
        random.seed(int(random_state))
        np.random.seed(random_state)
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


def batch_shard(spec: RunSpec) -> BatchShard:
    """This process's shard of every batch.

    With fewer processes than the spec names, each process runs more micro-batches, so that the
    batch size stays. Raises `InvalidSpec` if the micro-batches cannot be divided evenly.
    """
    num_micro_batches = spec.resources.processes * spec.compute.grad_accumulation_steps
    world_size = distributed.get_world_size()
    if num_micro_batches % world_size:
        raise InvalidSpec(
            f"{world_size} processes cannot evenly share a batch of {num_micro_batches} "
            "micro-batches (resources.processes times compute.grad_accumulation_steps)."
        )
    return BatchShard(
        rank=distributed.get_rank(),
        world_size=world_size,
        num_micro_batches=num_micro_batches // world_size,
    )


def build_training_loader(data: ConfigDict, *, spec: RunSpec) -> DataLoader[Any]:
    """This process's micro-batches; all processes together load `spec.data.batch_size` images.

    `data` is the section of mmdet's config with this name.
    """
    dataset = limit_images(open_dataset(data.train), spec.data.train_images)
    batch_sampler = GroupedBatchSampler(
        np.asarray(dataset.flag, dtype=np.int64),
        batch_size=spec.data.batch_size,
        seed=spec.seed,
        shard=batch_shard(spec),
    )
    return DataLoader(
        SeededDataset(dataset, seed=spec.seed, mixer=_build_mixer(dataset, spec)),
        batch_sampler=batch_sampler,
        num_workers=spec.data.num_workers,
        collate_fn=HostBatch.from_samples,
        worker_init_fn=make_worker_init_fn(),
        pin_memory=spec.resources.num_gpus > 0,
        persistent_workers=spec.data.num_workers > 0,
    )


def _build_mixer(dataset: Any, spec: RunSpec) -> ImageMixer | None:
    if spec.data.mosaic is None and spec.data.mixup is None:
        return None
    return ImageMixer(dataset, spec.data, epochs=spec.schedule.epochs)


def build_validation_loader(data: ConfigDict, *, spec: RunSpec) -> DataLoader[Any]:
    """This process's validation images; each image is loaded by exactly one process."""
    dataset = limit_images(open_dataset(data.val), spec.evaluation.val_images)
    indices = range(distributed.get_rank(), len(dataset), distributed.get_world_size())
    return DataLoader(
        Subset(dataset, indices) if distributed.get_world_size() > 1 else dataset,
        batch_size=spec.evaluation.batch_size,
        num_workers=spec.data.num_workers,
        collate_fn=HostBatch.from_samples,
        worker_init_fn=make_worker_init_fn(),
        pin_memory=spec.resources.num_gpus > 0,
    )


class CachedLoader:
    """A loader that keeps its batches in host memory if they fit into `max_bytes`."""

    def __init__(self, loader: DataLoader[Any], *, max_bytes: int) -> None:
        self.dataset = loader.dataset
        self._loader = loader
        self._free_bytes = max_bytes
        self._batches: list[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        if self._batches is not None:
            yield from self._batches
            return
        batches: list[Any] = []
        for batch in self._loader:
            yield batch
            self._free_bytes -= batch.num_bytes
            if self._free_bytes >= 0:
                batches.append(batch)
            else:
                batches.clear()
        if self._free_bytes >= 0:
            self._batches = batches

    def __len__(self) -> int:
        return len(self._loader)


def cache_batches(loader: DataLoader[Any], *, max_bytes: int = 1 << 29) -> CachedLoader:
    """Cache a loader's batches, for students that are evaluated one after the other."""
    return CachedLoader(loader, max_bytes=max_bytes)


def unwrap_dataset(loader: Any) -> Any:
    """The mmdet dataset behind a validation loader, with the images of all processes."""
    dataset: Any = loader.dataset
    return dataset.dataset if isinstance(dataset, Subset) else dataset


def check_num_images(dataset: Any, split: Split, *, limit: int | None) -> None:
    """Raise `DatasetError` if the dataset does not have the images that its manifest promises."""
    expected = split.num_images if limit is None else min(limit, split.num_images)
    if len(dataset) != expected or expected == 0:
        raise DatasetError(
            f"{split.annotations} has {len(dataset):,} images to load, but the dataset's manifest "
            f"says {expected:,}. Import the dataset again."
        )


def limit_images(dataset: Any, count: int | None) -> Any:
    """Keep the first `count` images of an mmdet dataset; all of them if `count` is None."""
    if count is None or count >= len(dataset):
        return dataset
    dataset.data_infos = dataset.data_infos[:count]
    dataset.img_ids = dataset.img_ids[:count]
    if hasattr(dataset, "flag"):
        dataset.flag = dataset.flag[:count]
    return dataset
