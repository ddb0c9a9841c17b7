"""Writes and reads the hashes of a dataset's images, and compares those of two datasets."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from configs.atomic_files import write_atomically
from configs.protocol.image_hashes import (
    IMAGE_HASHES,
    ImageHashes,
    describe_shared_images,
    find_shared_images,
)
from configs.spec.base import Sha256
from configs.spec.dataset import DatasetManifest
from workers.data.manifest import SPLITS, SplitContents, SplitName, hash_files
from workers.data.resolve import LocalDataset
from workers.errors import DatasetError, InvalidSpec


def write_image_hashes(
    root: Path, manifest: DatasetManifest, contents: Mapping[SplitName, SplitContents]
) -> None:
    """Store the hashes of all images in the dataset's folder."""
    train, val = (_hashes_by_name(contents[split]) for split in SPLITS)
    document = ImageHashes(dataset_digest=manifest.digest, train=train, val=val)
    write_atomically(root / IMAGE_HASHES, document.model_dump_json() + "\n")


def read_split_hashes(
    root: Path, manifest: DatasetManifest, split: SplitName
) -> Mapping[str, Sha256]:
    """The stored hashes of a split by file name.

    They are computed from the files if there are none, as in datasets of earlier versions, or if
    they describe other data. Raises `DatasetError` if a file cannot be read.
    """
    try:
        stored = ImageHashes.model_validate_json((root / IMAGE_HASHES).read_bytes())
    except (FileNotFoundError, ValidationError):
        stored = None
    except OSError as error:
        raise DatasetError(f"{root / IMAGE_HASHES} cannot be read: {error.strerror}.") from error
    if stored is None or stored.dataset_digest != manifest.digest:
        _, hashes = hash_files(root, manifest.train if split == "train" else manifest.val)
        return dict(hashes)
    return stored.train if split == "train" else stored.val


def _hashes_by_name(contents: SplitContents) -> dict[str, Sha256]:
    names = [image["file_name"] for image in contents.document["images"]]
    return dict(zip(names, contents.image_hashes, strict=True))


def check_no_validation_images(dataset: LocalDataset) -> None:
    """Raise `InvalidSpec` if images without labels of a run are among its validation images."""
    unlabelled = dataset.unlabelled
    if unlabelled is None:
        return
    shared = find_shared_images(
        read_split_hashes(unlabelled.root, unlabelled.manifest, "train"),
        read_split_hashes(dataset.root, dataset.manifest, "val"),
    )
    if shared:
        names = {"unlabelled": unlabelled.manifest.name, "dataset": dataset.manifest.name}
        raise InvalidSpec(f"data.unlabelled: {describe_shared_images(shared, **names)}")
