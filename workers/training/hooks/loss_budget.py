"""What each term of the loss does, to the reporter: a step every so many."""

from typing import Any

from mmcv.runner import Hook

from configs.protocol.names import loss_share_metric
from workers import distributed
from workers.telemetry.protocol import Reporter


class LossSharesHook(Hook):
    """Has the detector look at its losses' gradients, and says what it saw."""

    def __init__(self, reporter: Reporter, *, every_steps: int) -> None:
        self._voice = reporter
        self._every_steps = every_steps

    def before_train_iter(self, runner: Any) -> None:
        """Ask for a look."""
        if (runner.iter + 1) % self._every_steps == 0 and distributed.is_main_process():
            distributed.unwrap_ddp(runner.model).loss_shares.is_due = True

    def after_train_iter(self, runner: Any) -> None:
        """Say shares and cosines, of all levels together and of each."""
        loss_shares = distributed.unwrap_ddp(runner.model).loss_shares
        if not loss_shares.shares:
            return
        values = {}
        for share in loss_shares.shares:
            values[loss_share_metric(share.term, "share", level=share.level)] = share.share
            values[loss_share_metric(share.term, "cosine", level=share.level)] = share.cosine
        self._voice.report_metrics(step=runner.iter + 1, values=values)
        loss_shares.shares = []
