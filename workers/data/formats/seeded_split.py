"""Divides the images of a dataset without splits into train and val, by content and a seed."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from workers.data.formats.file_names import FileIndex
from workers.data.formats.parsed import ParsedImage, ParsedSplit
from workers.data.manifest import SplitName
from workers.errors import DatasetError

_AUGMENTED = re.compile(r"(.+?)[._](?:jpe?g|png|bmp|webp|tiff?)\.rf\.[\w-]+\.\w+", re.IGNORECASE)
"""Roboflow's names of the augmented copies of an image: `<name>_jpg.rf.<hash>.jpg`."""


@dataclass(frozen=True)
class SeededSplit:
    """How images are divided."""

    val_fraction: float = 0.2
    seed: int = 0


ImageGroup = tuple[str, list[ParsedImage]]
"""Images that stay together, with a hash of their content."""


def split_by_seed(split: ParsedSplit, seeded: SeededSplit) -> dict[SplitName, ParsedSplit]:
    """Divide a split; equal content and seed give equal parts, whatever the order of the files.

    Copies of an image stay on one side. Each class, by the rarest one of an image, is divided in
    the same proportion; one with at least two groups of images is in both parts. Raises
    `DatasetError` if there are not two different images with boxes.
    """
    groups = _group_copies(split)
    strata = _stratify(groups)
    if len(groups) - len(strata.get("", [])) < 2:
        raise DatasetError(
            f"{split.file} has fewer than two different images with boxes, so there is nothing to "
            "divide into train and val."
        )
    in_val: set[int] = set()
    excess = 0.0
    for label in sorted(strata):
        ordered = sorted(strata[label], key=lambda group: _draw(group[0], seeded.seed))
        expected = len(ordered) * seeded.val_fraction + excess
        count = round(expected)
        if len(ordered) > 1:
            count = min(max(count, 1), len(ordered) - 1)
        excess = expected - count
        in_val |= {id(image) for _, images in ordered[:count] for image in images}
    val = tuple(image for image in split.images if id(image) in in_val)
    train = tuple(image for image in split.images if id(image) not in in_val)
    return _build_splits(split, train, val)


def _build_splits(
    split: ParsedSplit, train: tuple[ParsedImage, ...], val: tuple[ParsedImage, ...]
) -> dict[SplitName, ParsedSplit]:
    """What is wrong with the annotations, and what they list beyond images, counts as train's."""
    num_boxes = sum(len(image.boxes) for image in val)
    return {
        "train": replace(
            split,
            images=train,
            num_listed_images=split.num_listed_images - len(val),
            num_listed_boxes=split.num_listed_boxes - num_boxes,
        ),
        "val": replace(
            split,
            images=val,
            problems=(),
            num_listed_images=len(val),
            num_listed_boxes=num_boxes,
            notes=(),
        ),
    }


def _group_copies(split: ParsedSplit) -> list[ImageGroup]:
    """Join images of the same bytes, and augmented copies of the same image."""
    index = FileIndex(split.images_dir)
    hashes = [_hash(index, image.name) for image in split.images]
    groups: dict[str, int] = {}
    parents = list(range(len(split.images)))
    for position, (image, content) in enumerate(zip(split.images, hashes, strict=True)):
        for key in (content, _find_source(image.name)):
            first = groups.setdefault(key, position)
            parents[_find_parent(parents, position)] = _find_parent(parents, first)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for position in range(len(parents)):
        members[_find_parent(parents, position)].append(position)
    return [
        (min(hashes[position] for position in group), [split.images[i] for i in group])
        for group in members.values()
    ]


def _find_parent(parents: list[int], position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = parents[position]
    return position


def _hash(index: FileIndex, name: str) -> str:
    """Hash of the image's content, or of its name if it cannot be read."""
    try:
        content = (index.folder / name).read_bytes() if index.has(name) else name.encode()
    except (OSError, ValueError):
        content = name.encode(errors="replace")
    return hashlib.sha256(content).hexdigest()


def _find_source(name: str) -> str:
    match = _AUGMENTED.fullmatch(PurePosixPath(name).name)
    return f"source {match[1]}" if match else f"file {name}"


def _stratify(groups: Sequence[ImageGroup]) -> Mapping[str, list[ImageGroup]]:
    """Groups by the rarest of their classes; an empty text for those without boxes."""
    labels = [{box.label for image in images for box in image.boxes} for _, images in groups]
    counts = Counter(label for group in labels for label in group)
    strata: defaultdict[str, list[ImageGroup]] = defaultdict(list)
    for group, names in zip(groups, labels, strict=True):
        strata[min(names, key=lambda name: (counts[name], name), default="")].append(group)
    return strata


def _draw(content: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {content}".encode()).hexdigest()
