"""Locates and decodes the image files of a dataset that is imported."""

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import ExifTags, Image, UnidentifiedImageError

from configs.spec.base import Sha256

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
"""What both Pillow and OpenCV, which the trainer uses, can read."""

_DECODE_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_ROTATED_ORIENTATIONS = range(5, 9)
_DRAFT_REDUCTION = 8


class UnsafePath(ValueError):
    """A path in annotations leads out of the folder that it belongs to."""


class InvalidImage(Exception):
    """A file is not an image, or it is truncated or damaged."""


@dataclass(frozen=True)
class ImageFile:
    """An image file that was decoded without errors."""

    path: Path
    size: tuple[int, int]
    """Width and height after the rotation of the EXIF orientation, as the trainer sees it."""

    sha256: Sha256


def resolve_image_path(folder: Path, name: str) -> Path:
    """The path of `name` in `folder`, with links resolved; `UnsafePath` if it leads out of it."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in name or not relative.parts:
        raise UnsafePath(f"{name!r} is not a path inside of {folder}")
    try:
        resolved = (folder / relative).resolve()
    except (OSError, RuntimeError) as error:
        raise UnsafePath(f"{name!r} cannot be resolved: {error}") from error
    if not resolved.is_relative_to(folder.resolve()):
        raise UnsafePath(f"{name!r} is a link to {resolved}, outside of {folder}")
    return resolved


def inspect_image(path: Path) -> ImageFile:
    """Decode an image file completely; raises `InvalidImage` with the reason if that fails."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            size = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in _ROTATED_ORIENTATIONS:
                size = (size[1], size[0])
            # A JPEG is still read to its end, at a third of the cost.
            image.draft("L", (image.width // _DRAFT_REDUCTION, image.height // _DRAFT_REDUCTION))
            image.load()
    except UnidentifiedImageError as error:
        raise InvalidImage(f"its format is none of {', '.join(_FORMATS)}") from error
    except _DECODE_ERRORS as error:
        raise InvalidImage(str(error)) from error
    return ImageFile(path, size, hashlib.sha256(content).hexdigest())
