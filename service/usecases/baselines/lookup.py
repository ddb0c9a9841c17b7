"""Finds a finished baseline that a new distilled run can be compared with."""

from configs.spec.run import DatasetFiles, NamedDataset, RunSpec
from service.domain.baselines import baseline_digest, choose_baseline
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run


def find_reusable_baseline(uow: UnitOfWork, spec: RunSpec, *, project: str) -> Run | None:
    """A run of the project that computes the same numbers as the twin of `spec` would."""
    digest = get_dataset_digest(uow, spec)
    if digest is None:
        return None
    equal = uow.baselines.find_by_spec_digest(
        baseline_digest(spec, dataset_digest=digest), project=project
    )
    return choose_baseline(equal)


def get_dataset_digest(uow: UnitOfWork, spec: RunSpec) -> str | None:
    """Of the images that a run sees; none if its dataset is not registered (any more)."""
    reference = spec.data.dataset
    if isinstance(reference, DatasetFiles):
        return reference.digest
    assert isinstance(reference, NamedDataset)
    dataset = uow.registry.dataset(reference.name)
    return None if dataset is None else dataset.manifest.digest
