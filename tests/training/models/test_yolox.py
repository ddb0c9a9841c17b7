"""YOLOX's own losses are mmdet's; its scores are products of class score and objectness."""

import copy
import math
from pathlib import Path
from typing import Any

import cv2
import mmdet
import numpy as np
import pytest
import torch
from mmcv import Config
from mmcv.parallel import DataContainer
from mmdet.datasets.pipelines import Compose
from mmdet.models import build_detector
from torch import Tensor

from configs.catalog import spec_from_preset
from configs.spec.detector import Detector
from configs.teacher_catalog import load_class_list
from tests.support.training.detectors import make_batch
from tests.support.training.distilled_students import METHODS, make_detector, make_student
from tests.support.training.mmdet_losses import (
    OVERLAPPING_BOXES,
    assert_losses_are_mmdets,
    build_mmdet_model,
)
from workers.data.batches import HostBatch
from workers.distillation.head_adapters.point_heads import product_logits
from workers.distillation.losses.bckd import disagreement
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_inference_pipeline

CASES: dict[str, list[list[list[float]]]] = {
    "one object": [[[8.0, 8.0, 40.0, 40.0]]],
    "objects that overlap": OVERLAPPING_BOXES,
    "an object outside of the image": [[[300.0, 300.0, 301.0, 301.0]]],
    "no object": [[], []],
}
SIDES = (12, 6, 3)
"""Of the feature maps of an image of 96 pixels."""

NUM_TERMS = {"mgd": 1, "fgd": 4}


def make_maps(
    num_images: int, *, class_logit: float = 0.0, objectness: float = 0.0
) -> list[list[Tensor]]:
    """Outputs of a head with 3 classes: boxes with the sides of a stride, around the corners."""
    values = ((3, class_logit), (4, 0.0), (1, objectness))
    return [
        [torch.full((num_images, width, side, side), value) for side in SIDES]
        for width, value in values
    ]


@pytest.mark.parametrize("boxes", CASES.values(), ids=CASES.keys())
def test_losses_and_gradients_are_those_of_mmdet(tmp_path: Path, boxes: Any) -> None:
    detector = make_detector("yolox")

    assert_losses_are_mmdets(make_student(tmp_path, detector), detector, boxes)


def test_positives_have_the_class_of_their_object_even_without_any_overlap(tmp_path: Path) -> None:
    student = make_student(tmp_path, make_detector("yolox"))
    batch = make_batch([[[30.0, 30.0, 66.0, 66.0]]], size=96)
    class_maps, box_maps, object_maps = make_maps(1)
    for level in box_maps:
        level[:, :2] = 1000.0  # every predicted box is far from the image

    student.bbox_head.loss(
        class_maps, box_maps, object_maps,
        batch["gt_bboxes"], [torch.tensor([2])], batch["img_metas"],
    )  # fmt: skip

    assignment = student.head_adapter.read_assignment(student.bbox_head.targets)
    labels = torch.cat(assignment.labels_N)
    assert set(labels.tolist()) == {2, 3}
    assert assignment.num_pos == float((labels == 2).sum()) == 1.0


def test_logits_are_those_of_the_product_of_both_scores() -> None:
    class_logits = torch.tensor([[-3.0, 0.0, 4.0]], dtype=torch.float64)
    objectness = torch.tensor([[-1.5]], dtype=torch.float64)

    logits = product_logits(class_logits, objectness)

    torch.testing.assert_close(logits.sigmoid(), class_logits.sigmoid() * objectness.sigmoid())


@pytest.mark.parametrize("value", [-80.0, 80.0])
def test_logits_of_extreme_scores_are_finite_and_have_a_gradient(value: float) -> None:
    class_logits = torch.full((1, 2), value, requires_grad=True)

    logits = product_logits(class_logits, torch.full((1, 1), value))
    logits.sum().backward()

    assert class_logits.grad is not None
    assert torch.isfinite(logits).all()
    assert (class_logits.grad > 0).all()


def test_class_logits_count_only_where_an_object_is(tmp_path: Path) -> None:
    adapter = make_student(tmp_path, make_detector("yolox")).head_adapter

    differences = []
    for objectness in (-12.0, 12.0):
        student, teacher = (
            adapter.class_logits(make_maps(1, class_logit=logit, objectness=objectness), 0)
            for logit in (-2.0, 2.0)
        )
        differences.append(float(disagreement(student, teacher).max()))

    assert differences[0] < 1e-5
    assert differences[1] > 0.7


def test_boxes_are_those_that_mmdet_decodes(tmp_path: Path) -> None:
    student = make_student(tmp_path, make_detector("yolox"))
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 4, side, side, generator=generator) for side in SIDES]
    priors = student.bbox_head.prior_generator.grid_priors(
        [level.shape[-2:] for level in maps], device="cpu", with_stride=True
    )

    for level, stride in enumerate((8, 16, 32)):
        flat = maps[level].permute(0, 2, 3, 1).reshape(2, -1, 4)
        expected = student.bbox_head._bbox_decode(priors[level], flat).reshape(-1, 4)
        actual = student.head_adapter.decode_boxes(([], maps, []), level) * stride
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("layer", ["cls", "reg", "obj"])
def test_a_loss_that_is_not_finite_reaches_the_training_loop(tmp_path: Path, layer: str) -> None:
    student = make_student(tmp_path, make_detector("yolox"))
    for predictor in getattr(student.bbox_head, f"multi_level_conv_{layer}"):
        torch.nn.init.constant_(predictor.bias, math.nan)

    losses = student.forward_train(**make_batch(CASES["one object"]))

    assert math.isnan(sum(losses.values()).detach())


def test_mmdet_reports_as_many_detections_as_the_spec_says(tmp_path: Path) -> None:
    detector = make_detector("yolox")
    model = build_mmdet_model(make_student(tmp_path, detector), detector, max_detections=4)
    model.eval().bbox_head.test_cfg.score_thr = 0.0
    batch = make_batch([[], []])
    for meta in batch["img_metas"]:
        meta["scale_factor"] = np.ones(4, np.float32)

    detections = model(
        return_loss=False, img=[batch["img"]], img_metas=[batch["img_metas"]], rescale=True
    )

    assert [sum(len(boxes) for boxes in of_image) for of_image in detections] == [4, 4]


def test_a_teacher_of_another_kind_has_other_levels(tmp_path: Path) -> None:
    with pytest.raises(
        Exception, match=r"at strides \[8, 16, 32\] and the teacher at \[8, 16, 32, 64"
    ):
        make_student(tmp_path, make_detector("yolox"), make_detector("gfl"), METHODS["bckd"])


def test_the_published_detector_is_mmdets(tmp_path: Path) -> None:
    file = Path(mmdet.__file__).parent / ".mim" / "configs" / "yolox/yolox_tiny_8x8_300e_coco.py"
    detector = spec_from_preset("teachers/yolox_tiny").student.architecture
    torch.manual_seed(0)
    published = build_detector(Config.fromfile(str(file)).model)
    published.init_weights()
    own = build_detector(build_detector_config(detector, classes=load_class_list("coco")))
    own.load_state_dict(published.state_dict(), strict=True)
    batch = make_batch(OVERLAPPING_BOXES, size=96)

    losses, expected = (
        model.train().forward_train(**copy.deepcopy(batch)) for model in (own, published)
    )

    assert {name: float(value.detach()) for name, value in losses.items()} == {
        name: float(value.detach()) for name, value in expected.items()
    }


@pytest.mark.parametrize("method", NUM_TERMS)
def test_blocks_by_level_are_those_of_the_published_pyramid(tmp_path: Path, method: str) -> None:
    teacher = make_detector("yolox")
    pyramid = {"kind": "yolox_pafpn", "channels": 32, "blocks": 1}
    student = Detector.model_validate({**teacher.model_dump(), "neck": pyramid})

    model = make_student(tmp_path, student, teacher, METHODS[method])
    losses = model.forward_train(**make_batch(OVERLAPPING_BOXES, size=96))

    terms = [value for name, value in losses.items() if name.startswith(f"loss_{method}")]
    assert len(terms) == NUM_TERMS[method]
    assert all(len(term) == 3 and torch.stack(list(term)).isfinite().all() for term in terms)


def test_published_pixels_are_as_they_are_and_padded_with_gray(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), np.full((20, 40, 3), (1, 2, 3), np.uint8))
    detector = spec_from_preset("teachers/yolox_tiny").student.architecture
    pipeline = Compose(build_inference_pipeline(detector, image_size=(40, 40)))
    samples = [
        pipeline({"img_prefix": None, "img_info": {"filename": str(tmp_path / "image.png")}})
        for _ in range(2)
    ]
    wider = torch.nn.functional.pad(samples[1]["img"][0].data, (0, 32), value=7.0)
    samples[1]["img"][0] = DataContainer(wider, stack=True, padding_value=114.0)

    (images_B3HW,) = HostBatch.from_samples(samples)["img"]

    assert images_B3HW[0, :, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert images_B3HW.shape == (2, 3, 32, 96)
    assert (images_B3HW[0, :, 20:] == 114.0).all()
    assert (images_B3HW[0, :, :, 40:] == 114.0).all()
