"""Batches that depend on seed, epoch and image alone: not on the model, nor on who loads them.

Two runs with the same seed and data see exactly the same batches, so their difference is the
method's; a run that is resumed, with as many processes or fewer, sees those it would have seen.
"""

import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmcv import Config
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from configs.spec.run import RunSpec
from workers import distributed
from workers.data.batches import HostBatch
from workers.data.datasets import open_dataset
from workers.errors import InvalidSpec
from workers.process.children import make_worker_init_fn


@dataclass(frozen=True)
class BatchShard:
    """What one process sees of every batch: `micro_batches` pieces, one after the other."""

    rank: int = 0
    processes: int = 1
    micro_batches: int = 1

    def pieces(self, batch: np.ndarray) -> Iterator[list[int]]:
        """This process's pieces of a batch of image numbers."""
        pieces = np.split(batch, self.processes * self.micro_batches)
        for micro_batch in range(self.micro_batches):
            yield [int(index) for index in pieces[micro_batch * self.processes + self.rank]]


class SeededDataset(Dataset[Any]):
    """An mmdet dataset whose augmentation of an image follows from (seed, epoch, image)."""

    def __init__(self, dataset: Any, *, seed: int) -> None:
        self.dataset = dataset
        self._seed = seed
        # In memory that loader processes share: they outlive an epoch.
        self._epoch = multiprocessing.RawValue("q", 0)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        sequence = np.random.SeedSequence((self._seed, self._epoch.value, index))
        random_state = sequence.generate_state(1)[0]
        random.seed(int(random_state))
        np.random.seed(random_state)
        return self.dataset[index]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0."""
        self._epoch.value = epoch


class GroupedBatchSampler(Sampler[list[int]]):
    """All images once an epoch, shuffled by (seed, epoch); images of one orientation share a batch.

    Batches of one orientation waste less padding; as mmdet's GroupSampler, an incomplete batch is
    filled up with images of its own group. Each item is one process's piece of a batch.
    """

    def __init__(
        self, orientations: np.ndarray, *, batch_size: int, seed: int, share: BatchShard
    ) -> None:
        self._orientations = orientations
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0
        self._first_step = 0
        self.share = share
        counts = np.bincount(orientations)
        self.steps = int(sum(-(-count // batch_size) for count in counts))
        """Batches in an epoch."""

    def __len__(self) -> int:
        return (self.steps - self._first_step) * self.share.micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches()[self._first_step :]:
            yield from self.share.pieces(batch)

    def begin(self, epoch: int, *, step: int) -> None:
        """Choose epoch and batch to go on with, both counted from 0."""
        self._epoch = epoch
        self._first_step = step

    def _batches(self) -> list[np.ndarray]:
        random_state = np.random.default_rng((self._seed, self._epoch))
        batches = [
            batch
            for orientation in np.unique(self._orientations)
            for batch in self._batches_of(orientation, random_state)
        ]
        return [batches[position] for position in random_state.permutation(len(batches))]

    def _batches_of(self, orientation: int, random_state: np.random.Generator) -> list[np.ndarray]:
        images = random_state.permutation(np.flatnonzero(self._orientations == orientation))
        full_length = -(-len(images) // self._batch_size) * self._batch_size
        return list(np.resize(images, full_length).reshape(-1, self._batch_size))


def batch_shard(spec: RunSpec) -> BatchShard:
    """This process's share of every batch.

    With fewer processes than the spec's, batches are cut into more parts: their size stays.
    """
    pieces = spec.resources.processes * spec.compute.grad_accumulation_steps
    here = distributed.get_world_size()
    if pieces % here:
        raise InvalidSpec(
            f"{here} processes cannot share batches that are cut into {pieces} pieces "
            "(resources.processes times compute.grad_accumulation_steps)."
        )
    return BatchShard(rank=distributed.get_rank(), processes=here, micro_batches=pieces // here)


def build_training_loader(config: Config, *, spec: RunSpec) -> DataLoader[Any]:
    """This process's pieces of training batches, `spec.data.batch_size` images over all."""
    dataset = limit_images(open_dataset(config.data.train), spec.data.train_images)
    order = GroupedBatchSampler(
        np.asarray(dataset.flag, dtype=np.int64),
        batch_size=spec.data.batch_size,
        seed=spec.seed,
        share=batch_shard(spec),
    )
    return DataLoader(
        SeededDataset(dataset, seed=spec.seed),
        batch_sampler=order,
        num_workers=spec.data.num_workers,
        collate_fn=HostBatch.from_samples,
        worker_init_fn=make_worker_init_fn(),
        pin_memory=spec.resources.num_gpus > 0,
        persistent_workers=spec.data.num_workers > 0,
    )


def build_validation_loader(config: Config, *, spec: RunSpec) -> DataLoader[Any]:
    """This process's validation images: every one belongs to exactly one process."""
    dataset = limit_images(open_dataset(config.data.val), spec.evaluation.val_images)
    mine = range(distributed.get_rank(), len(dataset), distributed.get_world_size())
    return DataLoader(
        Subset(dataset, mine) if distributed.get_world_size() > 1 else dataset,
        batch_size=spec.evaluation.batch_size,
        num_workers=spec.data.num_workers,
        collate_fn=HostBatch.from_samples,
        worker_init_fn=make_worker_init_fn(),
        pin_memory=spec.resources.num_gpus > 0,
    )


class CachedLoader:
    """A loader's batches, loaded once if they fit into memory; else anew every time."""

    def __init__(self, loader: DataLoader[Any], *, max_bytes: int) -> None:
        self.dataset = loader.dataset
        self._loader = loader
        self._room = max_bytes
        self._batches: list[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        if self._batches is not None:
            yield from self._batches
            return
        batches: list[Any] = []
        for batch in self._loader:
            yield batch
            self._room -= batch.num_bytes
            if self._room >= 0:
                batches.append(batch)
            else:
                batches.clear()
        if self._room >= 0:
            self._batches = batches

    def __len__(self) -> int:
        return len(self._loader)


def cache_batches(loader: DataLoader[Any], *, max_bytes: int = 1 << 29) -> CachedLoader:
    """For students that are measured on the same images one after the other."""
    return CachedLoader(loader, max_bytes=max_bytes)


def unwrap_dataset(loader: Any) -> Any:
    """The mmdet dataset behind a validation loader, all processes' images."""
    dataset: Any = loader.dataset
    return dataset.dataset if isinstance(dataset, Subset) else dataset


def limit_images(dataset: Any, count: int | None) -> Any:
    """An mmdet dataset cut down to its first images."""
    if count is None or count >= len(dataset):
        return dataset
    dataset.data_infos = dataset.data_infos[:count]
    dataset.img_ids = dataset.img_ids[:count]
    if hasattr(dataset, "flag"):
        dataset.flag = dataset.flag[:count]
    return dataset
