"""The manifest of a detection dataset on disk, next to its COCO annotation files."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from configs.spec.base import Contract, Name, Sha256

MANIFEST = "dataset.json"
"""The manifest's file name in the dataset's folder."""

MAX_CLASSES = 100_000
"""No public set has as many: LVIS has 1,203 classes, V3Det 13,204, ImageNet-21k 21,841."""

ClassNames = Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_CLASSES)]
"""Class names in the order of the head's outputs."""


class Split(Contract):
    """A split of a dataset; paths are relative to the dataset's folder."""

    annotations: str
    images: str
    num_images: Annotated[int, Field(ge=1)]
    num_boxes: Annotated[int, Field(ge=1)]
    annotations_sha256: Sha256


class DatasetManifest(Contract):
    """The content of `dataset.json`."""

    name: Name
    classes: ClassNames
    train: Split
    val: Split
    digest: Sha256
    """Digest of annotations and images of both splits: equal digests mean equal data."""

    source: str
    """Where the data comes from, and how it was converted."""

    license: str

    @model_validator(mode="before")
    @classmethod
    def _read_former_spelling(cls, document: Any) -> Any:
        """Datasets imported by earlier versions have the field `licence`."""
        if isinstance(document, dict) and "licence" in document and "license" not in document:
            return {("license" if key == "licence" else key): document[key] for key in document}
        return document
