"""Ids, sizes and shapes of any kind: every image of the file counts in training and evaluation."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.support.factories import make_spec
from tests.support.workers.dataset_folders import CocoFolder, coco_box, coco_image, write_image
from tests.support.workers.perfect_detections import (
    open_validation,
    score_truth,
    score_truth_plainly,
)
from workers.cli.data import app
from workers.data.loaders import build_training_loader
from workers.data.manifest import check_dataset
from workers.data.resolve import LocalDataset
from workers.errors import DatasetError
from workers.models.training_config import build_training_data_config
from workers.training.setup import build_shared_inputs

IDS = {
    "above 2^63": [3, 17293822569102704640, 17293822569102704641],
    "around 2^63": [(1 << 63) - 1, 1 << 63, (1 << 63) + 1],
    "above 2^64": [1 << 64, (1 << 64) + 1, 1 << 200],
    "beyond the integers of doubles": [1 << 53, (1 << 53) + 1, (1 << 53) + 2],
    "negative": [-1, 0, -(1 << 70)],
}


def import_coco(coco: CocoFolder, out: Path, *options: str) -> Any:
    coco.save()
    paths = {
        "--train-annotations": coco.train_json,
        "--train-images": coco.root / "train",
        "--val-annotations": coco.val_json,
        "--val-images": coco.root / "val",
    }
    arguments = [f"{option}={path}" for option, path in paths.items()]
    return CliRunner().invoke(
        app, ["import-coco", "--name", "pets", f"--out={out}", *arguments, *options]
    )


def make_run_spec(**changes: Any) -> RunSpec:
    spec = parse_spec(make_spec(**changes))
    assert isinstance(spec, RunSpec)
    return spec


@pytest.fixture
def coco(tmp_path: Path) -> CocoFolder:
    return CocoFolder(tmp_path / "theirs")


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS.keys())
def test_images_count_whatever_their_ids(coco: CocoFolder, tmp_path: Path, ids: list[int]) -> None:
    coco.val["images"] = [coco_image(number, f"{number}.png") for number in ids]
    coco.val["annotations"] = [coco_box(number + 5, number) for number in ids]
    for shade, number in enumerate(ids, start=10):
        write_image(coco.root / "val" / f"{number}.png", shade=shade)

    result = import_coco(coco, tmp_path / "ours", "--classes", "cat")

    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "ours" / "annotations" / "val.json").read_text())
    assert [image["id"] for image in document["images"]] == [1, 2, 3]
    assert [box["id"] for box in document["annotations"]] == [1, 2, 3]
    dataset = open_validation(tmp_path / "ours")
    assert score_truth(dataset, {0, 1, 2}).mean_ap == pytest.approx(1.0)
    for detected in ({0}, {1}, {2}, {0, 2}):
        expected = score_truth_plainly(dataset, detected)
        assert score_truth(dataset, detected).mean_ap == pytest.approx(expected)
        assert expected == pytest.approx(len(detected) / 3, abs=0.01)


def test_an_area_that_cannot_be_true_does_not_hide_its_object(
    coco: CocoFolder, tmp_path: Path
) -> None:
    coco.val["annotations"][0]["area"] = 1e12

    import_coco(coco, tmp_path / "ours", "--classes", "cat")

    dataset = open_validation(tmp_path / "ours")
    assert score_truth(dataset, {0}).mean_ap == pytest.approx(1.0)


def test_an_epoch_has_every_image_of_any_shape(coco: CocoFolder, tmp_path: Path) -> None:
    sizes = [(28, 28), (6000, 18), (3, 900), (1, 1), (31, 400)]
    for number, size in enumerate(sizes):
        write_image(coco.root / "train" / f"{number}.png", shade=number + 5, size=size)
        coco.train["images"].append(coco_image(number, f"{number}.png", size))
        coco.train["annotations"].append(coco_box(number + 50, number, bbox=[0, 0, *size]))
    import_coco(coco, tmp_path / "ours")
    dataset = LocalDataset(tmp_path / "ours", check_dataset(tmp_path / "ours"))
    spec = make_run_spec()

    loader = build_training_loader(build_training_data_config(spec, dataset=dataset), spec=spec)

    names = {meta["ori_filename"] for batch in loader for meta in batch["img_metas"]}
    assert dataset.manifest.train.num_images == 7
    assert names == {"a.png", "b.png", *(f"{number}.png" for number in range(5))}


def test_a_run_without_an_object_to_evaluate_ends_before_it_trains(
    coco: CocoFolder, tmp_path: Path
) -> None:
    write_image(coco.root / "val" / "background.png", shade=9)
    coco.val["images"].insert(0, coco_image(99, "background.png"))
    import_coco(coco, tmp_path / "ours")
    dataset = LocalDataset(tmp_path / "ours", check_dataset(tmp_path / "ours"))

    with pytest.raises(DatasetError, match="None of the 1 evaluated images has an object"):
        build_shared_inputs(make_run_spec(evaluation={"val_images": 1}), dataset=dataset)


def test_a_class_without_an_object_has_no_score(coco: CocoFolder, tmp_path: Path) -> None:
    import_coco(coco, tmp_path / "ours")

    metrics = score_truth(open_validation(tmp_path / "ours"), {0})

    assert metrics.ap_by_class == {"dog": None, "cat": pytest.approx(1.0)}
    assert min(metrics.by_metric.values()) >= 0
