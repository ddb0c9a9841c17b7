"""Images with the boxes of objects that the teacher detects and the student misses."""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from configs.protocol.report import MissedImage, MissedObject
from workers.evaluation.drawing import COLORS, Panel, draw_boxes
from workers.report.blocks import Panels, Photo
from workers.report.wording import format_count, join_items

MAX_PHOTOS = 12
_MAX_SIDE = 480
_MIN_SIDE = 320
"""Smaller images are enlarged, so that a caption fits."""

_QUALITY = 78


@dataclass(frozen=True)
class Photos:
    """Drawn images, and the files that could not be read."""

    photos: tuple[Photo, ...]
    unreadable: tuple[str, ...]
    samples: tuple[Panels, ...] = ()
    """Images with the boxes of all detectors of a pair."""

    copied: tuple[Panels, ...] = ()
    """The same of errors that are copied from the teacher."""


def draw_photos(
    images: Sequence[MissedImage], *, folder: Path, on_step: Callable[[], None] = lambda: None
) -> Photos:
    """Draw the first images of a list; their names are relative to `folder`."""
    photos: list[Photo] = []
    unreadable: list[str] = []
    for image in images[:MAX_PHOTOS]:
        on_step()
        original = read_image(image.file, folder=folder)
        if original is None:
            unreadable.append(image.file)
            continue
        jpeg = encode_jpeg(_draw_missed_objects(original, image.objects))
        photos.append(Photo(f"missed-{len(photos) + 1:02d}", jpeg, _caption(image)))
    return Photos(tuple(photos), tuple(unreadable))


def read_image(file: str, *, folder: Path) -> Image.Image | None:
    """Read an image below a folder as RGB; None if there is no such image in the folder."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        return None
    try:
        with Image.open(folder / path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def fit_image(original: Image.Image, *, smallest: int, largest: int) -> tuple[Image.Image, float]:
    """A copy whose longer side is between two limits, in pixels, and its scale."""
    longest = max(original.size)
    scale = min(max(longest, smallest), largest) / longest
    width, height = (max(1, round(side * scale)) for side in original.size)
    return original.resize((width, height), Image.Resampling.BICUBIC), scale


def encode_jpeg(picture: Image.Image) -> bytes:
    """Encode an image for a page."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def _draw_missed_objects(original: Image.Image, missed: Sequence[MissedObject]) -> Image.Image:
    picture, scale = fit_image(original, smallest=_MIN_SIDE, largest=_MAX_SIDE)
    class_names = list(dict.fromkeys(item.class_name for item in missed))
    panel = Panel(
        title="teacher",
        color=COLORS["teacher"],
        boxes_N4=np.array([item.box for item in missed]),
        labels_N=np.array([class_names.index(item.class_name) for item in missed]),
        scores_N=np.array([item.teacher_score for item in missed]),
    )
    draw_boxes(picture, panel, scale=scale, class_names=class_names)
    return picture


def _caption(image: MissedImage) -> str:
    """As in `a.jpg: 3 objects missed: “dog” 2 times, “cat”`; class names may be digits."""
    counts = Counter(item.class_name for item in image.objects)
    classes = [
        f"“{name}”" if count == 1 else f"“{name}” {count} times" for name, count in counts.items()
    ]
    return (
        f"{image.file}: {format_count(len(image.objects), 'object')} missed: {join_items(classes)}"
    )
