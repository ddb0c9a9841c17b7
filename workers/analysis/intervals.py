"""Did it help: a run less its baseline, with an interval that holds what it says it holds.

Two things make a difference uncertain: other images, and other seeds.

Images: the same half of them is drawn for both models, 1000 times, and the differences' standard
deviation is taken (the half-sample bootstrap; McCarthy 1969, Shao and Wu 1989). Drawing as many as
there are, with replacement, was tried first: an image that is there twice brings the same hits
twice, which a new image would not, and the standard error comes out 4 % too small (1500 simulated
pairs of detectors each, 60 to 150 images, two or five classes); with halves 0 to 2 %. Of 95 %
intervals there held the true difference: with replacement and Student's t 92.9 to 94.2 %, with
halves and Student's t 94.1 to 94.9 %; with replacement as percentiles 92.8 to 94.6 %, as BCa 90.7
to 92.8 % (500 or 1000 pairs each, up to 300 images). So halves it is. Intervals of
models that see different images (unpaired) are 1.4 to 2.5 times as wide.

Seeds: each of the two errors has a Student's t of its own, and the sum's is their mean, weighted by
variance (Cochran and Cox 1950), but never less than what the seeds give alone. One t for the sum
(Welch and Satterthwaite) held 88 to 92 % with two and 92 to 94 % with three seeds where the seeds'
error decides; the mean holds 94 to 98 % (200000 draws of normal variables for each of some
forty cases; what is added to it only widens), and all of it, with simulated
detectors and three to five seeds, 93.5 to 98.2 %.

- Several seeds: the spread of their differences. What images do to each seed by itself is part of
  that spread, so it is taken out of the images' error; what they do to all seeds alike stays.
- One seed and a known noise floor: the floor. It was measured on the same images, so what images
  do to each run by itself counts twice, and the interval errs on the wide side: it held 96.6 to
  98.6 %, and images alone 60 to 82 % where seeds differ.
- One seed alone: images only. That is an interval of these two models and not of the method, so
  there is no verdict, whatever the interval holds.

`tests/unit/workers/analysis/test_coverage.py` repeats the main cases.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from configs.protocol.report import (
    MAP_PARTS,
    Comparison,
    Difference,
    NoiseFloor,
    SeedGain,
    SeedSpread,
    Verdict,
)
from configs.seed_noise import TWO_SIDED, t_quantile
from workers.analysis.average_precision import compute_parts_by_resample, rank_detections
from workers.analysis.matches import Array, Matches, check_same_images

RESAMPLES = 1000

_SEED = 0
_FEWEST_KNOWN = 0.5
"""Share of the resamples that must have objects of a size, else its interval is unknown."""

_MAP = MAP_PARTS[0]


@dataclass(frozen=True)
class PairMeasurements:
    """mAP and its parts of S pairs; P parts as in `MAP_PARTS`, B half-samples, NaN without objects."""

    run_SP: Array
    baseline_SP: Array
    resampled_SBP: Array
    """The run less its baseline on each half of the images."""

    images: int

    @property
    def difference_SP(self) -> Array:
        """The run less its baseline on all images."""
        return self.run_SP - self.baseline_SP


@dataclass(frozen=True)
class RunPair:
    """A distilled run and its baseline, with which of their detections are right."""

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
) -> Comparison:
    """A run beside its baseline, or several, each pair with a seed of its own.

    All must have been measured on the same images; `ValueError` if not, and if two pairs have the
    same seed: they would make the spread over seeds look smaller than it is.
    """
    if len({pair.seed for pair in pairs}) < len(pairs):
        raise ValueError("two pairs have the same seed")
    measured = measure_pairs([(pair.run, pair.baseline) for pair in pairs])
    parts = compute_differences(measured, noise=noise)
    spread = _seed_spread(measured, noise)
    return Comparison(
        runs=tuple(pair.run_id for pair in pairs),
        baselines=tuple(pair.baseline_id for pair in pairs),
        trial=trial,
        parts=parts,
        teacher_map=teacher_map,
        gap_closed=_lead_closed(parts.get(_MAP), teacher_map),
        verdict=_verdict(parts.get(_MAP), spread),
        seed_spread=spread,
        basis=_basis(measured, noise),
        images=measured.images,
        gains=tuple(_gains(pairs, measured)) if _MAP in parts else (),
    )


def measure_pairs(
    pairs: Sequence[tuple[Matches, Matches]], *, resamples: int = RESAMPLES
) -> PairMeasurements:
    """Both models of each pair on all images and on the same halves of them."""
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


def draw_half_samples(images: int, *, count: int) -> Array:
    """Rows of 1 for images that are drawn and 0 for others, always the same ones."""
    keys_BI = np.random.default_rng(_SEED).random((count, images))
    return (np.argsort(keys_BI, axis=1) < images // 2).astype(np.int32)


def compute_differences(
    measured: PairMeasurements, *, noise: NoiseFloor | None
) -> dict[str, Difference]:
    """By part, those without objects left out."""
    found = {}
    for part, name in enumerate(MAP_PARTS):
        run, baseline = measured.run_SP[:, part], measured.baseline_SP[:, part]
        if np.isnan(run).any():
            continue
        width = half_width(measured, part, noise=noise)
        middle = float(np.mean(run - baseline))
        found[name] = Difference(
            run=float(run.mean()),
            baseline=float(baseline.mean()),
            difference=middle,
            low=None if width is None else middle - width,
            high=None if width is None else middle + width,
        )
    return found


def half_width(
    measured: PairMeasurements, part: int = 0, *, noise: NoiseFloor | None
) -> float | None:
    """Half the length of a part's interval; none: too few images have such objects."""
    images = _image_error(measured, part)
    if images is None:
        return None
    seeds = len(measured.run_SP)
    if seeds > 1:
        shared = math.sqrt(max(images**2 - _own_variance(measured, part) / seeds, 0.0))
        spread = float(np.std(measured.difference_SP[:, part], ddof=1)) / math.sqrt(seeds)
        return _joined(measured, shared, spread, freedom=seeds - 1)
    if noise is None:
        return _joined(measured, images, 0.0, freedom=1)
    # The floor is of mAP; a part is taken to scatter over seeds as it does over images.
    of_map = _image_error(measured, 0)
    ratio = images / of_map if of_map else 1.0
    of_seeds = math.sqrt(2.0) * noise.deviation * ratio
    return _joined(measured, images, of_seeds, freedom=noise.freedom)


def _joined(measured: PairMeasurements, images: float, seeds: float, *, freedom: int) -> float:
    """Two standard errors as half a 95 % interval; `freedom` is that of the seeds' error."""
    whole = math.hypot(images, seeds)
    if whole == 0.0:
        return 0.0
    images_t = t_quantile(TWO_SIDED, measured.images - 1)
    seeds_t = t_quantile(TWO_SIDED, freedom)
    weighted = (images_t * images**2 + seeds_t * seeds**2) / whole
    return max(weighted, seeds_t * seeds)


def _image_error(measured: PairMeasurements, part: int) -> float | None:
    """The standard error that images alone give to the seeds' mean difference."""
    mean_B = _known(measured, part).mean(axis=0)
    if len(mean_B) < _FEWEST_KNOWN * measured.resampled_SBP.shape[1] or len(mean_B) < 2:
        return None
    return math.sqrt(float(np.var(mean_B, ddof=1)) * _correction(measured))


def _own_variance(measured: PairMeasurements, part: int) -> float:
    """The variance that images give to each seed's difference and not to the others'."""
    known_SB = _known(measured, part)
    rest_SB = known_SB - known_SB.mean(axis=0)
    freedom = len(known_SB) - 1
    return float(np.var(rest_SB, axis=1, ddof=1).sum()) / freedom * _correction(measured)


def _known(measured: PairMeasurements, part: int) -> Array:
    resampled_SB = measured.resampled_SBP[:, :, part]
    return resampled_SB[:, ~np.isnan(resampled_SB).any(axis=0)]


def _correction(measured: PairMeasurements) -> float:
    """From the variance of samples without replacement to that of all images; 1 for even halves."""
    drawn = measured.images // 2
    return drawn / (measured.images - drawn)


def _lead_closed(found: Difference | None, teacher_map: float | None) -> float | None:
    if found is None or teacher_map is None or teacher_map <= found.baseline:
        return None
    return found.difference / (teacher_map - found.baseline)


def _seed_spread(measured: PairMeasurements, noise: NoiseFloor | None) -> SeedSpread:
    if len(measured.run_SP) > 1:
        return "pairs"
    return "unknown" if noise is None else "noise_floor"


def _gains(pairs: Sequence[RunPair], measured: PairMeasurements) -> Iterator[SeedGain]:
    for pair, run_P, baseline_P in zip(pairs, measured.run_SP, measured.baseline_SP, strict=True):
        run, baseline = float(run_P[0]), float(baseline_P[0])
        yield SeedGain(
            seed=pair.seed,
            run=pair.run_id,
            baseline=pair.baseline_id,
            run_map=run,
            baseline_map=baseline,
            gain=run - baseline,
        )


def _verdict(found: Difference | None, spread: SeedSpread) -> Verdict:
    if found is None or found.low is None or found.high is None or spread == "unknown":
        return "cannot_tell"
    if found.low > 0.0:
        return "helps"
    return "hurts" if found.high < 0.0 else "cannot_tell"


def _basis(measured: PairMeasurements, noise: NoiseFloor | None) -> str:
    seeds = len(measured.run_SP)
    images = f"The {measured.images} validation images were resampled, the same for both models"
    if seeds > 1:
        return f"{images}, and the spread of the differences over {seeds} seeds was added."
    if noise is not None:
        return (
            f"{images}, and the noise floor of {noise.runs} runs that differ in their seed alone "
            f"was added ({noise.floor:.4f} mAP), for there is one seed."
        )
    return (
        f"{images}, and nothing else: there is one seed, how much seeds differ is unknown, and so "
        "this is said of these two models and not of the method."
    )
