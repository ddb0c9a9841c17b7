"""Errors that a student shares with its teacher, against those of the student alone.

Two detectors of one kind err at the same positions whether or not one has taught the other: some
objects are hard. So the share of a distilled student's errors that its teacher makes too says
nothing by itself; the same share of the student that was trained without the teacher is what it is
compared with.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.protocol.comparison import Difference
from configs.protocol.copied_errors import CopiedError, CopiedErrors, CopiedShare
from workers.analysis.error_kinds import (
    FOREGROUND_IOU,
    box_ious,
    group_by_image,
    object_scores,
    wrong_detections,
)
from workers.analysis.intervals import (
    RESAMPLES,
    PairMeasurements,
    RunPair,
    draw_half_samples,
    half_width,
)
from workers.analysis.matches import Matches, check_same_images

MAX_EXAMPLES = 3
"""Number of false positives, and of missed objects, that are listed for the images."""


@dataclass(frozen=True)
class ModelErrors:
    """The E errors of one model at IoU 0.50, with scores of 0.3 or more."""

    image_E: NDArray[Any]
    index_E: NDArray[Any]
    """Index among the model's detections, or among the objects for misses."""

    shared_E: NDArray[Any]
    """Whether the teacher makes the same error at the same position."""


def measure_copied_errors(
    pairs: Sequence[RunPair], teachers: Sequence[Matches]
) -> CopiedErrors | None:
    """Compare the errors of each pair with those of the pair's teacher; None without pairs.

    Raises `ValueError` if the detectors were not measured on the same images.
    """
    if not pairs:
        return None
    for pair, teacher in zip(pairs, teachers, strict=True):
        for matches in (pair.run, pair.baseline, teacher):
            check_same_images(pairs[0].run, matches)
    false_positives, missed = (
        [
            (find(pair.run, teacher), find(pair.baseline, teacher))
            for pair, teacher in zip(pairs, teachers, strict=True)
        ]
        for find in (find_false_positives, find_missed_objects)
    )
    images = len(pairs[0].run.files)
    return CopiedErrors(
        runs=tuple(pair.run_id for pair in pairs),
        baselines=tuple(pair.baseline_id for pair in pairs),
        false_positives=measure_share(false_positives, images=images),
        missed=measure_share(missed, images=images),
        examples=(
            *_list_false_positives(pairs[0], teachers[0], false_positives[0][0]),
            *_list_missed_objects(pairs[0], missed[0][0]),
        ),
    )


def find_false_positives(model: Matches, teacher: Matches) -> ModelErrors:
    """False positives; shared are those whose box has an IoU of 0.50 or more with a false positive
    of the teacher of the same class."""
    wrong_E = np.flatnonzero(wrong_detections(model))
    partner_E = _match_boxes(model, wrong_E, teacher, wrong_detections(teacher))
    return ModelErrors(model.image_D[wrong_E], wrong_E, partner_E >= 0)


def find_missed_objects(model: Matches, teacher: Matches) -> ModelErrors:
    """Objects that are no crowds and that the model does not detect; shared are those that the
    teacher does not detect either."""
    missed_G = np.isnan(object_scores(model)) & ~model.crowd_G
    missed_E = np.flatnonzero(missed_G)
    return ModelErrors(
        model.image_G[missed_E], missed_E, np.isnan(object_scores(teacher))[missed_E]
    )


def _match_boxes(
    model: Matches, index_E: NDArray[Any], other: Matches, chosen_D: NDArray[Any]
) -> NDArray[Any]:
    """Index of the other model's best chosen detection of the same image and class for each
    detection, (E,); -1 where none has an IoU of 0.50."""
    images = len(model.files)
    partner_E = np.full(len(index_E), -1)
    candidates = group_by_image(other.image_D, chosen_D, images=images)
    every_E = np.ones(len(index_E), dtype=bool)
    for positions, other_indices in zip(
        group_by_image(model.image_D[index_E], every_E, images=images), candidates, strict=True
    ):
        if not (len(positions) and len(other_indices)):
            continue
        own = index_E[positions]
        iou_EW = box_ious(model.box_D4[own], other.box_D4[other_indices])
        iou_EW[model.class_D[own][:, None] != other.class_D[other_indices]] = 0.0
        is_match_E = iou_EW.max(axis=1) >= FOREGROUND_IOU
        partner_E[positions] = np.where(is_match_E, other_indices[iou_EW.argmax(axis=1)], -1)
    return partner_E


def measure_share(errors: Sequence[tuple[ModelErrors, ModelErrors]], *, images: int) -> CopiedShare:
    """The share of shared errors of the runs and of their baselines, with its difference."""
    run_errors, baseline_errors = zip(*errors, strict=True)
    return CopiedShare(
        errors=sum(len(run.image_E) for run in run_errors),
        copied=sum(int(run.shared_E.sum()) for run in run_errors),
        baseline_errors=sum(len(baseline.image_E) for baseline in baseline_errors),
        baseline_copied=sum(int(baseline.shared_E.sum()) for baseline in baseline_errors),
        difference=_difference(errors, images=images),
    )


def _difference(
    errors: Sequence[tuple[ModelErrors, ModelErrors]], *, images: int
) -> Difference | None:
    """The difference of the shares, as mAP's: half-samples of the images, and the spread over
    seeds. None if a model of any pair makes no errors."""
    weights_BI = np.concatenate(
        [np.ones((1, images), dtype=np.int32), draw_half_samples(images, count=RESAMPLES)]
    )
    shares_S2B = np.array(
        [[_resample_share(model, weights_BI) for model in pair] for pair in errors]
    )
    run_SB, baseline_SB = shares_S2B[:, 0], shares_S2B[:, 1]
    if np.isnan(shares_S2B[:, :, 0]).any():
        return None
    measurements = PairMeasurements(
        run_SP=run_SB[:, :1],
        baseline_SP=baseline_SB[:, :1],
        resampled_SBP=(run_SB - baseline_SB)[:, 1:, None],
        images=images,
    )
    width = half_width(measurements, noise=None)
    middle = float(measurements.difference_SP.mean())
    return Difference(
        run=float(run_SB[:, 0].mean()),
        baseline=float(baseline_SB[:, 0].mean()),
        difference=middle,
        low=None if width is None else middle - width,
        high=None if width is None else middle + width,
    )


def _resample_share(errors: ModelErrors, weights_BI: NDArray[Any]) -> NDArray[Any]:
    """Share of shared errors by resample of the images, (B,); NaN without errors."""
    images = weights_BI.shape[1]
    counts_2I = [
        np.bincount(image_E, minlength=images)
        for image_E in (errors.image_E[errors.shared_E], errors.image_E)
    ]
    shared_B, all_B = (weights_BI @ counts_I for counts_I in counts_2I)
    return np.where(all_B > 0, shared_B / np.maximum(all_B, 1), np.nan)


def _list_false_positives(
    pair: RunPair, teacher: Matches, errors: ModelErrors
) -> Iterator[CopiedError]:
    """Shared false positives that the student alone does not make, by descending score."""
    run = pair.run
    index_X = errors.index_E[errors.shared_E]
    baseline_X = _match_boxes(run, index_X, pair.baseline, wrong_detections(pair.baseline))
    teacher_X = _match_boxes(run, index_X, teacher, wrong_detections(teacher))
    copied = np.flatnonzero(baseline_X < 0)
    order = copied[np.argsort(-run.score_D[index_X[copied]], kind="stable")]
    for position in _first_of_each_image(run.image_D[index_X], order):
        index = index_X[position]
        yield CopiedError(
            kind="false_positive",
            file=run.files[run.image_D[index]],
            class_name=run.class_names[run.class_D[index]],
            box=tuple(run.box_D4[index].tolist()),
            score=float(run.score_D[index]),
            teacher_score=float(teacher.score_D[teacher_X[position]]),
        )


def _list_missed_objects(pair: RunPair, errors: ModelErrors) -> Iterator[CopiedError]:
    """Objects that student and teacher miss and the student alone detects, by its score."""
    run = pair.run
    score_G = object_scores(pair.baseline)
    index_X = errors.index_E[errors.shared_E]
    copied = index_X[~np.isnan(score_G[index_X])]
    order = copied[np.argsort(-score_G[copied], kind="stable")]
    for index in _first_of_each_image(run.image_G, order):
        yield CopiedError(
            kind="missed",
            file=run.files[run.image_G[index]],
            class_name=run.class_names[run.class_G[index]],
            box=tuple(run.box_G4[index].tolist()),
            score=float(score_G[index]),
        )


def _first_of_each_image(image_X: NDArray[Any], order: NDArray[Any]) -> list[int]:
    """The first indices of an order, at most one of each image and `MAX_EXAMPLES` of all."""
    _, first = np.unique(image_X[order], return_index=True)
    return [int(index) for index in order[np.sort(first)]][:MAX_EXAMPLES]
