"""Finds a finished baseline that a new distilled run can be compared with."""

from dataclasses import dataclass

from configs.spec.references import DatasetFiles, NamedDataset
from configs.spec.run import RunSpec
from service.domain.baselines import baseline_digest
from service.domain.repositories.baselines import ReusableBaseline
from service.domain.repositories.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class BaselineLookup:
    """The dataset and the baseline of a spec, looked up once for a whole request."""

    dataset_digest: str | None
    """`None` if the dataset is not, or no longer, registered."""

    reusable: ReusableBaseline | None
    """A run of the project with the digest of the baseline; `None` without one."""


def look_up_baseline(uow: UnitOfWork, spec: RunSpec, *, project: str) -> BaselineLookup:
    """Look up the dataset of a spec, and a run that can serve as its baseline."""
    digest = get_dataset_digest(uow, spec)
    if digest is None:
        return BaselineLookup(None, None)
    spec_digest = baseline_digest(spec, dataset_digest=digest)
    return BaselineLookup(digest, uow.baselines.find_reusable(spec_digest, project=project))


def get_dataset_digest(uow: UnitOfWork, spec: RunSpec) -> str | None:
    """Digest of a run's dataset; `None` if the dataset is not, or no longer, registered."""
    reference = spec.data.dataset
    if isinstance(reference, DatasetFiles):
        return reference.digest
    assert isinstance(reference, NamedDataset)
    dataset = uow.registry.dataset(reference.name)
    return None if dataset is None else dataset.manifest.digest
