"""Names of splits, as files and folders of public datasets have them."""

import re
from pathlib import Path

UNSPLIT = "all"
"""The name of a dataset's only split, where nothing tells train from val."""

_SPELLINGS = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "valset", "dev", "eval"),
    "test": ("test", "testing", "testset"),
}
_SPLITS = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}


def read_split_name(text: str) -> str | None:
    """The split that a name means, as `val` for `instances_val2017`; None if it means none."""
    splits = {_SPLITS[word] for word in re.findall(r"[a-z]+", text.casefold()) if word in _SPLITS}
    return splits.pop() if len(splits) == 1 else None


def list_split_folders(folder: Path) -> dict[str, Path]:
    """Subfolders that are named as splits."""
    splits: dict[str, Path] = {}
    for path in list_folders(folder):
        name = read_split_name(path.name)
        if name is not None:
            splits.setdefault(name, path)
    return splits


def list_folders(folder: Path) -> list[Path]:
    """Visible subfolders, sorted; none if the folder cannot be read."""
    return [path for path in list_entries(folder) if path.is_dir()]


def list_files(folder: Path, *endings: str) -> list[Path]:
    """Visible files with one of the endings in lower or upper case, sorted."""
    return [
        path
        for path in list_entries(folder)
        if path.suffix.casefold() in endings and path.is_file()
    ]


def list_entries(folder: Path) -> list[Path]:
    """Visible entries, sorted; none if the folder cannot be read."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    hidden = (".", "__MACOSX")
    return [path for path in entries if not path.name.startswith(hidden)]
