"""Estimates of the remaining training time."""

import time
from types import SimpleNamespace

import pytest

from workers.telemetry.protocol import NullReporter
from workers.training.hooks.progress import ProgressHook


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ProgressHook:
    """The hook of an attempt that started after 10 steps, 20 s ago."""
    times = iter([100.0, 120.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    hook = ProgressHook(NullReporter(), interval_s=1.0)
    hook.before_run(SimpleNamespace(iter=10))
    return hook


def test_the_time_left_follows_from_the_steps_of_this_attempt(hook: ProgressHook) -> None:
    assert hook.estimate_time_left_s(current_step=15, steps=25) == pytest.approx(40.0)


def test_the_time_left_is_none_before_the_first_step(hook: ProgressHook) -> None:
    assert hook.estimate_time_left_s(current_step=10, steps=25) is None
