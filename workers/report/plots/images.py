"""Images where the teacher is right and the student is not, with the lost boxes on them."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from configs.protocol.report import MissedImage, MissedObject
from workers.evaluation.drawing import COLORS, Panel, draw_boxes
from workers.report.blocks import Photo
from workers.report.wording import format_count

MAX_PHOTOS = 12
_LONGEST_SIDE = 480
_SMALLEST_SIDE = 320
"""Tiny images are magnified, so that a caption fits."""

_QUALITY = 82


@dataclass(frozen=True)
class Photos:
    """What was drawn, and the files that could not be read."""

    photos: tuple[Photo, ...]
    unreadable: tuple[str, ...]


def draw_photos(
    images: Sequence[MissedImage], *, folder: Path, on_step: Callable[[], None] = lambda: None
) -> Photos:
    """The first images of a list, out of the folder that its names are relative to."""
    drawn: list[Photo] = []
    unreadable: list[str] = []
    for image in images[:MAX_PHOTOS]:
        on_step()
        jpeg = _jpeg_of(image, folder)
        if jpeg is None:
            unreadable.append(image.file)
        else:
            drawn.append(Photo(f"lost-{len(drawn) + 1:02d}", jpeg, _caption(image)))
    return Photos(tuple(drawn), tuple(unreadable))


def _jpeg_of(image: MissedImage, folder: Path) -> bytes | None:
    """None where there is no such image in the folder."""
    place = PurePosixPath(image.file)
    if place.is_absolute() or ".." in place.parts:
        return None
    try:
        with Image.open(folder / place) as file:
            picture = _drawn(file.convert("RGB"), image.objects)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def _drawn(original: Image.Image, lost: Sequence[MissedObject]) -> Image.Image:
    longest = max(original.size)
    scale = min(max(longest, _SMALLEST_SIDE), _LONGEST_SIDE) / longest
    width, height = (max(1, round(side * scale)) for side in original.size)
    picture = original.resize((width, height), Image.Resampling.BICUBIC)
    class_names = list(dict.fromkeys(item.class_name for item in lost))
    panel = Panel(
        title="teacher",
        color=COLORS["teacher"],
        boxes_N4=np.array([item.box for item in lost]),
        labels_N=np.array([class_names.index(item.class_name) for item in lost]),
        scores_N=np.array([item.teacher_score for item in lost]),
    )
    draw_boxes(picture, panel, scale=scale, class_names=class_names)
    return picture


def _caption(image: MissedImage) -> str:
    classes: dict[str, int] = {}
    for item in image.objects:
        classes[item.class_name] = classes.get(item.class_name, 0) + 1
    words = ", ".join(f"{count} {name}" for name, count in classes.items())
    return f"{image.file}: {format_count(len(image.objects), 'object')} lost ({words})"
