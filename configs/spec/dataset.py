"""What a detection dataset on disk looks like: COCO files and one manifest beside them."""

from typing import Annotated

from pydantic import Field

from configs.spec.base import Contract, Name, Sha256

MANIFEST = "dataset.json"
"""The manifest's file name in the dataset's folder."""

ClassNames = Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
"""Names of the classes in the order of the head's outputs."""


class Split(Contract):
    """One part of a dataset; paths are relative to the dataset's folder."""

    annotations: str
    images: str
    num_images: Annotated[int, Field(ge=1)]
    num_boxes: Annotated[int, Field(ge=1)]
    annotations_sha256: Sha256


class DatasetManifest(Contract):
    """What `dataset.json` holds."""

    name: Name
    classes: ClassNames
    train: Split
    val: Split
    digest: Sha256
    """Of annotations and images of both parts: the same digest is the same data."""

    source: str
    """Where the data came from and how it was made."""

    licence: str
