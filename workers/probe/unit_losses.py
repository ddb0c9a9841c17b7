"""Initial losses: those of the detector, and the distillation terms at weight 1."""

from dataclasses import dataclass

from configs.metric_keys import is_of_distillation
from configs.spec.active_methods import set_weights, terms_by_weight
from configs.spec.run import RunSpec
from workers.distillation.methods.registry import resolve_methods
from workers.probe.builder import StudentFactory
from workers.training.hooks.seeding import seed_all


@dataclass(frozen=True)
class UnitLosses:
    """Losses of the untrained student on the first batch."""

    detection: float
    """Sum of the detector's own losses."""

    by_weight: dict[str, float]
    """Loss of each distillation term at weight 1, by the field of its weight."""


def measure_unit_losses(factory: StudentFactory, spec: RunSpec) -> UnitLosses:
    """Run one step with every weight at 1; `NanLoss` if a loss is not finite."""
    terms = terms_by_weight(resolve_methods(spec.distillation))
    distillation = set_weights(spec.distillation, dict.fromkeys(terms, 1.0))
    unit_spec = spec.model_copy(update={"distillation": distillation})
    runner = factory.runner(unit_spec)
    seed_all(spec.seed, 0, 0)
    losses = runner.train_step.step(factory.batch(unit_spec), number=1)["log_vars"]
    return UnitLosses(
        detection=detection_loss(losses),
        by_weight={field: losses[f"loss_{term}"] for field, term in terms.items()},
    )


def detection_loss(losses: dict[str, float]) -> float:
    """Sum of the detector's own terms in mmdet's `log_vars`, which are of labeled images."""
    losses_by_term = {
        name.removeprefix("loss_"): value
        for name, value in losses.items()
        if name.startswith("loss_")
    }
    return sum(value for name, value in losses_by_term.items() if not is_of_distillation(name))
