"""Content hashes of a dataset's image files: what tells that two datasets share an image.

An import writes them beside the manifest. The digest of the dataset does not depend on the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.spec.base import Contract, Sha256, replace_control_characters

IMAGE_HASHES = "image-hashes.json"
"""The file's name in the dataset's folder."""

_NUM_EXAMPLES = 3


class ImageHashes(Contract):
    """The content of `image-hashes.json`: SHA-256 of the image files by name, for each split."""

    dataset_digest: Sha256
    train: Mapping[str, Sha256]
    val: Mapping[str, Sha256]


@dataclass(frozen=True)
class SharedImage:
    """An image without labels that is a validation image of another dataset, too."""

    unlabelled: str
    """Its file name where it has no labels."""

    val: str


def find_shared_images(
    unlabelled: Mapping[str, Sha256], val: Mapping[str, Sha256]
) -> list[SharedImage]:
    """Images of equal content, in the order of `unlabelled`; both are hashes by file name."""
    names = {sha256: name for name, sha256 in val.items()}
    return [
        SharedImage(name, names[sha256]) for name, sha256 in unlabelled.items() if sha256 in names
    ]


def describe_shared_images(shared: Sequence[SharedImage], *, unlabelled: str, dataset: str) -> str:
    """Why a run may not have these images, with the command that leaves them out.

    `unlabelled` and `dataset` are the names of the two datasets.
    """
    examples = replace_control_characters(
        ", ".join(f"{image.unlabelled} is {image.val}" for image in shared[:_NUM_EXAMPLES])
    )
    more = ", ..." if len(shared) > _NUM_EXAMPLES else ""
    verb, noun = ("is", "a validation image") if len(shared) == 1 else ("are", "validation images")
    return (
        f"{len(shared):,} of the images in {unlabelled!r} {verb} {noun} of {dataset!r} "
        f"({examples}{more}), and a student must not train on what it is measured on. Import the "
        f"folder again without them: tandem data import-images FOLDER --name {unlabelled} "
        f"--exclude-of {dataset} --replace"
    )
