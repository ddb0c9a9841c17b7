"""Finds the files of a dataset that a spec names."""

from dataclasses import dataclass
from pathlib import Path

from configs.spec.dataset import DatasetManifest
from configs.spec.run import Dataset, DatasetFiles, NamedTeacher, RunSpec, RunTeacher
from workers.data.manifest import check_dataset
from workers.errors import InvalidSpec


@dataclass(frozen=True)
class LocalDataset:
    """A dataset and the folder it lies in."""

    root: Path
    manifest: DatasetManifest


def resolve_dataset(dataset: Dataset | None) -> LocalDataset:
    """The dataset as files, checked; names are for the service."""
    if not isinstance(dataset, DatasetFiles):
        raise InvalidSpec("the dataset is a name, which the service resolves; give its root.")
    root = Path(dataset.root)
    return LocalDataset(root, check_dataset(root, digest=dataset.digest))


def resolve_run_dataset(spec: RunSpec) -> LocalDataset:
    """The dataset as files; names are for the service."""
    if isinstance(spec.teacher, NamedTeacher | RunTeacher):
        raise InvalidSpec("teacher is a name, which the service resolves; give teacher.checkpoint.")
    if not isinstance(spec.data.dataset, DatasetFiles):
        raise InvalidSpec(
            "data.dataset is a name, which the service resolves; give data.dataset.root."
        )
    root = Path(spec.data.dataset.root)
    return LocalDataset(root, check_dataset(root, digest=spec.data.dataset.digest))
