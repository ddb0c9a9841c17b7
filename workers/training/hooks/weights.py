"""Sets the weights that move before each step, and moves those that follow a share after it."""

from typing import Any

from mmcv.runner import Hook

from configs.metric_keys import measured_share_metric, weight_metric
from workers import distributed
from workers.distillation.weights import MovingWeights
from workers.telemetry.protocol import Reporter


class WeightsHook(Hook):
    """Applies `MovingWeights` to a student.

    Each process measures its part of a batch, and all compute the same weights.
    """

    def __init__(self, reporter: Reporter, weights: MovingWeights) -> None:
        self._reporter = reporter
        self._weights = weights
        self._step_weights: dict[str, float] = {}
        self._measured_shares: dict[str, float] = {}
        self._reported_bounds: list[str] = []

    @property
    def metrics(self) -> dict[str, float]:
        """The weights of this step and the shares that were measured last, by metric key."""
        terms = self._weights.terms
        weights = {weight_metric(terms[field]): w for field, w in self._step_weights.items()}
        shares = {measured_share_metric(terms[f]): s for f, s in self._measured_shares.items()}
        return weights | shares

    def state_dict(self) -> dict[str, Any]:
        """The weights that follow a share, their measurements, and which have reached a bound."""
        return {
            "values": dict(self._weights.values),
            "measured": dict(self._measured_shares),
            "bounds": list(self._reported_bounds),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the weights of an earlier attempt, to the bit."""
        self._weights.values = dict(state["values"])
        self._measured_shares = dict(state["measured"])
        self._reported_bounds = list(state["bounds"])

    def before_train_iter(self, runner: Any) -> None:
        """Set the weights of this step; have gradients measured if a share is due."""
        self._step_weights = self._weights.at(runner.iter)
        detector = distributed.unwrap_ddp(runner.model)
        detector.use_weights(self._step_weights)
        detector.gradient_norms.is_due = bool(self._weights.due_shares(runner.iter))

    def after_train_iter(self, runner: Any) -> None:
        """Move the weights for the next step, if their shares were measured."""
        meter = distributed.unwrap_ddp(runner.model).gradient_norms
        if not meter.is_due:
            return
        measured = self._weights.move(meter.take(), step=runner.iter)
        self._measured_shares |= measured
        for field in measured:
            if field not in self._reported_bounds and self._weights.is_at_bound(field):
                self._reported_bounds.append(field)
                self._reporter.report_note(self._describe_bound(field, step=runner.iter + 1))

    def _describe_bound(self, field: str, *, step: int) -> str:
        value, weight = self._weights.values[field], self._weights.shares[field]
        lower, _ = weight.bounds
        name = "min" if value == lower else "max"
        return (
            f"{field} has reached its {name} of {value:g} at step {step}: its term's share was "
            f"{self._measured_shares[field]:.2f}, not {weight.share:g}. Set {field}.{name} to let "
            "it go further."
        )
