"""Is there an image, can it be read to its end, and how large does the trainer see it?"""

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

_BROKEN = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_LYING_ON_ITS_SIDE = range(5, 9)
_QUICK_SHARE = 8


class UnsafePath(ValueError):
    """A path in somebody's annotations leads out of the folder it belongs to."""


class ImageDecodeError(Exception):
    """A file is not an image, or not a whole one."""


@dataclass(frozen=True)
class ImageFile:
    """An image that can be read."""

    path: Path
    size: tuple[int, int]
    """Width and height as the trainer sees it: turned as its EXIF orientation says."""

    sha256: Sha256


def resolve_image_path(folder: Path, name: str) -> Path:
    """The file called `name` in `folder`, links followed; `UnsafePath` if it lies elsewhere."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in name or not relative.parts:
        raise UnsafePath(f"{name!r} is not a path inside of {folder}")
    try:
        resolved = (folder / relative).resolve()
    except (OSError, RuntimeError) as error:
        raise UnsafePath(f"{name!r} cannot be followed: {error}") from error
    if not resolved.is_relative_to(folder.resolve()):
        raise UnsafePath(f"{name!r} is a link to {resolved}, outside of {folder}")
    return resolved


def inspect_image(path: Path) -> ImageFile:
    """Read a whole image file; `ImageDecodeError` says what is wrong with it."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            size = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in _LYING_ON_ITS_SIDE:
                size = (size[1], size[0])
            # A JPEG is read to its end all the same, but at a third of the cost.
            image.draft("L", (image.width // _QUICK_SHARE, image.height // _QUICK_SHARE))
            image.load()
    except UnidentifiedImageError as error:
        raise ImageDecodeError(f"it is none of {', '.join(_FORMATS)}") from error
    except _BROKEN as error:
        raise ImageDecodeError(str(error)) from error
    return ImageFile(path, size, hashlib.sha256(content).hexdigest())
