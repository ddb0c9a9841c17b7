"""Checkpoints are safe to load, and written atomically."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from workers.checkpoints.files import (
    compute_sha256,
    load_checkpoint,
    load_teacher_weights,
    load_weights,
    save_atomically,
)
from workers.errors import TeacherMismatch


class CodeExecution:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a checkpoint ran",)


def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}, "meta": CodeExecution()}, tmp_path / "evil.pth")

    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "evil.pth")

    assert "code from a checkpoint ran" not in capsys.readouterr().out


def test_old_numpy_values_in_meta_are_read(tmp_path: Path) -> None:
    meta = {"mAP": np.float64(0.4), "epochs": np.int64(12), "palette": np.arange(3)}
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": meta}, tmp_path / "old.pth")

    loaded = load_checkpoint(tmp_path / "old.pth")

    assert loaded["meta"]["mAP"] == 0.4
    assert loaded["meta"]["palette"].tolist() == [0, 1, 2]


def test_a_wrapped_and_a_bare_state_dict_are_the_same_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.w": torch.ones(1)}}, tmp_path / "wrapped.pth")
    torch.save({"w": torch.ones(1)}, tmp_path / "bare.pth")

    assert (
        load_weights(tmp_path / "wrapped.pth").keys() == load_weights(tmp_path / "bare.pth").keys()
    )


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    save_atomically({"epoch": 1}, path)

    with pytest.raises(Exception, match="pickle"):
        save_atomically({"epoch": 2, "bad": lambda: None}, path)

    assert load_checkpoint(path) == {"epoch": 1}


def test_half_precision_weights_fill_a_full_precision_model(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    save_atomically({"state_dict": half}, tmp_path / "half.pth")

    digest = load_teacher_weights(model, tmp_path / "half.pth", sha256=None)

    assert model.weight.dtype is torch.float32
    assert digest == compute_sha256(tmp_path / "half.pth")


def test_another_file_than_the_registered_one_is_refused(tmp_path: Path) -> None:
    save_atomically({"state_dict": nn.Linear(2, 2).state_dict()}, tmp_path / "t.pth")

    with pytest.raises(TeacherMismatch, match="not the registered one"):
        load_teacher_weights(nn.Linear(2, 2), tmp_path / "t.pth", sha256="0" * 64)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherMismatch, match="no teacher checkpoint"):
        load_teacher_weights(nn.Linear(2, 2), tmp_path / "none.pth", sha256=None)


def test_every_difference_of_layers_is_named(tmp_path: Path) -> None:
    save_atomically(
        {"state_dict": {"weight": torch.ones(3, 2), "extra": torch.ones(1)}}, tmp_path / "t.pth"
    )

    with pytest.raises(
        TeacherMismatch, match=r"missing: bias; unexpected: extra; of another shape: weight"
    ):
        load_teacher_weights(nn.Linear(2, 2), tmp_path / "t.pth", sha256=None)


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"], ids=["empty", "text", "cut"]
)
def test_a_damaged_teacher_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.pth").write_bytes(content)

    with pytest.raises(TeacherMismatch, match="damaged"):
        load_teacher_weights(nn.Linear(2, 2), tmp_path / "t.pth", sha256=None)


def test_a_file_that_holds_no_weights_is_named(tmp_path: Path) -> None:
    save_atomically({"epoch": 3}, tmp_path / "t.pth")

    with pytest.raises(TeacherMismatch, match="damaged or contains more"):
        load_teacher_weights(nn.Linear(2, 2), tmp_path / "t.pth", sha256=None)


def test_a_save_that_fails_leaves_no_half_file(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        save_atomically({"bad": lambda: None}, tmp_path / "last.pth")

    assert list(tmp_path.iterdir()) == []
