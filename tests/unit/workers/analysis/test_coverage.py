"""Coverage of the 95 % intervals, measured on simulated detectors.

The true difference is that on 20000 images, over seeds by Gauss-Hermite quadrature. The standard
error of the coverage of 400 samples is 1 %.
"""

from dataclasses import dataclass

import numpy as np

from configs.protocol.comparison import NoiseFloor
from configs.seed_noise import noise_floor
from tests.support.workers.average_precision import compute_parts
from tests.support.workers.simulated_detectors import (
    SimulatedDetector,
    SimulatedImages,
    shift_skill,
    simulate_detections,
    simulate_images,
)
from workers.analysis.intervals import PairMeasurements, half_width, measure_pairs
from workers.analysis.matches import Matches

IMAGES = 60
SAMPLES = 400
RESAMPLES = 100
BASELINE = SimulatedDetector(0.3, method_ease=0.4, own_ease=0.3)
DISTILLED = shift_skill(BASELINE, 0.2)
METHODS = (DISTILLED, BASELINE)


@dataclass(frozen=True)
class Sample:
    """Pairs of runs on the same images, one pair for each seed."""

    number: int
    images: SimulatedImages
    measurements: PairMeasurements


def samples(*, seeds: int, seed_deviation: float) -> list[Sample]:
    simulated = []
    for number in range(SAMPLES):
        images = simulate_images(IMAGES, seed=number)
        shifts = np.random.default_rng(number).normal(0, seed_deviation, (seeds, 2))
        pairs = [
            (
                simulate_run(number, images, 0, seed, shift[0]),
                simulate_run(number, images, 1, seed, shift[1]),
            )
            for seed, shift in enumerate(shifts.tolist())
        ]
        simulated.append(Sample(number, images, measure_pairs(pairs, resamples=RESAMPLES)))
    return simulated


def simulate_run(
    number: int, images: SimulatedImages, method: int, seed: int, shift: float
) -> Matches:
    """Simulate a run of a method with a skill shifted by its seed."""
    detector = shift_skill(METHODS[method], shift)
    return simulate_detections(
        detector, images, seed=(number, method, seed), method_seed=(number, 9, method)
    )


def estimate_noise_floor(sample: Sample, *, runs: int, seed_deviation: float) -> NoiseFloor | None:
    """Estimate the noise floor from other baseline runs on the same images."""
    shifts = np.random.default_rng((sample.number, 5)).normal(0, seed_deviation, runs).tolist()
    maps = [
        compute_parts(simulate_run(sample.number, sample.images, 1, 100 + seed, shift))["bbox_mAP"]
        for seed, shift in enumerate(shifts)
    ]
    return noise_floor([maps])


def compute_true_difference(*, seed_deviation: float) -> float:
    images = simulate_images(20_000, seed=1)
    shifts, weights = np.polynomial.hermite_e.hermegauss(3)
    maps = [
        compute_parts(
            simulate_detections(
                shift_skill(detector, seed_deviation * shift),
                images,
                seed=2,
                method_seed=column,
            )
        )
        for column, detector in enumerate(METHODS)
        for shift in shifts
    ]
    run, baseline = np.reshape([parts["bbox_mAP"] for parts in maps], (2, len(shifts)))
    return float((run - baseline) @ weights / weights.sum())


def measure_coverage(
    simulated: list[Sample], truth: float, noise: list[NoiseFloor | None] | None = None
) -> float:
    is_covered = []
    for sample, floor in zip(simulated, noise or [None] * len(simulated), strict=True):
        width = half_width(sample.measurements, noise=floor)
        middle = sample.measurements.difference_SP[:, 0].mean()
        is_covered.append(width is not None and abs(middle - truth) <= width)
    return float(np.mean(is_covered))


def test_the_interval_of_two_models_covers_their_true_difference() -> None:
    truth = compute_true_difference(seed_deviation=0.0)

    is_covered = measure_coverage(samples(seeds=1, seed_deviation=0.0), truth)

    assert truth > 0.03
    assert 0.93 <= is_covered <= 0.97


def test_the_interval_of_several_seeds_covers_the_true_difference_of_the_methods() -> None:
    truth = compute_true_difference(seed_deviation=0.12)

    is_covered = measure_coverage(samples(seeds=3, seed_deviation=0.12), truth)

    assert 0.93 <= is_covered <= 0.97


def test_with_one_seed_the_interval_needs_a_noise_floor() -> None:
    truth = compute_true_difference(seed_deviation=0.2)
    simulated = samples(seeds=1, seed_deviation=0.2)
    noise = [estimate_noise_floor(sample, runs=6, seed_deviation=0.2) for sample in simulated]

    with_floor, without_floor = (
        measure_coverage(simulated, truth, noise),
        measure_coverage(simulated, truth),
    )

    assert 0.93 <= with_floor <= 0.97
    assert without_floor < 0.75
