"""Manifests: what they may hold, and those that an earlier version wrote."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.spec.dataset import DatasetManifest
from tests.support.factories import make_images_manifest, make_manifest


def test_the_former_spelling_of_the_license_is_read() -> None:
    manifest = make_manifest()
    document = manifest.model_dump(mode="json")
    document["licence"] = document.pop("license")

    assert DatasetManifest.model_validate(document) == manifest


def make_images_only(**changes: Any) -> dict[str, Any]:
    return make_images_manifest().model_dump(mode="json") | changes


def test_a_dataset_without_classes_has_training_images_alone() -> None:
    manifest = DatasetManifest.model_validate(make_images_only())

    assert not manifest.has_labels
    assert list(manifest.splits) == ["train"]
    assert list(make_manifest().splits) == ["train", "val"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["cat"]}, "train has to have an image and a box"),
        ({"val": make_manifest().val.model_dump()}, "none in val"),
        ({"train": make_manifest().train.model_dump()}, "no boxes"),
    ],
    ids=["classes", "validation images", "boxes"],
)
def test_a_manifest_contradicts_itself_nowhere(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DatasetManifest.model_validate(make_images_only(**changes))
