"""Batches that depend on seed, epoch and image alone: not on the model, nor on who loads them.

Two runs with the same seed and data see exactly the same batches, so their difference is the
method's; a run that is resumed at an epoch sees the batches that it would have seen.
"""

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from mmcv import Config
from mmcv.parallel import collate
from mmdet.datasets import build_dataset
from torch.utils.data import DataLoader, Dataset, Sampler

from configs.spec import RunSpec


class SeededDataset(Dataset[Any]):
    """An mmdet dataset whose augmentation of an image follows from (seed, epoch, image)."""

    def __init__(self, dataset: Any, *, seed: int) -> None:
        self.dataset = dataset
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        random_state = np.random.SeedSequence((self._seed, self._epoch, index)).generate_state(1)[0]
        random.seed(int(random_state))
        np.random.seed(random_state)
        return self.dataset[index]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0."""
        self._epoch = epoch


class EpochShuffle(Sampler[int]):
    """All images once an epoch, shuffled by (seed, epoch); images of one orientation share a batch.

    Batches of one orientation waste less padding; as mmdet's GroupSampler, an incomplete batch is
    filled up with images of its own group.
    """

    def __init__(self, orientations: np.ndarray, *, batch_size: int, seed: int) -> None:
        self._orientations = orientations
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        counts = np.bincount(self._orientations)
        return int(sum(-(-count // self._batch_size) for count in counts)) * self._batch_size

    def __iter__(self) -> Iterator[int]:
        random_state = np.random.default_rng((self._seed, self._epoch))
        batches = [
            batch
            for orientation in np.unique(self._orientations)
            for batch in self._batches_of(orientation, random_state)
        ]
        for position in random_state.permutation(len(batches)):
            yield from (int(index) for index in batches[position])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0."""
        self._epoch = epoch

    def _batches_of(self, orientation: int, random_state: np.random.Generator) -> list[np.ndarray]:
        images = random_state.permutation(np.flatnonzero(self._orientations == orientation))
        full_length = -(-len(images) // self._batch_size) * self._batch_size
        return list(np.resize(images, full_length).reshape(-1, self._batch_size))


def training_loader(config: Config, *, spec: RunSpec) -> DataLoader[Any]:
    """Training batches of `spec.data.batch_size` images."""
    dataset = _first_images(build_dataset(config.data.train), spec.data.train_images)
    orientations = _orientations(dataset)
    return DataLoader(
        SeededDataset(dataset, seed=spec.seed),
        batch_size=spec.data.batch_size,
        sampler=EpochShuffle(orientations, batch_size=spec.data.batch_size, seed=spec.seed),
        num_workers=spec.data.loader_workers,
        collate_fn=partial(collate, samples_per_gpu=spec.data.batch_size),
        pin_memory=torch.cuda.is_available(),
    )


def validation_loader(config: Config, *, spec: RunSpec) -> DataLoader[Any]:
    """Validation images in their order, `spec.evaluation.batch_size` at a time."""
    dataset = _first_images(build_dataset(config.data.val), spec.evaluation.val_images)
    return DataLoader(
        dataset,
        batch_size=spec.evaluation.batch_size,
        num_workers=spec.data.loader_workers,
        collate_fn=partial(collate, samples_per_gpu=spec.evaluation.batch_size),
    )


def _first_images(dataset: Any, count: int | None) -> Any:
    if count is None or count >= len(dataset):
        return dataset
    dataset.data_infos = dataset.data_infos[:count]
    dataset.img_ids = dataset.img_ids[:count]
    if hasattr(dataset, "flag"):
        dataset.flag = dataset.flag[:count]
    return dataset


def _orientations(dataset: Any) -> np.ndarray:
    return np.asarray(dataset.flag, dtype=np.int64)
