"""Batches follow from seed, epoch and image alone."""

import numpy as np

from workers.loading import EpochShuffle, SeededDataset


class Dice:
    """A dataset whose images are what the random generator says."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(np.random.random())


def an_order(epoch: int, *, seed: int = 0) -> list[int]:
    shuffle = EpochShuffle(np.array([0, 1, 0, 1, 0, 1, 1]), batch_size=2, seed=seed)
    shuffle.set_epoch(epoch)
    return list(shuffle)


def test_an_epoch_has_the_same_order_whenever_it_is_asked_for() -> None:
    assert an_order(3) == an_order(3)
    assert an_order(3) != an_order(4)
    assert an_order(3) != an_order(3, seed=1)


def test_every_image_comes_and_a_batch_has_one_orientation() -> None:
    order = an_order(0)

    assert set(order) == set(range(7))
    orientations = np.array([0, 1, 0, 1, 0, 1, 1])[order].reshape(-1, 2)
    assert (orientations[:, 0] == orientations[:, 1]).all()


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
