"""A method of another package distills, is probed and is reported as ours are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mmcv import ConfigDict

from configs.metric_keys import is_of_distillation
from configs.spec.active_methods import terms_by_weight
from configs.spec.installed_methods import InstalledMethod
from tests.support.training.detectors import make_batch, make_class_names
from tests.support.training.distilled_students import BOXES, make_detector, make_student
from tests.support.training.installed_methods import (
    SHIFT_WITHOUT_LABELS,
    forget_methods,
    install_method,
)
from workers.data.unlabelled import UNLABELLED
from workers.distillation.methods.registry import resolve_methods
from workers.errors import MethodMismatch
from workers.models.detector_config import build_detector_config

SHIFT: dict[str, Any] = {"method": "installed", "name": "shift", "fields": {"weight": 3.0}}


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    yield
    forget_methods()


def test_it_teaches_a_student_through_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path / "site", monkeypatch)
    student = make_student(tmp_path, make_detector("gfl"), make_detector("gfl", channels=64), SHIFT)

    total, values = student._parse_losses(student.forward_train(**make_batch(BOXES)))
    total.backward()

    assert values["loss_distill_shift"] > 0
    assert is_of_distillation("distill_shift")
    assert student.adapters.shift.weight.grad.abs().sum() > 0


def test_its_weight_scales_its_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_method(tmp_path / "site", monkeypatch)

    losses = []
    for weight in (1.0, 4.0):
        method = {**SHIFT, "fields": {"weight": weight}}
        student = make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), method)
        _, values = student._parse_losses(student.forward_train(**make_batch(BOXES)))
        losses.append(values["loss_distill_shift"])

    assert losses[1] == pytest.approx(4.0 * losses[0])


def test_its_weight_may_follow_a_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_method(tmp_path / "site", monkeypatch)
    method = {**SHIFT, "fields": {"weight": {"value": 4.0, "stop_epoch": 1}}}
    student = make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), method)
    losses = []

    for weight in (1.0, 4.0, 0.0):
        student.use_weights({"distillation.fields.weight": weight})
        _, values = student._parse_losses(student.forward_train(**make_batch(BOXES)))
        losses.append(float(values["loss_distill_shift"]))

    assert losses == [losses[0], pytest.approx(4.0 * losses[0]), 0.0]
    assert losses[0] > 0.0


def test_a_probe_measures_its_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_method(tmp_path, monkeypatch)

    methods = resolve_methods(InstalledMethod(name="shift", fields={}))

    assert terms_by_weight(methods) == {"distillation.fields.weight": "distill_shift"}


def test_it_learns_from_images_without_labels_if_it_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path / "site", monkeypatch, code=SHIFT_WITHOUT_LABELS)
    student = make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), SHIFT)

    attach_teacher_for_unlabelled(student, tmp_path)
    batch = make_batch(BOXES)
    images = {"img": batch["img"] * 0.5, "img_metas": batch["img_metas"]}
    _, values = student._parse_losses(student.forward_train(**batch, **{UNLABELLED: images}))

    assert values["unlabelled_loss_distill_shift"] > 0


def test_one_that_may_need_labels_is_refused_with_images_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_method(tmp_path / "site", monkeypatch)
    student = make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), SHIFT)

    with pytest.raises(MethodMismatch, match="shift distills where labels say"):
        attach_teacher_for_unlabelled(student, tmp_path)


def attach_teacher_for_unlabelled(student: Any, folder: Path) -> None:
    config = build_detector_config(make_detector("gfl"), classes=make_class_names(3))
    checkpoint = str(folder / "teacher.pth")
    student._attach_teacher(
        ConfigDict({"config": config, "checkpoint": checkpoint, "unlabelled": True})
    )


def test_another_release_ends_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_method(tmp_path / "site", monkeypatch)
    release = {"version": "0.9", "digest": "0" * 64, "needs": ["features"]}

    with pytest.raises(MethodMismatch, match=r"version 0\.9 of shift"):
        make_student(
            tmp_path, make_detector("gfl"), make_detector("gfl"), {**SHIFT, "release": release}
        )
