"""What each term of the loss does, to the reporter: a step every so many."""

from typing import Any

from mmcv.runner import Hook

from configs.protocol.names import budget_metric
from workers import distributed
from workers.telemetry.protocol import Voice


class BudgetHook(Hook):
    """Has the detector look at its losses' gradients, and says what it saw."""

    def __init__(self, voice: Voice, *, every_steps: int) -> None:
        self._voice = voice
        self._every_steps = every_steps

    def before_train_iter(self, runner: Any) -> None:
        """Ask for a look."""
        if (runner.iter + 1) % self._every_steps == 0 and distributed.is_first():
            distributed.bare(runner.model).budget.is_due = True

    def after_train_iter(self, runner: Any) -> None:
        """Say shares and cosines, of all levels together and of each."""
        budget = distributed.bare(runner.model).budget
        if not budget.shares:
            return
        values = {}
        for share in budget.shares:
            values[budget_metric(share.term, "share", level=share.level)] = share.share
            values[budget_metric(share.term, "cosine", level=share.level)] = share.cosine
        self._voice.metrics(step=runner.iter + 1, values=values)
        budget.shares = []
