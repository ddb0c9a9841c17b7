"""Operators against references: correct ones pass, wrong ones do not."""

from collections.abc import Callable
from importlib.machinery import ModuleSpec

import pytest
import torch
from torch import Tensor

from workers.machine import extension, operators
from workers.machine.environment import numeric_settings
from workers.machine.extension import OperatorError
from workers.machine.operators import CHECKS, OperatorCheck, check_operators

CPU = torch.device("cpu")


def test_this_machines_operators_agree_with_their_references() -> None:
    differences = check_operators(CPU)

    assert set(differences) == {
        "nms",
        "sigmoid_focal_loss",
        "deform_conv2d",
        "modulated_deform_conv2d",
        "conv2d",
    }
    assert differences["nms"] == 0.0
    assert all(0.0 < difference < 1e-5 for name, difference in differences.items() if name != "nms")


def _perturb(results: list[Tensor]) -> list[Tensor]:
    return [*results[:-1], results[-1].detach() * 1.01]


def _reshape(results: list[Tensor]) -> list[Tensor]:
    return [*results[:-1], results[-1].detach()[:-1]]


def _make_nan(results: list[Tensor]) -> list[Tensor]:
    return [*results[:-1], results[-1].detach() * float("nan")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("change", [_perturb, _reshape, _make_nan])
def test_a_wrong_last_result_is_found(
    monkeypatch: pytest.MonkeyPatch,
    check: OperatorCheck,
    change: Callable[[list[Tensor]], list[Tensor]],
) -> None:
    wrong_check = OperatorCheck(check.name, lambda at: change(check.compute(at)), check.reference)
    monkeypatch.setattr(operators, "CHECKS", (wrong_check,))

    with pytest.raises(OperatorError, match=check.name):
        check_operators(CPU)


def test_the_precision_of_convolutions_is_put_back() -> None:
    before = numeric_settings()

    check_operators(CPU)

    assert numeric_settings() == before


@pytest.mark.parametrize("spec", [None, ModuleSpec("mmcv._ext", None, origin="/x/_ext.py")])
def test_a_stand_in_for_the_compiled_module_is_detected(
    monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None
) -> None:
    monkeypatch.setattr(extension, "find_spec", lambda name: spec)

    with pytest.raises(OperatorError, match="not a compiled module"):
        extension.compiled_targets()


def test_a_wheel_without_gpu_operators_does_not_do_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extension, "_cuda_version", lambda: "not available")

    assert extension.compiled_targets() == "CPU"
    with pytest.raises(OperatorError, match="without operators for GPUs"):
        check_operators(torch.device("cuda", 0))


def test_a_wheel_with_gpu_operators_says_of_which_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "_cuda_version", lambda: "13.0")

    assert extension.compiled_targets() == "CPU and CUDA 13.0"
