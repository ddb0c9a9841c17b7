"""Datasets and teachers that have a name here."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from configs.spec.dataset import ClassNames, DatasetManifest
from configs.spec.detector import Detector


@dataclass(frozen=True)
class RegisteredDataset:
    """A dataset and where it lies."""

    name: str
    root: Path
    manifest: DatasetManifest
    registered_at: datetime


@dataclass(frozen=True)
class RegisteredTeacher:
    """A trained detector: its file, architecture and classes."""

    name: str
    checkpoint: Path
    sha256: str
    detector: Detector
    classes: ClassNames
    measured_map: float | None
    source: str
    registered_at: datetime
