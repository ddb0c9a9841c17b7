"""A dataset's folder: COCO files, images, and the manifest that says what they are.

    dataset.json                      the manifest
    annotations/{train,val}.json      COCO
    images/{train,val}/               image files
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.spec import MANIFEST, ClassNames, DatasetManifest, Split
from workers.checkpoints import sha256_of
from workers.errors import DatasetError

Coco = dict[str, Any]
"""A COCO annotation file's document."""


@dataclass(frozen=True)
class Origin:
    """Where a dataset came from, in words."""

    source: str
    licence: str


def write_manifest(
    root: Path, *, name: str, classes: ClassNames, documents: dict[str, Coco], origin: Origin
) -> DatasetManifest:
    """Write the COCO files of `train` and `val` and the manifest; the images are in place already."""
    splits = {part: _write_split(root, part, document) for part, document in documents.items()}
    manifest = DatasetManifest(
        name=name,
        classes=classes,
        train=splits["train"],
        val=splits["val"],
        digest=_digest(root, documents),
        source=origin.source,
        licence=origin.licence,
    )
    (root / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def read_manifest(root: Path) -> DatasetManifest:
    """The manifest of the dataset in `root`; `DatasetError` if there is none or it is not valid."""
    path = root / MANIFEST
    try:
        return DatasetManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(
            f"{root} is no dataset: it has no {MANIFEST}. Import it with `tandem data import-coco`, "
            "`import-voc`, or make one with `tandem data digits`."
        ) from error
    except ValidationError as error:
        raise DatasetError(f"{path} is not a manifest: {error}") from error


def check_dataset(root: Path, *, digest: str | None) -> DatasetManifest:
    """The manifest, after a look at the annotation files; `DatasetError` if they were changed.

    Images are not read again: hashing all of COCO would take longer than an import.
    """
    manifest = read_manifest(root)
    if digest is not None and manifest.digest != digest:
        raise DatasetError(
            f"The dataset in {root} is not the registered one: its digest is {manifest.digest}, "
            f"expected {digest}."
        )
    for split in (manifest.train, manifest.val):
        path = root / split.annotations
        if not path.is_file() or sha256_of(path) != split.annotations_sha256:
            raise DatasetError(f"{path} is missing or was changed since it was imported.")
    return manifest


def _write_split(root: Path, part: str, document: Coco) -> Split:
    path = root / "annotations" / f"{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return Split(
        annotations=f"annotations/{part}.json",
        images=f"images/{part}",
        num_images=len(document["images"]),
        num_boxes=len(document["annotations"]),
        annotations_sha256=sha256_of(path),
    )


def _digest(root: Path, documents: dict[str, Coco]) -> str:
    digest = hashlib.sha256()
    for part, document in sorted(documents.items()):
        digest.update(json.dumps(document, sort_keys=True).encode())
        for image in document["images"]:
            digest.update(sha256_of(root / "images" / part / image["file_name"]).encode())
    return digest.hexdigest()
