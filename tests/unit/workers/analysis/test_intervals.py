"""Comparison of runs with their baselines: differences, intervals and verdicts."""

from pathlib import Path

import numpy as np
import pytest

from configs.protocol.comparison import MAP_PARTS, Comparison, NoiseFloor
from configs.seed_noise import noise_floor
from tests.support.workers.detection_scenes import random_detections, random_objects, write_dataset
from tests.support.workers.simulated_detectors import (
    SimulatedDetector,
    simulate_detections,
    simulate_images,
)
from workers.analysis.intervals import (
    RunPair,
    compare,
    draw_half_samples,
    half_width,
    measure_pairs,
)
from workers.analysis.matches import Matches, match_detections
from workers.evaluation.coco import compute_metrics

RUN, BASELINE = "r00000000run0", "r0000baseline"
IMAGES = simulate_images(120, seed=1)
WEAK, STRONG = SimulatedDetector(0.2, own_ease=0.2), SimulatedDetector(1.0, own_ease=0.2)
NOISE = NoiseFloor(runs=4, freedom=3, deviation=0.02, floor=0.09)

Pair = tuple[Matches, Matches]


def make_pair(run: SimulatedDetector, baseline: SimulatedDetector, *, seed: int = 0) -> Pair:
    return simulate_detections(run, IMAGES, seed=10 * seed), simulate_detections(
        baseline, IMAGES, seed=10 * seed + 1
    )


def compare_pairs(
    *pairs: Pair, noise: NoiseFloor | None = None, teacher_map: float | None = None
) -> Comparison:
    return compare(
        [RunPair(seed, RUN, BASELINE, *pair) for seed, pair in enumerate(pairs)],
        trial=3,
        teacher_map=teacher_map,
        noise=noise,
    )


@pytest.mark.parametrize(
    ("run", "baseline", "verdict"),
    [(STRONG, WEAK, "helps"), (WEAK, STRONG, "hurts"), (WEAK, WEAK, "cannot_tell")],
    ids=["better", "worse", "alike"],
)
def test_the_verdict_follows_from_the_interval(
    run: SimulatedDetector, baseline: SimulatedDetector, verdict: str
) -> None:
    comparison = compare_pairs(*(make_pair(run, baseline, seed=seed) for seed in (1, 2, 3)))

    difference = comparison.parts["bbox_mAP"]
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < difference.difference < difference.high
    assert comparison.verdict == verdict
    assert (difference.low > 0) == (verdict == "helps")
    assert (difference.high < 0) == (verdict == "hurts")
    assert comparison.seed_spread == "pairs"


@pytest.mark.parametrize(("run", "baseline"), [(STRONG, WEAK), (WEAK, STRONG)])
def test_one_pair_without_a_noise_floor_has_no_verdict_whatever_its_interval(
    run: SimulatedDetector, baseline: SimulatedDetector
) -> None:
    comparison = compare_pairs(make_pair(run, baseline, seed=1))

    difference = comparison.parts["bbox_mAP"]
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low > 0 or difference.high < 0
    assert (comparison.verdict, comparison.seed_spread) == ("cannot_tell", "unknown")


def test_one_pair_with_a_noise_floor_has_a_verdict() -> None:
    noise = NoiseFloor(runs=4, freedom=3, deviation=0.001, floor=0.0045)

    comparison = compare_pairs(make_pair(STRONG, WEAK, seed=1), noise=noise)

    assert (comparison.verdict, comparison.seed_spread) == ("helps", "noise_floor")


def test_each_pair_is_listed_with_its_seed_and_their_mean_is_the_gain() -> None:
    comparison = compare_pairs(*(make_pair(STRONG, WEAK, seed=seed) for seed in range(3)))

    gains = comparison.gains
    assert [(pair.seed, pair.run, pair.baseline) for pair in gains] == [
        (seed, RUN, BASELINE) for seed in range(3)
    ]
    assert all(pair.gain == pair.run_map - pair.baseline_map for pair in gains)
    mean = sum(pair.gain for pair in gains) / 3
    assert mean == pytest.approx(comparison.parts["bbox_mAP"].difference)
    assert comparison.images == IMAGES.images


def test_two_pairs_of_one_seed_are_refused() -> None:
    pair = make_pair(STRONG, WEAK)

    with pytest.raises(ValueError, match="same seed"):
        compare(
            [RunPair(5, RUN, BASELINE, *pair), RunPair(5, RUN, BASELINE, *pair)],
            trial=None,
            teacher_map=None,
            noise=None,
        )


def test_the_numbers_are_cocos_and_absent_sizes_are_left_out(tmp_path: Path) -> None:
    scene_objects = [
        scene_object
        for scene_object in random_objects(20)
        if scene_object.box[2] - scene_object.box[0] < 90
    ]
    dataset = write_dataset(tmp_path / "made.json", scene_objects, images=20)
    detections = [random_detections(scene_objects, images=20, noise=noise) for noise in (2.0, 4.0)]

    comparison = compare_pairs(
        (match_detections(detections[0], dataset), match_detections(detections[1], dataset))
    )

    run, baseline = (
        compute_metrics(model_detections, dataset).by_metric for model_detections in detections
    )
    assert list(comparison.parts) == [part for part in MAP_PARTS if part != "bbox_mAP_l"]
    for name, part in comparison.parts.items():
        assert part.run == pytest.approx(run[name], abs=1e-12)
        assert part.difference == pytest.approx(run[name] - baseline[name], abs=1e-12)


def test_the_same_comparison_twice_is_the_same() -> None:
    assert compare_pairs(make_pair(STRONG, WEAK)) == compare_pairs(make_pair(STRONG, WEAK))


def test_a_model_does_not_differ_from_itself() -> None:
    model = simulate_detections(WEAK, IMAGES, seed=1)

    comparison = compare_pairs((model, model))

    difference = comparison.parts["bbox_mAP"]
    assert (difference.low, difference.difference, difference.high) == (0.0, 0.0, 0.0)
    assert comparison.verdict == "cannot_tell"


def test_a_paired_interval_is_narrower_than_an_unpaired_one() -> None:
    pair = make_pair(WEAK, WEAK)
    unpaired_measurements = measure_pairs([(model, EMPTY) for model in pair])

    paired = half_width(measure_pairs([pair]), noise=None)

    unpaired = 1.96 * np.hypot(*unpaired_measurements.resampled_SBP[:, :, 0].std(axis=1))
    assert paired is not None
    assert paired < 0.7 * unpaired


def test_half_of_the_images_are_drawn_each_time_and_always_the_same() -> None:
    halves_BI = draw_half_samples(7, count=400)

    assert (halves_BI.sum(axis=1) == 3).all()
    assert set(halves_BI.ravel().tolist()) == {0, 1}
    assert halves_BI.mean(axis=0) == pytest.approx([3 / 7] * 7, abs=0.08)
    assert np.array_equal(halves_BI, draw_half_samples(7, count=400))


EMPTY = simulate_detections(SimulatedDetector(-9.0, false_per_image=0.0), IMAGES, seed=1)
"""Detects nothing: a model's difference from it is the model's mAP."""


@pytest.mark.parametrize(
    ("seeds", "noise", "text"),
    [
        (1, None, "nothing else: there is one seed"),
        (1, NOISE, "noise floor of 4 runs"),
        (3, None, "spread of the differences over 3 seeds"),
        (3, NOISE, "spread of the differences over 3 seeds"),
    ],
    ids=["images", "floor", "seeds", "seeds and floor"],
)
def test_the_basis_describes_the_interval(seeds: int, noise: NoiseFloor | None, text: str) -> None:
    pairs = [make_pair(STRONG, WEAK, seed=seed) for seed in range(seeds)]

    comparison = compare_pairs(*pairs, noise=noise)

    assert text in comparison.basis
    assert f"The {IMAGES.images} validation images" in comparison.basis
    assert (comparison.trial, len(comparison.runs)) == (3, seeds)


def test_a_noise_floor_widens_the_interval_to_itself_at_least() -> None:
    pair = make_pair(STRONG, WEAK)
    noise = noise_floor([[0.20, 0.32, 0.26]])
    assert noise is not None

    without_floor, widened = compare_pairs(pair), compare_pairs(pair, noise=noise)

    narrow = without_floor.parts["bbox_mAP"]
    assert narrow.low is not None
    assert narrow.low > 0
    assert widened.verdict == "cannot_tell"
    part = widened.parts["bbox_mAP"]
    assert part.high is not None
    assert part.high - part.difference >= noise.floor


@pytest.mark.parametrize(
    ("teacher_map", "expected"), [(None, None), (0.0, None), ("twice the lead", 0.5)]
)
def test_gap_closed_is_a_share_of_the_teachers_lead(
    teacher_map: float | str | None, expected: float | None
) -> None:
    pair = make_pair(STRONG, WEAK)
    part = compare_pairs(pair).parts["bbox_mAP"]
    if isinstance(teacher_map, str):
        teacher_map = part.baseline + 2 * part.difference

    comparison = compare_pairs(pair, teacher_map=teacher_map)

    assert comparison.gap_closed == (None if expected is None else pytest.approx(expected))


def test_one_image_alone_gives_no_interval() -> None:
    single_image = simulate_images(1, seed=3, objects_per_image=4.0)
    pair = (
        simulate_detections(STRONG, single_image, seed=1),
        simulate_detections(WEAK, single_image, seed=2),
    )

    comparison = compare_pairs(pair)

    assert comparison.parts["bbox_mAP"].low is None
    assert comparison.verdict == "cannot_tell"


def test_models_measured_on_other_images_are_refused() -> None:
    other = simulate_detections(WEAK, simulate_images(60, seed=1), seed=1)

    with pytest.raises(ValueError, match="same images"):
        compare_pairs((simulate_detections(STRONG, IMAGES, seed=1), other))
