"""Checkpoints of other tools: wrapped, nested, with objects of their own beside the weights."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from workers.errors import TeacherMismatch
from workers.teachers.conversion import extract_classes, extract_weights, strip_wrapper
from workers.teachers.foreign_files import ForeignObjects, load_foreign_checkpoint
from workers.teachers.importer import _load_checkpoint

EXPECTED = {"backbone.conv1.weight": torch.zeros(2), "bbox_head.gfl_cls.bias": torch.zeros(3)}
TRAINED = {name: tensor + 1 for name, tensor in EXPECTED.items()}
OTHER = {name: tensor + 2 for name, tensor in EXPECTED.items()}
SMALLER = {name: tensor[:1] for name, tensor in EXPECTED.items()}

Weights = dict[str, Tensor]


class CodeExecution:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a checkpoint ran",)


def add_prefix(weights: Weights, prefix: str) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "student.", "model.", "module.student.", "_orig_mod.", "detector.model."),
        *(
            "architecture.",
            "architecture.model.",
            "student_model.",
            "teacher.",
            "ema_model.module.",
        ),
    ],
)
@pytest.mark.parametrize("nest", ["", "state_dict", "model_state_dict", "model"])
def test_weights_are_found_under_any_prefix_and_nest(prefix: str, nest: str) -> None:
    named = add_prefix(TRAINED, prefix)
    checkpoint = {nest: named, "epoch": 3} if nest else named

    assert strip_wrapper(extract_weights(checkpoint), EXPECTED) == TRAINED


@pytest.mark.parametrize(
    ("trained", "other"),
    [
        ("architecture.model.", "distiller.teacher.model."),
        ("student.", "teacher."),
        ("model.", "ema.module."),
        ("student.model.backbone_and_head.", "teacher."),
        ("", "teacher_model."),
    ],
)
def test_of_several_models_the_trained_one_is_taken(trained: str, other: str) -> None:
    weights = add_prefix(OTHER, other) | add_prefix(TRAINED, trained)

    stripped = strip_wrapper(weights, EXPECTED)

    assert {name: stripped[name] for name in EXPECTED} == TRAINED
    assert set(add_prefix(OTHER, other)) <= stripped.keys()


def test_of_several_models_the_one_of_the_architecture_is_taken() -> None:
    weights = add_prefix(OTHER, "teacher.") | add_prefix(SMALLER, "student.")

    stripped = strip_wrapper(weights, EXPECTED)

    assert {name: stripped[name] for name in EXPECTED} == OTHER


@pytest.mark.parametrize(
    "meta",
    [
        {"CLASSES": ("cat", "dog")},
        {"dataset_meta": {"classes": ["cat", "dog"], "palette": [(1, 2, 3)]}},
        {"dataset_meta": {"CLASSES": ("cat", "dog")}},
    ],
)
def test_class_names_of_every_mmdet_are_read(meta: dict[str, Any]) -> None:
    assert extract_classes({"meta": meta}) == ("cat", "dog")
    assert extract_classes({"meta": {"dataset_meta": {"classes": "cat"}}}) == ("cat",)
    assert extract_classes({"meta": {"dataset_meta": None}}) is None


def save_with_mmengine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As mmengine does: a log whose class is not installed here, with its methods by `getattr`."""
    module = ModuleType("mmengine.logging.history_buffer")
    namespace: dict[str, Any] = {"__module__": module.__name__, "min": lambda self: 0}
    buffer_type = type("HistoryBuffer", (), namespace)
    module.HistoryBuffer = buffer_type  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mmengine", ModuleType("mmengine"))
    monkeypatch.setitem(sys.modules, "mmengine.logging", ModuleType("mmengine.logging"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    buffer = buffer_type()
    buffer.__dict__["_statistics_methods"] = {"size": 3, "where": Path("/somewhere")}
    hub = {"log_scalars": {"train/loss": buffer}, "type": buffer_type}
    meta = {"dataset_meta": {"classes": ("cat",)}}
    torch.save({"meta": meta, "message_hub": hub, "state_dict": TRAINED}, path)
    monkeypatch.undo()


def test_objects_of_other_tools_are_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_with_mmengine(tmp_path / "mmdet3.pth", monkeypatch)

    checkpoint = load_foreign_checkpoint(tmp_path / "mmdet3.pth")

    assert extract_classes(checkpoint) == ("cat",)
    assert extract_weights(checkpoint).keys() == TRAINED.keys()
    assert "mmengine" not in sys.modules


def save_code(path: Path) -> None:
    torch.save({"state_dict": TRAINED, "meta": CodeExecution()}, path)


def save_code_in_old_format(path: Path) -> None:
    torch.save({"meta": CodeExecution()}, path, _use_new_zipfile_serialization=False)


def save_damaged(path: Path) -> None:
    torch.save(TRAINED, path)
    path.write_bytes(path.read_bytes()[:100])


def save_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": CodeExecution()}, protocol=2))


@pytest.mark.parametrize("save", [save_code, save_code_in_old_format, save_damaged, save_pickle])
def test_what_cannot_be_read_safely_is_said_in_one_sentence_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], save: Callable[[Path], None]
) -> None:
    save(tmp_path / "evil.pth")

    with pytest.raises(TeacherMismatch) as refusal:
        _load_checkpoint(tmp_path / "evil.pth", source="evil.pth")

    message = str(refusal.value)
    assert "it was not loaded." in message
    assert "\n" not in message
    assert "\x1b" not in message
    assert "weights_only" not in message
    assert "code from a checkpoint ran" not in capsys.readouterr().out


def test_what_could_be_code_is_named(tmp_path: Path) -> None:
    save_code(tmp_path / "evil.pth")

    with pytest.raises(ForeignObjects, match=r"builtins\.print"):
        load_foreign_checkpoint(tmp_path / "evil.pth")
