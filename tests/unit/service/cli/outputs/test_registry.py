"""Output of presets, datasets and teachers."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from configs.protocol.dataset_statistics import NearDuplicate, RelativeSizes
from configs.teacher_catalog import known_teachers
from service.api.schemas.registry import DatasetView, TeacherView
from service.api.views import to_statistics_view
from tests.support.cli.outputs import CommandLine
from tests.support.dataset_statistics import make_part, make_statistics
from tests.support.factories import (
    NO_HASH,
    make_detector_spec,
    make_images_manifest,
    make_manifest,
)
from tests.support.service.run_views import NOW

DATASETS = [
    DatasetView(
        name=name,
        root=root,
        manifest=make_manifest(name=name),
        registered_at=NOW,
    )
    for name, root in (
        ("digits", "/home/ada/.tandem/datasets/digits"),
        (
            "cells-of-blood-from-the-second-microscope",
            "/mnt/microscopy/2026/blood-cells/second-microscope/converted-from-voc/cells-of-blood",
        ),
    )
]
STATISTICS = to_statistics_view(
    "digits",
    make_statistics(
        train=make_part(
            max_objects=140,
            num_crowded_images=3,
            busiest_image="north/2026-05-11/a-street-in-the-morning-from-the-second-camera.jpg",
        ),
        val=make_part(
            class_objects=(400, 0),
            class_images=(190, 0),
            relative_sizes=(RelativeSizes(image_ratio=0.75, counts={-36: 248, -16: 152}),),
        ),
        num_near_duplicates=1,
        near_duplicates=(NearDuplicate(val="b.jpg", train="a.jpg", distance=4),),
    ),
)
TEACHERS = [
    TeacherView(
        name=name,
        checkpoint=f"/home/ada/.tandem/teachers/{name}.pth",
        sha256=NO_HASH,
        detector=make_detector_spec(),
        classes=("cat", "dog"),
        measured_map=score,
        source=source,
        registered_at=NOW,
    )
    for name, score, source in (
        ("digits-teacher", 0.7396, "preset digits/teacher (seed 7)"),
        (
            "gfl-r101-coco-2x-ms",
            None,
            "https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_r101_fpn_mstrain_2x_coco/"
            "gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth; published mAP 44.7",
        ),
    )
]


def test_presets(command_line: CommandLine) -> None:
    command_line.check("presets", "presets")

    assert command_line.read_json("presets")[0].keys() == {"name", "summary"}


def test_datasets(command_line: CommandLine) -> None:
    api = {"GET /v1/datasets": DATASETS}

    command_line.check("data_list", "data", "list", api=api)

    assert command_line.read_json("data", "list", api=api)[0]["root"] == DATASETS[0].root


def test_images_without_labels_are_listed_as_such(command_line: CommandLine) -> None:
    photos = DATASETS[0].model_copy(
        update={"name": "photos", "manifest": make_images_manifest(name="photos")}
    )
    nothing = make_part(
        class_objects=(), class_images=(), num_objects=0, num_empty_images=2, relative_sizes=()
    )
    statistics = make_statistics(classes=(), train=nothing, val=nothing)
    api: dict[str, Any] = {
        "GET /v1/datasets": [photos],
        "GET /v1/datasets/photos": photos,
        "GET /v1/datasets/photos/statistics": to_statistics_view("photos", statistics),
    }

    assert "no labels" in command_line.run("data", "list", api=api).text
    output = command_line.run("data", "show", "photos", api=api).text
    assert "There are no labels: only data.unlabelled of a run can name this dataset." in output
    assert "class" not in output


def test_statistics_of_a_dataset(command_line: CommandLine) -> None:
    api = {
        "GET /v1/datasets/digits": DATASETS[0],
        "GET /v1/datasets/digits/statistics": STATISTICS,
    }

    command_line.check("data_show", "data", "show", "digits", api=api)

    document = command_line.read_json("data", "show", "digits", api=api)
    assert document["resized"][0]["share_below_8_px"] == pytest.approx(0.31, abs=0.01)


def test_teachers(command_line: CommandLine) -> None:
    api = {"GET /v1/teachers": TEACHERS}

    command_line.check("teachers_list", "teachers", "list", api=api)

    assert command_line.read_json("teachers", "list", api=api)[0]["measured_map"] == 0.7396


def test_known_teachers(command_line: CommandLine) -> None:
    command_line.check("teachers_known", "teachers", "known")

    documents = command_line.read_json("teachers", "known")
    assert [document["name"] for document in documents] == list(known_teachers())


def test_empty_lists_say_what_to_do(command_line: CommandLine) -> None:
    for noun, path in (("data", "datasets"), ("teachers", "teachers"), ("projects", "projects")):
        output = command_line.run(noun, "list", api={f"GET /v1/{path}": []})

        assert "`tandem " in output.text
        assert command_line.read_json(noun, "list", api={f"GET /v1/{path}": []}) == []


def test_registrations_are_confirmed(command_line: CommandLine, tmp_path: Path) -> None:
    weights, card = tmp_path / "weights.pth", tmp_path / "card.json"
    weights.write_bytes(b"")
    detector = make_detector_spec().model_dump(mode="json")
    card.write_text(json.dumps({"name": "mine", "detector": detector, "classes": ["cat"]}))
    api = {"POST /v1/datasets": DATASETS[0], "POST /v1/teachers": TEACHERS[0]}

    with contextlib.chdir(tmp_path):
        command_line.check("data_add", "data", "add", ".", api=api)
        command_line.check(
            "teachers_add", "teachers", "add", "weights.pth", "--card", "card.json", api=api
        )
