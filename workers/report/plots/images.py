"""Images with the boxes of objects that the teacher detects and the student misses."""

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
_MAX_SIDE = 480
_MIN_SIDE = 320
"""Smaller images are enlarged, so that a caption fits."""

_QUALITY = 82


@dataclass(frozen=True)
class Photos:
    """Drawn images, and the files that could not be read."""

    photos: tuple[Photo, ...]
    unreadable: tuple[str, ...]


def draw_photos(
    images: Sequence[MissedImage], *, folder: Path, on_step: Callable[[], None] = lambda: None
) -> Photos:
    """Draw the first images of a list; their names are relative to `folder`."""
    photos: list[Photo] = []
    unreadable: list[str] = []
    for image in images[:MAX_PHOTOS]:
        on_step()
        jpeg = _render_jpeg(image, folder)
        if jpeg is None:
            unreadable.append(image.file)
        else:
            photos.append(Photo(f"lost-{len(photos) + 1:02d}", jpeg, _caption(image)))
    return Photos(tuple(photos), tuple(unreadable))


def _render_jpeg(image: MissedImage, folder: Path) -> bytes | None:
    """Draw an image with its boxes; None if there is no such image in the folder."""
    path = PurePosixPath(image.file)
    if path.is_absolute() or ".." in path.parts:
        return None
    try:
        with Image.open(folder / path) as file:
            picture = _draw_missed_objects(file.convert("RGB"), image.objects)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def _draw_missed_objects(original: Image.Image, missed: Sequence[MissedObject]) -> Image.Image:
    longest = max(original.size)
    scale = min(max(longest, _MIN_SIDE), _MAX_SIDE) / longest
    width, height = (max(1, round(side * scale)) for side in original.size)
    picture = original.resize((width, height), Image.Resampling.BICUBIC)
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
    classes: dict[str, int] = {}
    for item in image.objects:
        classes[item.class_name] = classes.get(item.class_name, 0) + 1
    counts_by_class = ", ".join(f"{count} {name}" for name, count in classes.items())
    return f"{image.file}: {format_count(len(image.objects), 'object')} missed ({counts_by_class})"
