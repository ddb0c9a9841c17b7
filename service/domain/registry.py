"""Datasets and teachers that are registered under a name."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from configs.spec.dataset import ClassNames, DatasetManifest
from configs.spec.detector import Detector


@dataclass(frozen=True)
class RegisteredDataset:
    """A dataset that specs may name."""

    name: str
    root: Path
    manifest: DatasetManifest
    registered_at: datetime


@dataclass(frozen=True)
class RegisteredTeacher:
    """A trained detector that specs may name."""

    name: str
    checkpoint: Path
    sha256: str
    detector: Detector
    classes: ClassNames
    measured_map: float | None
    source: str
    registered_at: datetime
