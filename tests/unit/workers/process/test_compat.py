"""Patches that let mmcv and mmdet run with current torch and numpy."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.ops import nms
from mmcv.parallel import MMDistributedDataParallel
from mmcv.runner.checkpoint import _load_checkpoint, get_torchvision_models

from workers.process import compat


def test_the_fixes_are_harmless_when_repeated() -> None:
    compat.apply_patches()
    compat.apply_patches()

    assert vars(np)["int"] is int
    assert vars(np)["float"] is float
    assert MMDistributedDataParallel._use_replicated_tensor_module is False


def test_the_compiled_operators_run() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])

    _, selected = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)

    assert selected.tolist() == [0, 2]


class CodeExecution:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a backbone ran",)


def test_code_in_a_cached_backbone_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compat.apply_patches()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = Path(get_torchvision_models()["resnet18"]).name
    cached = tmp_path / "hub" / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    torch.save({"conv1.weight": CodeExecution()}, cached)

    with pytest.raises(pickle.UnpicklingError):
        _load_checkpoint("torchvision://resnet18")

    assert "code from a backbone ran" not in capsys.readouterr().out
