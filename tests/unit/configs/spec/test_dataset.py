"""Manifests of datasets that an earlier version imported."""

from configs.spec.dataset import DatasetManifest
from tests.support.factories import make_manifest


def test_the_former_spelling_of_the_license_is_read() -> None:
    manifest = make_manifest()
    document = manifest.model_dump(mode="json")
    document["licence"] = document.pop("license")

    assert DatasetManifest.model_validate(document) == manifest
