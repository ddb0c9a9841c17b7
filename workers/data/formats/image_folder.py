"""Reads a folder of images without annotations."""

from pathlib import Path

from workers.data.formats.file_names import FileIndex
from workers.data.formats.layouts import ParsedDataset
from workers.data.formats.parsed import ParsedImage, ParsedSplit
from workers.errors import DatasetError


def read_image_folder(folder: Path) -> ParsedDataset:
    """All images of a folder and its subfolders as `train`, in the order of their names.

    Raises `DatasetError` if there is no image.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder.")
    names = FileIndex(folder).images
    if not names:
        raise DatasetError(f"{folder} has no file with the ending of an image, nor in subfolders.")
    images = tuple(
        ParsedImage(
            file=folder,
            location=f"image {number}",
            name=name,
            size=None,
            size_location="",
            boxes=(),
            id=number,
        )
        for number, name in enumerate(names, start=1)
    )
    train = ParsedSplit(folder, folder, images, (), len(images), num_listed_boxes=0)
    val = ParsedSplit(folder, folder, (), (), 0, num_listed_boxes=0)
    return ParsedDataset({"train": train, "val": val}, (), has_labels=False)
