"""The manifest of a detection dataset on disk, next to its COCO annotation files."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from configs.spec.base import Contract, Name, Sha256

MANIFEST = "dataset.json"
"""The manifest's file name in the dataset's folder."""

MAX_CLASSES = 100_000
"""No public set has as many: LVIS has 1,203 classes, V3Det 13,204, ImageNet-21k 21,841."""

ClassNames = Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_CLASSES)]
"""Class names in the order of the head's outputs."""

DatasetClasses = Annotated[tuple[str, ...], Field(max_length=MAX_CLASSES)]
"""The classes of a dataset; empty if its images have no labels."""


class Split(Contract):
    """A split of a dataset; paths are relative to the dataset's folder."""

    annotations: str
    images: str
    num_images: Annotated[int, Field(ge=0)]
    num_boxes: Annotated[int, Field(ge=0)]
    annotations_sha256: Sha256


class DatasetManifest(Contract):
    """The content of `dataset.json`."""

    name: Name
    classes: DatasetClasses
    train: Split
    val: Split
    """Without images if the dataset has no labels."""

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

    @model_validator(mode="after")
    def _check_contents(self) -> Self:
        if not self.has_labels:
            if self.train.num_images == 0 or self.val.num_images or self.train.num_boxes:
                raise ValueError(
                    "a dataset without classes has images in train, none in val, and no boxes"
                )
            return self
        for name, split in self.splits.items():
            if split.num_images == 0 or split.num_boxes == 0:
                raise ValueError(f"{name} has to have an image and a box")
        return self

    @property
    def has_labels(self) -> bool:
        """False for images alone, which a run can only have as `data.unlabelled`."""
        return bool(self.classes)

    @property
    def splits(self) -> dict[Literal["train", "val"], Split]:
        """The splits that have images, by name."""
        return {"train": self.train, "val": self.val} if self.has_labels else {"train": self.train}
