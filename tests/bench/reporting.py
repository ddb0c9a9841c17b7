"""CPU time of what a run reports, as a share of the rest of its steps.

The run is the digits student with BCKD: its steps are the shortest of all presets, so reporting
weighs most. Delivery to the service and to MLflow, which threads of their own do, is not counted.
"""

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from configs.catalog import parse_spec
from configs.spec.run import RunSpec
from tests.bench.packs import make_pair_specs
from tests.bench.table import Comparison
from workers.attempt.stop import Termination
from workers.data.resolve import resolve_run_dataset
from workers.process import compat
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.reporter import SpoolReporter
from workers.training.hooks.loss_shares import LossSharesHook
from workers.training.hooks.metrics import MetricsHook
from workers.training.hooks.progress import ProgressHook
from workers.training.hooks.stop import StopHook
from workers.training.setup import build_shared_inputs, build_training_setup

TARGET = 0.01
"""Largest share of the CPU time of a step without reporting."""

STEPS = 100
"""One interval between two measurements of loss shares."""

_HOOKS = (MetricsHook, ProgressHook, LossSharesHook, StopHook)


def measure_reporting(*, rounds: int, folder: Path, steps: int = STEPS) -> list[Comparison]:
    """Compare reporting with the rest of `steps` steps, of which one measures loss shares."""
    compat.apply_patches()
    document = make_pair_specs("digits", folder)
    spec = parse_spec(
        document | {"distillation": {"method": "bckd"}, "loss_shares_every_steps": steps}
    )
    assert isinstance(spec, RunSpec)
    measured = _measure_rounds(spec, rounds=rounds, steps=steps, folder=folder)
    reporting_s, step_s = (list(seconds) for seconds in zip(*measured, strict=True))
    return [Comparison("reporting, a step", reporting_s, step_s, target=TARGET)]


def _measure_rounds(
    spec: RunSpec, *, rounds: int, steps: int, folder: Path
) -> list[tuple[float, float]]:
    """CPU seconds per step of reporting, and of everything else in a step."""
    run_dir = folder / "run"
    run_dir.mkdir()
    inputs = build_shared_inputs(spec, dataset=resolve_run_dataset(spec))
    with SpoolReporter.open(
        run_dir, identity=AttemptIdentity(run_id="bench"), spec=spec
    ) as reporter:
        setup = build_training_setup(
            spec, inputs, run_dir=run_dir, reporter=reporter, termination=Termination()
        )
        runner, counted = setup.runner, _CpuTime()
        runner._hooks = [hook for hook in runner._hooks if isinstance(hook, _HOOKS)]
        for hook in runner._hooks:
            hook.before_train_iter = counted.measure(hook.before_train_iter)
            hook.after_train_iter = counted.measure(hook.after_train_iter)
        shares = setup.model.loss_shares
        shares.measure = counted.measure(shares.measure)
        runner.begin(steps_per_epoch=rounds * steps)
        runner.begin_epoch(inputs.training)
        batches = [[batch] for batch in inputs.training]
        measured = []
        for _ in range(rounds):
            counted.seconds, start_s = 0.0, time.thread_time()
            for step in range(steps):
                runner.run_iter(batches[step % len(batches)])
            total_s = time.thread_time() - start_s
            measured.append((counted.seconds / steps, (total_s - counted.seconds) / steps))
    return measured


class _CpuTime:
    """CPU seconds of this thread that measured functions took."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def measure(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run_and_count(*args: Any, **kwargs: Any) -> Any:
            start_s = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.thread_time() - start_s

        return run_and_count
