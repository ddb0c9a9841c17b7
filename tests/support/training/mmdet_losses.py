"""A student's own losses and gradients beside those of mmdet's detector with the same weights."""

import copy
from typing import Any

import torch
from mmdet.models import build_detector

from configs.spec.detector import Detector
from tests.support.training.detectors import make_batch, make_class_names
from workers.models.detector_config import build_detector_config

OVERLAPPING_BOXES = [
    [[8.0, 8.0, 40.0, 40.0], [20.0, 4.0, 60.0, 50.0], [30.0, 30.0, 90.0, 95.0]],
    [],
    [[2.0, 2.0, 14.0, 9.0], [50.0, 60.0, 80.0, 70.0]],
]
"""Objects of three images of 96 pixels."""


def build_mmdet_model(student: Any, detector: Detector, **limits: int) -> Any:
    """mmdet's detector for 3 classes with the student's weights, in training mode."""
    config = build_detector_config(detector, classes=make_class_names(3), **limits)
    model = build_detector(config)
    model.load_state_dict(student.state_dict(), strict=True)
    return model.train()


def assert_losses_are_mmdets(student: Any, detector: Detector, boxes: Any) -> None:
    """Compare all losses and gradients for objects in images of 96 pixels, bit for bit.

    A parameter that gets no gradient from mmdet, because there is no object, needs one of 0.
    """
    mmdet_model = build_mmdet_model(student, detector)
    batch = make_batch(boxes, size=96)

    losses = [model.forward_train(**copy.deepcopy(batch)) for model in (student, mmdet_model)]
    for of_model in losses:
        sum(of_model.values()).backward()

    actual, expected = losses
    assert {name: float(value.detach()) for name, value in actual.items()} == {
        name: float(value.detach()) for name, value in expected.items()
    }
    for parameter, reference in zip(student.parameters(), mmdet_model.parameters(), strict=True):
        gradient = torch.zeros_like(parameter) if reference.grad is None else reference.grad
        assert torch.equal(parameter.grad, gradient)
