"""Copied errors on hand-made detections, and the coverage of their interval."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.protocol.copied_errors import CopiedErrors
from tests.support.workers.detection_scenes import SceneObject, to_mmdet_detections, write_dataset
from workers.analysis.copied_errors import (
    MAX_EXAMPLES,
    ModelErrors,
    measure_copied_errors,
    measure_share,
)
from workers.analysis.intervals import RunPair
from workers.analysis.matches import Matches, match_detections

BOX = (10.0, 10.0, 50.0, 50.0)
FAR = (200.0, 200.0, 240.0, 240.0)
FAR_SHIFTED = (205.0, 200.0, 245.0, 240.0)
ELSEWHERE = (300.0, 20.0, 340.0, 60.0)
CROWD = (300.0, 300.0, 380.0, 380.0)
TRUTH = (
    *(SceneObject(image, "cat", BOX) for image in range(6)),
    SceneObject(5, "dog", CROWD, crowd=True),
)

Detection = tuple[int, str, tuple[float, float, float, float], float]


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    return write_dataset(tmp_path / "made.json", TRUTH, images=6)


def match(dataset: Any, *detections: Detection, missed: tuple[int, ...] = ()) -> Matches:
    """A model that detects all objects but those of some images, and something else."""
    hits = [(image, "cat", BOX, 0.9) for image in range(6) if image not in missed]
    return match_detections(to_mmdet_detections([*hits, *detections], images=6), dataset)


def measure(run: Matches, baseline: Matches, teacher: Matches) -> CopiedErrors:
    pair = RunPair(0, "r0123456789ab", "r0123456789ac", run, baseline)
    copied = measure_copied_errors([pair], [teacher])
    assert copied is not None
    return copied


@pytest.mark.parametrize(
    ("teacher_detection", "copied"),
    [
        ((0, "dog", FAR, 0.5), 1),
        ((0, "dog", FAR_SHIFTED, 0.5), 1),
        ((0, "owl", FAR, 0.5), 0),
        ((1, "dog", FAR, 0.5), 0),
        ((0, "dog", ELSEWHERE, 0.5), 0),
        ((0, "dog", FAR, 0.2), 0),
    ],
    ids=["same", "shifted", "other class", "other image", "other position", "low score"],
)
def test_a_false_positive_is_copied_if_the_teacher_has_it_there(
    dataset: Any, teacher_detection: Detection, copied: int
) -> None:
    run = match(dataset, (0, "dog", FAR, 0.7), (5, "dog", CROWD, 0.7))

    share = measure(run, match(dataset), match(dataset, teacher_detection)).false_positives

    assert (share.errors, share.copied) == (1, copied)


def test_shares_of_the_student_alone_are_what_they_are_compared_with(dataset: Any) -> None:
    teacher = match(dataset, (0, "dog", FAR, 0.5), (1, "dog", FAR, 0.5), missed=(4, 5))
    run = match(dataset, (0, "dog", FAR, 0.7), (1, "dog", FAR, 0.6), missed=(3, 4))
    baseline = match(
        dataset, (0, "dog", FAR, 0.7), (2, "dog", FAR, 0.6), (3, "owl", FAR, 0.4), missed=(1, 2, 3)
    )

    copied = measure(run, baseline, teacher)

    false_positives, missed = copied.false_positives, copied.missed
    assert (false_positives.errors, false_positives.copied) == (2, 2)
    assert (false_positives.baseline_errors, false_positives.baseline_copied) == (3, 1)
    assert false_positives.difference is not None
    assert false_positives.difference.difference == pytest.approx(1 - 1 / 3)
    assert (missed.errors, missed.copied) == (2, 1)
    assert (missed.baseline_errors, missed.baseline_copied) == (3, 0)
    assert missed.difference is not None
    assert missed.difference.run == pytest.approx(0.5)


def test_examples_are_errors_that_the_student_alone_does_not_make(dataset: Any) -> None:
    teacher = match(dataset, *((image, "dog", FAR, 0.5) for image in range(6)), missed=(0, 1))
    run = match(dataset, *((image, "dog", FAR, 0.4 + image / 10) for image in range(6)),
                missed=(0, 1, 2))  # fmt: skip
    baseline = match(dataset, (5, "dog", FAR_SHIFTED, 0.9), missed=(1,))

    examples = measure(run, baseline, teacher).examples

    false_positives = [error for error in examples if error.kind == "false_positive"]
    assert [error.file for error in false_positives] == ["4.png", "3.png", "2.png"]
    assert len(false_positives) == MAX_EXAMPLES
    assert false_positives[0].box == FAR
    assert false_positives[0].score == pytest.approx(0.8)
    assert false_positives[0].teacher_score == pytest.approx(0.5)
    (missed,) = (error for error in examples if error.kind == "missed")
    assert (missed.file, missed.box) == ("0.png", BOX)
    assert missed.score == pytest.approx(0.9)


def test_without_errors_there_is_no_difference(dataset: Any) -> None:
    copied = measure(match(dataset), match(dataset, missed=(0,)), match(dataset))

    assert copied.false_positives.difference is None
    assert copied.missed.difference is None
    assert copied.examples == ()
    assert measure_copied_errors([], []) is None


def test_models_without_any_detections_can_be_compared(dataset: Any) -> None:
    nothing = match(dataset, missed=tuple(range(6)))

    share = measure(nothing, nothing, nothing).missed

    assert (share.errors, share.copied) == (6, 6)
    assert share.difference is not None
    assert (share.difference.low, share.difference.high) == (0.0, 0.0)


def test_the_interval_covers_the_true_difference() -> None:
    """100 simulated tests of two pairs: more than 13 misses have a probability below 0.001."""
    outside = 0
    for number in range(100):
        random = np.random.default_rng(number)
        hard_I = random.uniform(-0.2, 0.2, 150)
        pairs = [simulate_pair(random, hard_I) for _ in range(2)]
        difference = measure_difference(pairs)
        outside += not difference[0] <= 0.2 <= difference[1]

    assert outside <= 13


def simulate_pair(random: np.random.Generator, hard_I: NDArray[Any]) -> Any:
    """Errors in 150 images; the teacher shares 0.5 of the run's and 0.3 of the baseline's, and more
    of both in images with a larger value of `hard_I`."""
    sides = []
    for share in (0.5, 0.3):
        image_E = np.repeat(np.arange(150), random.poisson(1.0, 150))
        shared_E = random.random(len(image_E)) < share + hard_I[image_E]
        sides.append(ModelErrors(image_E, np.arange(len(image_E)), shared_E))
    return tuple(sides)


def measure_difference(pairs: list[Any]) -> tuple[float, float]:
    difference = measure_share(pairs, images=150).difference
    assert difference is not None
    assert difference.low is not None
    assert difference.high is not None
    return difference.low, difference.high
