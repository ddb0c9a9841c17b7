"""Teachers and datasets as specs name them: by name, by run, or as files."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from configs.spec.base import Contract, Name, RunId, Sha256
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector


class NamedTeacher(Contract):
    """A teacher by its name in the registry."""

    name: Name


class RunTeacher(Contract):
    """The detector that another run trains; this run waits until it is trained."""

    run: RunId
    checkpoint: Literal["best", "last"] = "best"


class TeacherFiles(Contract):
    """A teacher as files, which the trainer loads; references by name or run resolve to it."""

    checkpoint: Annotated[str, Field(min_length=1)]
    sha256: Sha256 | None = None
    detector: Detector
    classes: ClassNames


class NamedDataset(Contract):
    """A dataset by its name in the registry."""

    name: Name


class DatasetFiles(Contract):
    """A dataset as a folder with a manifest, which the trainer reads."""

    root: Annotated[str, Field(min_length=1)]
    digest: Sha256 | None = None


def _discriminate_reference(value: object) -> str:
    fields = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    if "run" in fields:
        return "by_run"
    if "detector" in fields or "root" in fields:
        return "by_files"
    return "by_name"


Teacher = Annotated[
    Annotated[NamedTeacher, Tag("by_name")]
    | Annotated[RunTeacher, Tag("by_run")]
    | Annotated[TeacherFiles, Tag("by_files")],
    Discriminator(_discriminate_reference),
]
Dataset = Annotated[
    Annotated[NamedDataset, Tag("by_name")] | Annotated[DatasetFiles, Tag("by_files")],
    Discriminator(_discriminate_reference),
]
