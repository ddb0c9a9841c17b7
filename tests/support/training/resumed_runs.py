"""Killing runs at a step, and comparing resumed with uninterrupted runs."""

import signal
import time
from pathlib import Path
from typing import Any

import torch

from configs.protocol.names import RunFile
from tests.support.training.runs import (
    TIMEOUT_S,
    load_training_weights,
    load_weights,
    make_spec,
    read_metric_values,
)

STEPS_PER_EPOCH = 5
EPOCHS = 3


def make_exact_spec(
    digits: Path, *, ema: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    schedule = make_spec(digits)["schedule"] | {"epochs": EPOCHS, "ema": ema}
    checkpoints = {"every_steps": 1, "every_minutes": None, "keep_last": 3}
    return make_spec(digits, schedule=schedule, checkpoints=checkpoints) | changes


def kill_after_step(processes: list[Any], run_dir: Path, step: int) -> None:
    manifest = run_dir / RunFile.CHECKPOINTS / f"step-{step:09d}.json"
    deadline_s = time.monotonic() + TIMEOUT_S
    while not manifest.exists():
        assert all(process.poll() is None for process in processes), "ended before it was killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait()


def assert_equal_runs(uninterrupted: Path, resumed: Path) -> None:
    expected, actual = load_weights(uninterrupted), load_weights(resumed)
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    expected, actual = map(load_training_weights, (uninterrupted, resumed))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert read_metric_values(uninterrupted) == read_metric_values(resumed)
