"""Datasets without labels over the API: registered, listed, and launched with a run."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from configs.protocol.image_hashes import IMAGE_HASHES, ImageHashes
from configs.protocol.names import RunFile
from tests.support.factories import NO_HASH, make_bckd_spec, make_images_manifest, make_spec
from tests.support.service.stage import Stage

SPEC = make_bckd_spec(
    data=make_spec()["data"]
    | {"unlabelled": {"dataset": {"name": "photos"}, "images_per_batch": 4}}
)
SAME, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def photos(stage: Stage) -> Stage:
    stage.add_dataset()
    stage.add_teacher()
    stage.add_dataset("photos", make_images_manifest())
    return stage


def write_hashes(
    stage: Stage,
    name: str,
    *,
    train: Mapping[str, str] = {},
    val: Mapping[str, str] = {},
    digest: str = NO_HASH,
) -> None:
    hashes = ImageHashes(dataset_digest=digest, train=train, val=val)
    file = stage.home / "datasets" / name / IMAGE_HASHES
    file.write_text(hashes.model_dump_json(), encoding="utf-8")


def plan(stage: Stage, spec: dict[str, Any]) -> list[dict[str, Any]]:
    findings: list[dict[str, Any]] = stage.http.post("/v1/runs:plan", json={"spec": spec}).json()[
        "findings"
    ]
    return findings


def test_images_without_labels_are_registered_and_listed(photos: Stage) -> None:
    view = photos.http.get("/v1/datasets/photos").json()

    assert view["manifest"]["classes"] == []
    assert view["manifest"]["train"]["num_images"] == 2
    assert [item["name"] for item in photos.http.get("/v1/datasets").json()] == ["pets", "photos"]


def test_a_run_gets_their_folder(photos: Stage) -> None:
    run = photos.launch(spec=SPEC)

    photos.run_loops()

    spec = json.loads((photos.home / "runs" / run["id"] / RunFile.SPEC).read_text())
    assert spec["data"]["unlabelled"]["dataset"] == {
        "root": str(photos.home / "datasets" / "photos"),
        "digest": NO_HASH,
    }
    baseline = next(
        item for item in photos.http.get("/v1/runs").json()["items"] if item["id"] != run["id"]
    )
    assert "unlabelled" not in photos.run(baseline["id"])["spec"]["data"]


def test_validation_images_are_refused_by_plan_and_launch(photos: Stage) -> None:
    write_hashes(photos, "photos", train={"new.jpg": OTHER, "copy.jpg": SAME})
    write_hashes(photos, "pets", val={"cat.jpg": SAME})

    (finding,) = plan(photos, SPEC)
    response = photos.http.post("/v1/runs", json={"spec": SPEC})

    assert (finding["severity"], finding["code"]) == ("error", "validation_images")
    assert "1 of the images in 'photos' is a validation image of 'pets'" in finding["message"]
    assert response.status_code == 422
    assert response.json()["errors"][0]["code"] == "validation_images"


def test_hashes_of_other_data_are_not_compared(photos: Stage) -> None:
    write_hashes(photos, "photos", train={"copy.jpg": SAME}, digest=OTHER)
    write_hashes(photos, "pets", val={"cat.jpg": SAME})

    assert plan(photos, SPEC) == []


def test_they_are_no_dataset_to_train_or_to_evaluate_on(photos: Stage) -> None:
    data = make_spec()["data"] | {"dataset": {"name": "photos"}}

    (finding,) = plan(photos, make_spec(data=data))
    evaluation = {
        "model": {"name": "big"},
        "data": {"dataset": {"name": "photos"}, "image_size": [96, 96]},
    }
    response = photos.http.post("/v1/evaluations", json=evaluation)

    assert (finding["field"], finding["code"]) == ("data.dataset.name", "dataset_without_labels")
    assert response.status_code == 422
    assert "dataset_without_labels" in response.text
