"""Weights that move: first values, and how they would go on with the first batch's gradients."""

import math
from collections.abc import Mapping

from configs.protocol.probe import StartWeight
from configs.spec.run import RunSpec
from workers.distillation.methods.registry import resolve_methods
from workers.distillation.weights import MovingWeights, full_weights
from workers.probe.builder import StudentFactory
from workers.training.hooks.seeding import seed_all


def measure_start_weights(factory: StudentFactory, spec: RunSpec) -> dict[str, StartWeight]:
    """The first weights of a run by field; empty without weights that move."""
    weights = build_moving_weights(factory, spec)
    norms = measure_norms(factory, spec) if weights.shares else {}
    total = sum(norms.values())
    starts = {}
    for field, weight in weights.at(0).items():
        norm = norms.get(f"loss_{weights.terms[field]}", 0.0)
        if field not in weights.shares or not 0.0 < norm < total < math.inf:
            starts[field] = StartWeight(weight=weight)
            continue
        share = weights.shares[field].share
        balanced = weight * share / (1.0 - share) * (total - norm) / norm
        starts[field] = StartWeight(weight=weight, share=norm / total, balanced_weight=balanced)
    return starts


def describe_start_weight(field: str, start: StartWeight) -> str:
    """One sentence for the log of the probe."""
    text = f"{field} starts at {start.weight:.3g}"
    if start.share is None or start.balanced_weight is None:
        return f"{text}."
    return (
        f"{text}, where its term's share of the gradient is {start.share:.2f} on the first batch; "
        f"the share that it follows needs {start.balanced_weight:.3g}."
    )


def simulate_weights(factory: StudentFactory, spec: RunSpec) -> list[dict[str, float]]:
    """The weights of each step, if the gradients per weight stayed those of the first batch."""
    weights = build_moving_weights(factory, spec)
    unit_norms = measure_norms(factory, spec) if weights.shares else {}
    values = full_weights(resolve_methods(spec.distillation))
    by_step = []
    for step in range(spec.schedule.epochs * factory.steps_per_epoch(spec)):
        present = weights.at(step)
        by_step.append(present)
        if weights.due_shares(step):
            factors = {f"loss_{weights.terms[f]}": w / values[f] for f, w in present.items()}
            weights.move(_scale(unit_norms, factors), step=step)
    return by_step


def build_moving_weights(factory: StudentFactory, spec: RunSpec) -> MovingWeights:
    """The weights of a run before its first step, as training builds them."""
    return MovingWeights(
        resolve_methods(spec.distillation),
        epochs=spec.schedule.epochs,
        steps_per_epoch=factory.steps_per_epoch(spec),
    )


def measure_norms(factory: StudentFactory, spec: RunSpec) -> dict[str, float]:
    """The gradient norm of each loss term on the first batch, with the full weights.

    Raises `NanLoss` if a loss is not finite.
    """
    runner = factory.runner(spec)
    seed_all(spec.seed, 0, 0)
    runner.model.gradient_norms.is_due = True
    runner.train_step.step(factory.batch(spec), number=1)
    norms: dict[str, float] = runner.model.gradient_norms.take()
    return norms


def _scale(norms: Mapping[str, float], factors: Mapping[str, float]) -> dict[str, float]:
    return {name: norm * factors.get(name, 1.0) for name, norm in norms.items()}
