"""The frozen teacher computes what mmdet's detector computes, with fewer operators."""

from pathlib import Path

import pytest
import torch
from mmdet.models import build_detector
from torch.nn.modules.batchnorm import _BatchNorm

from tests.support.training.backbones import BACKBONES, make_config, randomize_norms
from workers.checkpoints.files import save_atomically
from workers.distillation.teacher import Teacher


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_teacher_says_what_its_detector_says(tmp_path: Path, backbone: str) -> None:
    config = make_config(backbone)
    torch.manual_seed(0)
    detector = build_detector(config).eval()
    randomize_norms(detector)
    file = tmp_path / "teacher.pth"
    save_atomically({"meta": {}, "state_dict": detector.state_dict()}, file)
    images = torch.rand(2, 3, 64, 96)

    teacher = Teacher(config, checkpoint=file, sha256=None, precision="fp32")
    actual = teacher.forward(images, batch=images)

    with torch.no_grad():
        features = detector.extract_feat(images)
        expected = detector.bbox_head(features)
    torch.testing.assert_close(actual.features, tuple(features), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual.outputs, expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, _BatchNorm) for module in teacher.detector.modules())
    assert not any(parameter.requires_grad for parameter in teacher.detector.parameters())


def test_an_untrained_teacher_is_the_same_everywhere_and_draws_nothing_of_the_student() -> None:
    config = make_config("resnet 50")
    images = torch.rand(2, 3, 64, 96)
    torch.manual_seed(5)
    state = torch.get_rng_state()

    first = Teacher(config, checkpoint=None, sha256=None, precision="fp32")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    second = Teacher(config, checkpoint=None, sha256=None, precision="fp32")

    assert first.sha256 == second.sha256
    outputs = [teacher.forward(images, batch=images).outputs for teacher in (first, second)]
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    scores = torch.cat([maps.sigmoid().flatten() for maps in outputs[0][0]])
    assert scores.min() > 0.005
    assert scores.max() < 0.02


@pytest.mark.parametrize("backbone", BACKBONES)
def test_features_of_an_untrained_teacher_are_of_ordinary_size(backbone: str) -> None:
    config = make_config(backbone)
    images = torch.randn(1, 3, 64, 96)

    teacher = Teacher(config, checkpoint=None, sha256=None, precision="fp32")

    deviations = [maps.std().item() for maps in teacher.forward(images, batch=images).features[:3]]
    assert all(0.01 < deviation < 10.0 for deviation in deviations), deviations


def test_students_of_a_pack_share_the_outputs_that_one_of_them_shifts() -> None:
    config = make_config("resnet 18")
    teacher = Teacher(config, checkpoint=None, sha256=None, precision="fp32")
    teacher.caches_outputs = True
    images = torch.rand(3, 3, 64, 96)
    before = [maps.clone() for maps in teacher.forward(images, batch=images).outputs[0]]

    shifted = teacher.forward(images, batch=images).shift_images()

    for maps, other_maps, same_maps in zip(
        before, shifted.outputs[0], teacher.forward(images, batch=images).outputs[0], strict=True
    ):
        assert torch.equal(other_maps, maps[[2, 0, 1]])
        assert torch.equal(same_maps, maps)
    assert [maps.shape for maps in shifted.features] == [
        maps.shape for maps in teacher.forward(images, batch=images).features
    ]
