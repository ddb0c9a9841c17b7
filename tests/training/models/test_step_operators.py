"""How many operators a step runs, and how often the host waits for one: counts, not times."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import ConfigDict
from mmdet.models import build_head
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from tests.support.training.detectors import make_batch, make_class_names
from tests.support.training.distilled_students import BOXES, METHODS, make_detector, make_student
from workers.models.detector_config import build_detector_config
from workers.training.optimizers import UncompiledSgd
from workers.training.step import TrainStep

READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero")
MAX_READS = 3
MAX_LOSS_OPERATORS = 1300
"""For the assignment and the losses of GFL, with the operators that these call."""

MAX_DISTILLATION_OPERATORS = 800
"""What BCKD adds to a step besides the teacher, backward pass included."""
CLASSES = 3
STRIDES = (8, 16, 32, 64, 128)


def count_operators(work: Callable[[], Any]) -> Counter[str]:
    """Calls of each operator of torch, nested ones included."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    events = profiler.events()
    assert events is not None
    return Counter(event.name for event in events if event.name.startswith("aten::"))


WIDTHS = {"gfl": (CLASSES, 4 * 9), "atss": (CLASSES, 4, 1)}
"""Channels of each output of a head."""


def make_heads(kind: str = "gfl", **train_config: Any) -> tuple[Any, Any]:
    """Tandem's and mmdet's head; they have no weights that losses depend on."""
    model = build_detector_config(make_detector(kind), classes=make_class_names(CLASSES))
    settings = {"train_cfg": {**model.train_cfg, **train_config}, "test_cfg": model.test_cfg}
    tandem_head, mmdet_head = (
        build_head(ConfigDict({**model.bbox_head, "type": name}, **settings))
        for name in (f"Tandem{model.bbox_head.type}", model.bbox_head.type)
    )
    return tandem_head, mmdet_head


def draw_inputs(
    seed: int, *, boxes: list[int], kind: str = "gfl", size: int = 160
) -> tuple[list[Any], list[Any]]:
    """Maps of a head with gradients, and the other arguments of its `loss`."""
    generator = torch.Generator().manual_seed(seed)
    maps = [
        [
            (
                torch.randn(len(boxes), width, side, side, generator=generator) - offset
            ).requires_grad_()
            for side in (-(-size // stride) for stride in STRIDES)
        ]
        for width, offset in ((width, 2.0 * (width == CLASSES)) for width in WIDTHS[kind])
    ]
    metas = [
        {"pad_shape": (size, size - 32 * (image % 2), 3), "img_shape": (size, size, 3)}
        for image in range(len(boxes))
    ]
    corners = [torch.rand(count, 2, generator=generator) * 0.7 * size for count in boxes]
    sides = [torch.rand(count, 2, generator=generator) * 0.6 * size for count in boxes]
    gt_boxes = [torch.cat([low, low + side], 1) for low, side in zip(corners, sides, strict=True)]
    labels = [torch.randint(0, CLASSES, (count,), generator=generator) for count in boxes]
    return maps, [gt_boxes, labels, metas]


def differentiate(losses: dict[str, list[Tensor]], maps: list[Any]) -> list[Tensor]:
    total = torch.stack([level for levels in losses.values() for level in levels]).sum()
    tensors = [level for levels in maps for level in levels]
    return list(torch.autograd.grad(total, tensors))


@pytest.mark.parametrize("boxes", [[1], [0], [3, 0], [1, 20, 5], [100, 1], [0, 0, 2, 40]], ids=str)
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("kind", WIDTHS)
def test_losses_and_gradients_equal_those_of_mmdet(
    kind: str, boxes: list[int], *, ignored: bool
) -> None:
    tandem_head, mmdet_head = make_heads(kind)
    maps, arguments = draw_inputs(len(boxes), boxes=boxes, kind=kind)
    extra = {"gt_bboxes_ignore": [image[:1] for image in arguments[0]]} if ignored else {}

    actual, expected = (head.loss(*maps, *arguments, **extra) for head in (tandem_head, mmdet_head))

    assert actual.keys() == expected.keys()
    for name, levels in expected.items():
        torch.testing.assert_close(actual[name], levels, rtol=1e-6, atol=0.0, msg=name)
    gradients = (differentiate(losses, maps) for losses in (actual, expected))
    for gradient, expected_gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("setting", [{"allowed_border": 0}, {"pos_weight": 2.0}], ids=str)
@pytest.mark.parametrize("kind", WIDTHS)
def test_settings_that_no_preset_has_are_those_of_mmdet(
    kind: str, setting: dict[str, float]
) -> None:
    tandem_head, mmdet_head = make_heads(kind, **setting)
    maps, arguments = draw_inputs(3, boxes=[4, 2], kind=kind)

    actual, expected = (head.loss(*maps, *arguments) for head in (tandem_head, mmdet_head))

    for name, levels in expected.items():
        assert torch.equal(torch.stack(actual[name]), torch.stack(levels))


def test_operators_of_losses_do_not_depend_on_images_and_boxes() -> None:
    head, _ = make_heads()
    counts = []
    for boxes in ([1, 1], [40] * 8):
        maps, arguments = draw_inputs(1, boxes=boxes)
        _, _, metas = arguments
        for meta in metas:
            meta["pad_shape"] = meta["img_shape"]
        head.loss(*maps, *arguments)  # computes the anchors
        counts.append(count_operators(partial(head.loss, *maps, *arguments)))

    few, many = (counter.total() for counter in counts)
    assert many < 1.15 * few
    assert many < MAX_LOSS_OPERATORS, counts[1].most_common(20)


def test_the_host_reads_positives_and_losses_of_a_step_once_each(tmp_path: Path) -> None:
    detector = make_detector("gfl")
    plain, distilled = (
        make_student(tmp_path, detector, teacher, method)
        for teacher, method in ((None, None), (detector, METHODS["bckd"]))
    )
    counts = {}
    for name, student in (("plain", plain), ("distilled", distilled)):
        optimizer = UncompiledSgd(student.parameters(), lr=0.01, momentum=0.9)
        train_step = TrainStep(
            student,
            optimizer,
            device=torch.device("cpu"),
            precision="fp32",
            max_grad_norm=35.0,
        )
        batch = make_batch(BOXES)
        train_step.step([batch], number=1)
        counts[name] = count_operators(partial(train_step.step, [batch], number=2))
    with torch.no_grad():
        teacher = count_operators(lambda: distilled.teacher.detector.forward_dummy(batch["img"]))

    assert sum(counts["distilled"][name] for name in READS) <= MAX_READS
    added = counts["distilled"].total() - counts["plain"].total() - teacher.total()
    assert added < MAX_DISTILLATION_OPERATORS, counts["distilled"].most_common(20)
