"""Requests and responses of datasets, teachers and presets."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from configs.protocol.dataset_statistics import DatasetStatistics
from configs.spec.base import PRINTABLE_PATTERN, Contract, Name, Sha256
from configs.spec.dataset import MAX_CLASSES, ClassNames, DatasetManifest
from configs.spec.detector import Detector
from service.api.schemas.base import RequestModel

PrintableText = Annotated[str, Field(pattern=PRINTABLE_PATTERN)]


class DatasetRequest(RequestModel):
    """A dataset's folder to register under a name."""

    root: Annotated[str, Field(min_length=1)]
    name: Name | None = None
    replace: bool = False


class TeacherRequest(RequestModel):
    """A trained detector to register under a name."""

    name: Name
    checkpoint: Annotated[str, Field(min_length=1)]
    detector: Detector
    classes: Annotated[tuple[PrintableText, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    sha256: Sha256 | None = None
    measured_map: Annotated[float, Field(ge=0, le=1)] | None = None
    source: Annotated[str, Field(max_length=2000, pattern=PRINTABLE_PATTERN)] = ""
    replace: bool = False


class PresetView(Contract):
    """A named experiment."""

    name: str
    summary: str


class DatasetView(Contract):
    """A dataset in the registry."""

    name: str
    root: str
    manifest: DatasetManifest
    registered_at: datetime
    project: str | None = None
    """The project whose runners may replace it. None if only an admin may."""


class ResizedObjectsView(Contract):
    """What resizing to an image size makes of a dataset's objects."""

    image_size: tuple[int, int]
    """Longest and shortest edge in pixels; the aspect ratio is kept."""

    share_below_8_px: float
    """Share of objects that are smaller than one cell of the finest pyramid level, from 0 to 1."""

    share_below_16_px: float
    share_below_32_px: float


class StatisticsView(DatasetStatistics):
    """Images and objects of a dataset."""

    name: str
    resized: tuple[ResizedObjectsView, ...]
    """At the image sizes of the presets for this dataset, or at common ones."""


class TeacherView(Contract):
    """A teacher in the registry."""

    name: str
    checkpoint: str
    sha256: str
    detector: Detector
    classes: ClassNames
    measured_map: float | None
    source: str
    registered_at: datetime
    project: str | None = None
    """The project whose runners may replace it. None if only an admin may."""
