"""Finds the splits of a YOLO dataset: data.yaml, darknet's obj.data, or folders of labels."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from configs.spec.dataset import ClassNames
from workers.data.formats.file_names import FileIndex, find_child
from workers.data.formats.parsed import clean_label
from workers.data.formats.split_names import UNSPLIT, list_files, list_split_folders
from workers.data.formats.yolo import YoloFiles, is_label_file
from workers.errors import DatasetError

_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NAME_FILES = ("classes.txt", "obj.names", "names.txt", "labels.txt", "_darknet.labels")
_NUM_PROBED = 50


@dataclass(frozen=True)
class _Description:
    """What data.yaml or obj.data says."""

    file: Path
    base: str
    """`path` in data.yaml; empty if there is none."""

    sources: Mapping[str, tuple[str, ...]]
    """Folders and lists as written, by split."""

    names: ClassNames
    has_keypoints: bool


def find_yolo_splits(root: Path) -> dict[str, YoloFiles]:
    """YOLO's splits in `root`, by its data.yaml or obj.data, else by its folders of labels."""
    descriptions = [
        description
        for path in list_files(root, ".yaml", ".yml", ".data")
        if (description := _read_description(path)) is not None
    ]
    preferred = [item for item in descriptions if item.file.stem in ("data", "dataset", "obj")]
    if len(descriptions) > 1 and len(preferred) != 1:
        files = ", ".join(description.file.name for description in descriptions)
        raise DatasetError(f"{root} has several descriptions for YOLO: {files}; keep one of them.")
    if descriptions:
        return _locate_splits((preferred or descriptions)[0], root)
    return _find_undescribed(root)


def read_yolo_description(file: Path, root: Path | None = None) -> dict[str, YoloFiles]:
    """The splits that a data.yaml or obj.data describes; raises `DatasetError` if it is neither.

    Images and labels lie in `root`, by default the folder of the file.
    """
    description = _read_description(file)
    if description is None:
        raise DatasetError(
            f"{file} is not a description of a YOLO dataset; it would have names, and train or val."
        )
    return _locate_splits(description, root or file.parent)


def _locate_splits(description: _Description, root: Path) -> dict[str, YoloFiles]:
    """Find the folders and lists of a description; raises `DatasetError` if one is missing."""
    return {
        split: YoloFiles(
            description.file,
            root,
            tuple(_locate(item, description, root) for item in items),
            description.names,
            description.has_keypoints,
        )
        for split, items in description.sources.items()
        if split != "test" or all(_find(item, description, root) for item in items)
    }


def _locate(item: str, description: _Description, root: Path) -> Path:
    path = _find(item, description, root)
    if path is None:
        raise DatasetError(
            f"{description.file} names {item!r}, which does not exist in {root}. Correct it there, "
            "or name the folder of the images with --root."
        )
    if not path.resolve().is_relative_to(root.resolve()):
        raise DatasetError(
            f"{description.file} names {item!r}, which is {path.resolve()}, outside of {root}. If "
            "that is right, name the folder that holds all of it with --root."
        )
    return path


def _find(item: str, description: _Description, root: Path) -> Path | None:
    """The path of a folder or list: by `path:`, by the file's folder, or by its last parts."""
    item = item.replace("\\", "/")
    base = description.base.replace("\\", "/")
    folder = description.file.parent
    candidates = [folder / base / item, folder / item, root / item, root / base / item]
    parts = [part for part in item.split("/") if part not in ("", ".", "..")]
    if item.startswith(("/", "../")) or re.match(r"[A-Za-z]:", item):
        candidates += [root.joinpath(*parts[start:]) for start in range(len(parts))]
    elif len(parts) > 1:
        candidates.append(root.joinpath(*parts[1:]))
    existing = [path for path in candidates if path.exists()]
    inside = [path for path in existing if path.resolve().is_relative_to(root.resolve())]
    return next(iter(inside or existing), None)


def _read_description(path: Path) -> _Description | None:
    """None if the file does not describe a YOLO dataset."""
    document = _read_darknet(path) if path.suffix == ".data" else _read_yaml(path)
    sources = {
        _SPLIT_KEYS[key]: items
        for key, value in document.items()
        if key in _SPLIT_KEYS and (items := _read_items(value))
    }
    names = _read_names(document, path)
    if not names or not sources:
        return None
    base = document.get("path")
    return _Description(
        path, base if isinstance(base, str) else "", sources, names, "kpt_shape" in document
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return document if isinstance(document, dict) else {}


def _read_darknet(path: Path) -> dict[str, Any]:
    """Lines of `key = value`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _read_items(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())


def _read_names(document: Mapping[str, Any], path: Path) -> ClassNames:
    """Class names by number: from a list, a mapping of numbers, a file, or only their count."""
    names = document.get("names")
    if isinstance(names, str):
        file = find_child(path.parent, Path(names.replace("\\", "/")).name.casefold())
        return () if file is None else _read_name_file(file)
    if isinstance(names, list):
        return tuple(clean_label(str(name)) for name in names)
    if isinstance(names, dict) and all(str(key).isdecimal() for key in names):
        by_number = {int(key): clean_label(str(name)) for key, name in names.items()}
        if max(by_number, default=0) < 100 * len(by_number):
            numbers = range(max(by_number, default=-1) + 1)
            return tuple(by_number.get(number, f"class {number}") for number in numbers)
    count = document.get("nc")
    if names is None and isinstance(count, int) and 0 < count < 100_000:
        return tuple(f"class {number}" for number in range(count))
    return ()


def _read_name_file(path: Path) -> ClassNames:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(clean_label(line) for line in lines)


def _find_undescribed(root: Path) -> dict[str, YoloFiles]:
    """Splits by folders, with the class names of classes.txt, or numbers without it."""
    folders = {
        split: folder for split, folder in _iter_image_folders(root) if _has_labels(root, folder)
    }
    if not folders:
        return {}
    names = next(filter(None, map(_read_name_file, _list_name_files(root))), ())
    if not names:
        names = tuple(map(str, range(_count_classes(root))))
    return {split: YoloFiles(root, root, (folder,), names) for split, folder in folders.items()}


def _iter_image_folders(root: Path) -> Iterator[tuple[str, Path]]:
    images = find_child(root, "images")
    by_split = list_split_folders(images) if images is not None else {}
    by_split = by_split or {
        split: find_child(folder, "images") or folder
        for split, folder in list_split_folders(root).items()
    }
    if by_split:
        yield from by_split.items()
    else:
        yield UNSPLIT, images or root


def _list_label_files(root: Path) -> list[Path]:
    names = [path for path in FileIndex(root).paths if path.casefold().endswith(".txt")]
    excluded = {*_NAME_FILES, "train.txt", "val.txt", "test.txt", "readme.txt"}
    return [root / path for path in names if Path(path).name.casefold() not in excluded]


def _has_labels(root: Path, images: Path) -> bool:
    """Whether one of the first images has labels."""
    index = FileIndex(images)
    stems = {Path(path).stem for path in islice(index.images, _NUM_PROBED)}
    if not stems:
        return False
    labels = (path for path in _list_label_files(root) if path.stem in stems)
    return any(is_label_file(path) for path in islice(labels, _NUM_PROBED))


def _list_name_files(root: Path) -> Iterator[Path]:
    folders = [root, *(folder for folder in root.rglob("*") if folder.is_dir())]
    for folder in islice(folders, _NUM_PROBED):
        path = find_child(folder, *_NAME_FILES)
        if path is not None:
            yield path


def _count_classes(root: Path) -> int:
    """One more than the largest class number in the labels."""
    largest = -1
    for path in _list_label_files(root):
        if is_label_file(path):
            for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
                match = re.match(r"\s*(\d{1,5})\s", line)
                largest = max(largest, int(match[1])) if match else largest
    return largest + 1
