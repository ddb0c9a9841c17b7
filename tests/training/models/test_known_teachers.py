"""Known teachers of mmdet: address, mAP and architecture are those that mmdet publishes."""

import copy
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
import yaml
from mmcv import Config
from mmdet.models import build_detector

from configs.teacher_catalog import known_teachers, load_class_list
from workers.models.detector_config import build_detector_config

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
TEACHERS = [
    name
    for name, card in known_teachers().items()
    if card.source is not None and "openmmlab" in card.source
]


def find_published(source: str) -> dict[str, Any]:
    """The entry of mmdet's index of models whose weights are at `source`."""
    family = source.split("/v2.0/")[1].split("/")[0]
    index = (CONFIGS / family / "metafile.yml").read_text(encoding="utf-8")
    models = yaml.safe_load(index)["Models"]
    (entry,) = [model for model in models if model.get("Weights") == source]
    return dict(entry)


def list_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each weight; nothing is allocated."""
    config = copy.deepcopy(config)
    config.backbone.pop("init_cfg", None)  # one file of mmdet names the weights in two ways
    with torch.device("meta"):
        module = build_detector(config)
    return {name: tuple(weight.shape) for name, weight in module.state_dict().items()}


def test_the_teachers_of_mmdet_are_known() -> None:
    assert len(TEACHERS) == 30


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_the_published_one(name: str) -> None:
    card = known_teachers()[name]
    assert card.source is not None
    published = find_published(card.source)
    config = Config.fromfile(str(CONFIGS.parent / published["Config"])).model
    own = build_detector_config(card.detector, classes=load_class_list("coco"))

    assert card.published_map == pytest.approx(
        published["Results"][0]["Metrics"]["box AP"] / 100, abs=1e-9
    )
    assert card.source.endswith(f"-{card.sha256}.pth")
    assert list_shapes(own) == list_shapes(config)
    own.test_cfg.nms.pop("max_num", None)  # YOLOX limits detections by it
    assert own.test_cfg.nms == config.test_cfg.nms
    assert own.test_cfg.score_thr == config.test_cfg.score_thr
