"""Finds a finished baseline that a new distilled run can be compared with."""

from configs.spec.run import DatasetFiles, NamedDataset, RunSpec
from service.domain.baselines import best_twin, twin_digest
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Run


def reusable_twin(unit: Unit, spec: RunSpec, *, project: str) -> Run | None:
    """A run of the project that computes the same numbers as the twin of `spec` would."""
    digest = dataset_digest_of(unit, spec)
    if digest is None:
        return None
    equal = unit.twins.equal(twin_digest(spec, dataset_digest=digest), project=project)
    return best_twin(equal)


def dataset_digest_of(unit: Unit, spec: RunSpec) -> str | None:
    """Of the images that a run sees; none if its dataset is not registered (any more)."""
    reference = spec.data.dataset
    if isinstance(reference, DatasetFiles):
        return reference.digest
    assert isinstance(reference, NamedDataset)
    dataset = unit.registry.dataset(reference.name)
    return None if dataset is None else dataset.manifest.digest
