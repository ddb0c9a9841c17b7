"""Datasets and teachers that are registered under a name."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from configs.spec.dataset import ClassNames, DatasetManifest
from configs.spec.detector import Detector
from service.domain.errors.requests import Forbidden


@dataclass(frozen=True)
class RegisteredDataset:
    """A dataset that specs may name."""

    name: str
    root: Path
    manifest: DatasetManifest
    registered_at: datetime
    project: str | None = None
    """The project whose token registered it; `None` if its token was for all projects."""


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
    project: str | None = None
    """The project whose token registered it; `None` if its token was for all projects."""


class ReplaceForbidden(Forbidden):
    """A dataset or a teacher that others rely on is replaced by admins only."""

    code = "replace_forbidden"

    def __init__(self, kind: str, name: str, why: str) -> None:
        super().__init__(
            f"The {kind} {name!r} {why}, so only an admin may replace it. Choose another name."
        )
