"""Finds the COCO files in a folder, and the images of each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.data.formats.file_names import FileIndex
from workers.data.formats.split_names import (
    UNSPLIT,
    list_files,
    list_folders,
    read_split_name,
)

_NUM_PROBED = 5
_IMAGE_FOLDERS = ("images", "data", "imgs", "JPEGImages", "image")


@dataclass(frozen=True)
class CocoFiles:
    """Where a split is: its COCO file, and the folder of its images."""

    annotations: Path
    images: Path
    document: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    """The content of the file, which was parsed to recognize it; None if it is not parsed yet."""


def find_coco_splits(root: Path) -> dict[str, CocoFiles]:
    """COCO files in `root` and its subfolders, by split; of several for a split, `instances` ones.

    Covers COCO's own layout, the exports of Roboflow, CVAT, Label Studio and FiftyOne, and files
    beside their images.
    """
    splits: dict[str, CocoFiles] = {}
    candidates = [
        (path, document)
        for folder in (root, *list_folders(root))
        for path in list_files(folder, ".json")
        if (document := _load_coco(path)) is not None
    ]
    instances = [item for item in candidates if item[0].stem.startswith("instances")]
    for path, document in instances or candidates:
        split = read_split_name(path.stem) or read_split_name(path.parent.name) or UNSPLIT
        images = _find_images(root, path, split, document)
        splits.setdefault(split, CocoFiles(path, images, document))
    if len(splits) > 1:
        splits.pop(UNSPLIT, None)
    return splits


def _load_coco(path: Path) -> dict[str, Any] | None:
    """The document if it has COCO's lists."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    lists = ("images", "annotations", "categories")
    return document if all(isinstance(document.get(key), list) for key in lists) else None


def _find_images(root: Path, path: Path, split: str, document: dict[str, Any]) -> Path:
    """The folder that has most of the first images; the most likely one if none has any."""
    entries = [entry for entry in document["images"] if isinstance(entry, dict)][:_NUM_PROBED]
    names = [name for entry in entries if isinstance(name := entry.get("file_name"), str)]
    folders = list(dict.fromkeys(_list_image_folders(root, path, split)))
    exact = {folder: sum(map(FileIndex(folder).has, names)) for folder in folders}
    best = max(folders, key=lambda folder: exact[folder])
    if exact[best]:
        return best
    similar = {folder: len(FileIndex(folder).match(names).files) for folder in folders}
    return max(folders, key=lambda folder: similar[folder])


def _list_image_folders(root: Path, path: Path, split: str) -> Iterator[Path]:
    """Folders that may hold the images, with the most likely first."""
    base = root if path.parent == root else path.parent.parent
    if read_split_name(path.parent.name) is not None:
        yield path.parent
        yield path.parent / "images"
    for folder in (base, *(base / name for name in _IMAGE_FOLDERS)):
        for child in list_folders(folder):
            if read_split_name(child.name) == split:
                yield child
                yield child / "images"
    yield from (base / name for name in _IMAGE_FOLDERS if (base / name).is_dir())
    yield path.parent
    yield base
