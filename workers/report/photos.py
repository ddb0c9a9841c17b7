"""Images where the teacher is right and the student is not, with the lost boxes on them."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from configs.spec import LostImage, LostObject
from workers.report.content import Photo
from workers.report.wording import counted

MOST_PHOTOS = 12
_LONGEST_SIDE = 480
_SMALLEST_SIDE = 240
"""Tiny images are magnified, so that a caption fits."""

_QUALITY = 82
_LINE, _CAPTION = (230, 159, 0), (34, 34, 34)
_PAPER = (255, 255, 255)


@dataclass(frozen=True)
class Photos:
    """What was drawn, and the files that could not be read."""

    drawn: tuple[Photo, ...]
    unreadable: tuple[str, ...]


def photos_of(
    images: Sequence[LostImage], *, folder: Path, on_step: Callable[[], None] = lambda: None
) -> Photos:
    """The first images of a list, out of the folder that its names are relative to."""
    drawn, unreadable = [], []
    for image in images[:MOST_PHOTOS]:
        on_step()
        jpeg = _jpeg_of(image, folder)
        if jpeg is None:
            unreadable.append(image.file)
        else:
            drawn.append(Photo(f"lost-{len(drawn) + 1:02d}", jpeg, _caption(image)))
    return Photos(tuple(drawn), tuple(unreadable))


def _jpeg_of(image: LostImage, folder: Path) -> bytes | None:
    """None where there is no such image in the folder."""
    place = PurePosixPath(image.file)
    if place.is_absolute() or ".." in place.parts:
        return None
    try:
        with Image.open(folder / place) as file:
            picture = _drawn(file.convert("RGB"), image.lost)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def _drawn(original: Image.Image, lost: Sequence[LostObject]) -> Image.Image:
    longest = max(original.size)
    scale = min(max(longest, _SMALLEST_SIDE), _LONGEST_SIDE) / longest
    width, height = (max(1, round(side * scale)) for side in original.size)
    picture = original.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for item in lost:
        left, top, right, bottom = (edge * scale for edge in item.box)
        right, bottom = max(left, right), max(top, bottom)
        # The white line outside makes the colour stand out on dark images as well.
        pen.rectangle((left - 2, top - 2, right + 2, bottom + 2), outline=_PAPER, width=1)
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_LINE, width=3)
    for item in lost:
        _draw_caption(pen, item, scale=scale, room=picture.size)
    return picture


def _draw_caption(
    pen: ImageDraw.ImageDraw, item: LostObject, *, scale: float, room: tuple[int, int]
) -> None:
    font = ImageFont.load_default(13)
    text = f"{item.class_name} {item.teacher_score:.2f}"
    width, height = pen.textlength(text, font) + 8, 18.0
    left = max(0.0, min(item.box[0] * scale, room[0] - width))
    top = max(0.0, min(item.box[1] * scale - height, room[1] - height))
    pen.rectangle((left, top, left + width, top + height), fill=_LINE)
    pen.text((left + 4, top + height / 2), text, _CAPTION, font, anchor="lm")


def _caption(image: LostImage) -> str:
    classes: dict[str, int] = {}
    for item in image.lost:
        classes[item.class_name] = classes.get(item.class_name, 0) + 1
    words = ", ".join(f"{count} {name}" for name, count in classes.items())
    return f"{image.file}: {counted(len(image.lost), 'object')} lost ({words})"
