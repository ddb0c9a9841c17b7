"""Compares runs with their baselines: mAP differences with 95 % intervals of tested coverage.

A difference is uncertain for two reasons: other images and other seeds.

Images: the half-sample bootstrap (McCarthy 1969, Shao and Wu 1989). The same random half of the
images is drawn for both models, 1000 times, and the standard deviation of the differences is the
standard error. The ordinary bootstrap with replacement was tried first: an image that is drawn
twice repeats the same hits, which a new image would not, and the standard error is 4 % too small
(1500 simulated pairs of detectors each, 60 to 150 images, two or five classes); with half-samples
0 to 2 %. Measured coverage of 95 % intervals: with replacement and Student's t 92.9 to 94.2 %, with
half-samples and Student's t 94.1 to 94.9 %; with replacement and percentiles 92.8 to 94.6 %, and
BCa 90.7 to 92.8 % (500 or 1000 pairs each, up to 300 images). Unpaired intervals, with different
images for the two models, are 1.4 to 2.5 times as wide.

Seeds: each of the two errors has its own Student's t. That of their sum is the mean of the two,
weighted by variance (Cochran and Cox 1950), but at least the seeds' part. A single t for the sum
(Welch and Satterthwaite) had a coverage of 88 to 92 % with two and 92 to 94 % with three seeds
where the seeds' error dominates; the weighted mean has 94 to 98 % (200000 draws of normal variables
for each of some forty cases; the lower limit only widens it). All of it together, with simulated
detectors and three to five seeds, has 93.5 to 98.2 %.

- Several seeds: the spread of their differences is added. The effect of the images on each single
  seed is part of that spread, so it is removed from the images' error; the effect on all seeds
  alike stays.
- One seed and a known noise floor: the floor is added. It was measured on the same images, so their
  effect on single runs counts twice and the interval is too wide: its coverage is 96.6 to 98.6 %,
  and that of images alone 60 to 82 % where seeds differ.
- One seed without a floor: images only. The interval is one of these two models and not of the
  method, so there is no verdict, whatever the interval is.

`tests/unit/workers/analysis/test_coverage.py` repeats the main cases.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.protocol.comparison import (
    MAP_PARTS,
    Comparison,
    Difference,
    NoiseFloor,
    SeedGain,
    SeedSpread,
    Verdict,
)
from configs.seed_noise import TWO_SIDED, t_quantile
from configs.spec.base import TeacherControl
from workers.analysis.average_precision import compute_parts_by_resample, rank_detections
from workers.analysis.matches import Matches, check_same_images

RESAMPLES = 1000

_SEED = 0
_MIN_VALID_SHARE = 0.5
"""Minimum share of resamples with objects of a size; below it, the interval is unknown."""

_MAP = MAP_PARTS[0]


@dataclass(frozen=True)
class PairMeasurements:
    """mAP and its parts of S pairs.

    P parts as in `MAP_PARTS`, B half-samples; NaN without objects.
    """

    run_SP: NDArray[Any]
    baseline_SP: NDArray[Any]
    resampled_SBP: NDArray[Any]
    """Run minus baseline on each half-sample of the images."""

    images: int

    @property
    def difference_SP(self) -> NDArray[Any]:
        """Run minus baseline on all images."""
        return self.run_SP - self.baseline_SP


@dataclass(frozen=True)
class RunPair:
    """A distilled run and its baseline, with their matched detections."""

    seed: int
    run_id: str
    baseline_id: str
    run: Matches
    baseline: Matches


def compare(
    pairs: Sequence[RunPair],
    *,
    trial: int | None,
    teacher_map: float | None,
    noise: NoiseFloor | None,
    control: TeacherControl | None = None,
) -> Comparison:
    """Compare one or more runs with their baselines, each pair with its own seed.

    Raises `ValueError` if the runs were not measured on the same images, or if two pairs have the
    same seed, which would underestimate the spread over seeds.
    """
    if len({pair.seed for pair in pairs}) < len(pairs):
        raise ValueError("two pairs have the same seed")
    measurements = measure_pairs([(pair.run, pair.baseline) for pair in pairs])
    parts = compute_differences(measurements, noise=noise)
    spread = _seed_spread(measurements, noise)
    return Comparison(
        runs=tuple(pair.run_id for pair in pairs),
        baselines=tuple(pair.baseline_id for pair in pairs),
        trial=trial,
        control=control,
        parts=parts,
        teacher_map=teacher_map,
        gap_closed=_gap_closed(parts.get(_MAP), teacher_map),
        verdict=_verdict(parts.get(_MAP), spread),
        seed_spread=spread,
        basis=_basis(measurements, noise),
        images=measurements.images,
        gains=tuple(_gains(pairs, measurements)) if _MAP in parts else (),
    )


def measure_pairs(
    pairs: Sequence[tuple[Matches, Matches]], *, resamples: int = RESAMPLES
) -> PairMeasurements:
    """Measure both models of each pair on all images and on the same half-samples."""
    for run, baseline in pairs:
        check_same_images(pairs[0][0], run)
        check_same_images(pairs[0][0], baseline)
    images = len(pairs[0][0].files)
    weights_BI = np.concatenate(
        [np.ones((1, images), dtype=np.int32), draw_half_samples(images, count=resamples)]
    )
    values = np.array(
        [
            [compute_parts_by_resample(rank_detections(model), weights_BI) for model in pair]
            for pair in pairs
        ]
    )
    run_SBP, baseline_SBP = values[:, 0], values[:, 1]
    return PairMeasurements(
        run_SP=run_SBP[:, 0],
        baseline_SP=baseline_SBP[:, 0],
        resampled_SBP=(run_SBP - baseline_SBP)[:, 1:],
        images=images,
    )


def draw_half_samples(images: int, *, count: int) -> NDArray[Any]:
    """Draw reproducible half-samples, (count, images): 1 for a drawn image, else 0."""
    keys_BI = np.random.default_rng(_SEED).random((count, images))
    return (np.argsort(keys_BI, axis=1) < images // 2).astype(np.int32)


def compute_differences(
    measurements: PairMeasurements, *, noise: NoiseFloor | None
) -> dict[str, Difference]:
    """Compute the differences by part, without parts that have no objects."""
    by_part = {}
    for part, name in enumerate(MAP_PARTS):
        run, baseline = measurements.run_SP[:, part], measurements.baseline_SP[:, part]
        if np.isnan(run).any():
            continue
        width = half_width(measurements, part, noise=noise)
        middle = float(np.mean(run - baseline))
        by_part[name] = Difference(
            run=float(run.mean()),
            baseline=float(baseline.mean()),
            difference=middle,
            low=None if width is None else middle - width,
            high=None if width is None else middle + width,
        )
    return by_part


def half_width(
    measurements: PairMeasurements, part: int = 0, *, noise: NoiseFloor | None
) -> float | None:
    """Half the width of a part's interval; None if too few images have such objects."""
    images = _image_error(measurements, part)
    if images is None:
        return None
    seeds = len(measurements.run_SP)
    if seeds > 1:
        shared = math.sqrt(max(images**2 - _unshared_variance(measurements, part) / seeds, 0.0))
        spread = float(np.std(measurements.difference_SP[:, part], ddof=1)) / math.sqrt(seeds)
        return _combine_errors(measurements, shared, spread, freedom=seeds - 1)
    if noise is None:
        return _combine_errors(measurements, images, 0.0, freedom=1)
    # The floor is that of mAP; the seeds' error of a part is scaled by its images' error.
    map_error = _image_error(measurements, 0)
    ratio = images / map_error if map_error else 1.0
    seed_error = math.sqrt(2.0) * noise.deviation * ratio
    return _combine_errors(measurements, images, seed_error, freedom=noise.freedom)


def _combine_errors(
    measurements: PairMeasurements, images: float, seeds: float, *, freedom: int
) -> float:
    """Combine two standard errors into half a 95 % interval.

    `freedom` gives the degrees of freedom of the seeds' error.
    """
    total = math.hypot(images, seeds)
    if total == 0.0:
        return 0.0
    images_t = t_quantile(TWO_SIDED, measurements.images - 1)
    seeds_t = t_quantile(TWO_SIDED, freedom)
    weighted = (images_t * images**2 + seeds_t * seeds**2) / total
    return max(weighted, seeds_t * seeds)


def _image_error(measurements: PairMeasurements, part: int) -> float | None:
    """Standard error of the mean difference over seeds, from the images alone."""
    mean_B = _complete_resamples(measurements, part).mean(axis=0)
    if len(mean_B) < _MIN_VALID_SHARE * measurements.resampled_SBP.shape[1] or len(mean_B) < 2:
        return None
    return math.sqrt(float(np.var(mean_B, ddof=1)) * _correction(measurements))


def _unshared_variance(measurements: PairMeasurements, part: int) -> float:
    """Variance of a seed's difference from the images that is not shared with other seeds."""
    valid_SB = _complete_resamples(measurements, part)
    residual_SB = valid_SB - valid_SB.mean(axis=0)
    freedom = len(valid_SB) - 1
    return float(np.var(residual_SB, axis=1, ddof=1).sum()) / freedom * _correction(measurements)


def _complete_resamples(measurements: PairMeasurements, part: int) -> NDArray[Any]:
    resampled_SB = measurements.resampled_SBP[:, :, part]
    return resampled_SB[:, ~np.isnan(resampled_SB).any(axis=0)]


def _correction(measurements: PairMeasurements) -> float:
    """Finite population correction of half-samples; 1 for an even number of images."""
    sampled = measurements.images // 2
    return sampled / (measurements.images - sampled)


def _gap_closed(difference: Difference | None, teacher_map: float | None) -> float | None:
    if difference is None or teacher_map is None or teacher_map <= difference.baseline:
        return None
    return difference.difference / (teacher_map - difference.baseline)


def _seed_spread(measurements: PairMeasurements, noise: NoiseFloor | None) -> SeedSpread:
    if len(measurements.run_SP) > 1:
        return "pairs"
    return "unknown" if noise is None else "noise_floor"


def _gains(pairs: Sequence[RunPair], measurements: PairMeasurements) -> Iterator[SeedGain]:
    for pair, run_P, baseline_P in zip(
        pairs, measurements.run_SP, measurements.baseline_SP, strict=True
    ):
        run, baseline = float(run_P[0]), float(baseline_P[0])
        yield SeedGain(
            seed=pair.seed,
            run=pair.run_id,
            baseline=pair.baseline_id,
            run_map=run,
            baseline_map=baseline,
            gain=run - baseline,
        )


def _verdict(difference: Difference | None, spread: SeedSpread) -> Verdict:
    if (
        difference is None
        or difference.low is None
        or difference.high is None
        or spread == "unknown"
    ):
        return "cannot_tell"
    if difference.low > 0.0:
        return "helps"
    return "hurts" if difference.high < 0.0 else "cannot_tell"


def _basis(measurements: PairMeasurements, noise: NoiseFloor | None) -> str:
    seeds = len(measurements.run_SP)
    images = f"The {measurements.images} validation images were resampled, the same for both models"
    if seeds > 1:
        return f"{images}, and the spread of the differences over {seeds} seeds was added."
    if noise is not None:
        return (
            f"{images}, and the noise floor of {noise.runs} runs that differ in their seed alone "
            f"was added ({100 * noise.floor:.1f} mAP), because there is only one seed."
        )
    return (
        f"{images}, and nothing else: there is one seed, so the spread over seeds is unknown, and "
        "the interval is that of these two models and not of the method."
    )
