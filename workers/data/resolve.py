"""Opens the dataset that a spec refers to, as files on this machine."""

from dataclasses import dataclass, replace
from pathlib import Path

from configs.spec.dataset import DatasetManifest
from configs.spec.references import Dataset, DatasetFiles, NamedTeacher, RunTeacher
from configs.spec.run import RunSpec
from workers.data.manifest import check_dataset
from workers.errors import InvalidSpec


@dataclass(frozen=True)
class LocalDataset:
    """A dataset in a folder of this machine."""

    root: Path
    manifest: DatasetManifest
    unlabelled: "LocalDataset | None" = None
    """The images without labels that a run has, too. None if it has none."""


def resolve_run_dataset(spec: RunSpec) -> LocalDataset:
    """Open a run's dataset, and that of its images without labels, and check their files.

    Raises `InvalidSpec` if the spec still refers to a dataset or teacher by name, which the service
    resolves.
    """
    if isinstance(spec.teacher, NamedTeacher | RunTeacher):
        raise InvalidSpec("teacher is a name, which the service resolves; give teacher.checkpoint.")
    dataset = resolve_dataset(spec.data.dataset, field="data.dataset")
    images = spec.data.unlabelled
    if images is None:
        return dataset
    unlabelled = _open_dataset(images.dataset, field="data.unlabelled.dataset")
    return replace(dataset, unlabelled=unlabelled)


def resolve_dataset(dataset: Dataset | None, *, field: str = "dataset") -> LocalDataset:
    """Open a dataset with labels and check its files; `field` is its place in the spec, for errors.

    Raises `InvalidSpec` for a name, which the service resolves, and for images without labels.
    """
    local = _open_dataset(dataset, field=field)
    if not local.manifest.has_labels:
        raise InvalidSpec(
            f"{field}: {local.manifest.name} in {local.root} has images without labels, which only "
            "data.unlabelled can name; give a dataset with boxes and validation images."
        )
    return local


def _open_dataset(dataset: Dataset | None, *, field: str) -> LocalDataset:
    if not isinstance(dataset, DatasetFiles):
        raise InvalidSpec(f"{field} is a name, which the service resolves; give {field}.root.")
    root = Path(dataset.root)
    return LocalDataset(root, check_dataset(root, digest=dataset.digest))
