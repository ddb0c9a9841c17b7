"""Batches depend on seed, epoch and image only."""

import itertools
from typing import Any

import numpy as np
import pytest
from mmcv.parallel import DataContainer

from configs.spec.dataset import Split
from workers.data.loaders import check_num_images
from workers.data.sampling import BatchShard, GroupedBatchSampler, SeededDataset
from workers.errors import DatasetError


class RandomDataset:
    """Each image is its index and a number from numpy's global random generator."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, Any]:
        metas = DataContainer({}, cpu_only=True)
        return {"index": index, "number": float(np.random.random()), "img_metas": metas}


SINGLE_PROCESS = BatchShard()
ORIENTATIONS = np.array([0, 1, 0, 1, 0, 1, 1])


def load_epoch(
    epoch: int,
    *,
    seed: int = 0,
    batch_size: int = 2,
    step: int = 0,
    shard: BatchShard = SINGLE_PROCESS,
) -> list[list[int]]:
    sampler = GroupedBatchSampler(ORIENTATIONS, batch_size=batch_size, seed=seed, shard=shard)
    sampler.set_position(epoch, step=step)
    return list(sampler)


def test_the_order_of_an_epoch_is_deterministic() -> None:
    assert load_epoch(3) == load_epoch(3)
    assert load_epoch(3) != load_epoch(4)
    assert load_epoch(3) != load_epoch(3, seed=1)


def test_an_epoch_has_every_image_and_batches_of_one_orientation() -> None:
    order = np.array(load_epoch(0))

    assert set(order.flatten()) == set(range(7))
    orientations = ORIENTATIONS[order]
    assert (orientations[:, 0] == orientations[:, 1]).all()


def test_an_epoch_can_start_at_any_step() -> None:
    assert load_epoch(3, step=2) == load_epoch(3)[2:]


def test_ranks_and_micro_batches_share_the_batches_of_one_process() -> None:
    batches = load_epoch(1, batch_size=4)

    shards = [
        load_epoch(1, batch_size=4, shard=BatchShard(rank=rank, world_size=2, num_micro_batches=2))
        for rank in (0, 1)
    ]

    pairs = [zip(*(iter(shard),) * 2, strict=True) for shard in shards]
    for batch, first, second in zip(batches, *pairs, strict=True):
        assert sorted(batch) == sorted(itertools.chain(*first, *second))


def test_fewer_processes_see_the_same_images_in_each_micro_batch() -> None:
    four = [load_epoch(0, batch_size=4, shard=BatchShard(rank, 4, 1)) for rank in range(4)]
    two = [load_epoch(0, batch_size=4, shard=BatchShard(rank, 2, 2)) for rank in range(2)]

    assert two[0][:2] == [four[0][0], four[2][0]]
    assert two[1][:2] == [four[1][0], four[3][0]]


def read_draws(sample: dict[str, Any]) -> tuple[int, float, int]:
    """Index, augmentation and seed of an image."""
    return sample["index"], sample["number"], sample["img_metas"].data["seed"]


def test_augmentation_of_an_image_does_not_depend_on_what_was_loaded_before() -> None:
    first, second = SeededDataset(RandomDataset(), seed=5), SeededDataset(RandomDataset(), seed=5)

    forwards = [read_draws(first[index]) for index in range(10)]
    backwards = [read_draws(second[index]) for index in reversed(range(10))][::-1]

    assert forwards == backwards
    assert len({seed for _, _, seed in forwards}) == 10


def test_augmentation_changes_from_epoch_to_epoch() -> None:
    dataset = SeededDataset(RandomDataset(), seed=5)
    _, number, image_seed = read_draws(dataset[0])

    dataset.set_epoch(1)

    _, later_number, later_seed = read_draws(dataset[0])
    assert later_number != number
    assert later_seed != image_seed


@pytest.mark.parametrize(("num_images", "limit"), [(10, None), (12, 10), (10, 99)])
def test_a_loader_has_the_images_of_its_manifest(num_images: int, limit: int | None) -> None:
    check_num_images(RandomDataset(), describe_split(num_images), limit=limit)


@pytest.mark.parametrize(("num_images", "limit"), [(11, None), (9, None), (12, 9)])
def test_a_loader_that_is_smaller_than_its_manifest_is_refused(
    num_images: int, limit: int | None
) -> None:
    with pytest.raises(DatasetError, match="has 10 images to load"):
        check_num_images(RandomDataset(), describe_split(num_images), limit=limit)


def describe_split(num_images: int) -> Split:
    return Split(
        annotations="a.json",
        images="a",
        num_images=num_images,
        num_boxes=1,
        annotations_sha256="0" * 64,
    )
