"""How large losses are at the beginning: the detector's own, and taught terms at weight 1."""

from dataclasses import dataclass

from configs.protocol.names import DISTILLATION_TERMS
from configs.spec.distillation import Bckd, Distillation, ExtraMethods, Method, NoDistillation
from configs.spec.run import RunSpec
from workers.probe.builder import StudentFactory
from workers.training.hooks.seeding import seed_everything

_TERMS: dict[str, dict[str, str]] = {
    "bckd": {"cls_weight": "distill_cls", "loc_weight": "distill_loc"},
    "logit_kd": {"weight": "logit_kd"},
    "ld": {"main_weight": "ld_main", "vlr_weight": "ld_vlr"},
    "fine_grained": {"weight": "fine_grained"},
    "pkd": {"weight": "pkd"},
    "cwd": {"weight": "cwd"},
    "crosskd": {"cls_weight": "crosskd_cls", "loc_weight": "crosskd_loc"},
}
"""By method the term that each of its weights is for."""


@dataclass(frozen=True)
class UnitLosses:
    """Losses of the student's first weights on the first batch."""

    detection: float
    """The sum of the detector's own."""

    by_weight: dict[str, float]
    """Of each taught term at weight 1, by the field of its weight."""


def measure_unit_losses(factory: StudentFactory, spec: RunSpec) -> UnitLosses:
    """One look at the batch with every weight at 1; `NanLoss` if a loss is no number."""
    even = spec.model_copy(update={"distillation": _at_one(spec.distillation)})
    runner = factory.runner(even)
    seed_everything(spec.seed, 0, 0)
    losses = runner.train_step.step(factory.batch(even), number=1)["log_vars"]
    terms = terms_by_weight(spec.distillation)
    return UnitLosses(
        detection=detection_loss(losses),
        by_weight={field: losses[f"loss_{term}"] for field, term in terms.items()},
    )


def detection_loss(losses: dict[str, float]) -> float:
    """The sum of the detector's own terms among mmdet's `log_vars`."""
    own = {name.removeprefix("loss_"): value for name, value in losses.items() if "loss_" in name}
    return sum(value for name, value in own.items() if name not in DISTILLATION_TERMS)


def terms_by_weight(distillation: Distillation) -> dict[str, str]:
    """The term of each weight, by its dotted field in a spec."""
    if isinstance(distillation, NoDistillation):
        return {}
    return {
        f"{place}.{weight}": term
        for place, lesson in _places(distillation).items()
        for weight, term in _TERMS[lesson.method].items()
    }


def _places(lesson: Method) -> dict[str, Method]:
    """Every method at work, by its field in a spec."""
    places = {"distillation": lesson}
    if isinstance(lesson, Bckd):
        for name in ExtraMethods.model_fields:
            companion = getattr(lesson.extra, name)
            if companion is not None:
                places[f"distillation.extra.{name}"] = companion
    return places


def _at_one(distillation: Distillation) -> Distillation:
    if isinstance(distillation, NoDistillation):
        return distillation
    even = _lesson_at_one(distillation)
    if not isinstance(even, Bckd):
        return even
    beside = {name: getattr(even.extra, name) for name in ExtraMethods.model_fields}
    others = {name: _lesson_at_one(lesson) for name, lesson in beside.items() if lesson is not None}
    return even.model_copy(update={"extra": even.extra.model_copy(update=others)})


def _lesson_at_one(lesson: Method) -> Method:
    return lesson.model_copy(update=dict.fromkeys(_TERMS[lesson.method], 1.0))
