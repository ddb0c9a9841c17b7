"""A 95 % interval holds the true difference in 95 % of cases: tried on simulated detectors.

The truth is their difference on 20000 images, over seeds by Gauss-Hermite quadrature. The share of
400 samples that are held is itself known to 1 % (one standard deviation).
"""

from dataclasses import dataclass

import numpy as np

from configs.protocol.report import NoiseFloor
from configs.seed_noise import noise_floor
from tests.support.workers.simulated_detectors import Model, World, a_world, seen_by, shifted
from workers.analysis.average_precision import compute_parts
from workers.analysis.intervals import PairMeasurements, half_width, measure_pairs
from workers.analysis.matches import Matches

IMAGES = 60
SAMPLES = 400
RESAMPLES = 100
BASELINE = Model(0.3, method_ease=0.4, own_ease=0.3)
DISTILLED = shifted(BASELINE, 0.2)
METHODS = (DISTILLED, BASELINE)


@dataclass(frozen=True)
class Sample:
    """Pairs of runs on the same images, one for each seed."""

    number: int
    world: World
    measured: PairMeasurements


def samples(*, seeds: int, seeds_differ: float) -> list[Sample]:
    found = []
    for number in range(SAMPLES):
        world = a_world(IMAGES, seed=number)
        shifts = np.random.default_rng(number).normal(0, seeds_differ, (seeds, 2))
        pairs = [
            (a_run(number, world, 0, seed, shift[0]), a_run(number, world, 1, seed, shift[1]))
            for seed, shift in enumerate(shifts.tolist())
        ]
        found.append(Sample(number, world, measure_pairs(pairs, resamples=RESAMPLES)))
    return found


def a_run(number: int, world: World, method: int, seed: int, shift: float) -> Matches:
    """One method's run: its skill follows from the seed, what else is its own from all of these."""
    model = shifted(METHODS[method], shift)
    return seen_by(model, world, seed=(number, method, seed), method_seed=(number, 9, method))


def noise_of(sample: Sample, *, runs: int, seeds_differ: float) -> NoiseFloor | None:
    """The floor that other runs of the baseline show on the same images."""
    shifts = np.random.default_rng((sample.number, 5)).normal(0, seeds_differ, runs).tolist()
    maps = [
        compute_parts(a_run(sample.number, sample.world, 1, 100 + seed, shift))["bbox_mAP"]
        for seed, shift in enumerate(shifts)
    ]
    return noise_floor([maps])


def true_difference(*, seeds_differ: float) -> float:
    world = a_world(20_000, seed=1)
    shifts, weights = np.polynomial.hermite_e.hermegauss(3)
    maps = [
        compute_parts(
            seen_by(shifted(model, seeds_differ * shift), world, seed=2, method_seed=column)
        )
        for column, model in enumerate(METHODS)
        for shift in shifts
    ]
    run, baseline = np.reshape([parts["bbox_mAP"] for parts in maps], (2, len(shifts)))
    return float((run - baseline) @ weights / weights.sum())


def share_held(
    found: list[Sample], truth: float, noise: list[NoiseFloor | None] | None = None
) -> float:
    held = []
    for sample, floor in zip(found, noise or [None] * len(found), strict=True):
        width = half_width(sample.measured, noise=floor)
        middle = sample.measured.difference_SP[:, 0].mean()
        held.append(width is not None and abs(middle - truth) <= width)
    return float(np.mean(held))


def test_over_images_the_interval_of_two_models_holds_their_true_difference() -> None:
    truth = true_difference(seeds_differ=0.0)

    held = share_held(samples(seeds=1, seeds_differ=0.0), truth)

    assert truth > 0.03
    assert 0.93 <= held <= 0.97


def test_over_several_seeds_the_interval_holds_the_methods_true_difference() -> None:
    truth = true_difference(seeds_differ=0.12)

    held = share_held(samples(seeds=3, seeds_differ=0.12), truth)

    assert 0.93 <= held <= 0.97


def test_with_one_seed_a_noise_floor_is_what_makes_the_interval_hold() -> None:
    truth = true_difference(seeds_differ=0.2)
    found = samples(seeds=1, seeds_differ=0.2)
    noise = [noise_of(sample, runs=6, seeds_differ=0.2) for sample in found]

    with_floor, without = share_held(found, truth, noise), share_held(found, truth)

    assert 0.93 <= with_floor <= 0.97
    assert without < 0.75
