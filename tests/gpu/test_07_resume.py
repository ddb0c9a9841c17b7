"""A run goes on where it was: bit for bit on one GPU, nearly so from one device to the other."""

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from configs.metric_keys import Metric
from configs.protocol.names import ExitCode
from tests.support.gpu.measurement import DeviceKind, RecordFigure
from tests.support.training.digits import write_digits
from tests.support.training.jobs import the_teacher
from tests.support.training.resumed_runs import (
    STEPS_IN_EPOCH,
    an_exact_spec,
    assert_equal_runs,
    kill_after_step,
)
from tests.support.training.runs import a_spec, command, metric_values, records, train

KILLED_AFTER = 7
"""Steps: in the second epoch of three."""

LOSS_TOLERANCE = 1e-3
"""Relative, of the mean over an epoch. Sums in another order (`channels_last`) moved it by 1.2e-5
in the 15 steps of this run on a CPU, and bf16 by 4.6e-3."""

Uninterrupted = Callable[[DeviceKind], Path]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=8 * STEPS_IN_EPOCH, val=5)


@pytest.fixture(scope="module")
def uninterrupted(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """The run that nobody interrupted, trained once on each device that is asked for."""

    @cache
    def on(kind: DeviceKind) -> Path:
        run_dir = tmp_path_factory.mktemp("uninterrupted") / kind
        assert train(a_taught_spec(digits, kind), run_dir) == ExitCode.SUCCEEDED
        return run_dir

    return on


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("cpu", "cpu", marks=pytest.mark.slow),  # tests/training has it, bit for bit
        pytest.param("cpu", "cuda", marks=pytest.mark.gpu),
        pytest.param("cuda", "cpu", marks=pytest.mark.gpu),
    ],
)
def test_a_run_goes_on_on_the_other_device(
    digits: Path,
    tmp_path: Path,
    uninterrupted: Uninterrupted,
    first: DeviceKind,
    second: DeviceKind,
    record_figure: RecordFigure,
) -> None:
    run_dir = interrupted_run(digits, tmp_path, first=first, second=second)

    difference = largest_difference(losses_of(run_dir), losses_of(uninterrupted(first)))

    record_figure("loss", difference, "relative")
    assert difference <= LOSS_TOLERANCE
    assert devices_of(run_dir) == [first, second]


@pytest.mark.gpu
def test_a_run_killed_and_resumed_on_one_gpu_is_the_uninterrupted_one_bit_for_bit(
    digits: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    run_dir = interrupted_run(digits, tmp_path, first="cuda", second="cuda")

    assert_equal_runs(uninterrupted("cuda"), run_dir)


def test_losses_of_another_run_are_refused() -> None:
    losses = {10: 2.0, 15: 1.5}

    assert largest_difference(losses, losses) == 0
    assert largest_difference({10: 2.0, 15: 1.6}, losses) > LOSS_TOLERANCE
    with pytest.raises(AssertionError):
        largest_difference({10: 2.0}, losses)


def a_taught_spec(digits: Path, kind: DeviceKind) -> dict[str, Any]:
    """GFL taught by BCKD, with deterministic kernels, a checkpoint at every step, and flips."""
    return an_exact_spec(
        digits,
        data=a_spec(digits)["data"] | {"flip": 0.5},
        teacher=the_teacher(),
        distillation={"method": "bckd"},
        compute={"deterministic": True},
        resources={"num_gpus": int(kind == "cuda")},
    )


def interrupted_run(digits: Path, folder: Path, *, first: DeviceKind, second: DeviceKind) -> Path:
    """The folder of a run that was killed on the first device and finished on the second."""
    run_dir = folder / "run"
    process = subprocess.Popen(command(a_taught_spec(digits, first), run_dir))
    kill_after_step([process], run_dir, KILLED_AFTER)
    code = train(a_taught_spec(digits, second), run_dir, attempt=2)
    assert code == ExitCode.SUCCEEDED
    return run_dir


def losses_of(run_dir: Path) -> dict[int, float]:
    """The total loss by step."""
    return {
        step: value for (key, step), value in metric_values(run_dir).items() if key == Metric.LOSS
    }


def largest_difference(losses: dict[int, float], expected: dict[int, float]) -> float:
    """Relative, over all steps; both say their losses at the same ones."""
    assert losses.keys() == expected.keys()
    return max(abs(losses[step] / expected[step] - 1) for step in expected)


def devices_of(run_dir: Path) -> list[str]:
    """The kind of device of each attempt."""
    started = [record for record in records(run_dir) if record["kind"] == "started"]
    return [record["device"].split(":")[0] for record in started]
