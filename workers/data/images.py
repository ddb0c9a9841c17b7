"""Locates the image files of a dataset that is imported, and reads them as the trainer does.

mmdet loads images with `cv2.imdecode(content, IMREAD_COLOR)`. What that function makes of a file is
its size and decides whether it can be used; other readers disagree about orientation (TIFF, XMP,
text of PNG files), sample types and metadata.
"""

import errno
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from configs.spec.base import Sha256

_LIMITS = {
    "OPENCV_IO_MAX_IMAGE_WIDTH": "a width of 1,048,576 pixels",
    "OPENCV_IO_MAX_IMAGE_HEIGHT": "a height of 1,048,576 pixels",
    "OPENCV_IO_MAX_IMAGE_PIXELS": "1,073,741,824 pixels",
}
"""OpenCV's limits by the environment variable that changes each."""

_MAX_PIXELS = 1 << 30

_REDUCTION = 8
_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's flags by the divisor of both edges."""

_JPEG_START = b"\xff\xd8"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that state an image's height and width."""

_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})

_PILLOW_ERRORS = (OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error)

_IMPOSSIBLE_NAME = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ})

Size = tuple[int, int]
"""Width and height in pixels."""


class UnsafePath(ValueError):
    """A path in annotations leads out of the folder that it belongs to, or no file can have it."""


class InvalidImage(Exception):
    """A file is not an image that the trainer can read."""


@dataclass(frozen=True)
class ImageFile:
    """An image file that was decoded without errors."""

    path: Path
    size: Size
    """After the rotation that the file's orientation asks for, as the trainer sees it."""

    sha256: Sha256


def resolve_image_path(folder: Path, name: str, *, follow_links: bool = False) -> Path:
    """The path of `name` in `folder`, with links resolved.

    Raises `UnsafePath` if no file can have this name, or if it leads out of the folder. With
    `follow_links`, links may lead out of it.
    """
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in name or not relative.parts:
        raise UnsafePath(f"{name!r} is not a path inside of {folder}")
    try:
        name.encode()
        resolved = (folder / relative).resolve()
    except (RuntimeError, ValueError) as error:
        raise UnsafePath(f"{_shorten(name)} cannot be the name of a file: {error}") from error
    try:
        resolved.lstat()
    except OSError as error:
        # Of a missing file, or of a folder that is closed to the user, the name is possible: the
        # caller learns the reason when it opens the file.
        if error.errno in _IMPOSSIBLE_NAME:
            raise UnsafePath(
                f"{_shorten(name)} cannot be the name of a file: {error.strerror}"
            ) from error
    if not follow_links and not resolved.is_relative_to(folder.resolve()):
        raise UnsafePath(
            f"{name!r} is a link to {resolved}, outside of {folder}; --follow-links allows it"
        )
    return resolved


@contextmanager
def silence_opencv() -> Iterator[None]:
    """Keep OpenCV from logging about each file that it cannot read."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def inspect_image(path: Path) -> ImageFile:
    """Decode an image file completely; raises `InvalidImage` with the reason if that fails."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidImage(error.strerror or str(error)) from error
    return ImageFile(path, read_size(content), hashlib.sha256(content).hexdigest())


def read_size(content: bytes) -> Size:
    """The size of an image for the trainer's reader; raises `InvalidImage` if it cannot read it.

    The whole content is decoded. Of a JPEG, an eighth of the resolution suffices: that takes less
    than half the time, and a file that is cut short is refused all the same.
    """
    if not content:
        raise InvalidImage("the file is empty")
    if content.startswith(_JPEG_START):
        stored = _read_jpeg_header(content)
        if stored is not None and _is_within_limits(stored):
            reduced = _read_decoded_size(content, cv2.IMREAD_REDUCED_COLOR_8)
            if (size := _expand(reduced, stored)) is not None:
                return size
    return _read_decoded_size(content, cv2.IMREAD_COLOR)


def read_pixels(path: Path, *, min_edge: int | None = None) -> NDArray[np.uint8]:
    """The image as the trainer reads it, but in RGB: shape (height, width, 3).

    A JPEG may be smaller, with its longest edge at least `min_edge` pixels, which saves most of the
    time. Raises `InvalidImage` if the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidImage(error.strerror or str(error)) from error
    flag = cv2.IMREAD_COLOR
    if min_edge is not None and content.startswith(_JPEG_START):
        stored = _read_jpeg_header(content)
        if stored is not None and _is_within_limits(stored):
            scales = [scale for scale in _REDUCED if max(stored) >= scale * min_edge]
            flag = _REDUCED[max(scales)] if scales else flag
    with silence_opencv():
        return cv2.cvtColor(_decode(content, flag), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _read_decoded_size(content: bytes, flag: int) -> Size:
    height, width = _decode(content, flag).shape[:2]
    return width, height


def _decode(content: bytes, flag: int) -> NDArray[np.uint8]:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise InvalidImage(_explain_error(error)) from error
    if pixels is None:
        raise InvalidImage(_explain_refusal(content))
    return pixels.astype(np.uint8, copy=False)


def _read_jpeg_header(content: bytes) -> Size | None:
    """Width and height as stored; None if the file is not laid out as usual."""
    position = len(_JPEG_START)
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_FRAMES:
            height = int.from_bytes(content[position + 5 : position + 7])
            return int.from_bytes(content[position + 7 : position + 9]), height
        elif marker in _JPEG_WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4])
    return None


def _expand(reduced: Size, stored: Size) -> Size | None:
    """The stored size as OpenCV has turned it; None if the reduced size does not tell."""
    turned = stored[1], stored[0]
    fits = [size for size in {stored, turned} if _reduce(size) == reduced]
    return fits[0] if len(fits) == 1 else None


def _reduce(size: Size) -> Size:
    return -(-size[0] // _REDUCTION), -(-size[1] // _REDUCTION)


def _is_within_limits(size: Size) -> bool:
    """Whether OpenCV surely reads an image of this size; it checks only what it decodes to."""
    return size[0] * size[1] <= _MAX_PIXELS and not any(name in os.environ for name in _LIMITS)


def _explain_error(error: cv2.error) -> str:
    text = str(error)
    for variable, default in _LIMITS.items():
        if variable.removeprefix("OPENCV_") in text:
            limit = os.environ.get(variable, default)
            return (
                f"it is larger than OpenCV's limit ({limit}); cut it into tiles, or set {variable} "
                "for the import and for all workers"
            )
    return "OpenCV cannot read it: " + (getattr(error, "err", None) or text).strip()


def _explain_refusal(content: bytes) -> str:
    """Why OpenCV has returned no image, as far as Pillow can tell."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = f"{image.format}, {image.width}x{image.height}, mode {image.mode}"
            compression = image.info.get("compression")
            image.load()
    except UnidentifiedImageError:
        return "it is no image of a format that the trainer reads (JPEG, PNG, BMP, TIFF, WebP, ...)"
    except Image.DecompressionBombError:
        return "OpenCV, with which the trainer reads images, cannot decode it"
    except _PILLOW_ERRORS as error:
        return f"OpenCV, with which the trainer reads images, cannot decode it: {error}"
    if compression:
        kind += f", compression {compression}"
    return (
        f"OpenCV, with which the trainer reads images, cannot decode it ({kind}); convert it, "
        "for example to PNG with 8 bits"
    )


def _shorten(name: str) -> str:
    """A name for a message, of at most 60 characters, and its length if it is longer."""
    if len(name) <= 60:
        return repr(name)
    return f"{name[:57]!r}... ({len(os.fsencode(name.encode(errors='replace')))} bytes)"
