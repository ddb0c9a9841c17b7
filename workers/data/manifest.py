"""A dataset's folder: COCO files, images, and the manifest that says what they are.

dataset.json                      the manifest
annotations/{train,val}.json      COCO
images/{train,val}/               image files
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypedDict

from pydantic import ValidationError

from configs.spec.base import Sha256
from configs.spec.dataset import MANIFEST, ClassNames, DatasetManifest, Split
from workers.errors import DatasetError

SplitName = Literal["train", "val"]
SPLITS: tuple[SplitName, ...] = ("train", "val")


class CocoImage(TypedDict):
    """An image of a COCO file."""

    id: int
    file_name: str
    width: int
    height: int


class CocoBox(TypedDict):
    """An annotation of a COCO file, without its mask."""

    id: int
    """From 1: COCOeval takes an id of 0 for "no match"."""

    image_id: int
    category_id: int
    bbox: list[float]
    """Left, top, width, height in pixels from the image's corner."""

    area: float
    iscrowd: Literal[0, 1]


class CocoCategory(TypedDict):
    """A class of a COCO file."""

    id: int
    name: str


class CocoDocument(TypedDict):
    """A COCO file."""

    images: list[CocoImage]
    annotations: list[CocoBox]
    categories: list[CocoCategory]


@dataclass(frozen=True)
class SplitContents:
    """One part of a dataset, whose images are in their place already."""

    document: CocoDocument
    image_hashes: tuple[Sha256, ...]
    """Of the image files, in the order of the document."""


@dataclass(frozen=True)
class Origin:
    """Where a dataset came from, in words."""

    source: str
    licence: str


def write_manifest(
    root: Path,
    *,
    name: str,
    classes: ClassNames,
    contents: dict[SplitName, SplitContents],
    origin: Origin,
) -> DatasetManifest:
    """Write the COCO files and the manifest beside images that are there already."""
    splits = {part: _write_split(root, part, contents[part].document) for part in SPLITS}
    manifest = DatasetManifest(
        name=name,
        classes=classes,
        train=splits["train"],
        val=splits["val"],
        digest=_digest(
            (
                splits[part].annotations_sha256,
                _named_hashes(contents[part].document, contents[part].image_hashes),
            )
            for part in SPLITS
        ),
        source=origin.source,
        licence=origin.licence,
    )
    (root / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def read_manifest(root: Path) -> DatasetManifest:
    """The manifest of the dataset in `root`; `DatasetError` if there is none or it is not valid."""
    path = root / MANIFEST
    try:
        manifest = DatasetManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(
            f"{root} is no dataset: it has no {MANIFEST}. Import it with `tandem data import-coco` "
            "or `import-voc`, or make one with `tandem data digits`."
        ) from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise DatasetError(f"{path} is not a manifest: {error}") from error
    for split in (manifest.train, manifest.val):
        for place in (split.annotations, split.images):
            if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
                raise DatasetError(
                    f"{path} names {place}, which lies outside of the dataset's folder."
                )
    return manifest


def check_dataset(root: Path, *, digest: Sha256 | None = None) -> DatasetManifest:
    """The manifest, after a look at the annotation files; `DatasetError` if they were changed.

    Images are not read: hashing all of COCO takes minutes. `recompute_digest` reads them.
    """
    manifest = read_manifest(root)
    if digest is not None and manifest.digest != digest:
        raise DatasetError(
            f"The dataset in {root} is not the one that is meant: its digest is {manifest.digest}, "
            f"expected {digest}."
        )
    for split in (manifest.train, manifest.val):
        if _sha256_of(root / split.annotations) != split.annotations_sha256:
            raise DatasetError(f"{root / split.annotations} was changed since it was imported.")
        if not (root / split.images).is_dir():
            raise DatasetError(f"{root / split.images}, the folder of its images, is missing.")
    return manifest


def recompute_digest(root: Path, manifest: DatasetManifest) -> Sha256:
    """The digest of the files as they are, images included; `DatasetError` if one is missing."""
    return _digest(_hashes_on_disk(root, split) for split in (manifest.train, manifest.val))


NamedHashes = Iterator[tuple[str, Sha256]]


def _hashes_on_disk(root: Path, split: Split) -> tuple[Sha256, NamedHashes]:
    path = root / split.annotations
    annotations_sha256 = _sha256_of(path)
    names = [image["file_name"] for image in json.loads(path.read_bytes())["images"]]
    return annotations_sha256, ((name, _sha256_of(root / split.images / name)) for name in names)


def _named_hashes(document: CocoDocument, hashes: tuple[Sha256, ...]) -> NamedHashes:
    return zip((image["file_name"] for image in document["images"]), hashes, strict=True)


def _write_split(root: Path, part: SplitName, document: CocoDocument) -> Split:
    content = _canonical(document)
    path = root / "annotations" / f"{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Split(
        annotations=f"annotations/{part}.json",
        images=f"images/{part}",
        num_images=len(document["images"]),
        num_boxes=len(document["annotations"]),
        annotations_sha256=hashlib.sha256(content).hexdigest(),
    )


def _canonical(document: CocoDocument) -> bytes:
    """Equal documents give equal bytes, so the file's hash is the document's."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def _digest(parts: Iterator[tuple[Sha256, NamedHashes]]) -> Sha256:
    """Of both parts' annotations and images in their order; of nothing outside of the folder."""
    digest = hashlib.sha256()
    for annotations_sha256, images in parts:
        digest.update(f"annotations {annotations_sha256}\n".encode())
        for name, sha256 in images:
            digest.update(f"image {sha256} {name}\n".encode())
    return digest.hexdigest()


def _sha256_of(path: Path) -> Sha256:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
