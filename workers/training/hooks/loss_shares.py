"""Reports each loss term's share of the gradient, every `every_steps` steps."""

from typing import Any

from mmcv.runner import Hook

from configs.metric_keys import loss_share_metric
from workers import distributed
from workers.telemetry.protocol import Reporter


class LossSharesHook(Hook):
    """Asks the detector to measure its loss shares, and reports them."""

    def __init__(self, reporter: Reporter, *, every_steps: int) -> None:
        self._reporter = reporter
        self._every_steps = every_steps

    def before_train_iter(self, runner: Any) -> None:
        """Request a measurement in this step if one is due."""
        if (runner.iter + 1) % self._every_steps == 0 and distributed.is_main_process():
            distributed.unwrap_ddp(runner.model).loss_shares.is_due = True

    def after_train_iter(self, runner: Any) -> None:
        """Report shares and cosines, over all pyramid levels and of each one."""
        loss_shares = distributed.unwrap_ddp(runner.model).loss_shares
        if not loss_shares.shares:
            return
        values = {}
        for share in loss_shares.shares:
            values[loss_share_metric(share.term, "share", level=share.level)] = share.share
            values[loss_share_metric(share.term, "cosine", level=share.level)] = share.cosine
        self._reporter.report_metrics(step=runner.iter + 1, values=values)
        loss_shares.shares = []
