"""Smaller repetitions of published runs: a share of the images, with the schedule in proportion."""

import re
from fractions import Fraction

from pydantic import JsonValue

from configs.spec.run import RunSpec

FULL_SCALE = Fraction(1)

_SCALE = re.compile(r"[0-9]{1,6}(/[0-9]{1,6}|\.[0-9]{1,6})?")


def parse_scale(text: str) -> Fraction:
    """A share as in `1/10` or `0.1`, above 0 and at most 1. Raises `ValueError`."""
    message = f"{text!r} is no scale: give a share of the training images, e.g. 1/10, at most 1."
    if not _SCALE.fullmatch(text):
        raise ValueError(message)
    try:
        scale = Fraction(text)
    except ZeroDivisionError as error:
        raise ValueError(message) from error
    if not 0 < scale <= 1:
        raise ValueError(message)
    return scale


def scale_run(spec: RunSpec, *, scale: Fraction, num_images: int) -> dict[str, JsonValue]:
    """Changes for the same number of epochs over a share of the dataset's `num_images` images.

    Each epoch has fewer steps, so warm-up, decays and end keep their places in training; at least
    one batch of images and one step of warm-up remain.
    """
    if scale == FULL_SCALE:
        return {}
    available = min(num_images, spec.data.train_images or num_images)
    images = max(spec.data.batch_size, round(available * scale))
    changes: dict[str, JsonValue] = {"data.train_images": min(available, images)}
    warmup = spec.schedule.warmup
    if warmup is not None:
        changes["schedule.warmup.iterations"] = max(1, round(warmup.iterations * scale))
    return changes
