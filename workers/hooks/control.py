"""The way out of the training loop: losses that are not numbers, and runs that are to end."""

import math
import signal
from typing import Any

from mmcv.runner import Hook

from workers.errors import NanLoss, Preempted, StopRequested, Superseded
from workers.reporting.reporter import Reporter


class Termination:
    """Remembers that the machine asked this process to leave (SIGTERM)."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        """Take over SIGTERM; main thread only."""
        signal.signal(signal.SIGTERM, lambda *_: self._remember())

    def _remember(self) -> None:
        self.requested = True


class ControlHook(Hook):
    """Ends the loop between two steps, before the optimizer: a bad step is never taken."""

    def __init__(self, reporter: Reporter, *, termination: Termination) -> None:
        self._reporter = reporter
        self._termination = termination

    def after_train_iter(self, runner: Any) -> None:
        """`NanLoss`, or what `leave_if_unwanted` raises."""
        _refuse_nan(runner.outputs["log_vars"], step=runner.iter + 1)
        leave_if_unwanted(self._reporter, termination=self._termination)


def leave_if_unwanted(reporter: Reporter, *, termination: Termination) -> None:
    """`Superseded`, `StopRequested` or `Preempted` if this attempt is to end."""
    if reporter.is_superseded:
        raise Superseded("A newer attempt of this run has taken over.")
    if reporter.stop_requested:
        raise StopRequested("The service asked this run to stop.")
    if termination.requested:
        raise Preempted("The process was asked to terminate (SIGTERM).")


def _refuse_nan(losses: dict[str, float], *, step: int) -> None:
    broken = sorted(name for name, value in losses.items() if not math.isfinite(value))
    if broken:
        values = ", ".join(f"{name} = {losses[name]}" for name in broken)
        raise NanLoss(f"At step {step}: {values}.")
