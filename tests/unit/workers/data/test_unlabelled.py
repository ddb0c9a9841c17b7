"""Images without labels follow from seed and step, whatever the epochs of the labeled ones."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.parallel import DataContainer

from workers.data.sampling import BatchShard, GroupedBatchSampler, SeededDataset
from workers.data.unlabelled import (
    UNLABELLED,
    MixedBatchSampler,
    MixedDataset,
    UnlabelledBatches,
    UnlabelledKey,
    UnlabelledSample,
    collate_mixed,
)

SINGLE_PROCESS = BatchShard()
ORIENTATIONS = np.array([0, 1, 0, 1, 0, 1, 1])
"""Batches of two: two upright and two wide ones, so a pass has four steps."""

STEPS_PER_EPOCH = 3


class RandomDataset:
    """Each image is its index and a number from numpy's global random generator."""

    def __len__(self) -> int:
        return len(ORIENTATIONS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        metas = DataContainer({}, cpu_only=True)
        return {"index": index, "number": float(np.random.random()), "img_metas": metas}


def read_values(sample: dict[str, Any]) -> tuple[int, float, int]:
    """The image, the number that was drawn for it, and the seed of what a method draws."""
    return sample["index"], sample["number"], sample["img_metas"].data["seed"]


def make_sampler(*, seed: int = 0, shard: BatchShard = SINGLE_PROCESS) -> MixedBatchSampler:
    labeled = GroupedBatchSampler(np.zeros(12, np.int64), batch_size=4, seed=seed, shard=shard)
    unlabelled = UnlabelledBatches(ORIENTATIONS, batch_size=2, seed=seed, shard=shard)
    return MixedBatchSampler(labeled, unlabelled)


def load_epoch(sampler: MixedBatchSampler, epoch: int, *, step: int = 0) -> list[list[Any]]:
    sampler.set_position(epoch, step=step)
    return list(sampler)


def select_keys(batch: list[Any]) -> list[UnlabelledKey]:
    return [item for item in batch if isinstance(item, UnlabelledKey)]


def test_labeled_batches_are_those_of_a_run_without_other_images() -> None:
    mixed = make_sampler(seed=4)
    labeled_only = GroupedBatchSampler(
        np.zeros(12, np.int64), batch_size=4, seed=4, shard=SINGLE_PROCESS
    )
    labeled_only.set_position(1, step=0)

    batches = load_epoch(mixed, 1)

    assert [batch[:4] for batch in batches] == list(labeled_only)
    assert [len(select_keys(batch)) for batch in batches] == [2] * STEPS_PER_EPOCH
    assert (len(mixed), mixed.steps_per_epoch) == (3, 3)


def test_a_pass_goes_on_in_the_next_epoch_and_has_every_image() -> None:
    sampler = make_sampler()
    batches = itertools.chain(*(load_epoch(sampler, epoch) for epoch in range(4)))

    keys = [select_keys(batch) for batch in batches]

    assert [batch[0].cycle for batch in keys] == [0] * 4 + [1] * 4 + [2] * 4
    for first in (0, 4, 8):
        images = {key.index for batch in keys[first : first + 4] for key in batch}
        assert images == set(range(len(ORIENTATIONS)))
    for batch in keys:
        assert len({ORIENTATIONS[key.index] for key in batch}) == 1


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 1), (2, 2)])
def test_an_epoch_can_start_at_any_step(epoch: int, step: int) -> None:
    complete_epoch = load_epoch(make_sampler(), epoch)

    assert load_epoch(make_sampler(), epoch, step=step) == complete_epoch[step:]


def test_ranks_and_micro_batches_share_the_batches_of_one_process() -> None:
    batches = [select_keys(batch) for batch in load_epoch(make_sampler(), 1)]

    shards = [load_epoch(make_sampler(shard=BatchShard(rank, 2, 1)), 1) for rank in (0, 1)]
    parts = load_epoch(make_sampler(shard=BatchShard(0, 1, 2)), 1)

    for batch, first, second in zip(batches, *shards, strict=True):
        assert batch == [*select_keys(first), *select_keys(second)]
    for batch, first, second in zip(batches, parts[::2], parts[1::2], strict=True):
        assert batch == [*select_keys(first), *select_keys(second)]


def test_the_order_is_neither_that_of_another_seed_nor_that_of_labeled_images() -> None:
    labeled = GroupedBatchSampler(ORIENTATIONS, batch_size=2, seed=5, shard=SINGLE_PROCESS)

    first, second = take(5), take(6)

    assert first != second
    assert [[key.index for key in batch] for batch in first] != list(labeled)


def take(seed: int) -> list[list[UnlabelledKey]]:
    batches = UnlabelledBatches(ORIENTATIONS, batch_size=2, seed=seed, shard=SINGLE_PROCESS)
    return list(itertools.islice(batches.iter_from(0), 4))


def make_dataset(seed: int = 5) -> MixedDataset:
    labeled = SeededDataset(RandomDataset(), seed=seed)
    return MixedDataset(labeled, RandomDataset(), seed=seed)


def test_augmentation_follows_from_pass_and_image_and_not_from_the_epoch() -> None:
    dataset = make_dataset()
    keys = [UnlabelledKey(cycle, index) for cycle in (0, 1) for index in (0, 1)]
    before = [read_values(dataset[key].sample) for key in keys]

    dataset.set_epoch(3)

    assert [read_values(dataset[key].sample) for key in reversed(keys)] == before[::-1]
    assert len({number for _, number, _ in before}) == len({seed for *_, seed in before}) == 4


def test_the_same_image_is_augmented_otherwise_where_it_has_labels() -> None:
    dataset = make_dataset()

    labeled = read_values(dataset[3])
    assert read_values(dataset[UnlabelledKey(0, 3)].sample) != labeled
    assert labeled == read_values(SeededDataset(RandomDataset(), seed=5)[3])


def test_a_batch_has_images_without_labels_below_a_key_of_their_own() -> None:
    samples = [
        {"img": torch.full((3, 2, 2), value), "label": torch.tensor(value)} for value in (1.0, 2.0)
    ]
    more_samples = [UnlabelledSample({"img": torch.full((3, 4, 2), 3.0)})]

    batch = collate_mixed([*samples, *more_samples])

    assert batch["img"].shape == (2, 3, 2, 2)
    assert batch["label"].tolist() == [1.0, 2.0]
    assert batch[UNLABELLED]["img"].shape == (1, 3, 4, 2)
    assert batch.num_bytes == 4 * (24 + 2 + 24)
