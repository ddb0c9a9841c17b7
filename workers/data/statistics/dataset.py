"""Computes the statistics of a dataset, and stores them in its folder."""

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from configs.atomic_files import write_atomically
from configs.protocol.dataset_statistics import (
    MAX_LISTED_DUPLICATES,
    STATISTICS,
    DatasetStatistics,
    NearDuplicate,
)
from configs.spec.dataset import DatasetManifest, Split
from workers.data.manifest import CocoDocument
from workers.data.resolve import LocalDataset
from workers.data.statistics.near_duplicates import find_near_duplicates, hash_images
from workers.data.statistics.parts import count_part
from workers.errors import DatasetError


def read_statistics(root: Path, manifest: DatasetManifest) -> DatasetStatistics | None:
    """The stored statistics; None if there are none, or if they describe other data."""
    try:
        statistics = DatasetStatistics.model_validate_json((root / STATISTICS).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    except OSError as error:
        raise DatasetError(f"{root / STATISTICS} cannot be read: {error.strerror}.") from error
    return statistics if statistics.dataset_digest == manifest.digest else None


def write_statistics(
    root: Path, manifest: DatasetManifest, *, on_image: Callable[[], None] = lambda: None
) -> DatasetStatistics:
    """Compute the statistics of the dataset in `root` and store them in its folder.

    Reads every image. `DatasetError` if a file is missing or the folder cannot be written.
    """
    statistics = compute_statistics(root, manifest, on_image=on_image)
    try:
        write_atomically(root / STATISTICS, statistics.model_dump_json() + "\n")
    except OSError as error:
        raise DatasetError(
            f"The statistics cannot be stored in {root}: {error.strerror}. Run the command as the "
            "user who imported the dataset."
        ) from error
    return statistics


def compute_statistics(
    root: Path, manifest: DatasetManifest, *, on_image: Callable[[], None] = lambda: None
) -> DatasetStatistics:
    """Count objects and compare images across the parts; `on_image` is called for each image."""
    train, val = (read_document(root, split) for split in (manifest.train, manifest.val))
    names = {
        split.images: [image["file_name"] for image in document["images"]]
        for split, document in ((manifest.train, train), (manifest.val, val))
    }
    hashes = {
        folder: hash_images([root / folder / name for name in files], on_image=on_image)
        for folder, files in names.items()
    }
    duplicates = find_near_duplicates(
        hashes[manifest.val.images],
        hashes[manifest.train.images],
        names=(names[manifest.val.images], names[manifest.train.images]),
    )
    return DatasetStatistics(
        dataset_digest=manifest.digest,
        classes=manifest.classes,
        train=count_part(train),
        val=count_part(val),
        num_near_duplicates=len(duplicates),
        near_duplicates=tuple(duplicates[:MAX_LISTED_DUPLICATES]),
    )


def find_similar_images(
    root: Path, manifest: DatasetManifest, *, validated: LocalDataset
) -> list[NearDuplicate]:
    """Validation images of another dataset that look like a training image in `root`, by distance.

    Reads all of these images. `DatasetError` if a file cannot be read.
    """
    folders = (
        (validated.root, validated.manifest.val),
        (root, manifest.train),
    )
    names, hashes = [], []
    for folder, split in folders:
        files = [image["file_name"] for image in read_document(folder, split)["images"]]
        paths = [folder / split.images / name for name in files]
        names.append(files)
        hashes.append(hash_images(paths, on_image=lambda: None))
    return find_near_duplicates(hashes[0], hashes[1], names=(names[0], names[1]))


def read_document(root: Path, split: Split) -> CocoDocument:
    """The annotations of a split; `DatasetError` if they cannot be read."""
    path = root / split.annotations
    try:
        document: CocoDocument = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON: {error}.") from error
    return document
