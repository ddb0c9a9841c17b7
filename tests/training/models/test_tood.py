"""TOOD assigns labels by ATSS in its first epochs, and by task alignment after them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.models import build_detector

from configs.catalog import parse_spec
from tests.support.training.detectors import make_batch, make_class_names
from tests.support.training.digits import write_digits
from tests.support.training.distilled_students import BOXES, make_detector, make_student
from tests.support.training.runs import STUDENT, make_spec
from workers.data.resolve import resolve_run_dataset
from workers.distillation.head_adapters.registry import build_head_adapter
from workers.models.detector_config import build_detector_config
from workers.probe.builder import StudentFactory

INITIAL_EPOCHS = 2


def make_tood() -> Any:
    detector = make_detector("tood")
    head = detector.head.model_copy(update={"initial_epochs": INITIAL_EPOCHS})
    return detector.model_copy(update={"head": head})


@pytest.mark.parametrize("epoch", [INITIAL_EPOCHS - 1, INITIAL_EPOCHS])
@pytest.mark.parametrize("boxes", [BOXES, [[], []]], ids=["objects", "no object"])
def test_losses_of_both_stages_are_those_of_mmdet(tmp_path: Path, epoch: int, boxes: Any) -> None:
    detector = make_tood()
    student = make_student(tmp_path, detector)
    config = build_detector_config(detector, classes=make_class_names(3))
    mmdet_model = build_detector(config).train()
    mmdet_model.load_state_dict(student.state_dict(), strict=True)
    batch = make_batch(boxes, size=96)
    for model in (student, mmdet_model):
        model.set_epoch(epoch)

    expected = mmdet_model.forward_train(**copy.deepcopy(batch))
    actual = student.forward_train(**copy.deepcopy(batch))

    assert actual.keys() == expected.keys()
    for name, levels in expected.items():
        assert torch.equal(torch.stack(actual[name]), torch.stack(levels)), name


def test_the_stages_assign_other_labels(tmp_path: Path) -> None:
    student = make_student(tmp_path, make_tood())
    batch = make_batch(BOXES, size=96)
    positives = []
    for epoch in (INITIAL_EPOCHS - 1, INITIAL_EPOCHS):
        student.set_epoch(epoch)
        outputs = student.bbox_head(student.extract_feat(batch["img"]))
        student.bbox_head.loss(*outputs, batch["gt_bboxes"], batch["gt_labels"], batch["img_metas"])
        assignment = student.head_adapter.read_assignment(student.bbox_head.targets)
        positives.append(torch.cat([labels < 3 for labels in assignment.labels_N]))

    assert all(stage.any() for stage in positives)
    assert not torch.equal(*positives)


def test_logits_are_those_of_the_heads_scores(tmp_path: Path) -> None:
    head = make_student(tmp_path, make_tood()).bbox_head
    scores = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 3, 1, 1)

    logits = build_head_adapter(head).class_logits(([scores], []), 0)

    torch.testing.assert_close(logits.sigmoid(), scores.reshape(1, 3), atol=2e-6, rtol=0.0)
    assert torch.isfinite(logits).all()


def test_the_head_knows_the_epoch_also_where_a_run_resumes_within_one(tmp_path: Path) -> None:
    digits = write_digits(tmp_path / "digits", train=4, val=2)
    head = {"kind": "tood", "convs": 1, "channels": 32, "initial_epochs": INITIAL_EPOCHS}
    data = make_spec(digits)["data"] | {"batch_size": 2}
    spec = parse_spec(make_spec(digits, data=data, student=STUDENT | {"head": head}))
    factory = StudentFactory(
        dataset=resolve_run_dataset(spec), run_dir=tmp_path, device=torch.device("cpu")
    )
    runner = factory.runner(spec)
    initial_epoch = runner.model.bbox_head.epoch

    runner.resume_from(epoch=INITIAL_EPOCHS, step=2 * INITIAL_EPOCHS + 1)
    runner.begin_epoch(factory.loader(spec))

    assert (initial_epoch, runner.model.bbox_head.epoch) == (0, INITIAL_EPOCHS)
