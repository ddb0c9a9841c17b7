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
from torch import nn

from configs.teacher_catalog import known_teachers, load_class_list
from workers.models.detector_config import build_detector_config, get_normalization

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


def build_without_weights(config: Any) -> Any:
    """The detector of a config, for which nothing is allocated."""
    config = copy.deepcopy(config)
    config.backbone.pop("init_cfg", None)  # one file of mmdet names the weights in two ways
    with torch.device("meta"):
        return build_detector(config)


def list_shapes(detector: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in detector.state_dict().items()}


def list_convolutions(detector: Any) -> dict[str, str]:
    """Each convolution with its stride, padding and groups, which no weight shows."""
    modules = detector.named_modules()
    return {name: repr(module) for name, module in modules if isinstance(module, nn.Conv2d)}


def list_flags(head: Any) -> dict[str, bool]:
    """What decides how a head computes its outputs, and shows in no layer."""
    return {name: value for name, value in vars(head).items() if isinstance(value, bool)}


def find_normalization(config: Config) -> dict[str, Any]:
    """What mmdet's pipeline for tests does to pixels; nothing for YOLOX."""
    *_, augmentation = config.data.test.pipeline
    for step in augmentation.transforms:
        if step.type == "Normalize":
            return {name: step[name] for name in ("mean", "std", "to_rgb")}
    return {"mean": [0.0] * 3, "std": [1.0] * 3, "to_rgb": False}


def test_the_teachers_of_mmdet_are_known() -> None:
    assert len(TEACHERS) == 46


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_the_published_one(name: str) -> None:
    card = known_teachers()[name]
    assert card.source is not None
    published = find_published(card.source)
    document = Config.fromfile(str(CONFIGS.parent / published["Config"]))
    config = document.model
    own = build_detector_config(card.detector, classes=load_class_list("coco"))
    detector, mmdets = build_without_weights(own), build_without_weights(config)

    assert card.published_map == pytest.approx(
        published["Results"][0]["Metrics"]["box AP"] / 100, abs=1e-9
    )
    assert card.source.endswith(f"-{card.sha256}.pth")
    assert list_shapes(detector) == list_shapes(mmdets)
    assert list_convolutions(detector) == list_convolutions(mmdets)
    assert list_flags(detector.bbox_head) == list_flags(mmdets.bbox_head)
    assert get_normalization(card.detector) == find_normalization(document)
    own.test_cfg.nms.pop("max_num", None)  # YOLOX limits detections by it
    assert own.test_cfg.nms == config.test_cfg.nms
    assert own.test_cfg.score_thr == config.test_cfg.score_thr
