"""Initial losses: those of the detector, and the distillation terms at weight 1."""

from dataclasses import dataclass

from configs.metric_keys import is_of_distillation
from configs.spec.distillation import (
    Bckd,
    Distillation,
    ExtraMethods,
    InstalledMethod,
    Method,
    NoDistillation,
)
from configs.spec.run import RunSpec
from workers.distillation.methods.registry import resolve_method
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
    unit_spec = spec.model_copy(update={"distillation": _with_unit_weights(spec.distillation)})
    runner = factory.runner(unit_spec)
    seed_all(spec.seed, 0, 0)
    losses = runner.train_step.step(factory.batch(unit_spec), number=1)["log_vars"]
    terms = terms_by_weight(spec.distillation)
    return UnitLosses(
        detection=detection_loss(losses),
        by_weight={field: losses[f"loss_{term}"] for field, term in terms.items()},
    )


def detection_loss(losses: dict[str, float]) -> float:
    """Sum of the detector's own terms in mmdet's `log_vars`."""
    losses_by_term = {
        name.removeprefix("loss_"): value for name, value in losses.items() if "loss_" in name
    }
    return sum(value for name, value in losses_by_term.items() if not is_of_distillation(name))


def terms_by_weight(distillation: Distillation) -> dict[str, str]:
    """The loss term of each weight, by its dotted field in a spec."""
    if isinstance(distillation, NoDistillation):
        return {}
    return {
        f"{field}.{weight}": term
        for field, method in _methods_by_field(distillation).items()
        for weight, term in resolve_method(method).traits.terms.items()
    }


def _methods_by_field(method: Method | InstalledMethod) -> dict[str, Method | InstalledMethod]:
    """Every active method, by the dotted field that holds its fields."""
    if isinstance(method, InstalledMethod):
        return {"distillation.fields": method}
    by_field: dict[str, Method | InstalledMethod] = {"distillation": method}
    if isinstance(method, Bckd):
        for name in ExtraMethods.model_fields:
            extra = getattr(method.extra, name)
            if extra is not None:
                by_field[f"distillation.extra.{name}"] = extra
    return by_field


def _with_unit_weights(distillation: Distillation) -> Distillation:
    if isinstance(distillation, NoDistillation):
        return distillation
    weighted = _set_unit_weights(distillation)
    if not isinstance(weighted, Bckd):
        return weighted
    extras = {name: getattr(weighted.extra, name) for name in ExtraMethods.model_fields}
    unit_extras = {
        name: _set_unit_weights(method) for name, method in extras.items() if method is not None
    }
    return weighted.model_copy(update={"extra": weighted.extra.model_copy(update=unit_extras)})


def _set_unit_weights(method: Method | InstalledMethod) -> Method | InstalledMethod:
    units = dict.fromkeys(resolve_method(method).traits.terms, 1.0)
    if isinstance(method, InstalledMethod):
        return method.model_copy(update={"fields": {**method.fields, **units}})
    return method.model_copy(update=units)
