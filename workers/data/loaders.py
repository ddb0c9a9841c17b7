"""Data loaders of training and validation images."""

from collections.abc import Callable, Iterator, Sequence
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
from workers.data.sampling import BatchShard, GroupedBatchSampler, SeededDataset
from workers.data.unlabelled import (
    MixedBatchSampler,
    MixedDataset,
    UnlabelledBatches,
    collate_mixed,
)
from workers.errors import DatasetError, InvalidSpec
from workers.process.children import make_worker_init_fn


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

    Those of `spec.data.unlabelled` come in addition. `data` is the section of mmdet's config with
    this name.
    """
    dataset = limit_images(open_dataset(data.train), spec.data.train_images)
    labeled = SeededDataset(dataset, seed=spec.seed, mixer=_build_mixer(dataset, spec))
    sampler = GroupedBatchSampler(
        _orientations(dataset),
        batch_size=spec.data.batch_size,
        seed=spec.seed,
        shard=batch_shard(spec),
    )
    if spec.data.unlabelled is None:
        return _build_loader(labeled, sampler, HostBatch.from_samples, spec=spec)
    images = open_dataset(data.unlabelled)
    keys = UnlabelledBatches(
        _orientations(images),
        batch_size=spec.data.unlabelled.images_per_batch,
        seed=spec.seed,
        shard=batch_shard(spec),
    )
    mixed = MixedDataset(labeled, images, seed=spec.seed)
    return _build_loader(mixed, MixedBatchSampler(sampler, keys), collate_mixed, spec=spec)


def _build_loader(
    dataset: Dataset[Any],
    batch_sampler: Sampler[list[Any]],
    collate: Callable[[Sequence[Any]], HostBatch],
    *,
    spec: RunSpec,
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=spec.data.num_workers,
        collate_fn=collate,
        worker_init_fn=make_worker_init_fn(),
        pin_memory=spec.resources.num_gpus > 0,
        persistent_workers=spec.data.num_workers > 0,
    )


def _orientations(dataset: Any) -> np.ndarray:
    """0 for an upright and 1 for a wide image, (images,), int64."""
    return np.asarray(dataset.flag, dtype=np.int64)


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
