"""The layout of a dataset's folder: COCO files, images, and a manifest with their digest.

dataset.json                      the manifest
annotations/{train,val}.json      COCO
images/{train,val}/               image files
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypedDict

from pydantic import ValidationError

from configs.problems import describe_validation
from configs.spec.base import Sha256
from configs.spec.dataset import MANIFEST, DatasetClasses, DatasetManifest, Split
from workers.errors import DatasetError

SplitName = Literal["train", "val"]
SPLITS: tuple[SplitName, ...] = ("train", "val")

AnnotationFiles = Mapping[SplitName, bytes]
"""The content of each split's COCO file."""


class CocoImage(TypedDict):
    """An entry of `images` in a COCO file."""

    id: int
    file_name: str
    width: int
    height: int


class CocoBox(TypedDict):
    """An entry of `annotations` in a COCO file, without a mask."""

    id: int
    """Counted from 1, because COCOeval takes the id 0 for "no match"."""

    image_id: int
    category_id: int
    bbox: list[float]
    """Left, top, width, height in pixels from the image's corner."""

    area: float
    iscrowd: Literal[0, 1]


class CocoCategory(TypedDict):
    """An entry of `categories` in a COCO file."""

    id: int
    name: str


class CocoDocument(TypedDict):
    """The content of a COCO file."""

    images: list[CocoImage]
    annotations: list[CocoBox]
    categories: list[CocoCategory]


@dataclass(frozen=True)
class SplitContents:
    """The annotations of one split, whose image files exist already."""

    document: CocoDocument
    image_hashes: tuple[Sha256, ...]
    """SHA-256 of the image files, in the order of the document."""


@dataclass(frozen=True)
class Origin:
    """Where a dataset came from, and its license, as free text."""

    source: str
    license: str


def build_manifest(
    *,
    name: str,
    classes: DatasetClasses,
    contents: Mapping[SplitName, SplitContents],
    origin: Origin,
) -> tuple[DatasetManifest, AnnotationFiles]:
    """The manifest of a dataset with its COCO files; nothing is written."""
    files = {split: _canonical_json(contents[split].document) for split in SPLITS}
    splits = {
        split: _describe_split(split, contents[split].document, files[split]) for split in SPLITS
    }
    manifest = DatasetManifest(
        name=name,
        classes=classes,
        train=splits["train"],
        val=splits["val"],
        digest=_compute_digest(
            (
                splits[split].annotations_sha256,
                _zip_names(contents[split].document, contents[split].image_hashes),
            )
            for split in SPLITS
        ),
        source=origin.source,
        license=origin.license,
    )
    return manifest, files


def write_manifest(
    root: Path,
    *,
    name: str,
    classes: DatasetClasses,
    contents: Mapping[SplitName, SplitContents],
    origin: Origin,
) -> DatasetManifest:
    """Write the COCO files and the manifest; the image files must exist already."""
    manifest, files = build_manifest(name=name, classes=classes, contents=contents, origin=origin)
    write_annotations(root, manifest, files)
    return manifest


def write_annotations(root: Path, manifest: DatasetManifest, files: AnnotationFiles) -> None:
    """Write the COCO files and the manifest that `build_manifest` has returned."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, content in files.items():
        (root / "annotations" / f"{split}.json").write_bytes(content)
    for part in (manifest.train, manifest.val):
        (root / part.images).mkdir(parents=True, exist_ok=True)
    (root / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_manifest(root: Path) -> DatasetManifest:
    """Read the manifest of the dataset in `root`; `DatasetError` if it is missing or invalid."""
    path = root / MANIFEST
    try:
        manifest = DatasetManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(
            f"{root} is no dataset: it has no {MANIFEST}. Import it with `tandem data import "
            "FOLDER`, or make one with `tandem data digits`."
        ) from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        why = describe_validation(error, DatasetManifest)
        raise DatasetError(f"{path} is not a manifest: {why}") from error
    for split in (manifest.train, manifest.val):
        for name in (split.annotations, split.images):
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise DatasetError(
                    f"{path} names {name}, which lies outside of the dataset's folder."
                )
    return manifest


def check_dataset(root: Path, *, digest: Sha256 | None = None) -> DatasetManifest:
    """Read the manifest and verify the annotation files; `DatasetError` if they were changed.

    Images are not verified: hashing all of COCO takes minutes. `recompute_digest` reads them.
    """
    manifest = read_manifest(root)
    if digest is not None and manifest.digest != digest:
        raise DatasetError(
            f"The dataset in {root} is not the expected one: its digest is {manifest.digest}, "
            f"expected {digest}."
        )
    for split in (manifest.train, manifest.val):
        if _sha256_of(root / split.annotations) != split.annotations_sha256:
            raise DatasetError(
                f"{root / split.annotations} was changed after it had been imported."
            )
        if not (root / split.images).is_dir():
            raise DatasetError(f"{root / split.images}, the folder of its images, is missing.")
    return manifest


def recompute_digest(root: Path, manifest: DatasetManifest) -> Sha256:
    """The digest of all files on disk, with images; `DatasetError` if a file is missing."""
    return _compute_digest(hash_files(root, split) for split in (manifest.train, manifest.val))


NamedHashes = Iterator[tuple[str, Sha256]]


def hash_files(root: Path, split: Split) -> tuple[Sha256, NamedHashes]:
    """SHA-256 of a split's annotations, and of each image by its file name while it is iterated."""
    path = root / split.annotations
    annotations_sha256 = _sha256_of(path)
    names = [image["file_name"] for image in json.loads(path.read_bytes())["images"]]
    return annotations_sha256, ((name, _sha256_of(root / split.images / name)) for name in names)


def _zip_names(document: CocoDocument, hashes: tuple[Sha256, ...]) -> NamedHashes:
    return zip((image["file_name"] for image in document["images"]), hashes, strict=True)


def _describe_split(name: SplitName, document: CocoDocument, content: bytes) -> Split:
    return Split(
        annotations=f"annotations/{name}.json",
        images=f"images/{name}",
        num_images=len(document["images"]),
        num_boxes=len(document["annotations"]),
        annotations_sha256=hashlib.sha256(content).hexdigest(),
    )


def _canonical_json(document: CocoDocument) -> bytes:
    """Serialize so that equal documents give equal bytes, and therefore equal hashes."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def _compute_digest(splits: Iterator[tuple[Sha256, NamedHashes]]) -> Sha256:
    """Digest of annotations and images, each with its name; independent of the folder's path."""
    digest = hashlib.sha256()
    for annotations_sha256, images in splits:
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
