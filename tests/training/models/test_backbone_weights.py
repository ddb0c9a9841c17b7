"""Pretrained weights: the addresses are mmcv's, the cache is torch's."""

from pathlib import Path
from typing import get_args

import pytest
from mmcv.runner.checkpoint import get_external_models, get_torchvision_models
from torch import hub

from configs.backbone_weights import DownloadedWeights, get_pretrained_weights
from configs.spec.detector import Backbone, Detector, MobileNetV2, ResNet, SwinTransformer
from service.adapters.worker_files import find_torch_cache
from workers.models.detector_config import build_detector_config

DEPTHS = get_args(ResNet.model_fields["depth"].annotation)


def find_mmcv_address(backbone: Backbone) -> str:
    detector = Detector(backbone=backbone)
    checkpoint = build_detector_config(detector, classes=("a",)).backbone.init_cfg.checkpoint
    source, separator, name = str(checkpoint).partition("://")
    tables = {"torchvision": get_torchvision_models, "open-mmlab": get_external_models}
    assert separator
    return str(tables[source]()[name]) if source in tables else str(checkpoint)


@pytest.mark.parametrize(
    "backbone",
    [
        *(ResNet(depth=depth, pretrained="imagenet") for depth in DEPTHS),
        MobileNetV2(kind="mobilenet_v2", pretrained="imagenet"),
        SwinTransformer(kind="swin", size="tiny", pretrained="imagenet"),
        SwinTransformer(kind="swin", size="small", pretrained="imagenet"),
    ],
    ids=lambda backbone: f"{backbone.kind} {getattr(backbone, 'depth', '')}".strip(),
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_weights_are_downloaded_from_the_named_address(backbone: Backbone) -> None:
    weights = get_pretrained_weights(backbone)

    assert isinstance(weights, DownloadedWeights)
    assert weights.url == find_mmcv_address(backbone)


@pytest.mark.parametrize(
    "environment",
    [{}, {"XDG_CACHE_HOME": "/cache"}, {"TORCH_HOME": "/torch"}, {"TORCH_HOME": "~/torch"}],
    ids=["default", "a cache", "a home", "a folder of the user"],
)
def test_the_cache_is_that_of_torch(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert find_torch_cache(environment) == Path(hub.get_dir()) / "checkpoints"
