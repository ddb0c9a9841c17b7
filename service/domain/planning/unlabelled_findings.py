"""Findings about the images without labels of a training run."""

from collections.abc import Iterator

from configs.protocol.image_hashes import describe_shared_images
from configs.spec.jobs import JobSpec
from configs.spec.references import DatasetFiles, NamedDataset
from service.domain.planning.findings import Facts, Finding, error, warning
from service.domain.planning.references import references_of


def unlabelled_findings(spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    """Whether the dataset exists, and shares no image with the validation images."""
    references = references_of(spec)
    field = references.unlabelled_field
    if isinstance(references.unlabelled, DatasetFiles):
        yield error(
            f"{field}.root",
            "not_by_path",
            "Register the images (POST /v1/datasets) and name them.",
        )
    elif isinstance(references.unlabelled, NamedDataset):
        yield from _named_dataset_findings(references.unlabelled.name, f"{field}.name", facts)


def _named_dataset_findings(name: str, field: str, facts: Facts) -> Iterator[Finding]:
    if facts.unlabelled is None:
        hint = facts.unlabelled_hint
        yield error(field, "dataset_not_found", f"No dataset is called {name!r}. {hint}".rstrip())
        return
    if facts.unlabelled.manifest.has_labels:
        count = facts.unlabelled.manifest.train.num_boxes
        yield warning(
            field,
            "labels_ignored",
            f"The {count:,} boxes of {name!r} are ignored: the teacher labels its training images.",
        )
    if facts.shared_images and facts.dataset is not None:
        yield error(
            field,
            "validation_images",
            describe_shared_images(
                facts.shared_images, unlabelled=name, dataset=facts.dataset.name
            ),
        )
