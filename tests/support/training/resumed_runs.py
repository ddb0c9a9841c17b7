"""Runs that are killed at a step, and a comparison of the resumed run with an uninterrupted one."""

import signal
import time
from pathlib import Path
from typing import Any

import torch

from configs.protocol.names import RunFile
from tests.support.training.runs import PATIENCE_S, a_spec, metric_values, weights

STEPS_IN_EPOCH = 5
EPOCHS = 3


def an_exact_spec(digits: Path, **changes: Any) -> dict[str, Any]:
    schedule = a_spec(digits)["schedule"] | {"epochs": EPOCHS}
    checkpoints = {"every_steps": 1, "every_minutes": None, "keep_last": 3}
    return a_spec(digits, schedule=schedule, checkpoints=checkpoints) | changes


def kill_after_step(processes: list[Any], run_dir: Path, step: int) -> None:
    manifest = run_dir / RunFile.CHECKPOINTS / f"step-{step:09d}.json"
    deadline_s = time.monotonic() + PATIENCE_S
    while not manifest.exists():
        assert all(process.poll() is None for process in processes), "ended before it was killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait()


def assert_equal_runs(uninterrupted: Path, resumed: Path) -> None:
    expected, actual = weights(uninterrupted), weights(resumed)
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert metric_values(uninterrupted) == metric_values(resumed)
