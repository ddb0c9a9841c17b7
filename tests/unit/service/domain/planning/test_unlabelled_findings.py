"""What a plan finds about images without labels."""

from pathlib import Path
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.protocol.image_hashes import SharedImage
from configs.spec.installed_methods import InstalledMethod, MethodRelease
from service.adapters.clock import FixedClock
from service.domain.planning.findings import Facts
from service.domain.planning.plan import make_plan
from service.domain.planning.unlabelled_findings import unlabelled_findings
from service.domain.registry import RegisteredDataset
from tests.support.factories import make_bckd_spec, make_images_manifest, make_manifest, make_spec

NOW = FixedClock().now()
PETS = RegisteredDataset("pets", Path("/pets"), make_manifest(), NOW)
PHOTOS = RegisteredDataset("photos", Path("/photos"), make_images_manifest(), NOW)
SHARED = tuple(SharedImage(f"{name}.jpg", f"val-{name}.jpg") for name in "abcd")


def make_unlabelled_spec(dataset: dict[str, Any], **changes: Any) -> dict[str, Any]:
    unlabelled = {"dataset": dataset, "images_per_batch": 4}
    return make_bckd_spec(data=make_spec()["data"] | {"unlabelled": unlabelled}, **changes)


CASES: dict[str, tuple[dict[str, Any], Facts, list[tuple[str, str, str]]]] = {
    "none": (make_bckd_spec(), Facts(dataset=PETS), []),
    "registered images": (
        make_unlabelled_spec({"name": "photos"}),
        Facts(dataset=PETS, unlabelled=PHOTOS),
        [],
    ),
    "no such dataset": (
        make_unlabelled_spec({"name": "photos"}),
        Facts(dataset=PETS),
        [("error", "data.unlabelled.dataset.name", "dataset_not_found")],
    ),
    "a folder": (
        make_unlabelled_spec({"root": "/photos"}),
        Facts(dataset=PETS),
        [("error", "data.unlabelled.dataset.root", "not_by_path")],
    ),
    "labels": (
        make_unlabelled_spec({"name": "pets"}),
        Facts(dataset=PETS, unlabelled=PETS),
        [("warning", "data.unlabelled.dataset.name", "labels_ignored")],
    ),
    "validation images": (
        make_unlabelled_spec({"name": "photos"}),
        Facts(dataset=PETS, unlabelled=PHOTOS, shared_images=SHARED),
        [("error", "data.unlabelled.dataset.name", "validation_images")],
    ),
}


@pytest.mark.parametrize(("spec", "facts", "expected"), CASES.values(), ids=CASES)
def test_findings(spec: dict[str, Any], facts: Facts, expected: list[tuple[str, str, str]]) -> None:
    findings = unlabelled_findings(parse_spec(spec), facts)

    assert [(item.severity, item.field, item.code) for item in findings] == expected


@pytest.mark.parametrize(
    ("needs_labels", "codes"), [(True, ["labels_needed"]), (False, [])], ids=["labels", "none"]
)
def test_a_method_of_another_package_is_judged_by_what_its_release_says(
    needs_labels: bool, codes: list[str]
) -> None:
    requested = {"method": "installed", "name": "shift", "fields": {}}
    spec = parse_spec(make_unlabelled_spec({"name": "photos"}, distillation=requested))
    release = MethodRelease(version="1", digest="a" * 64, needs=(), needs_labels=needs_labels)
    pinned = InstalledMethod(name="shift", fields={}, release=release)

    findings = unlabelled_findings(
        spec.model_copy(update={"distillation": pinned}), Facts(dataset=PETS, unlabelled=PHOTOS)
    )

    assert [finding.code for finding in findings] == codes


def test_shared_images_are_counted_with_examples_and_the_way_out() -> None:
    facts = Facts(dataset=PETS, unlabelled=PHOTOS, shared_images=SHARED)

    (finding,) = unlabelled_findings(parse_spec(make_unlabelled_spec({"name": "photos"})), facts)

    assert "4 of the images in 'photos' are validation images of 'pets'" in finding.message
    assert "(a.jpg is val-a.jpg, b.jpg is val-b.jpg, c.jpg is val-c.jpg, ...)" in finding.message
    assert "--name photos --exclude-of pets" in finding.message


def test_one_tiny_image_without_labels_is_too_few_for_batch_normalization() -> None:
    spec = make_unlabelled_spec({"name": "photos"})
    spec["data"] |= {"image_size": [32, 32], "batch_size": 4}
    spec["data"]["unlabelled"]["images_per_batch"] = 1
    facts = Facts(dataset=PETS, unlabelled=PHOTOS)

    codes = {finding.code for finding in make_plan(parse_spec(spec), facts).findings}

    assert "batch_too_small" in codes
