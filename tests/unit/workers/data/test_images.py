"""Images are located inside their folder only, and read as the trainer reads them."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.workers.dataset_folders import write_image
from workers.data.images import (
    InvalidImage,
    UnsafePath,
    inspect_image,
    read_size,
    resolve_image_path,
    silence_opencv,
)

ORIENTATION = 0x0112
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'


@pytest.fixture(autouse=True)
def silent_opencv() -> Any:
    with silence_opencv():
        yield


def encode(kind: str, size: tuple[int, int] = (61, 43), mode: str = "RGB", **saved: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **saved)
    return file.getvalue()


def turned(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def png_text(key: str, text: str) -> PngInfo:
    info = PngInfo()
    info.add_text(key, text, zip=True)
    return info


def add_second_exif(jpeg: bytes) -> bytes:
    """Put an EXIF segment with another orientation behind the first one."""
    other = encode("JPEG", exif=turned(1))
    first_end, other_end = (2 + 2 + int.from_bytes(data[4:6]) for data in (jpeg, other))
    return jpeg[:first_end] + other[2:other_end] + jpeg[first_end:]


def insert_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + jpeg[2:]


READABLE = {
    "JPEG": encode("JPEG"),
    "progressive JPEG": encode("JPEG", progressive=True),
    "CMYK JPEG": encode("JPEG", mode="CMYK"),
    "gray JPEG": encode("JPEG", mode="L"),
    "JPEG on its side": encode("JPEG", exif=turned()),
    "nearly square JPEG on its side": encode("JPEG", size=(42, 43), exif=turned()),
    "square JPEG on its side": encode("JPEG", size=(43, 43), exif=turned()),
    "upside-down JPEG": encode("JPEG", exif=turned(3)),
    "JPEG with an orientation in XMP": encode("JPEG", xmp=XMP),
    "JPEG with two EXIF headers": add_second_exif(encode("JPEG", exif=turned())),
    "JPEG with EXIF that is no EXIF": insert_segment(encode("JPEG"), 0xE1, b"Exif\0\0garbage"),
    "JPEG with fill bytes": b"\xff\xd8\xff\xff\xff" + encode("JPEG")[3:],
    "JPEG with another file behind it": encode("JPEG") + encode("JPEG", size=(9, 9))[:50],
    "PNG": encode("PNG"),
    "PNG on its side": encode("PNG", exif=turned()),
    "PNG with an orientation in XMP": encode(
        "PNG", pnginfo=png_text("XML:com.adobe.xmp", XMP.decode())
    ),
    "PNG with EXIF as text": encode("PNG", pnginfo=png_text("Raw profile type exif", "6")),
    "PNG with 2 MB of text": encode("PNG", pnginfo=png_text("Comment", "a" * (1 << 21))),
    "PNG with 16 bits": encode("PNG", mode="I;16"),
    "PNG with a palette": encode("PNG", mode="P"),
    "PNG with alpha": encode("PNG", mode="RGBA"),
    "TIFF": encode("TIFF"),
    "TIFF on its side": encode("TIFF", tiffinfo={ORIENTATION: 6}),
    "TIFF with 16 bits": encode("TIFF", mode="I;16"),
    "TIFF with one bit": encode("TIFF", mode="1", compression="group4"),
    "WebP on its side": encode("WEBP", exif=turned()),
    "BMP": encode("BMP"),
    "GIF": encode("GIF"),
    "JPEG 2000": encode("JPEG2000"),
    "PPM": encode("PPM"),
}

UNREADABLE = {
    "TIFF of floats": encode("TIFF", mode="F"),
    "TIFF with 32 bits": encode("TIFF", mode="I"),
    "TIFF of zstd": encode("TIFF", compression="zstd"),
    "TIFF of lzma": encode("TIFF", compression="lzma"),
    "TGA": encode("TGA"),
    "ICO": encode("ICO"),
}


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.jpg", "a/../../secret.jpg", "", ".", "a\0b.jpg"]
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePath):
        resolve_image_path(tmp_path, name)


@pytest.mark.parametrize(
    "name",
    ["a" * 256, "ä" * 128, "a/" * 2100 + "a.jpg", "b/" + "a" * 300 + "/c.jpg", "a\ud83d.png"],
    ids=["256 bytes", "256 bytes of UTF-8", "4,205 bytes", "folder", "half a surrogate"],
)
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "b").mkdir()

    with pytest.raises(UnsafePath, match="cannot be the name of a file"):
        resolve_image_path(tmp_path, name)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    secret = write_image(tmp_path / "secret.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").symlink_to(secret)

    with pytest.raises(UnsafePath, match="link"):
        resolve_image_path(tmp_path / "images", "a.jpg")


def test_a_link_that_leads_out_is_followed_if_that_is_allowed(tmp_path: Path) -> None:
    blob = write_image(tmp_path / "cache" / "blob.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").symlink_to(blob)

    assert resolve_image_path(tmp_path / "images", "a.jpg", follow_links=True) == blob.resolve()
    with pytest.raises(UnsafePath):
        resolve_image_path(tmp_path / "images", "../cache/blob.jpg", follow_links=True)


def test_a_link_that_goes_round_in_circles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "a.jpg")

    with pytest.raises(UnsafePath):
        resolve_image_path(tmp_path, "a.jpg")


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    image = write_image(tmp_path / "deep" / "real.jpg")
    (tmp_path / "a.jpg").symlink_to(image)

    assert resolve_image_path(tmp_path, "a.jpg") == image.resolve()


def test_a_relative_folder_below_a_removed_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "removed").mkdir()
    monkeypatch.chdir(tmp_path / "removed")
    (tmp_path / "removed").rmdir()

    with pytest.raises(FileNotFoundError):
        resolve_image_path(Path("images"), "a.jpg")


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE.keys())
def test_the_size_is_that_of_the_trainer(content: bytes) -> None:
    height, width, _ = mmcv.imfrombytes(content, flag="color").shape

    assert read_size(content) == (width, height)


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_the_trainer_cannot_read_is_refused(content: bytes) -> None:
    assert mmcv.imfrombytes(content, flag="color") is None

    with pytest.raises(InvalidImage, match="OpenCV, with which the trainer reads images, cannot"):
        read_size(content)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_an_image_that_is_cut_short_is_unreadable(tmp_path: Path, name: str) -> None:
    image = write_image(tmp_path / name, size=(200, 200))
    image.write_bytes(image.read_bytes()[:-5000])

    with pytest.raises(InvalidImage, match="truncated"):
        inspect_image(image)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF"])
@pytest.mark.parametrize("missing", [20, 1000])
def test_an_image_without_its_end_is_unreadable(kind: str, missing: int) -> None:
    with pytest.raises(InvalidImage):
        read_size(encode(kind)[:-missing])


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff"], ids=repr)
def test_what_is_no_image_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)

    with pytest.raises(InvalidImage):
        inspect_image(tmp_path / "a.jpg")


def test_a_file_that_may_not_be_read_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match="Is a directory"):
        inspect_image(tmp_path)


def encode_blank_png(width: int, height: int) -> bytes:
    """A PNG of one bit, without holding its pixels: OpenCV's limit is a matter of the header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        (encode_blank_png(40_000, 30_000), "1,073,741,824 pixels"),
        (b"P5 1500000 8 255 ", "a width of 1,048,576 pixels"),
    ],
    ids=["pixels", "width"],
)
def test_an_image_over_the_limit_is_refused_with_the_limit(content: bytes, limit: str) -> None:
    with pytest.raises(InvalidImage, match=f"{limit}.*OPENCV_IO_MAX_IMAGE_"):
        read_size(content)


def test_a_large_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)

    assert read_size(encode("PNG")) == (61, 43)


def test_a_jpeg_over_the_limit_is_refused() -> None:
    jpeg = encode("JPEG")
    start = next(index for index in range(len(jpeg)) if jpeg[index : index + 2] == b"\xff\xc0")
    huge = jpeg[: start + 5] + struct.pack(">HH", 60_000, 60_000) + jpeg[start + 9 :]

    with pytest.raises(InvalidImage, match="1,073,741,824 pixels"):
        read_size(huge)
