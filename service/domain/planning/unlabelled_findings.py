"""Findings about the images without labels of a training run."""

from collections.abc import Iterator

from configs.protocol.image_hashes import describe_shared_images
from configs.spec.active_methods import describe_missing_labels, methods_by_field, needs_labels
from configs.spec.distillation import Distillation
from configs.spec.installed_methods import InstalledMethod
from configs.spec.jobs import JobSpec
from configs.spec.references import DatasetFiles, NamedDataset
from configs.spec.run import RunSpec
from service.domain.planning.findings import Facts, Finding, error, warning
from service.domain.planning.references import references_of


def unlabelled_findings(spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    """Whether the dataset exists and shares no image with the validation images, and whether
    methods of other packages, which only the workers know, can use it."""
    if isinstance(spec, RunSpec) and spec.data.unlabelled is not None:
        yield from _method_findings(spec.distillation)
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


def _method_findings(distillation: Distillation) -> Iterator[Finding]:
    for field, method in methods_by_field(distillation).items():
        if isinstance(method, InstalledMethod) and needs_labels(method):
            yield error(field, "labels_needed", f"{describe_missing_labels(method.name)}.")


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
