"""Batches follow from seed, epoch and image alone."""

import itertools

import numpy as np

from workers.data.loaders import BatchShard, GroupedBatchSampler, SeededDataset


class Dice:
    """A dataset whose images are what the random generator says."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(np.random.random())


ALONE = BatchShard()
ORIENTATIONS = np.array([0, 1, 0, 1, 0, 1, 1])


def an_order(
    epoch: int, *, seed: int = 0, batch_size: int = 2, step: int = 0, share: BatchShard = ALONE
) -> list[list[int]]:
    order = GroupedBatchSampler(ORIENTATIONS, batch_size=batch_size, seed=seed, share=share)
    order.begin(epoch, step=step)
    return list(order)


def test_an_epoch_has_the_same_order_whenever_it_is_asked_for() -> None:
    assert an_order(3) == an_order(3)
    assert an_order(3) != an_order(4)
    assert an_order(3) != an_order(3, seed=1)


def test_every_image_comes_and_a_batch_has_one_orientation() -> None:
    order = np.array(an_order(0))

    assert set(order.flatten()) == set(range(7))
    orientations = ORIENTATIONS[order]
    assert (orientations[:, 0] == orientations[:, 1]).all()


def test_an_epoch_goes_on_in_its_middle() -> None:
    assert an_order(3, step=2) == an_order(3)[2:]


def test_processes_and_parts_share_every_batch_of_one_process() -> None:
    whole = an_order(1, batch_size=4)

    shared = [
        an_order(1, batch_size=4, share=BatchShard(rank=rank, processes=2, micro_batches=2))
        for rank in (0, 1)
    ]

    pieces = [zip(*(iter(of_process),) * 2, strict=True) for of_process in shared]
    for batch, first, second in zip(whole, *pieces, strict=True):
        assert sorted(batch) == sorted(itertools.chain(*first, *second))


def test_fewer_processes_see_the_same_images_in_each_part() -> None:
    four = [an_order(0, batch_size=4, share=BatchShard(rank, 4, 1)) for rank in range(4)]
    two = [an_order(0, batch_size=4, share=BatchShard(rank, 2, 2)) for rank in range(2)]

    assert two[0][:2] == [four[0][0], four[2][0]]
    assert two[1][:2] == [four[1][0], four[3][0]]


def test_augmentation_of_an_image_does_not_depend_on_what_was_loaded_before() -> None:
    first, second = SeededDataset(Dice(), seed=5), SeededDataset(Dice(), seed=5)

    forwards = [first[index] for index in range(10)]
    backwards = [second[index] for index in reversed(range(10))][::-1]

    assert forwards == backwards


def test_augmentation_changes_from_epoch_to_epoch() -> None:
    dataset = SeededDataset(Dice(), seed=5)
    before = dataset[0]

    dataset.set_epoch(1)

    assert dataset[0] != before
